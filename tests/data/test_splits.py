"""The splits of data that have none of their own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.several import Several
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.data.splits import content_hashes, split_rows
from arcsm_cli.errors import UsageError
from arcsm_cli.io.samples import SampleWriter

SPLITS = ("train", "valid", "test")


def load(spec: object, **given: int) -> Dataset:
    spec = spec if isinstance(spec, Several) else str(spec)
    return load_data(spec, DataOptions(**given), default_split="test")  # type: ignore[arg-type]


def rows_of(values: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in values.tolist()}


def test_the_splits_are_a_partition_of_about_80_10_and_10_percent() -> None:
    hashes = content_hashes(torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)))
    parts = [split_rows(hashes, split, "x") for split in SPLITS]
    assert torch.cat(parts).sort().values.tolist() == list(range(5000))
    assert [len(part) / 5000 for part in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.015)


@pytest.mark.parametrize("split", SPLITS)
def test_a_row_falls_alike_in_any_order_and_company(split: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(200, 3))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", np.concatenate([values[::-1], values[:50] + 1]))
    one, other = (rows_of(load(tmp_path / f"{name}.npy:{split}").values) for name in "ab")
    assert one == other & rows_of(load(tmp_path / "a.npy").values)


def test_equal_rows_stay_together() -> None:
    values = torch.randn(50, 2).repeat(3, 1)
    values[:50][values[:50] == 0] = -0.0
    for split in SPLITS:
        rows = split_rows(content_hashes(values), split, "x")
        assert rows.remainder(50).bincount(minlength=50).unique().tolist() in ([0, 3], [3])


def test_a_split_without_examples_is_refused_with_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 2)))
    fallen = [s for s in SPLITS if len(split_rows_or_none(tmp_path / "x.npy", s))]
    assert len(fallen) == 1
    with pytest.raises(UsageError, match=r"x\.npy:all takes all"):
        load_training(str(tmp_path / "x.npy"), DataOptions())
    np.save(tmp_path / "y.npy", np.zeros((5, 2)))
    both = Several([f"{tmp_path / name}:{fallen[0]}" for name in ("x.npy", "y.npy")])
    assert len(load(both)) == 10
    wrong = Several([word.replace(fallen[0], "valid") for word in both.said])
    with pytest.raises(UsageError, match=r"x\.npy:all .*y\.npy:all takes all"):
        load(wrong)


def split_rows_or_none(path: Path, split: str) -> torch.Tensor:
    try:
        return load(f"{path}:{split}").values
    except UsageError:
        return torch.empty(0)


@pytest.mark.parametrize(("option", "count"), [("limit", 7), ("shuffle", 7)])
def test_the_number_is_taken_after_the_split(option: str, count: int, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(400.0).reshape(200, 2))
    whole, part = (
        load(tmp_path / "x.npy:train"),
        load(tmp_path / "x.npy:train", **{option: count}),
    )
    assert len(part) == count
    assert rows_of(part.values) < rows_of(whole.values)


def test_samples_of_this_program_are_trained_on_as_they_were_chosen(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with SampleWriter(path, (2,), [{"command": "data"}]) as writer:
        writer.append(torch.randn(40, 2))
    given = load_training(str(path), DataOptions())
    assert (len(given.train), len(given.valid), given.part) == (36, 4, "")
