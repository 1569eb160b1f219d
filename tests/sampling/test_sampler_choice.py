"""Which samplers fit which models."""

from collections.abc import Callable
from typing import Any

import pytest

from arcsm_cli.errors import UsageError
from arcsm_cli.models.architecture import Quantiles
from arcsm_cli.registry import SAMPLERS
from arcsm_cli.sampling.ancestral import Ancestral
from arcsm_cli.sampling.grid import Grid
from arcsm_cli.sampling.langevin import Langevin
from arcsm_cli.sampling.ode import ProbabilityFlow
from arcsm_cli.sampling.quantile import Quantile
from arcsm_cli.sampling.samplers import choose_sampler, default_sampler

Make = Callable[..., Any]

JOINT: dict[str, Any] = {"annealing": "joint", "levels": (3.0, 0.1)}
STAGED: dict[str, Any] = {"annealing": "staged", "levels": (1.0, 0.1)}
PLAIN: dict[str, Any] = {"annealing": "none", "levels": (0.1,)}
DISTILLED: dict[str, Any] = JOINT | {"quantiles": Quantiles()}
LIKELIHOOD: dict[str, Any] = PLAIN | {"likelihood": "gaussian", "context_width": 2}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (JOINT, ProbabilityFlow),
        (STAGED, Langevin),
        (PLAIN, Langevin),
        (LIKELIHOOD, Ancestral),
        (DISTILLED, Quantile),
    ],
)
def test_every_model_has_a_default(
    random_model: Make, kind: dict[str, Any], expected: type
) -> None:
    assert isinstance(default_sampler(random_model(**kind)), expected)


@pytest.mark.parametrize("kind", [STAGED, PLAIN])
def test_ode_is_refused_where_levels_are_not_joined(
    random_model: Make, kind: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="ode needs a model of joint annealing"):
        choose_sampler(random_model(**kind), "ode")


@pytest.mark.parametrize("kind", [JOINT, PLAIN])
def test_quantile_is_refused_of_models_that_are_not_distilled(
    random_model: Make, kind: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="quantile needs a model that 'arcsm distill' has made"):
        choose_sampler(random_model(**kind), "quantile")


@pytest.mark.parametrize("kind", [JOINT, STAGED, PLAIN, DISTILLED])
def test_langevin_and_grid_fit_every_model(random_model: Make, kind: dict[str, Any]) -> None:
    model = random_model(**kind)
    assert isinstance(choose_sampler(model, "grid"), Grid)
    langevin = choose_sampler(model, "langevin")
    assert isinstance(langevin, Langevin)
    assert langevin.levels == model.levels


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ode", {"step_size": 0.1}),
        ("ode", {"points": 10}),
        ("langevin", {"points": 10}),
        ("grid", {"steps": 10}),
        ("grid", {"step_size": 0.1}),
    ],
)
def test_an_option_of_another_sampler_is_refused_by_name(
    random_model: Make, name: str, options: dict[str, Any]
) -> None:
    option = "--" + next(iter(options)).replace("_", "-")
    with pytest.raises(UsageError, match=f"{option} .* {name}"):
        choose_sampler(random_model(), name, **options)


def test_options_reach_their_sampler(random_model: Make) -> None:
    model = random_model()
    assert choose_sampler(model, "ode", steps=7) == ProbabilityFlow(3.0, 0.1, 7)
    assert choose_sampler(model, "grid", points=9) == Grid(0.1, 9)
    assert choose_sampler(model, "langevin", steps=7, step_size=0.5) == Langevin((3.0, 0.1), 7, 0.5)


@pytest.mark.parametrize(
    ("dimensions", "sd", "exact"), [(2, 1.0, True), (300, 1.0, False), (300, 2.0, True)]
)
def test_ode_starts_approximately_only_if_many_dimensions_drown_in_noise(
    random_model: Make, dimensions: int, sd: float, exact: bool
) -> None:
    model = random_model(shape=(dimensions,), hidden=(2,), sd=(sd,))
    assert choose_sampler(model, "ode").exact_start is exact


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_name_is_left_without_a_sampler(random_model: Make, name: str) -> None:
    model = random_model(**(LIKELIHOOD if name == "ancestral" else DISTILLED))
    assert choose_sampler(model, name).draws >= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_of_scores_and_of_likelihoods_are_kept_apart(
    random_model: Make, name: str
) -> None:
    model = random_model(**({} if name == "ancestral" else LIKELIHOOD))
    with pytest.raises(UsageError, match=f"{name} does not fit"):
        choose_sampler(model, name)
