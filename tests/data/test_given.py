"""What a conditional model is told of data: labels, and columns of tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arcsm_cli.data.conditions import Condition, Conditions
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.given import conditions_of, label_numbers
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_beside, load_data, load_training
from arcsm_cli.errors import ArcsmError, DamagedInputError, MissingInputError, UsageError
from arcsm_cli.io.samples import SampleWriter

ROWS = "a;kind;age;b\n1;red;30;2\n3;blue;40;4\n5;red;50;6\n"
TOLD: Conditions = (
    Condition("kind", ("blue", "red"), (1, 2)),
    Condition("age", mean=40.0, sd=10.0),
)


def read(path: Path | str, given: str) -> Dataset:
    return load_data(str(path), DataOptions(given=given), default_split="test")


def written(folder: Path, text: str) -> Path:
    path = folder / "t.csv"
    path.write_text(text)
    return path


def test_columns_of_a_table_are_given_instead_of_modelled(tmp_path: Path) -> None:
    data = read(written(tmp_path, ROWS), "kind,age")
    assert (data.columns, data.values.tolist()) == (("a", "b"), [[1, 2], [3, 4], [5, 6]])
    kind, age = data.beside
    assert (kind.classes, kind.values.tolist()) == (("red", "blue"), [0, 1, 0])
    assert (age.classes, age.values.tolist()) == (None, [30, 40, 50])
    found = conditions_of(data, data)
    assert found[0] == TOLD[0]
    assert (found[1].mean, found[1].sd) == pytest.approx((40, np.sqrt(200 / 3)))


def test_a_model_is_told_categories_and_standardised_numbers_row_by_row(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    data = load_data(str(path), DataOptions(), default_split="test", names=("a", "b"), given=TOLD)
    assert data.given is not None
    assert data.given.tolist() == [[0, 1, -1], [1, 0, 0], [0, 1, 1]]
    assert data.select(torch.tensor([2])).rows(0, 1).given.tolist() == [[0, 1, 1]]
    # Rows to be drawn need no other columns.
    alone = written(tmp_path, "age,kind\n40,blue\n")
    kind, age = load_beside(str(alone), DataOptions().told(TOLD))
    assert (kind.classes, age.values.tolist()) == (("blue",), [40])


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        (ROWS.replace("30", ""), "kind,age", "line 2: '' is a missing value"),
        (ROWS.replace("red;50", "?;50"), "kind", "line 4: .* is a missing value"),
        (ROWS.replace("40", "inf"), "kind,age", "line 3: the value is inf"),
        (ROWS.replace("40", "nan"), "kind,age", "missing value"),
        (ROWS.replace("40", "old"), "kind,age", "'old' is not a number; labels=age takes"),
        (ROWS, "size", "--given 'size': .* no such column"),
        (ROWS, "age,3", "twice"),
        (ROWS, "a,b,kind,age", "leaves no column"),
    ],
)
def test_a_column_that_does_not_say_what_is_given_is_refused(
    text: str, given: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ArcsmError, match=said) as caught:
        read(written(tmp_path, text), given)
    assert "\n" not in str(caught.value)


def test_a_category_unknown_to_the_model_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS.replace("blue", "green"))
    with pytest.raises(DamagedInputError, match="'kind' of example 1 is 'green'; the model knows"):
        load_data(str(path), DataOptions(), default_split="test", given=TOLD)


def test_a_column_cannot_be_given_and_modelled(tmp_path: Path) -> None:
    path = written(tmp_path, ROWS)
    for other in ({"columns": "a,age"}, {"drop": "age"}):
        with pytest.raises(UsageError, match="--given names this column as well"):
            load_data(str(path), DataOptions(given="age", **other), default_split="test")


def test_any_column_can_be_taken_for_labels(tmp_path: Path) -> None:
    text = ROWS.replace("kind;", "x;").replace("red", "1").replace("blue", "0").replace("40", "4x")
    (age,) = read(written(tmp_path, text), "labels=age").beside
    assert (age.classes, age.values.tolist()) == (("30", "4x", "50"), [0, 1, 2])


def archive(folder: Path, **arrays: Any) -> Path:
    path = folder / "a.npz"
    np.savez(path, x=np.arange(8.0).reshape(4, 2), **arrays)
    return path


def test_labels_of_arrays_are_those_beside_them_or_those_named(tmp_path: Path) -> None:
    path = archive(tmp_path, y=np.array([7, 3, 7, 10]), sort=np.array([1, 1, 0, 0]))
    (beside,) = read(path, "labels").beside
    assert conditions_of(read(path, "labels"), read(path, "labels")) == (
        Condition("labels", ("3", "7", "10"), (1, 2, 1)),
    )
    assert [beside.classes[i] for i in beside.values] == ["7", "3", "7", "10"]  # type: ignore[index]
    (named,) = read(path, "labels=sort").beside
    assert (named.name, named.classes, named.values.tolist()) == ("sort", ("0", "1"), [1, 1, 0, 0])


@pytest.mark.parametrize(
    "arrays", [{}, {"y": np.array([1, 2, np.nan, 1])}, {"y": np.array([0.5, 1, 1, 1])}]
)
def test_labels_that_are_missing_or_no_whole_numbers_are_refused(
    arrays: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DamagedInputError, match="labels"):
        read(archive(tmp_path, **arrays), "labels")


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, y=np.array([0, 1, 2, 1]))
    known = (Condition("labels", ("0", "1"), (5, 5)),)
    with pytest.raises(DamagedInputError, match="example 2 is '2'; the model knows 0, 1"):
        load_data(str(path), DataOptions(), default_split="test", given=known)


def test_labels_of_what_was_written_for_named_classes_are_their_places(tmp_path: Path) -> None:
    path, known = tmp_path / "s.h5", Condition("labels", ("cat", "dog"), (1, 1))
    with SampleWriter(path, (2,), [{"command": "sample"}]) as writer:
        writer.append(np.zeros((3, 2)), labels=label_numbers(known)[[1, 0, 1]])
    data = load_data(str(path), DataOptions(), default_split="test", given=(known,))
    assert data.given is not None
    assert data.given.argmax(1).tolist() == [1, 0, 1]


def test_class_folders_are_known_by_their_names_whichever_are_there(tmp_path: Path) -> None:
    for kind, count in (("dog", 2), ("fox", 1)):
        (tmp_path / kind).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (4, 4), 60 * i).save(tmp_path / kind / f"{i}.png")
    known = (Condition("labels", ("cat", "dog", "fox"), (1, 2, 3)),)
    some = load_data(str(tmp_path), DataOptions(), default_split="test", given=known)
    assert some.given is not None
    assert some.given.argmax(1).tolist() == [1, 1, 2]
    (tmp_path / "fox").rename(tmp_path / "elk")
    with pytest.raises(DamagedInputError, match="is 'elk'; the model knows cat, dog, fox"):
        load_data(str(tmp_path), DataOptions(), default_split="test", given=known)


@pytest.mark.parametrize("name", ["rings", "moons", "8gaussians", "pinwheel"])
def test_points_of_the_plane_are_labelled_by_the_part_that_they_are_of(name: str) -> None:
    data = load_training(name, DataOptions(given="labels", limit=2000)).train
    (known,) = conditions_of(data, data)
    assert known.categories == tuple(map(str, range(len(known.categories))))
    assert min(known.counts) > 0.5 * max(known.counts)


@pytest.mark.parametrize("given", ["labels", "labels=kind"])
def test_data_without_labels_are_refused(given: str) -> None:
    with pytest.raises(DamagedInputError, match="has no labels"):
        read("swissroll", given)


def test_a_split_keeps_what_is_given_beside_its_rows(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 3},{i}\n" for i in range(200))
    found = load_training(str(written(tmp_path, f"a,b,c\n{rows}")), DataOptions(given="c"))
    for part in (found.train, found.valid):
        assert part.beside[0].values.tolist() == part.values[:, 0].tolist()


def test_more_categories_than_a_model_can_be_told_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"{i % 2},c{i}\n" for i in range(1100))
    data = read(written(tmp_path, f"a,b\n{rows}"), "b")
    with pytest.raises(UsageError, match="1100 categories"):
        conditions_of(data, data)


def test_an_array_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises((DamagedInputError, MissingInputError), match="sort"):
        read(archive(tmp_path, y=np.zeros(4, int)), "labels=sort")
