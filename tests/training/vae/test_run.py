"""VAEs in the training loop: steps, rates, binary data, divergence and configurations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.dataset import Dataset
from arcsm_cli.errors import UsageError
from arcsm_cli.models.vae import VAE
from arcsm_cli.objectives.vae import VAELosses, vae_losses
from arcsm_cli.randomness import Draws
from arcsm_cli.registry import METHODS
from arcsm_cli.training import loop, vae_task
from arcsm_cli.training.loop import DivergedError, train, validation_loss
from arcsm_cli.training.session import fresh_state
from arcsm_cli.training.state import TrainState
from arcsm_cli.training.vae_configure import VAEChoices, vae_config
from tests.training.vae.vaes import Make, config, short

ESTIMATED = ("csm", "ssm", "ssm-ar")
each = pytest.mark.parametrize("method", METHODS)


# A run


@each
def test_every_weight_moves(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make, method: str
) -> None:
    state = fresh(method)
    before = {k: v.clone() for k, v in state.average.items()}
    train(state, pictures, held_out, watcher())
    unmoved = {k for k, v in state.model.named_parameters() if torch.equal(v, before[k])}
    assert unmoved == set()


@each
def test_the_history_has_a_score_loss_where_there_is_an_estimator(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make, method: str
) -> None:
    state = fresh(method)
    train(state, pictures, held_out, watcher())
    expected = {"step", "loss", "valid_loss", "lr"} | (
        {"score_loss"} if method in ESTIMATED else set()
    )
    assert set(state.history) == expected
    assert {len(curve) for curve in state.history.values()} == {4}


def test_the_history_holds_means_of_both_losses_since_the_last_record(
    fresh: Make,
    pictures: Dataset,
    held_out: Dataset,
    watcher: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[VAELosses] = []

    def spy(*arguments: Any) -> VAELosses:
        seen.append(vae_losses(*arguments))
        return seen[-1]

    monkeypatch.setattr(vae_task, "vae_losses", spy)
    monkeypatch.setattr(loop, "held_out_loss", lambda *arguments: 0.0)
    state = fresh("csm")
    train(state, pictures, held_out, watcher())
    for name in ("loss", "score_loss"):
        values = [float(getattr(losses, name)) for losses in seen]
        spans = [(0, 2), (2, 4), (4, 6), (6, 7)]
        means = [sum(values[a:b]) / (b - a) for a, b in spans]
        assert state.history[name] == pytest.approx(means)


@each
def test_the_validation_loss_is_that_of_the_averaged_weights_on_the_same_draws_every_time(
    fresh: Make, held_out: Dataset, method: str
) -> None:
    state = fresh(method)
    before = validation_loss(state, held_out, 0)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1.0)
    state.step = 5
    assert validation_loss(state, held_out, 0) == before
    for value in state.average.values():
        value.add_(1.0)
    assert validation_loss(state, held_out, 0) != before


def test_validation_leaves_no_gradient(fresh: Make, held_out: Dataset) -> None:
    state = fresh()
    validation_loss(state, held_out, 0)
    assert all(p.grad is None for p in state.model.parameters())


def test_pictures_are_means_of_images_from_the_prior(fresh: Make) -> None:
    state = fresh()
    found = state.task.pictures(state.averaged_model(), 0, 3)
    assert found.shape == (3, 1, 4, 4)
    assert ((found > 0) & (found < 1)).all()


def test_vectors_have_no_pictures(data: Dataset) -> None:
    state = fresh_state(config(data), short(), "cpu")
    assert state.task.pictures(state.averaged_model(), 0, 3) is None


@pytest.mark.slow
def test_a_short_training_raises_the_likelihood(watcher: Make) -> None:
    # Two kinds of pictures: half of the pixels black, the other half white.
    values = torch.zeros(64, 1, 4, 4)
    values[:32, :, :2] = values[32:, :, 2:] = 1.0
    data = Dataset("halves", values)
    for method in METHODS:
        settings = short(steps=120, batch_size=32, ema=0.9, validate_every=10**6)
        state = fresh_state(config(data, method=method), settings, "cpu")
        before = validation_loss(state, data, 0)
        train(state, data, data, watcher())
        assert state.history["valid_loss"][-1] < 0.6 * before


# Rates


@pytest.mark.parametrize("method", ESTIMATED)
def test_the_estimator_has_a_rate_of_its_own(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make, method: str
) -> None:
    state = fresh(method, score_lr=3e-2)
    train(state, pictures, held_out, watcher())
    rates = {id(p): g["lr"] for g in state.optimizer.param_groups for p in g["params"]}
    base = state.settings.learning_rate(6)
    for name, weight in state.model.named_parameters():
        factor = 3 if name.startswith("scores.") else 1
        assert rates[id(weight)] == pytest.approx(factor * base)


@pytest.mark.parametrize("method", ["elbo", "stein", "spectral"])
def test_without_an_estimator_all_weights_share_one_rate(fresh: Make, method: str) -> None:
    assert len(fresh(method, score_lr=3e-2).optimizer.param_groups) == 1


@pytest.mark.parametrize("method", ESTIMATED)
def test_a_small_rate_holds_the_estimator_back_and_nothing_else(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make, method: str
) -> None:
    state = fresh(method, score_lr=1e-12)
    before = {k: v.clone() for k, v in state.average.items()}
    train(state, pictures, held_out, watcher())
    for name, weight in state.model.named_parameters():
        change = float((weight.detach() - before[name]).abs().max())
        assert (change < 1e-6) == name.startswith("scores.")


def test_the_recorded_rate_is_the_models(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make
) -> None:
    state = fresh(score_lr=1.0)
    train(state, pictures, held_out, watcher())
    expected = [state.settings.learning_rate(step) for step in (1, 3, 5, 6)]
    assert state.history["lr"] == pytest.approx(expected)


def test_the_first_step_is_as_long_as_the_rate(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make
) -> None:
    # RMSprop with its bias corrected: a gradient in units of its own size.
    state = fresh(steps=1, warmup=0, lr=1e-3, score_lr=1e-3)
    before = {k: v.clone() for k, v in state.average.items()}
    train(state, pictures, held_out, watcher())
    for name, weight in state.model.named_parameters():
        moved = weight.grad.abs() > 1e-4
        change = (weight.detach() - before[name]).abs()[moved]
        assert torch.allclose(change, torch.full_like(change, 1e-3), rtol=1e-2)


# Binary data


@pytest.fixture
def binarised(
    pictures: Dataset, held_out: Dataset, watcher: Make, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Tensor]]:
    """Trains on one grey example and returns what the losses saw of it, step by step."""
    grey = Dataset("grey", pictures.values[:1].expand(16, -1, -1, -1).contiguous())

    def run(state: TrainState) -> list[Tensor]:
        seen: list[Tensor] = []

        def spy(vae: VAE, batch: Batch, random: Draws) -> VAELosses:
            seen.append(batch.x.clone())
            return vae_losses(vae, batch, random)

        with monkeypatch.context() as patch:
            patch.setattr(vae_task, "vae_losses", spy)
            patch.setattr(loop, "held_out_loss", lambda *arguments: 0.0)
            train(state, grey, held_out, watcher())
        return seen

    return run


def test_pixels_are_binarised_afresh_at_each_step(fresh: Make, binarised: Make) -> None:
    seen = binarised(fresh())
    assert all(set(x.unique().tolist()) == {0.0, 1.0} for x in seen)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


def test_what_a_step_sees_is_a_function_of_seed_and_step(fresh: Make, binarised: Make) -> None:
    whole = binarised(fresh())
    later = fresh()
    later.step = 4
    assert all(torch.equal(a, b) for a, b in zip(binarised(later), whole[4:], strict=True))
    other = binarised(fresh(seed=1))
    assert not any(torch.equal(a, b) for a, b in zip(whole, other, strict=True))


def test_grey_values_are_the_probabilities(fresh: Make, binarised: Make, pictures: Dataset) -> None:
    seen = torch.cat(binarised(fresh("elbo", steps=150, batch_size=16, validate_every=10**6)))
    p = pictures.values[0].flatten()
    error = (p * (1 - p) / len(seen)).sqrt()
    assert ((seen.mean(0) - p).abs() < 4.5 * error).all()


def test_continuous_data_are_not_binarised(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh_state(config(data), short(), "cpu")
    x = data.values[:8]
    rows = vae_task.binarised(state.model, x, torch.Generator())
    assert rows is x


# Divergence


@each
def test_an_absurd_rate_ends_the_run_unsaved(
    fresh: Make, pictures: Dataset, held_out: Dataset, watcher: Make, method: str
) -> None:
    seen = watcher()
    wild = {"lr": 1e38, "score_lr": 1e38, "warmup": 0, "schedule": "constant", "ema": 0.0}
    with pytest.raises(DivergedError):
        train(
            fresh(method, **wild, checkpoint_every=10**6, validate_every=1, steps=50),
            pictures,
            held_out,
            seen,
        )
    assert seen.saved == []


@each
def test_data_that_are_no_numbers_end_the_run(watcher: Make, method: str, data: Dataset) -> None:
    values = data.values.clone()
    state = fresh_state(config(data, method=method), short(), "cpu")
    values[7, 1] = torch.nan
    seen = watcher()
    with pytest.raises(DivergedError):
        train(state, Dataset("nan", values), data, seen)
    assert seen.saved == []


# From data to a configuration


def test_grey_images_are_binary_and_read_by_perceptrons(pictures: Dataset) -> None:
    made = vae_config(pictures, VAEChoices())
    assert (made.decoder, made.network, made.latent_dim) == ("bernoulli", "mlp", 8)
    assert (made.hidden, made.data_shift, made.data_scale) == ((256, 256), (0.0,), (1.0,))


def test_colour_images_are_continuous_and_read_by_convolutions() -> None:
    values = torch.zeros(4, 3, 8, 8)
    made = vae_config(Dataset("x", values), VAEChoices())
    assert (made.decoder, made.network, made.latent_dim) == ("gaussian", "conv", 32)
    assert (made.channels, made.data_shift, made.data_scale) == ((64, 128, 256), (0.5,), (0.5,))


def test_vectors_are_standardised() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    data = Dataset("x", x * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 7.0, 3.0]))
    made = vae_config(data, VAEChoices())
    rows = VAE(made).flatten(data.values)
    assert rows.mean(0).abs().max() < 1e-4
    assert torch.allclose(rows.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=2e-3)


def test_channels_ask_for_convolutions(pictures: Dataset) -> None:
    made = vae_config(pictures, VAEChoices(channels=(4, 4)))
    assert (made.network, made.channels, made.latent_dim) == ("conv", (4, 4), 32)


@pytest.mark.parametrize(
    ("choices", "named"),
    [
        ({"method": "elbo", "context_width": 3}, "--context-width"),
        ({"method": "ssm", "score_hidden": (4,)}, "--score-hidden"),
        ({"method": "csm", "particles": 9}, "--particles"),
        ({"network": "mlp", "channels": (4,)}, "--channels"),
        ({"hidden": (4,)}, "--hidden"),
        ({"hidden": (4, 4, 4)}, "--hidden"),
        ({"channels": (4, 4, 4)}, "--resize"),
        ({"latent_dim": 5000}, "latent_dim"),
        ({"method": "stein", "particles": 5000}, "particles"),
    ],
    ids=str,
)
def test_choices_that_do_not_go_together_are_refused_by_name(
    pictures: Dataset, choices: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        vae_config(pictures, VAEChoices(**choices))


def test_binary_vectors_must_be_probabilities(data: Dataset) -> None:
    with pytest.raises(UsageError, match="--decoder bernoulli"):
        vae_config(data, VAEChoices(decoder="bernoulli"))
    grey = Dataset("grey", data.values.sigmoid())
    assert vae_config(grey, VAEChoices(decoder="bernoulli")).decoder == "bernoulli"


def test_convolutions_do_not_read_vectors(data: Dataset) -> None:
    with pytest.raises(UsageError, match="images"):
        vae_config(data, VAEChoices(network="conv"))
