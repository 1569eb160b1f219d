"""How work is shared out, and what other processes' batches look like when they arrive."""

from typing import NamedTuple

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.distributed.launch import Launch
from arcsm_cli.distributed.ranks import SOLO, Ranks, _shaped, _tensors


class Batch(NamedTuple):
    """As evaluations make them."""

    examples: Tensor
    figures: dict[str, Tensor]


def all_ranks(size: int) -> list[Ranks]:
    return [Ranks(Launch(rank, size)) for rank in range(size)]


@given(st.integers(0, 50), st.integers(1, 9))
def test_parts_cover_all_rows_in_order_and_are_alike_in_size(count: int, size: int) -> None:
    parts = [range(count)[ranks.part(count)] for ranks in all_ranks(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(0, 60), st.integers(1, 7), st.integers(1, 5))
def test_batches_are_those_of_one_process_shared_out(count: int, batch: int, size: int) -> None:
    ranks = all_ranks(size)
    starts = [start for r in ranks for start in r.starts(count, batch)]
    assert sorted(starts) == list(range(0, count, batch))
    assert sum(r.own_count(count, batch) for r in ranks) == count


def test_one_process_has_done_everything_already() -> None:
    values = torch.tensor([1.0, 2.0])
    assert SOLO.total(values) is values
    assert SOLO.any(True)
    assert not SOLO.any(False)
    batches = iter([torch.zeros(3)])
    assert [len(b) for b in SOLO.in_order(batches, 3, 3)] == [3]


def test_a_batch_is_taken_apart_and_put_together() -> None:
    batch = Batch(torch.rand(2, 3), {"nll": torch.rand(2), "csm": torch.rand(2, 4)})
    again = _shaped(batch, iter(_tensors(batch)))
    assert isinstance(again, Batch)
    assert torch.equal(again.examples, batch.examples)
    assert list(again.figures) == ["nll", "csm"]
    assert torch.equal(again.figures["csm"], batch.figures["csm"])
