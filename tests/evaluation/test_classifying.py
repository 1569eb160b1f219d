"""Class-conditional densities, and labels by Bayes' rule, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.conditions import Condition
from arcsm_cli.data.dataset import Beside, Dataset
from arcsm_cli.data.given import conditions_of, told
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_training
from arcsm_cli.data.twod import GAUSSIANS_SCALE, gaussians_means
from arcsm_cli.evaluation.classifying import figures_of_labels, log_posteriors
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.arcsm import ARCSM
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.models.frames import FramedContexts
from arcsm_cli.models.made import MADE
from arcsm_cli.models.restore import make_model
from arcsm_cli.training.configure import Choices, model_config
from arcsm_cli.training.loop import train
from arcsm_cli.training.settings import TrainSettings
from arcsm_cli.training.state import TrainState


class Quiet:
    """An observer that notes nothing."""

    def stepped(self, state: object, loss: float) -> None: ...

    def recorded(self, state: object) -> None: ...

    def checkpoint(self, state: object) -> None: ...

    def stop_requested(self) -> bool:
        return False


def trained(data: Dataset, valid: Dataset, steps: int, **options: object) -> AutoregressiveModel:
    """A small conditional model of labelled data, averaged weights."""
    settings = TrainSettings(steps=steps, batch_size=256, validate_every=steps)
    torch.manual_seed(0)
    choices = Choices(hidden=(16, 16), **options)
    config = model_config(data, choices, conditions_of(data, valid))
    state = TrainState(make_model(config), settings)
    assert train(state, told(data, config.given), told(valid, config.given), Quiet())
    model: AutoregressiveModel = state.averaged_model()
    return model


def test_given_its_class_a_point_of_8gaussians_has_the_density_of_its_gaussian() -> None:
    found = load_training("8gaussians", DataOptions(given="labels", limit=2000))
    model = trained(found.train, found.valid, 60)
    valid = told(found.valid.limit(300), model.config.given)
    batch = valid.rows(0, 300)
    noise = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(0))
    x = batch.x + model.sigma_min * noise
    variance = GAUSSIANS_SCALE**2 + model.sigma_min**2
    assert found.valid.labels is not None
    centres = torch.from_numpy(gaussians_means())[found.valid.labels[:300]]
    truth = -(x - centres).square().sum(1) / (2 * variance) - math.log(2 * math.pi * variance)
    nats = log_likelihood(model, batch.holding(model.sort(x))).sum(1)
    assert abs(float(nats.mean() - truth.mean())) < 0.02


def two_gaussians() -> Dataset:
    """A quarter of the points from N(1, 1), the others from N(-1, 1), in the first of two axes."""
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(4000, generator=generator) < 0.25).long()
    x = torch.randn(4000, 2, generator=generator)
    x[:, 0] += 2.0 * y - 1
    return Dataset("two", x, y, beside=(Beside("labels", y, ("low", "high")),))


@torch.no_grad()
def normal_given_labels(data: Dataset) -> AutoregressiveModel:
    """A model whose conditionals are normal: frames fitted to data, and scores of zeros."""
    model = make_model(model_config(data, Choices(hidden=(4,)), conditions_of(data, data)))
    assert isinstance(model, ARCSM)
    batch = told(data, model.config.given).rows(0, len(data))
    assert model.fit_frames(batch.holding(model.sort(batch.x)))
    (stage,) = model.networks
    frames = stage.context
    assert isinstance(frames, FramedContexts)
    made = frames.inner
    assert isinstance(made, MADE)
    assert made.conditioning is not None
    for layer in (stage.score.out, made.output, made.conditioning.layers):
        for weight in layer.parameters():
            weight.zero_()
    return model


def test_labels_of_two_gaussians_follow_bayes_rule() -> None:
    data = two_gaussians()
    model = normal_given_labels(data)
    (known,) = model.config.given
    assert known.categories == ("high", "low")
    shares = torch.tensor(known.counts, dtype=torch.float64) / len(data)
    x = told(data, model.config.given).rows(0, 200)
    found = log_posteriors(model, x.holding(model.sort(x.x)))
    # The classes differ in the mean of the first axis alone, by 2.
    odds = 2 * x.x[:, 0].double() / (1 + model.sigma_min**2) + (shares[0] / shares[1]).log()
    assert found.exp().sum(1).sub(1).abs().max() < 1e-9
    assert (found[:, 0].exp() - torch.sigmoid(odds)).abs().mean() < 0.02
    right = figures_of_labels(model, x.holding(model.sort(x.x)))
    assert (right["predicted"] == (odds < 0)).double().mean() > 0.98


def test_a_label_that_no_training_example_has_is_never_the_most_probable() -> None:
    config = ModelConfig(
        shape=(2,),
        levels=(1.0, 0.1),
        hidden=(4,),
        given=(Condition("labels", ("a", "b"), (0, 5)),),
    )
    model = make_model(config)
    assert isinstance(model, AutoregressiveModel)
    batch = Batch(torch.zeros(3, 2), torch.eye(2)[[0, 1, 0]])
    assert log_posteriors(model, batch)[:, 0].max() == -math.inf
    assert figures_of_labels(model, batch)["accuracy"].tolist() == [0, 1, 0]


def test_a_label_unknown_to_training_rows_is_known_from_the_held_out_ones() -> None:
    data = two_gaussians()
    some = data.select((data.labels == 0).nonzero().flatten())  # type: ignore[union-attr]
    (known,) = conditions_of(some, replace(data))
    assert dict(zip(known.categories, known.counts, strict=True)) == {"high": 0, "low": len(some)}
