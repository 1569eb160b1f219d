"""Random numbers that belong to samples."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.randomness import Draws, Purpose, SampleNoise


@given(
    seed=st.integers(0, 2**64 - 1),
    indices=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4),
)
def test_a_samples_numbers_depend_on_seed_and_index_alone(
    seed: int, indices: list[int], sizes: list[int]
) -> None:
    batch = SampleNoise(seed, indices)
    pieces = torch.cat([batch.normal(size) for size in sizes], 1)
    for row, index in zip(pieces, indices, strict=True):
        alone = SampleNoise(seed, [index]).normal(sum(sizes))[0]
        assert torch.equal(row, alone)


def test_the_shape_of_a_request_does_not_matter() -> None:
    assert torch.equal(
        SampleNoise(1, range(3)).normal(2, 5).view(3, 10), SampleNoise(1, range(3)).normal(10)
    )


def test_numbers_go_on_where_they_stopped() -> None:
    noise = SampleNoise(1, range(3))
    assert not torch.equal(noise.normal(4), noise.normal(4))


@pytest.mark.parametrize("other", [(2, 0), (1, 1), (0, 1), (1, 1 << 63)])
def test_other_seeds_and_indices_give_other_numbers(other: tuple[int, int]) -> None:
    one = SampleNoise(1, [0]).normal(8)
    assert not torch.isin(one, SampleNoise(other[0], [other[1]]).normal(8)).any()


def test_numbers_are_standard_normal(assert_uniform: Callable[[Tensor], None]) -> None:
    assert_uniform(torch.special.ndtr(SampleNoise(3, range(200)).normal(100).double()).flatten())


def test_the_streams_of_one_seed_are_uncorrelated() -> None:
    correlation = torch.corrcoef(SampleNoise(3, range(10)).normal(5000))
    assert correlation.triu(1).abs().max() < 0.07


def test_no_purposes_streams_meet_those_of_another() -> None:
    first = sorted(purpose.number for purpose in Purpose if purpose.of_examples)
    assert all(b - a >= 1 << 40 for a, b in itertools.pairwise([*first, 1 << 64]))


def test_a_part_of_a_batch_gets_what_it_would_in_the_whole() -> None:
    like = torch.zeros(6, 3)
    whole, random = (Draws(torch.Generator().manual_seed(2), 6) for _ in range(2))
    normal, signs = whole.normal(like, 3), whole.signs(like)
    for rows in (slice(0, 2), slice(2, 6)):
        part = random.part(rows)  # drawing for one leaves the others' numbers as they are
        assert torch.equal(part.normal(like[rows], 3), normal[rows])
        assert torch.equal(part.signs(like[rows]), signs[rows])
