"""Models of any order: likelihoods of parts, samples of what is missing, masks."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from arcsm_cli.io.samples import SampleFile
from tests.cli.files import read

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]
SMALL = ("--context", "transformer", "--layers", 1, "--heads", 2, "--width", 8, "--steps", 2)
TABLE = "height,weight,age\n" + "".join(f"{i % 7}.5,{i % 5}.25,{i % 11}.0\n" for i in range(60))


@pytest.fixture(scope="session")
def folder(call_in: Call, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models: ``any`` and ``fixed`` of a table, ``image`` of digits."""
    folder = tmp_path_factory.mktemp("any-order")
    (folder / "table.csv").write_text(TABLE)
    common = ("-q", "--batch-size", 8, *SMALL, "--order")
    for name, data, order in (
        ("any", "table.csv", ("any",)),
        ("fixed", "table.csv", ("random",)),
        ("image", "digits", ("any", "--resize", 4, "--limit", 40)),
    ):
        done = call_in(folder, "train", data, *common, *order, "-o", f"{name}.safetensors")
        assert done.code == 0, done.err
    return folder


def test_rows_of_a_table_are_completed_and_what_is_known_stays(
    folder: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("age,height\n3.5,\n,2.25\n4.125,1.5\n")
    common = ("sample", folder / "any.safetensors", "--known", "rows.csv", "-q")
    assert call(*common, "-o", "whole.h5").code == 0
    whole = read(tmp_path / "whole.h5")
    assert whole.shape == (3, 3)
    assert np.isfinite(whole).all()
    assert whole[[0, 2], 2].tolist() == [3.5, 4.125]
    assert whole[[1, 2], 0].tolist() == [2.25, 1.5]
    assert call(*common, "--shard", "1/3", "--batch-size", 1, "-o", "part.h5").code == 0
    assert np.allclose(read(tmp_path / "part.h5"), whole[1:2], atol=1e-5)
    assert call(*common, "-n", 7, "-o", "more.h5").code == 0
    more = read(tmp_path / "more.h5")
    assert (more[[0, 3, 6], 2] == 3.5).all()
    assert len(set(more[[0, 3, 6], 1])) == 3


def test_pixels_of_an_array_are_completed(folder: Path, call: Call, tmp_path: Path) -> None:
    image = np.full((1, 4, 4), np.nan)
    image[:, :2] = 0.25
    np.save(tmp_path / "known.npy", image)
    known = ("--known", "known.npy", "-n", 2, "--steps", 2)
    assert call("sample", folder / "image.safetensors", *known, "-o", "s.h5", "-q").code == 0
    drawn = read(tmp_path / "s.h5")
    assert (drawn[:, :, :2] == 0.25).all()
    assert not np.array_equal(drawn[0, :, 2:], drawn[1, :, 2:])


def test_a_mask_is_filled_after_what_is_known(folder: Path, call: Call, tmp_path: Path) -> None:
    hidden = np.zeros((4, 4))
    hidden[1:3] = 1
    np.save(tmp_path / "mask.npy", hidden)
    data = ("digits", "--resize", 4, "--limit", 3, "--corrupt", "mask:mask.npy", "-q")
    for options in ((), ("--draws", 2), ("--method", "particles", "--particles", 2)):
        done = call(
            *("denoise", folder / "image.safetensors", *data, *options),
            *("-o", "d.h5", "--force", "--json"),
        )
        assert done.code == 0, done.err
        assert done.json["method"] == (options[1] if "--method" in options else "known-first")
        with SampleFile(tmp_path / "d.h5") as file:
            restored, clean = file.read(0, 3), file.read(0, 3, "clean")
        outside = hidden == 0
        assert np.array_equal(restored[..., outside], clean[..., outside])


def test_a_part_is_measured_given_another_by_names_or_numbers(folder: Path, call: Call) -> None:
    common = ("eval", folder / "any.safetensors", folder / "table.csv", "--json", "-q")
    by_name, by_number = (
        call(*common, "--target", target, "--given", given).json
        for target, given in (("weight", "age,height"), ("2", "1,3"))
    )
    assert by_name["metrics"] == by_number["metrics"]
    assert (by_name["target_places"], by_name["given_places"]) == (1, 2)
    alone = call(*common, "--target", "age,height").json["metrics"]["nll"]
    whole = call(*common, "--orders", 1).json["metrics"]
    assert set(whole) == {"nll", "nll_se", "bpd", "bpd_se"}
    # p(age, height) p(weight | age, height) is the whole, in one of its orders.
    rest = by_name["metrics"]["nll"]
    assert alone + rest == pytest.approx(whole["nll"], abs=1.0)


@pytest.mark.parametrize(
    ("model", "arguments", "code", "says"),
    [
        (
            "fixed",
            "eval table.csv --target age",
            2,
            "--target is for models trained with --order any",
        ),
        ("fixed", "eval table.csv --orders 2", 2, "--orders is for models trained"),
        ("any", "distill -o x.safetensors", 2, "distill takes no models of any order"),
        (
            "fixed",
            "sample --known rows.csv -o x.h5",
            2,
            "--known is for models trained with --order",
        ),
        ("any", "eval table.csv --target age --given age", 2, "in common"),
        ("any", "eval table.csv --target sex", 2, "no such column"),
        ("any", "eval table.csv --target age --metric csm", 2, "nll and bpd alone"),
        ("any", "sample --known none.csv -o x.h5", 66, "none.csv"),
        ("any", "sample --known bad.csv -o x.h5", 2, "has no column 'sex'"),
        ("image", "sample --known rows.csv -o x.h5", 2, ".npy"),
        ("fixed", "denoise table.csv --corrupt mask:m.npy --method known-first -o x.h5", 2, "any"),
        (
            "any",
            "denoise table.csv --corrupt gaussian:0.3 --method known-first -o x.h5",
            2,
            "masks",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    model: str, arguments: str, code: int, says: str, folder: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("age\n1.5\n")
    (tmp_path / "bad.csv").write_text("sex\n1.5\n")
    np.save(tmp_path / "m.npy", np.array([1, 0, 0]))
    command, *rest = arguments.replace("table.csv", str(folder / "table.csv")).split(" ")
    done = call(command, folder / f"{model}.safetensors", *rest, "-q")
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1)
    assert says in done.err
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--context made --order any", "--order any is for --context transformer"),
        ("--context transformer --order any --frames linear", "linear frames follow one order"),
        ("--context transformer --size paper", "--size paper: --context transformer takes"),
        ("--context transformer --width 10 --heads 4", "width must be a multiple of 4 heads, 16"),
        ("--context transformer --filters 4", "--filters is for --context pixelcnn"),
    ],
)
def test_networks_that_cannot_be_are_refused_in_one_line(
    options: str, says: str, call: Call
) -> None:
    done = call("train", "gaussian:3", *options.split(), "--steps", 1, "-o", "m.safetensors", "-q")
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert says in done.err
