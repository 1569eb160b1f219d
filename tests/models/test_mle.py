"""Models with normalised conditionals: their densities, walks, checkpoints and configurations."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcsm_cli.models import restore as restoring
from arcsm_cli.models.architecture import parameter_width
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.mle import ARMLE
from arcsm_cli.models.restore import make_model, parameter_count, restore
from arcsm_cli.objectives.mle import mle
from arcsm_cli.objectives.noisy_batch import perturb
from arcsm_cli.randomness import Draws
from arcsm_cli.registry import LIKELIHOODS
from tests.models.images import noisy

Make = Callable[..., Any]
GAUSSIAN, MIXTURE, DISCRETE = LIKELIHOODS
COMPONENTS = 2


def settings_of(
    likelihood: str, context: str = "made", shape: tuple[int, ...] = (3, 4, 4), sigma: float = 0.3
) -> dict[str, Any]:
    """The settings of a small model of images or, with a shape (D,), of vectors."""
    together = likelihood == DISCRETE and context == "pixelcnn"
    chosen: dict[str, Any] = {
        "shape": shape,
        "levels": (0.0 if likelihood == DISCRETE else sigma,),
        "annealing": "none",
        "context": context,
        "likelihood": likelihood,
        "components": COMPONENTS,
        "context_width": parameter_width(likelihood, COMPONENTS, shape[0] if together else 1),
        "filters": 3,
        "resnet_blocks": 1,
    }
    if likelihood != DISCRETE:
        return chosen | {"mean": (0.3,), "sd": (0.7,), "data_shift": (0.5,), "data_scale": (2.0,)}
    return chosen | {"data_shift": (0.5,), "data_scale": (0.5,)}


KINDS = list(itertools.product(LIKELIHOODS, ["made", "pixelcnn"]))
every = pytest.mark.parametrize(("likelihood", "context"), KINDS)


def examples(model: AutoregressiveModel, batch: int, seed: int = 0) -> Tensor:
    """Return examples in file units, (B, *shape): 8-bit values between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (batch, *model.config.shape), generator=generator)
    return levels.double() / 255


def log_prob_of(model: ARMLE, rows: Any, x: Tensor, d: int) -> Tensor:
    """Return log p of values x (B,) of dimension d from a walk's conditionals."""
    site = torch.cat([rows.earlier, x[:, None]], 1)
    k = site.shape[1]
    dims = slice(d + 1 - k, d + 1)
    filled = x.new_zeros(len(x), model.head.site)
    filled[:, :k] = (site - model.mean[dims]) / model.sd[dims]
    log_p: Tensor = model.head.log_prob(rows.parameters, filled)[:, k - 1]
    return log_p - model.sd[d].log()


# densities


@every
@torch.no_grad()
def test_densities_of_a_walk_are_those_of_the_full_pass(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    x = model.sort(examples(model, 3))
    expected, walk = model.log_prob(x), model.walk(torch.empty(3, 0))
    for d, column in enumerate(x.T):
        found = log_prob_of(model, walk.conditionals(), column, d)
        assert torch.allclose(found, expected[:, d], rtol=1e-9, atol=1e-9)
        walk.append(column)


@pytest.mark.parametrize("order", ["reversed", "random"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@torch.no_grad()
def test_densities_of_a_walk_are_those_of_the_full_pass_in_any_order(
    random_model: Make, likelihood: str, order: str
) -> None:
    context = "made" if order == "random" else "pixelcnn"
    model = noisy(random_model(order=order, **settings_of(likelihood, context)))
    x = model.sort(examples(model, 2))
    expected, walk = model.log_prob(x), model.walk(torch.empty(2, 0))
    for d, column in enumerate(x.T):
        found = log_prob_of(model, walk.conditionals(), column, d)
        assert torch.allclose(found, expected[:, d], rtol=1e-9, atol=1e-9)
        walk.append(column)


@every
@torch.no_grad()
def test_a_density_does_not_depend_on_later_values(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    x, other = (model.sort(examples(model, 1, seed)) for seed in (0, 1))
    d = x.shape[1]
    # Row i has the first i + 1 values of x.
    rows = torch.where(torch.ones(d, d, dtype=torch.bool).tril(), x, other)
    found = model.log_prob(rows).diagonal()
    assert torch.allclose(found, model.log_prob(x)[0], rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def axis() -> tuple[Tensor, Tensor]:
    """Nodes and weights on the whole line: dense near 0, far in the tails, smooth between."""
    t = torch.linspace(-7, 7, 701, dtype=torch.float64)
    return torch.sinh(t), torch.cosh(t) * (t[1] - t[0])


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_densities_of_one_dimension_integrate_to_one(
    random_model: Make, axis: tuple[Tensor, Tensor], likelihood: str, seed: int
) -> None:
    model = random_model(seed=seed, **settings_of(likelihood, shape=(1,)))
    points, weights = axis
    total = (model.log_prob(points[:, None])[:, 0].exp() * weights).sum()
    assert abs(total - 1) < 1e-6


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("order", ["raster", "reversed"])
@torch.no_grad()
def test_joint_densities_of_two_dimensions_integrate_to_one(
    random_model: Make, axis: tuple[Tensor, Tensor], likelihood: str, order: str
) -> None:
    scales = {"mean": (0.3, -1.0), "sd": (0.7, 1.5)}
    model = random_model(order=order, **(settings_of(likelihood, shape=(2,)) | scales))
    points, weights = (v[::2] for v in axis)
    log_p = model.log_prob(torch.cartesian_prod(points, points)).sum(1)
    total = 4 * (log_p.exp() * torch.cartesian_prod(weights, weights).prod(1)).sum()
    assert abs(total - 1) < 1e-4


@torch.no_grad()
def test_probabilities_of_all_8_bit_images_sum_to_one(random_model: Make) -> None:
    model = random_model(**settings_of(DISCRETE, shape=(1, 1, 2)))
    levels = torch.arange(256).double() / 255
    images = torch.cartesian_prod(levels, levels).view(-1, 1, 1, 2)
    log_p = model.log_prob(model.sort(images)).sum(1)
    assert torch.logsumexp(log_p, 0).abs() < 1e-9


@torch.no_grad()
def test_a_density_of_vectors_scales_with_the_data(random_model: Make) -> None:
    plain = settings_of(GAUSSIAN, shape=(3,)) | {"mean": (0.0,), "sd": (1.0,)}
    moved = plain | {"mean": (0.5, -1.0, 2.0), "sd": (0.25, 1.0, 4.0)}
    one, other = random_model(**plain), random_model(**moved)
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(0)).double()
    x = z * other.sd + other.mean
    # The first dimension has no context: the same density, stretched.
    expected = one.log_prob(z)[:, 0] - other.sd[0].log()
    assert torch.allclose(other.log_prob(x)[:, 0], expected, rtol=1e-12)


def test_8_bit_densities_take_the_nearest_level(random_model: Make) -> None:
    model = random_model(**settings_of(DISCRETE))
    image = examples(model, 4)
    noise = (torch.rand(image.shape, generator=torch.Generator().manual_seed(1)) - 0.5) * 0.9 / 255
    assert torch.equal(model.sort(image + noise), model.sort(image))


@every
@torch.no_grad()
def test_sorting_and_back_gives_the_examples(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(order="reversed", **settings_of(likelihood, context))
    image = examples(model, 3)
    assert torch.allclose(model.unsort(model.sort(image)), image, rtol=0, atol=1e-12)


@every
@torch.no_grad()
def test_the_objective_is_the_mean_negative_log_likelihood_of_the_noisy_examples(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(**settings_of(likelihood, context))
    batch = perturb(model, model.sort(examples(model, 4)), torch.Generator().manual_seed(0))
    expected = -torch.stack([model.log_prob(x[None]).sum() for x in batch.context_input.x]).mean()
    assert torch.allclose(mle(model, batch, Draws(torch.Generator())), expected, rtol=1e-12)


def test_the_first_variables_mixture_starts_with_components_apart() -> None:
    """It has biases alone: equal ones would get equal gradients and stay together."""
    model = make_model(ModelConfig(**settings_of(MIXTURE, shape=(3,))))
    first = model.contexts(torch.zeros(1, 3))[0, 0].view(3, COMPONENTS)
    assert float(first[1].detach().diff().min()) > 0.5


@every
def test_every_weight_gets_a_gradient(random_model: Make, likelihood: str, context: str) -> None:
    model = noisy(random_model(**settings_of(likelihood, context)))
    batch = perturb(model, model.sort(examples(model, 4)), torch.Generator().manual_seed(0))
    mle(model, batch, Draws(torch.Generator())).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


# denoising


def of_every_dimension(model: ARMLE, x: Tensor) -> Tensor:
    """Return E[clean | x] of sorted examples by walking along them."""
    walk, found = model.walk(torch.empty(len(x), 0)), []
    with torch.no_grad():
        for column in x.T:
            found.append(walk.conditionals().denoised(column))
            walk.append(column)
    return torch.stack(found, 1)


@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_denoising_a_gaussian_is_the_mean_of_the_posterior(
    random_model: Make, context: str
) -> None:
    sigma = 0.3
    model = noisy(random_model(**settings_of(GAUSSIAN, context, sigma=sigma)))
    x = model.sort(examples(model, 3))
    with torch.no_grad():
        mean, log_sd = model.contexts(x).unbind(-1)
    mean, variance = model.mean + model.sd * mean, (model.sd * log_sd.exp()).square()
    # Of X = clean + noise with X ~ N(mean, variance): clean varies by what noise does not.
    expected = (mean * sigma**2 + x * (variance - sigma**2)) / variance
    assert torch.allclose(of_every_dimension(model, x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("likelihood", [GAUSSIAN, MIXTURE])
@pytest.mark.parametrize("context", ["made", "pixelcnn"])
def test_denoising_moves_along_the_score_of_the_own_conditional(
    random_model: Make, likelihood: str, context: str
) -> None:
    sigma, h = 0.3, 1e-5
    model = noisy(random_model(**settings_of(likelihood, context, sigma=sigma)))
    x = model.sort(examples(model, 2))
    found = of_every_dimension(model, x)
    with torch.no_grad():
        for d in range(0, x.shape[1], 7):
            step = torch.zeros_like(x)
            step[:, d] = h
            up, down = (model.log_prob(x + s * step)[:, d] for s in (1, -1))
            expected = x[:, d] + sigma**2 * (up - down) / (2 * h)
            assert torch.allclose(found[:, d], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("likelihood", "context"), KINDS)
def test_without_noise_there_is_nothing_to_denoise(
    random_model: Make, likelihood: str, context: str
) -> None:
    model = random_model(**settings_of(likelihood, context, sigma=0.0))
    x = model.sort(examples(model, 2))
    assert torch.equal(of_every_dimension(model, x), x)


# checkpoints


def float_model(likelihood: str, context: str) -> tuple[ModelConfig, Any]:
    config = ModelConfig(hidden=(6, 6), **settings_of(likelihood, context))
    torch.manual_seed(0)
    model = make_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return config, model.eval()


def checkpoint_of(config: ModelConfig, model: AutoregressiveModel) -> Checkpoint:
    tensors = {k: v.detach() for k, v in model.named_parameters()}
    return Checkpoint(model.kind, config.to_dict(), {}, [], tensors)


ALL_KINDS = [*KINDS, ("", "made"), ("", "pixelcnn")]


def any_model(likelihood: str, context: str) -> tuple[ModelConfig, Any]:
    """Also AR-CSMs, which have no likelihood."""
    if likelihood:
        return float_model(likelihood, context)
    chosen = settings_of(GAUSSIAN, context)
    config = ModelConfig(hidden=(6,), score_hidden=(5,), **(chosen | {"likelihood": ""}))
    torch.manual_seed(0)
    return config, make_model(config).eval()


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_gives_back_the_weights(tmp_path: Path, likelihood: str, context: str) -> None:
    config, model = any_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    restored = restore(load_checkpoint(tmp_path / "model"))
    assert type(restored) is type(model)
    found, saved = restored.state_dict(), model.state_dict()
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)


@every
@torch.no_grad()
def test_a_checkpoint_gives_back_the_density(tmp_path: Path, likelihood: str, context: str) -> None:
    config, model = float_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    restored = restore(load_checkpoint(tmp_path / "model"))
    assert isinstance(restored, ARMLE)
    x = model.sort(examples(model, 3).float())
    assert torch.equal(restored.log_prob(x), model.log_prob(x))


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_gives_back_the_configuration(
    tmp_path: Path, likelihood: str, context: str
) -> None:
    config, model = any_model(likelihood, context)
    save_checkpoint(tmp_path / "model", checkpoint_of(config, model))
    assert restore(load_checkpoint(tmp_path / "model")).config == config


@pytest.mark.parametrize(("likelihood", "context"), ALL_KINDS)
def test_a_checkpoint_of_the_other_kind_is_refused(likelihood: str, context: str) -> None:
    saved = checkpoint_of(*any_model(likelihood, context))
    other = ARCSM.kind if saved.kind == ARMLE.kind else ARMLE.kind
    with pytest.raises(DamagedInputError, match=other):
        restore(dataclasses.replace(saved, kind=other))


@pytest.mark.parametrize(
    "change",
    [
        {"filters": 4096},
        {"resnet_blocks": 12},
        {"shape": [3, 4, 8], "context": "made"},
        {"likelihood": MIXTURE, "components": 4096, "context_width": 3 * 4096},
    ],
    ids=str,
)
def test_a_small_file_cannot_claim_a_large_network(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    config, model = float_model(GAUSSIAN, "pixelcnn")
    saved = checkpoint_of(config, model)

    def build(config: ModelConfig) -> AutoregressiveModel:
        raise AssertionError("a model was built")

    monkeypatch.setattr(restoring, "make_model", build)
    with pytest.raises(DamagedInputError, match="weights"):
        restore(dataclasses.replace(saved, config=saved.config | change))


def test_tensors_of_another_network_of_equal_size_are_refused() -> None:
    config, model = float_model(GAUSSIAN, "pixelcnn")
    saved = checkpoint_of(config, model)
    name = "stages.0.context.halve_ul.0.direction"
    moved = saved.tensors.pop(name)
    saved.tensors["stages.0.context.halve_ul.2.direction"] = moved
    with pytest.raises(DamagedInputError, match="tensors"):
        restore(saved)


# configurations


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any small configuration with a PixelCNN, a likelihood or both."""
    likelihood, context = draw(st.sampled_from([*KINDS, ("", "pixelcnn")]))
    sides = st.sampled_from([4, 8])
    shape: tuple[int, ...] = (draw(st.sampled_from([1, 3])), draw(sides), draw(sides))
    if context == "made" and likelihood != DISCRETE and draw(st.booleans()):
        shape = (draw(st.integers(1, 6)),)
    components = draw(st.integers(1, 4))
    annealing = "none"
    levels: tuple[float, ...] = (0.0 if likelihood == DISCRETE else 0.3,)
    width = draw(st.integers(1, 4))
    if likelihood:
        together = likelihood == DISCRETE and context == "pixelcnn"
        width = parameter_width(likelihood, components, shape[0] if together else 1)
    elif draw(st.booleans()):
        annealing, levels = draw(st.sampled_from(["joint", "staged"])), (3.0, 0.5, 0.1)
    # The discretized likelihood is stated for one scale.
    scale: dict[str, tuple[float, ...]] = {"data_shift": (0.5,), "data_scale": (0.5,)}
    return ModelConfig(
        **(scale if likelihood == DISCRETE else {}),
        shape=shape,
        levels=levels,
        order=draw(st.sampled_from(["raster", "reversed"])),
        context=context,
        context_width=width,
        hidden=tuple(draw(st.lists(st.integers(1, 6), max_size=2))),
        filters=draw(st.integers(1, 5)),
        resnet_blocks=draw(st.integers(1, 2)),
        dropout=draw(st.floats(0, 0.9)),
        score_hidden=tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=2))),
        likelihood=likelihood,
        components=components,
        annealing=annealing,
    )


@given(configs())
def test_every_usable_config_makes_a_model_of_the_counted_size(config: ModelConfig) -> None:
    assert config.problem() is None
    assert parameter_count(config) == sum(p.numel() for p in make_model(config).parameters())


@given(configs())
def test_a_usable_config_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(configs(), st.integers(1, 3))
@torch.no_grad()
def test_every_usable_config_has_contexts_of_its_size(config: ModelConfig, batch: int) -> None:
    model = make_model(config).eval()
    contexts = model.contexts(torch.zeros(batch, config.dimensions))
    assert contexts.shape == (batch, config.dimensions // config.site, config.context_width)


def test_counting_builds_no_weights() -> None:
    config = ModelConfig(
        shape=(3, 4, 4), levels=(1.0, 0.1), context="pixelcnn", filters=4096, resnet_blocks=2
    )
    before = torch.get_rng_state()
    # Some 10^10 numbers: no machine that runs tests would hold them twice.
    assert parameter_count(config) > 10**9
    assert torch.equal(torch.get_rng_state(), before)


SOUND: dict[str, dict[str, Any]] = {
    "pixels": ModelConfig(**settings_of(DISCRETE, "pixelcnn")).to_dict(),
    "vectors": ModelConfig(**settings_of(GAUSSIAN, shape=(2,))).to_dict(),
    "scores": ModelConfig(
        shape=(1, 4, 4), levels=(1.0, 0.1), context="pixelcnn", filters=3, resnet_blocks=1
    ).to_dict(),
}


@pytest.mark.parametrize(
    ("sound", "change", "words"),
    [
        ("vectors", {"likelihood": "poisson"}, "likelihood"),
        ("vectors", {"likelihood": 3}, "wrong type"),
        ("vectors", {"likelihood": None}, "wrong type"),
        ("vectors", {"likelihood": ["gaussian"]}, "wrong type"),
        ("vectors", {"likelihood": "Gaussian"}, "likelihood"),
        ("vectors", {"annealing": "joint", "levels": [1.0, 0.1]}, "no annealing"),
        ("vectors", {"annealing": "staged", "levels": [1.0, 0.1]}, "no annealing"),
        ("vectors", {"context_width": 3}, "context_width"),
        ("vectors", {"likelihood": MIXTURE}, "context_width"),
        ("vectors", {"likelihood": DISCRETE, "levels": [0.0]}, "8-bit images"),
        ("vectors", {"context": "pixelcnn"}, "images of 1 or 3 channels"),
        ("vectors", {"levels": [-0.1]}, "levels"),
        ("pixels", {"levels": [0.1]}, "without noise"),
        ("pixels", {"mean": [0.2]}, "as they are"),
        ("pixels", {"sd": [0.5]}, "as they are"),
        ("pixels", {"data_shift": [0.0]}, "as they are"),
        ("pixels", {"data_scale": [1.0]}, "as they are"),
        ("pixels", {"context": "made"}, "context_width"),
        ("pixels", {"components": 3}, "context_width"),
        ("pixels", {"components": 0}, "components"),
        ("pixels", {"components": 4097}, "components"),
        ("pixels", {"components": 2.0}, "wrong type"),
        ("pixels", {"components": True}, "wrong type"),
        ("pixels", {"shape": [1, 4, 4]}, "context_width"),
        ("pixels", {"shape": [2, 4, 4]}, "context_width must be"),
        ("pixels", {"shape": [3, 4, 6]}, "multiples of 4"),
        ("pixels", {"shape": [3, 0, 4]}, "shape"),
        ("pixels", {"order": "random"}, "raster and reversed"),
        ("scores", {"filters": 0}, "filters"),
        ("scores", {"filters": -3}, "filters"),
        ("scores", {"filters": 4097}, "filters"),
        ("scores", {"filters": 10**30}, "filters"),
        ("scores", {"filters": True}, "wrong type"),
        ("scores", {"filters": 3.0}, "wrong type"),
        ("scores", {"resnet_blocks": 0}, "blocks"),
        ("scores", {"resnet_blocks": 65}, "blocks"),
        ("scores", {"resnet_blocks": "1"}, "wrong type"),
        ("scores", {"dropout": 1}, "dropout"),
        ("scores", {"dropout": 1.0}, "dropout"),
        ("scores", {"dropout": -0.1}, "dropout"),
        ("scores", {"dropout": float("nan")}, "dropout"),
        ("scores", {"dropout": float("inf")}, "dropout"),
        ("scores", {"dropout": True}, "wrong type"),
        ("scores", {"dropout": [0.5]}, "wrong type"),
        ("scores", {"context": "PixelCNN"}, "context"),
        ("scores", {"context": 1}, "wrong type"),
    ],
    ids=str,
)
def test_the_reason_for_a_refusal_is_named(sound: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(DamagedInputError, match=words) as refusal:
        ModelConfig.from_dict(SOUND[sound] | change)
    assert "\n" not in str(refusal.value)


def test_a_dropout_of_0_is_a_number() -> None:
    assert type(ModelConfig.from_dict(SOUND["scores"] | {"dropout": 0}).network.dropout) is float


numbers = st.one_of(
    st.integers(-3, 70_000),
    st.sampled_from([0, 1, 4, 256, 4096, 10**30, 10**400, 2**63, -(10**400)]),
    st.floats(allow_nan=False),
)
names = st.sampled_from([field.name for field in dataclasses.fields(ModelConfig)])
words = st.sampled_from(["", "made", "pixelcnn", "none", "joint", *LIKELIHOODS, "\n", "x" * 999])
values = st.one_of(
    st.none(), st.booleans(), numbers, words, st.lists(numbers, max_size=4), st.just({})
)


@pytest.mark.parametrize("sound", list(SOUND))
@given(changes=st.dictionaries(names, values, max_size=4))
def test_hostile_entries_are_refused_or_make_a_usable_model(
    sound: str, changes: dict[str, Any]
) -> None:
    try:
        config = ModelConfig.from_dict(SOUND[sound] | changes)
    except DamagedInputError:
        return
    assert config.problem() is None
    own = vars(config.network)
    assert 0 <= own.get("dropout", 0) < 1
    narrow = own.get("resnet_blocks", 0) <= 2 and own.get("filters", 0) <= 64
    small = narrow and config.dimensions < 1000
    if small and parameter_count(config) < 10_000:
        model = make_model(config).eval()
        with torch.no_grad():
            contexts = model.contexts(torch.zeros(1, config.dimensions))
        assert contexts.isfinite().all()
