"""The two-dimensional sets, the correlated Gaussian and their densities."""

import math

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.densities import entropy, has_density, log_density
from arcsm_cli.data.names import TWO_DIMENSIONAL
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.data.twod import gaussian_covariance, gaussians_means
from arcsm_cli.errors import UsageError

SETS = [*TWO_DIMENSIONAL, "gaussian:2"]
PLANAR = ["8gaussians", "checkerboard", "gaussian:2"]


def load(spec: str, split: str = "test") -> Dataset:
    return load_data(spec, DataOptions(), default_split=split)


def perturbed(name: str, sigma: float) -> Tensor:
    values = load(name, "train").values.double()
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).double()
    return values + sigma * noise


@pytest.mark.parametrize("name", SETS)
def test_coordinates_have_unit_variance(name: str) -> None:
    variance = load(name, "train").values.var(dim=0)
    assert torch.allclose(variance, torch.ones(2), atol=0.06)


@pytest.mark.parametrize("name", SETS)
def test_coordinates_are_centred(name: str) -> None:
    mean = load(name, "train").values.mean(dim=0)
    assert torch.allclose(mean, torch.zeros(2), atol=0.04)


@pytest.mark.parametrize("name", SETS)
def test_splits_have_their_sizes(name: str) -> None:
    sizes = [len(load(name, split)) for split in ("train", "valid", "test")]
    assert sizes == [50_000, 10_000, 10_000]


@pytest.mark.parametrize("name", SETS)
def test_splits_share_no_point(name: str) -> None:
    points = torch.cat([load(name, split).values for split in ("train", "valid", "test")])
    assert len(torch.unique(points, dim=0)) > 69_900  # equal float32 coordinates aside


@pytest.mark.parametrize("name", SETS)
def test_a_split_is_the_same_every_time(name: str) -> None:
    assert load(name).digest == load(name).digest


@pytest.mark.parametrize("name", SETS)
def test_the_limit_takes_the_first_points(name: str) -> None:
    few = load_data(name, DataOptions(limit=10), default_split="test")
    assert torch.equal(few.values, load(name).values[:10])


def test_the_sets_are_different_from_each_other() -> None:
    assert len({load(name).digest for name in SETS}) == len(SETS)


def test_rings_have_four_radii() -> None:
    radius = load("rings").values.norm(dim=1)
    rank = (radius / radius.max() * 4.2).round()
    assert sorted(rank.unique().tolist()) == [1, 2, 3, 4]


def test_points_of_the_eight_gaussians_have_the_stated_spread() -> None:
    values = load("8gaussians", "train").values.double()
    means = torch.from_numpy(gaussians_means())
    offset = values - means[torch.cdist(values, means).argmin(dim=1)]
    assert offset.std().item() == pytest.approx(0.1, rel=0.01)


def test_means_of_the_eight_gaussians_lie_on_the_circle() -> None:
    radius = torch.from_numpy(gaussians_means()).norm(dim=1)
    assert torch.allclose(radius, torch.full((8,), math.sqrt(2), dtype=torch.float64))


def test_the_covariance_decays_geometrically() -> None:
    assert gaussian_covariance(3)[0].tolist() == pytest.approx([1, 0.8, 0.64])


def test_the_gaussian_has_the_stated_covariance() -> None:
    values = load("gaussian:6", "train").values.double()
    assert torch.allclose(values.T.cov(), gaussian_covariance(6), atol=0.03)


@pytest.mark.parametrize("name", PLANAR)
@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_densities_integrate_to_one(name: str, sigma: float) -> None:
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    density = log_density(name, torch.cartesian_prod(axis, axis), sigma).exp()
    assert density.sum().item() * 0.02**2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", [*PLANAR, "gaussian:16"])
@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.5])
def test_the_mean_log_density_of_the_points_is_the_entropy(name: str, sigma: float) -> None:
    log_p = log_density(name, perturbed(name, sigma), sigma)
    error = log_p.std().item() / math.sqrt(len(log_p))
    assert -log_p.mean().item() == pytest.approx(entropy(name, sigma), abs=5 * error + 1e-9)


@pytest.mark.parametrize("name", PLANAR)
def test_a_little_noise_hardly_changes_the_entropy(name: str) -> None:
    assert entropy(name, 1e-4) == pytest.approx(entropy(name, 0.0), abs=1e-3)


@pytest.mark.parametrize("name", ["8gaussians", "checkerboard"])
def test_under_much_noise_the_entropy_is_that_of_a_gaussian(name: str) -> None:
    assert entropy(name, 20.0) == pytest.approx(math.log(2 * math.pi * math.e * 401), abs=1e-3)


@pytest.mark.parametrize("name", PLANAR)
def test_log_densities_stay_finite_far_away(name: str) -> None:
    far = torch.tensor([[30.0, -40.0]], dtype=torch.float64)
    assert bool(log_density(name, far, 0.1).isfinite().all())


@pytest.mark.parametrize("name", PLANAR)
def test_log_densities_have_the_score_as_gradient(name: str) -> None:
    x = torch.tensor([[0.3, -0.7], [1.1, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: log_density(name, y, 0.2), x)


def test_the_board_without_noise_is_uniform_on_its_squares() -> None:
    values = load("checkerboard").values.double()
    assert torch.allclose(
        log_density("checkerboard", values * 0.999999, 0.0),
        torch.tensor(-entropy("checkerboard", 0.0), dtype=torch.float64),
    )


def test_the_split_of_the_name_plays_no_part_in_the_density() -> None:
    assert entropy("gaussian:4:test", 0.1) == entropy("gaussian:4", 0.1)


def test_sets_without_a_closed_form_are_known() -> None:
    assert [has_density(name) for name in ("8gaussians:test", "rings", "gaussian:3")] == [
        True,
        False,
        True,
    ]


def test_the_density_of_a_set_without_one_is_refused() -> None:
    with pytest.raises(UsageError, match="no closed-form"):
        log_density("moons", torch.zeros(1, 2), 0.1)
