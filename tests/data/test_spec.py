"""What a DATA specification means."""

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.errors import MissingInputError, UnavailableError, UsageError
from arcsm_cli.registry import SOURCES


def load(
    spec: str,
    options: DataOptions | None = None,
    split: str = "test",
    like: tuple[int, ...] | None = None,
) -> Dataset:
    return load_data(spec, options or DataOptions(), default_split=split, like=like)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.arange(200.0).reshape(100, 2))
    return tmp_path / "x.npy"


@pytest.mark.parametrize(("split", "count"), [("train", 1438), ("test", 359)])
def test_digits_are_split_four_to_one(split: str, count: int) -> None:
    assert load(f"digits:{split}").values.shape == (count, 1, 8, 8)


def test_the_splits_of_the_digits_are_all_of_them() -> None:
    from sklearn.datasets import load_digits

    both = torch.cat([load("digits:train").values, load("digits:test").values])
    stored = torch.from_numpy(load_digits().images / 16).float().flatten(1)
    assert torch.equal(both.flatten(1).sort(dim=0).values, stored.sort(dim=0).values)


def test_digits_keep_their_labels() -> None:
    data = load("digits:train")
    assert data.labels is not None
    assert data.labels.bincount().tolist() == pytest.approx([144] * 10, abs=25)


def test_digits_span_the_unit_interval() -> None:
    values = load("digits").values
    assert (values.min().item(), values.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_default_split_is_the_caller_s(split: str) -> None:
    assert load("rings", split=split).name == f"rings:{split}"


def test_a_named_split_wins_over_the_default() -> None:
    assert load("rings:valid", split="train").name == "rings:valid"


@pytest.mark.parametrize(
    ("spec", "there"), [("digits:valid", "train, test"), ("rings:all", "train, valid, test")]
)
def test_an_unknown_split_is_refused_with_those_there_are(spec: str, there: str) -> None:
    with pytest.raises(UsageError, match=f"its splits: {there}$"):
        load(spec)


@pytest.mark.parametrize("spec", ["gaussian:3", "gaussian:3:test"])
def test_the_number_of_a_gaussian_is_its_dimension(spec: str) -> None:
    assert load(spec).shape == (3,)


@pytest.mark.parametrize(
    "spec", ["gaussian", "gaussian:", "gaussian:0", "gaussian:x", "gaussian:-2", "gaussian:99999"]
)
def test_a_gaussian_without_a_sensible_dimension_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="expected gaussian:D"):
        load(spec)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [("mnits", "mnist"), ("Checkerboard", "checkerboard"), ("cifar-10", "cifar10")],
)
def test_a_misspelt_name_is_corrected(spec: str, meant: str) -> None:
    with pytest.raises(MissingInputError, match=f"did you mean '{meant}'"):
        load(spec)


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(MissingInputError, match=", ".join(SOURCES)):
        load("qqqq")


@pytest.mark.parametrize(
    "spec", ["gone.npz", "gone.npz:train", "./gone/x:y", "", "a\0b", "two\nlines"]
)
def test_what_does_not_exist_is_missing_in_one_line(spec: str) -> None:
    with pytest.raises(MissingInputError) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


def test_a_file_is_read_whole_whatever_the_default_split(table: Path) -> None:
    assert len(load(str(table), split="train")) == 100


def test_an_unknown_split_of_a_file_is_refused(table: Path) -> None:
    with pytest.raises(UsageError, match="its splits: train, valid, test, all"):
        load(f"{table}:dev")


def test_a_path_with_a_colon_that_exists_wins_over_a_split(table: Path) -> None:
    other = table.with_name("x.npy:train")
    np.save(table.with_name("y.npy"), np.zeros((7, 2)))
    table.with_name("y.npy").rename(other)
    assert len(load(str(other))) == 7


def test_names_win_over_paths_without_a_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(load("digits")) == 359


def test_the_limit_takes_the_first_of_a_file(table: Path) -> None:
    assert load(str(table), DataOptions(limit=2)).values.tolist() == [[0, 1], [2, 3]]


def test_training_on_a_split_of_a_file_validates_on_another(table: Path) -> None:
    train, valid = load_training(f"{table}:train", DataOptions())[:2]
    assert (train.name, valid.name) == (f"{table}:train", f"{table}:valid")


def test_training_on_a_file_leaves_its_test_split_alone(table: Path) -> None:
    given = load_training(str(table), DataOptions())
    assert torch.equal(given.train.values, load(f"{table}:train").values)
    assert torch.equal(given.valid.values, load(f"{table}:valid").values)
    assert (given.whole, given.test) == (100, len(load(f"{table}:test")))


def test_training_on_all_of_a_file_holds_out_a_tenth(table: Path) -> None:
    train, valid = load_training(f"{table}:all", DataOptions())[:2]
    assert len(valid) == 10
    assert torch.equal(
        torch.cat([train.values, valid.values]).sort(dim=0).values, load(str(table)).values
    )


def test_training_on_a_set_with_a_validation_split_uses_it() -> None:
    train, valid = load_training("rings", DataOptions())[:2]
    assert (train.name, valid.name) == ("rings:train", "rings:valid")


def test_training_on_the_digits_leaves_the_test_split_alone() -> None:
    train, valid = load_training("digits", DataOptions())[:2]
    assert len(train) + len(valid) == 1438


@pytest.mark.parametrize("spec", ["rings", "digits"])
def test_the_limit_bounds_training_data(spec: str) -> None:
    assert len(load_training(spec, DataOptions(limit=50))[0]) <= 50


def test_one_example_is_too_few_for_training() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        load_training("digits", DataOptions(limit=1))[:2]


@pytest.mark.parametrize("options", [DataOptions(resize=4), DataOptions(center_crop=4)])
def test_vectors_cannot_be_cropped_or_resized(options: DataOptions) -> None:
    with pytest.raises(UsageError, match="holds vectors"):
        load("rings", options)


@pytest.mark.parametrize("name", ["uniform", "constant-uniform"])
@pytest.mark.parametrize("like", [(3, 4, 4), (5,)])
def test_references_take_the_shape_of_the_model(name: str, like: tuple[int, ...]) -> None:
    data = load(name, DataOptions(limit=6, resize=2), like=like)
    assert data.values.shape == (6, *like)


def test_references_have_ten_thousand_examples_by_default() -> None:
    assert len(load("uniform", like=(1, 2, 2))) == 10_000


def test_uniform_images_vary_within_and_constant_ones_between() -> None:
    uniform = load("uniform", like=(1, 8, 8)).values.flatten(1)
    constant = load("constant-uniform", like=(1, 8, 8)).values.flatten(1)
    assert uniform.std(dim=1).mean().item() == pytest.approx(12**-0.5, rel=0.02)
    assert constant.std(dim=1).max().item() < 1e-6
    assert constant[:, 0].std().item() == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize("name", ["uniform", "constant-uniform"])
def test_reference_examples_depend_on_the_seed_and_their_number_alone(name: str) -> None:
    few, many, other = (
        load(name, DataOptions(limit=limit, seed=seed), like=(1, 3, 3)).values[:4]
        for limit, seed in ((4, 1), (9, 1), (4, 2))
    )
    assert torch.equal(few, many)
    assert not torch.equal(few, other)


def test_generated_data_are_as_many_as_are_asked_for_and_have_the_columns_of_the_model() -> None:
    options = DataOptions(shuffle=7, columns="a,b", header="yes")
    assert load("uniform", options, like=(2,)).values.shape == (7, 2)


@pytest.mark.parametrize("spec", ["uniform", "constant-uniform", "uniform:test"])
def test_references_need_a_model_and_have_no_splits(spec: str) -> None:
    with pytest.raises(UsageError):
        load(spec)


def test_references_too_large_for_the_memory_are_refused() -> None:
    with pytest.raises(UsageError, match="--limit"):
        load("uniform", DataOptions(limit=10**9), like=(3, 64, 64))


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "gaussian"])
def test_every_name_is_known(name: str, options: DataOptions) -> None:
    with contextlib.suppress(UnavailableError):  # known, and not downloaded
        assert len(load(name, options, like=(1, 2, 2)))


def test_the_names_load_without_torch() -> None:
    code = "import sys, arcsm_cli.data.names; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
