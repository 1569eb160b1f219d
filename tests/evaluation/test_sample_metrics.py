"""Figures of samples."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.evaluation import sample_metrics
from arcsm_cli.evaluation.sample_metrics import energy_distance, moments, sliced_wasserstein


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_definition(x: Tensor, y: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| over pairs of different points, one by one."""

    def distances(a: Tensor, b: Tensor, *, same: bool) -> float:
        pairs = [
            math.dist(p, q)
            for i, p in enumerate(a.tolist())
            for j, q in enumerate(b.tolist())
            if not (same and i == j)
        ]
        return sum(pairs) / len(pairs)

    return 2 * distances(x, y, same=False) - distances(x, x, same=True) - distances(y, y, same=True)


@given(n=st.integers(2, 12), m=st.integers(2, 12), d=st.sampled_from([1, 2, 16, 17, 40]))
def test_the_energy_distance_is_its_definition(n: int, m: int, d: int) -> None:
    x, y = points(n, d), points(m, d, 1) + 1
    assert energy_distance(x, y) == pytest.approx(by_definition(x, y), rel=1e-6, abs=1e-6)


def test_the_energy_distance_of_blocks_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = points(50, 3), points(30, 3, 1)
    whole = energy_distance(x, y)
    monkeypatch.setattr(sample_metrics, "_BLOCK", 7)
    assert energy_distance(x, y) == pytest.approx(whole)


def test_the_energy_distance_is_symmetric() -> None:
    x, y = points(50, 3), points(30, 3, 1) + 0.5
    assert energy_distance(x, y) == pytest.approx(energy_distance(y, x))


def test_the_energy_distance_of_one_distribution_is_zero_on_average() -> None:
    values = torch.tensor(
        [energy_distance(points(40, 2, 2 * i), points(30, 2, 2 * i + 1)) for i in range(200)]
    )
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))


def test_the_energy_distance_grows_with_a_shift() -> None:
    x, y = points(300, 2), points(300, 2, 1)
    distances = [energy_distance(x, y + shift) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert distances == sorted(distances)


def test_examples_of_any_shape_are_flattened() -> None:
    x, y = points(20, 12), points(20, 12, 1)
    flat = energy_distance(x, y)
    assert energy_distance(x.view(20, 3, 2, 2), y.view(20, 3, 2, 2)) == pytest.approx(flat)


@pytest.mark.parametrize("d", [2, 100])
def test_repeated_far_points_are_at_no_distance_from_each_other(d: int) -> None:
    # Where rounding is worst: large equal coordinates.
    x = torch.full((10, d), 1e4) + points(1, d)
    assert energy_distance(x, x) == pytest.approx(0.0, abs=1e-2)


def by_transport(x: list[float], y: list[float]) -> float:
    """The W2 distance on a line: both sorted, each value repeated until both are as many."""
    a = sorted(value for value in x for _ in y)
    b = sorted(value for value in y for _ in x)
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / len(a))


@given(n=st.integers(1, 12), m=st.integers(1, 12))
def test_on_a_line_the_sliced_distance_is_that_of_optimal_transport(n: int, m: int) -> None:
    x, y = points(n, 1), 2 * points(m, 1, 1) + 1
    expected = by_transport(x.flatten().tolist(), y.flatten().tolist())
    assert sliced_wasserstein(x, y, directions=3).distance == pytest.approx(expected)


@pytest.mark.parametrize("d", [2, 64])
@pytest.mark.parametrize("seed", range(3))
def test_the_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_dimensions(
    d: int, seed: int
) -> None:
    # Along a unit vector u the shift v moves everything by (u, v), whose mean square is |v|^2 / D.
    x, shift = points(200, d), 3 * points(1, d, 7)
    found = sliced_wasserstein(x, x + shift, seed=seed)
    expected = float(shift.norm()) / math.sqrt(d)
    assert abs(found.distance - expected) < 4 * found.error
    assert found.error < 0.1 * expected


def test_the_error_is_the_scatter_between_seeds() -> None:
    x, y = points(100, 8), 2 * points(90, 8, 1) + 1
    found = [sliced_wasserstein(x, y, directions=50, seed=seed) for seed in range(60)]
    scatter = torch.tensor([f.distance for f in found]).std()
    mean_error = torch.tensor([f.error for f in found]).mean()
    assert mean_error == pytest.approx(float(scatter), rel=0.4)


def test_equal_sets_are_at_no_distance_whatever_their_order() -> None:
    x = points(50, 3)
    found = sliced_wasserstein(x, x.flip(0))
    assert found.distance == pytest.approx(0, abs=1e-12)
    assert found.floor > 0.05


def test_the_sliced_distance_of_one_distribution_is_its_floor() -> None:
    found = [sliced_wasserstein(points(300, 5, 2 * i), points(200, 5, 2 * i + 1)) for i in range(9)]
    ratios = torch.tensor([f.distance / f.floor for f in found])
    assert ratios.mean() == pytest.approx(1, abs=0.1)


def test_the_sliced_distance_of_two_distributions_is_above_its_floor() -> None:
    found = sliced_wasserstein(points(300, 5), points(200, 5, 1) + 0.5)
    assert found.distance > 2 * found.floor


def test_the_sliced_distance_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = points(50, 3), points(30, 3, 1) + 1
    whole = sliced_wasserstein(x, y)
    monkeypatch.setattr(sample_metrics, "_BLOCK", 7)
    monkeypatch.setattr(sample_metrics, "_VALUES", 1000)
    assert sliced_wasserstein(x, y) == pytest.approx(whole)


def test_the_sliced_distance_is_symmetric_and_scales_with_the_examples() -> None:
    x, y = points(50, 3), points(30, 3, 1) + 1
    distance = sliced_wasserstein(x, y).distance
    assert sliced_wasserstein(y, x).distance == pytest.approx(distance)
    assert sliced_wasserstein(10 * x, 10 * y).distance == pytest.approx(10 * distance)


def test_directions_depend_on_the_seed_alone() -> None:
    x, y = points(50, 3), points(30, 3, 1) + 1
    assert sliced_wasserstein(x, y, seed=2**63 - 1) == sliced_wasserstein(x, y, seed=2**63 - 1)
    assert sliced_wasserstein(x, y, seed=1) != sliced_wasserstein(x, y, seed=2)


def test_images_are_flattened_for_the_sliced_distance() -> None:
    x, y = points(20, 12), points(20, 12, 1)
    assert sliced_wasserstein(x.view(20, 3, 2, 2), y.view(20, 3, 2, 2)) == sliced_wasserstein(x, y)


@pytest.mark.parametrize("name", ["mean", "sd", "min", "max"])
def test_moments_are_those_of_all_values(name: str) -> None:
    x = points(50, 4).view(50, 1, 2, 2)
    expected: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": torch.mean,
        "sd": lambda t: (t - t.mean()).square().mean().sqrt(),
        "min": torch.min,
        "max": torch.max,
    }
    for size in (1, 7, 50):
        found = moments(torch.split(x, size))
        assert found[name] == pytest.approx(float(expected[name](x.double())))


def test_moments_of_many_float32_values_do_not_lose_digits() -> None:
    x = torch.full((1 << 20,), 1000.0)
    x[::2] += 1.0
    assert moments([x])["sd"] == pytest.approx(0.5, rel=1e-6)
    assert moments(x.split(1000))["sd"] == pytest.approx(0.5, rel=1e-6)
