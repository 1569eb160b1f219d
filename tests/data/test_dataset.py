"""The data set in memory and its options."""

import hashlib
from pathlib import Path

import pytest
import torch

from arcsm_cli.data.dataset import Dataset, require_finite
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError


def test_eight_bit_images_are_taken_as_floats_in_the_unit_interval() -> None:
    data = Dataset("x", torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1))
    assert data.take(torch.tensor([2, 1])).flatten().tolist() == pytest.approx([1.0, 0.2])


def test_vectors_are_taken_as_they_are() -> None:
    values = torch.randn(5, 3)
    assert torch.equal(Dataset("x", values).take(torch.tensor([4, 0])), values[[4, 0]])


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_of_any_size_make_up_the_whole_set_in_order(size: int) -> None:
    values = torch.randn(7, 2)
    assert torch.equal(torch.cat([batch.x for batch in Dataset("x", values).batches(size)]), values)


def test_taking_does_not_change_the_stored_values() -> None:
    data = Dataset("x", torch.full((2, 1, 2, 2), 7, dtype=torch.uint8))
    data.take(torch.tensor([0, 1])).zero_()
    assert bool((data.values == 7).all())


@pytest.mark.parametrize(("shape", "kind"), [((4, 3), "vector"), ((4, 1, 2, 2), "image")])
def test_the_kind_and_shape_follow_the_values(shape: tuple[int, ...], kind: str) -> None:
    data = Dataset("x", torch.zeros(shape))
    assert (data.kind, data.shape, len(data)) == (kind, shape[1:], 4)


def test_the_digest_is_that_of_the_bytes_of_the_values() -> None:
    values = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    assert Dataset("x", values).digest == hashlib.sha256(bytes(range(12))).hexdigest()


def test_a_limit_keeps_the_first_examples_and_their_labels() -> None:
    data = Dataset("x", torch.randn(9, 2), torch.arange(9)).limit(4)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 3]


def test_carving_parts_the_examples_without_loss_or_overlap() -> None:
    train, valid = Dataset("x", torch.arange(105.0)[:, None]).carve()
    assert sorted([*train.values.flatten().tolist(), *valid.values.flatten().tolist()]) == list(
        range(105)
    )


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (19, 1), (50, 5), (200_000, 10_000)])
def test_carving_holds_out_a_tenth_within_bounds(count: int, held_out: int) -> None:
    train, valid = Dataset("x", torch.zeros(count, 1)).carve()
    assert (len(train), len(valid)) == (count - held_out, held_out)


def test_one_example_cannot_be_carved() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        Dataset("x", torch.zeros(1, 1)).carve()


def test_labels_must_match_the_examples() -> None:
    with pytest.raises(ValueError, match="labels"):
        Dataset("x", torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64))


def test_a_shuffle_takes_other_examples_at_another_seed_and_the_same_at_the_same() -> None:
    first, again, other = (
        DataOptions(shuffle=20, seed=seed).chosen(1000).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert len(set(first)) == 20
    assert max(first) > 500


def test_a_limit_and_a_shuffle_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="not both"):
        DataOptions(limit=2, shuffle=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_first_bad_index_is_named(value: float) -> None:
    values = torch.zeros(5000, 3)
    values[4321, 1] = values[4500, 0] = value
    with pytest.raises(DamagedInputError, match=r"file: the value at \[4321, 1\]"):
        require_finite(values, "file")


@pytest.mark.parametrize("option", ["limit", "resize", "center_crop", "shuffle"])
def test_sizes_below_one_are_refused_by_the_name_of_the_option(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} 0"):
        DataOptions(**{option: 0})  # type: ignore[arg-type]


def test_the_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCSM_DATA", "/somewhere")
    assert DataOptions().root == Path("/somewhere")


def test_the_data_folder_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCSM_DATA", "/somewhere")
    assert DataOptions(data_dir=Path("/else")).root == Path("/else")


def test_the_data_folder_is_in_the_cache_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCSM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert DataOptions().root == Path("/caches/arcsm")
