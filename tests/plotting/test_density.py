"""A model's density on a grid."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.plotting import density
from arcsm_cli.plotting.density import conditionals, density_on, grid_size, mass_windows

MakeModel = Callable[..., ARCSM]

SETTINGS = [
    {"shape": (1,)},
    {},
    {"order": "reversed"},
    {"data_scale": (10.0, 0.5), "data_shift": (100.0, -3.0)},
    {"annealing": "staged", "levels": (1.0, 0.3)},
    {"annealing": "joint", "levels": (2.0, 1.0, 0.3)},
]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_the_density_over_the_model_s_mass_integrates_to_one(
    options: dict[str, object], model: MakeModel
) -> None:
    found = density_on(made := model(**options), mass_windows(made))
    mass = np.exp(found.log_density)
    for low, high in reversed(found.windows):
        mass = np.trapezoid(mass, np.linspace(low, high, mass.shape[-1]), axis=-1)
    assert mass == pytest.approx(1, abs=0.02)


def test_the_first_index_is_the_first_variable(model: MakeModel) -> None:
    made = model(order="reversed")
    found = density_on(made, [(-1.0, 0.0), (0.5, 2.0)])
    corner = made.sort(torch.tensor([[-1.0, 2.0]]))
    expected = float(log_likelihood(made, corner).sum())
    assert found.log_density[0, -1] == pytest.approx(expected, abs=1e-4)


def test_every_point_of_the_grid_is_reported(model: MakeModel) -> None:
    made, windows = model(), [(-1.0, 1.0), (-1.0, 1.0)]
    done: list[int] = []
    density_on(made, windows, done.append)
    assert sum(done) == grid_size(made, windows)


@pytest.mark.parametrize(("order", "given"), [("raster", 0), ("reversed", 1)])
def test_a_slice_is_the_joint_density_up_to_a_factor(
    order: str, given: int, model: MakeModel
) -> None:
    made = model(order=order, data_scale=(2.0, 3.0))
    windows = [(-4.0, 4.0), (-5.0, 5.0)]
    slices = conditionals(made, [0.7], windows)
    rows = torch.full((len(slices.points), 2), 0.7)
    rows[:, 1 - given] = torch.from_numpy(slices.points)
    joint = log_likelihood(made, made.sort(rows)).sum(1).numpy()
    assert slices.given == given
    assert np.ptp(slices.log_density[0] - joint) < 1e-3


def test_a_slice_integrates_to_one(model: MakeModel) -> None:
    made = model(data_scale=(2.0, 3.0))
    slices = conditionals(made, [0.0, 1.0], [(0.0, 1.0), (-60.0, 60.0)])
    assert np.trapezoid(np.exp(slices.log_density), slices.points, axis=1) == pytest.approx(
        [1, 1], abs=0.01
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1000.0])
def test_a_density_that_is_no_finite_number_is_an_error(
    value: float, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(density, "log_likelihood", lambda _, rows: torch.full_like(rows, value))
    with pytest.raises(DamagedInputError, match="not a number"):
        density_on(model(), [(-1.0, 1.0), (-1.0, 1.0)])


def test_the_density_says_what_it_is_of(model: MakeModel) -> None:
    found = density_on(model(), [(-1.0, 1.0), (-1.0, 1.0)])
    assert "noise of sigma 0.3" in found.text
