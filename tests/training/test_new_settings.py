"""Batches in parts, dropout, data-dependent initialisation and maximum likelihood in the loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.densities import log_density
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.pixelcnn import PixelCNN
from arcsm_cli.objectives.noisy_batch import NoisyBatch
from arcsm_cli.randomness import Draws
from arcsm_cli.training import autoregressive, loop
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train, validation_loss
from arcsm_cli.training.session import Session, fresh_state, resume_path, resumed_state
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState

Make = Callable[..., Any]

PIXELCNN: dict[str, Any] = {
    "context": "pixelcnn",
    "filters": 4,
    "resnet_blocks": 1,
    "dropout": 0.5,
    "score_hidden": (5,),
    "context_width": 2,
}
MLE: dict[str, Any] = {"annealing": "none", "components": 2}
DISCRETE: dict[str, Any] = {**PIXELCNN, **MLE, "likelihood": "discretized-logistic-mixture"}
MIXTURE: dict[str, Any] = {**MLE, "hidden": (6, 6), "likelihood": "logistic-mixture"}
SCORES: dict[str, Any] = {"hidden": (6, 6), "score_hidden": (5,), "context_width": 2}


def _pictures(n: int, seed: int) -> Tensor:
    """Brightness falls from the top of each picture to its bottom: there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    top = torch.linspace(200, 50, 4)[:, None]
    values = top + 25 * torch.randn(n, 1, 4, 4, generator=generator)
    return values.clamp(0, 255).round().to(torch.uint8)


@pytest.fixture(scope="session")
def pictures() -> Dataset:
    """40 grey images of 4 x 4 pixels: five batches of 8 an epoch."""
    return Dataset("pictures", _pictures(40, 0))


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    return Dataset("held out", _pictures(20, 1))


@pytest.fixture
def fresh(settings: Make, pictures: Dataset, data: Dataset) -> Callable[..., TrainState]:
    """Makes states before the first step, of images where the context network takes those."""

    def make(choices: dict[str, Any], **values: Any) -> TrainState:
        examples = pictures if choices.get("context") == "pixelcnn" else data
        return fresh_state(model_config(examples, Choices(**choices)), settings(**values), "cpu")

    return make


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[tuple[NoisyBatch, float]]]:
    """Notes what an objective is given in training, and what it returns."""

    def watch(name: str) -> list[tuple[NoisyBatch, float]]:
        seen: list[tuple[NoisyBatch, float]] = []
        real = autoregressive.OBJECTIVES[name]

        def objective(model: Any, batch: NoisyBatch, random: Draws) -> Tensor:
            loss = real(model, batch, random)
            if loss.requires_grad:  # validation is without
                seen.append((batch, float(loss.detach())))
            return loss

        monkeypatch.setitem(autoregressive.OBJECTIVES, name, objective)
        return seen

    return watch


def weights(state: TrainState) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in state.model.named_parameters()}


def gradients(state: TrainState) -> dict[str, Tensor]:
    """Those of the last step."""
    return {k: p.grad for k, p in state.model.named_parameters() if p.grad is not None}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# Batches in parts


KINDS = [
    pytest.param(SCORES, {"objective": "csm"}, id="csm"),
    pytest.param(SCORES, {"objective": "dsm", "draws": 3}, id="dsm"),
    pytest.param(MIXTURE, {"objective": "mle"}, id="mle"),
    pytest.param({**DISCRETE, "dropout": 0.0}, {"objective": "mle"}, id="pixelcnn"),
]
of_every_kind = pytest.mark.parametrize(("choices", "values"), KINDS)


@pytest.fixture
def examples(data: Dataset, valid: Dataset, pictures: Dataset, held_out: Dataset) -> Make:
    """The training and the held-out examples for choices."""

    def get(choices: dict[str, Any]) -> tuple[Dataset, Dataset]:
        return (pictures, held_out) if choices.get("context") == "pixelcnn" else (data, valid)

    return get


@pytest.mark.parametrize("parts", [3, 8])
@of_every_kind
def test_parts_have_the_gradient_of_the_whole_batch(
    fresh: Make, examples: Make, watcher: Make, choices: Any, values: Any, parts: int
) -> None:
    once = {"steps": 1, "clip": 0.0, **values}
    whole, split = fresh(choices, **once), fresh(choices, grad_accumulation=parts, **once)
    seen = [watcher() for _ in range(2)]
    for state, watched in zip((whole, split), seen, strict=True):
        train(state, *examples(choices), watched)
    assert seen[1].losses == pytest.approx(seen[0].losses, rel=1e-5)
    expected, found = gradients(whole), gradients(split)
    assert expected.keys() == found.keys()
    largest = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * largest)


@of_every_kind
def test_parts_see_the_noise_of_the_whole_batch(
    fresh: Make, examples: Make, watcher: Make, spy: Make, choices: Any, values: Any
) -> None:
    seen = spy(values["objective"])
    for parts in (1, 3):
        train(
            fresh(choices, steps=1, grad_accumulation=parts, **values),
            *examples(choices),
            watcher(),
        )
    (whole, _), *rest = seen
    assert [batch.context_input.size for batch, _ in rest] == [3, 3, 2]
    inputs = torch.cat([batch.context_input.x for batch, _ in rest])
    assert torch.equal(inputs, whole.context_input.x)
    for name, axis in (("score_input", 1), ("noise", 1)):
        together = torch.cat([getattr(batch, name) for batch, _ in rest], axis)
        assert torch.equal(together, getattr(whole, name))
    levels = [batch.sigma.expand_as(batch.noise) for batch, _ in rest]
    assert torch.equal(torch.cat(levels, 1), whole.sigma.expand_as(whole.noise))


def test_no_part_is_empty(fresh: Make, examples: Make, watcher: Make, spy: Make) -> None:
    seen = spy("mle")
    state = fresh(MIXTURE, objective="mle", steps=1, grad_accumulation=100)
    train(state, *examples(MIXTURE), watcher())
    assert [batch.context_input.size for batch, _ in seen] == [1] * 8


# Dropout


def test_dropout_changes_training_alone(fresh: Make, examples: Make, watcher: Make) -> None:
    without, dropped = watcher(), watcher()
    once = {"objective": "mle", "steps": 1}
    states = [fresh({**DISCRETE, "dropout": p}, **once) for p in (0.0, 0.5)]
    for state, seen in zip(states, (without, dropped), strict=True):
        train(state, *examples(DISCRETE), seen)
    assert dropped.losses != without.losses
    held_out = examples(DISCRETE)[1]
    states[1].average = states[0].average
    losses = [validation_loss(state, held_out, 0) for state in states]
    assert losses[0] == losses[1]


def test_every_step_and_seed_drops_others(
    fresh: Make, spy: Make, examples: Make, watcher: Make
) -> None:
    choices = {**DISCRETE, "dropout": 0.5}
    pixels = torch.full((40, 1, 4, 4), 100, dtype=torch.uint8)
    seen = spy("mle")
    for seed in (0, 1):
        # At no rate, and with the same examples throughout, steps differ by what is dropped.
        state = fresh(choices, objective="mle", lr=1e-30, seed=seed, steps=4)
        train(state, Dataset("constant", pixels), examples(choices)[1], watcher())
    assert len({loss for _, loss in seen}) == 8


def test_the_parts_of_a_batch_drop_others(
    fresh: Make, spy: Make, examples: Make, watcher: Make
) -> None:
    pixels = torch.full((40, 1, 4, 4), 100, dtype=torch.uint8)
    for dropout, distinct in ((0.0, 1), (0.5, 4)):
        seen = spy("mle")
        choices = {**DISCRETE, "dropout": dropout}
        state = fresh(choices, objective="mle", steps=1, grad_accumulation=4)
        train(state, Dataset("constant", pixels), examples(choices)[1], watcher())
        assert len({loss for _, loss in seen}) == distinct


# Going on


class Run:
    """A training with its files, started as often as needed."""

    def __init__(
        self, output: Path, config: ModelConfig, settings: TrainSettings, *examples: Dataset
    ) -> None:
        self.output, self.config, self.settings = str(output), config, settings
        self.data, self.valid = examples

    def contents(self) -> list[bytes]:
        return [path.read_bytes() for path in (Path(self.output), resume_path(self.output))]

    def resumed(self, **changes: Any) -> TrainState:
        settings = replace(self.settings, **changes)
        return resumed_state(self.output, self.config, settings, self.data.digest, "cpu")[0]

    def start(self, after: int | None = None) -> bool:
        """Train; stop once ``after`` more steps are done."""
        stop, done = False, itertools.count(1)

        def report(loss: float, valid_loss: float | None) -> None:
            nonlocal stop
            stop = next(done) == after

        known = resume_path(self.output).exists()
        state = self.resumed() if known else fresh_state(self.config, self.settings, "cpu")
        session = Session(self.output, self.data.digest, [], lambda: stop, report)
        return session.run(state, self.data, self.valid, force=True)


@pytest.fixture
def run(tmp_path: Path, settings: Make, examples: Make) -> Make:
    """Makes runs with outputs of their own."""
    names = (tmp_path / f"run{i}.safetensors" for i in itertools.count())

    def make(choices: dict[str, Any], **values: Any) -> Run:
        data, valid = examples(choices)
        config = model_config(data, Choices(**choices))
        return Run(next(names), config, settings(**values), data, valid)

    return make


@pytest.mark.parametrize(
    ("choices", "values"),
    [
        (DISCRETE, {"objective": "mle", "grad_accumulation": 3}),
        (DISCRETE, {"objective": "mle", "precision": "bf16"}),
        ({**PIXELCNN, "annealing": "staged", "levels": 2}, {"objective": "csm", "steps": 4}),
    ],
    ids=["in parts", "bf16", "staged"],
)
def test_a_run_that_was_stopped_leaves_the_bytes_of_one_that_was_not(
    run: Make, choices: Any, values: Any
) -> None:
    whole, parts = run(choices, **values), run(choices, **values)
    assert whole.start()
    for after in (2, 3):  # an epoch has five steps
        torch.manual_seed(after)  # another process has another state
        assert not parts.start(after)
    assert parts.start()
    assert parts.contents() == whole.contents()


def test_another_model_is_refused_by_its_option(run: Make, pictures: Dataset) -> None:
    stopped = run(DISCRETE, objective="mle")
    stopped.start(1)
    others: dict[str, dict[str, Any]] = {
        "--filters": {"filters": 5},
        "--resnet-blocks": {"resnet_blocks": 2},
        "--dropout": {"dropout": 0.25},
        "--components": {"components": 3},
        "--likelihood": {"likelihood": "gaussian", "sigma_min": 0.0},
        "--context": {"context": "made"},
        "--order": {"order": "reversed"},
    }
    with pytest.raises(UsageError, match=r"^--grad-accumulation is 2"):
        stopped.resumed(grad_accumulation=2)
    for option, choices in others.items():
        stopped.config = model_config(pictures, Choices(**DISCRETE | choices))
        with pytest.raises(UsageError, match=f"^{option} is "):
            stopped.resumed()
    # Noise and likelihood are named together, as either may decide the other.
    choices = DISCRETE | {"likelihood": "logistic-mixture", "sigma_min": 0.5}
    stopped.config = model_config(pictures, Choices(**choices))
    with pytest.raises(
        UsageError, match=r"--likelihood is logistic-mixture with --sigma-min 0\.5,"
    ):
        stopped.resumed()


@pytest.mark.parametrize("earlier", ["csm", "mle"])
def test_another_objective_is_named_before_what_follows_from_it(run: Make, earlier: str) -> None:
    models = {"csm": PIXELCNN, "mle": DISCRETE}
    now = "mle" if earlier == "csm" else "csm"
    stopped, other = run(models[earlier], objective=earlier), run(models[now], objective=now)
    stopped.start(1)
    stopped.config, stopped.settings = other.config, other.settings
    with pytest.raises(UsageError, match=f"^--objective is {now}, .* has {earlier}$"):
        stopped.resumed()


@pytest.mark.parametrize("value", [0.5, "2", True, None])
def test_damaged_parts_are_refused(settings: Make, value: Any) -> None:
    with pytest.raises(DamagedInputError):
        TrainSettings.from_dict(settings().to_dict() | {"grad_accumulation": value})


# Data-dependent initialisation


@pytest.fixture
def initialised(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Examples that context networks were fitted to."""
    seen: list[Tensor] = []
    real = PixelCNN.initialise

    def initialise(self: PixelCNN, x: Tensor) -> bool:
        seen.append(Batch.of(x).x.clone())
        return real(self, x)

    monkeypatch.setattr(PixelCNN, "initialise", initialise)
    return seen


def test_a_fresh_run_is_fitted_once_and_a_resumed_one_never(
    run: Make, initialised: list[Tensor]
) -> None:
    fitted = run(DISCRETE, objective="mle")
    fitted.start(2)
    assert len(initialised) == 1
    fitted.start()
    assert len(initialised) == 1


@pytest.mark.parametrize("choices", [PIXELCNN, DISCRETE], ids=["csm", "mle"])
def test_weights_are_fitted_to_the_whole_first_noisy_batch(
    fresh: Make, examples: Make, watcher: Make, spy: Make, initialised: list[Tensor], choices: Any
) -> None:
    objective = "mle" if "likelihood" in choices else "csm"
    seen = spy(objective)
    state = fresh(choices, objective=objective, grad_accumulation=2)
    train(state, *examples(choices), watcher())
    batch = torch.cat([batch.context_input.x for batch, _ in seen[:2]])
    assert torch.equal(initialised[0], batch)


def test_fitted_weights_start_with_normalised_contexts(fresh: Make, examples: Make) -> None:
    state = fresh(DISCRETE)
    x = state.model.sort(examples(DISCRETE)[0].take(torch.arange(40)))
    state.model.initialise(x)
    state.model.eval()
    with torch.no_grad():
        contexts = state.model.contexts(x).flatten(0, 1)
    assert torch.allclose(contexts.mean(0), torch.zeros(contexts.shape[1]), atol=1e-4)
    assert torch.allclose(contexts.std(0, correction=0), torch.ones(contexts.shape[1]), atol=1e-3)


def test_the_average_starts_from_the_fitted_weights(
    fresh: Make, examples: Make, watcher: Make
) -> None:
    start = fresh(DISCRETE, objective="mle")
    before = weights(start)
    data, valid = examples(DISCRETE)
    train(start, data, valid, seen := watcher(1))
    # Batch 0 of the run again, outside of it.
    first = fresh(DISCRETE, objective="mle")
    batch = loop.Batches(data, 8, 0).at(0)
    assert first.model.initialise(first.model.sort(batch))
    first.begin_average()
    assert equal(first.average, weights(first))
    assert not equal(first.average, before)
    for name, average in start.average.items():  # which the first step leaves a tenth of
        expected = 0.1 * first.average[name] + 0.9 * seen.weights[0][name]
        torch.testing.assert_close(average, expected, rtol=1e-5, atol=1e-6)


def test_a_network_without_anything_to_fit_stays_as_it_is(fresh: Make, data: Dataset) -> None:
    state = fresh(MIXTURE)
    before = weights(state)
    assert not state.model.initialise(state.model.sort(data.values[:8]))
    assert equal(weights(state), before)


# Maximum likelihood


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.parametrize("likelihood", ["gaussian", "logistic-mixture"])
def test_a_short_training_finds_the_density_of_a_gaussian(
    settings: Make, watcher: Make, likelihood: str, sigma: float
) -> None:
    examples, held_out = load_training("gaussian:2", DataOptions())[:2]
    choices = Choices(annealing="none", sigma_min=sigma, hidden=(32,), likelihood=likelihood)
    values = {"batch_size": 256, "objective": "mle", "ema": 0.97, "validate_every": 10**6}
    state = fresh_state(model_config(examples, choices), settings(steps=200, **values), "cpu")
    seen = watcher()
    train(state, examples, held_out, seen)
    model = state.averaged_model()
    points = held_out.limit(2000).values
    points = points + sigma * torch.randn(points.shape, generator=torch.Generator().manual_seed(0))
    exact = log_density("gaussian:2", points, sigma)
    with torch.no_grad():
        found = log_likelihood(model, model.sort(points)).sum(1)
    # The mean difference is the Kullback-Leibler divergence, 0 at the very density.
    assert float((exact - found).mean()) < (0.01 if likelihood == "gaussian" else 0.03)
    assert float((exact - found).abs().mean()) < (0.1 if likelihood == "gaussian" else 0.2)
    # And the loss is that of the training: nats a dimension.
    assert sum(seen.losses[-50:]) / 50 == pytest.approx(-float(exact.mean()) / 2, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "likelihood", ["gaussian", "logistic-mixture", "discretized-logistic-mixture"]
)
def test_training_by_likelihood_lowers_the_loss_of_images(
    fresh: Make, examples: Make, watcher: Make, likelihood: str
) -> None:
    choices = {**DISCRETE, "likelihood": likelihood, "dropout": 0.0}
    state = fresh(choices, objective="mle", steps=30, ema=0.8, validate_every=5)
    train(state, *examples(choices), watcher())
    curve = state.history["valid_loss"]
    assert curve[-1] < curve[0] - 0.3


# Precision and compilation


@pytest.mark.slow
def test_a_traced_step_is_the_same_step(
    fresh: Make, examples: Make, watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of --compile but the C++ compiler, which takes a second for each of a hundred kernels.
    compiler = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiler)
    choices = {**DISCRETE, "dropout": 0.0}
    losses = []
    for traced in (False, True):
        seen = watcher()
        state = fresh(choices, objective="mle", lr=1e-4, steps=3, compile=traced)
        train(state, *examples(choices), seen)
        losses.append(seen.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


# Records


@pytest.mark.parametrize("parts", [1, 3])
def test_the_validation_loss_is_the_likelihood_of_the_averaged_weights(
    fresh: Make, examples: Make, watcher: Make, parts: int
) -> None:
    state = fresh(DISCRETE, objective="mle", grad_accumulation=parts)
    data, valid = examples(DISCRETE)
    train(state, data, valid, watcher())
    model = state.averaged_model()
    with torch.no_grad():
        log_p = model.log_prob(model.sort(valid.take(torch.arange(20))))  # type: ignore[operator]
    # 20 examples in batches of 8: the last one is smaller.
    assert state.history["valid_loss"][-1] == pytest.approx(-float(log_p.mean()), rel=1e-5)
