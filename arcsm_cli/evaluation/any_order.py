"""Likelihoods of a part of the variables given another, of models of any order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.errors import UsageError
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.any_order import in_turn, place_count, whole_places
from arcsm_cli.models.architecture import ANY
from arcsm_cli.models.base import AutoregressiveModel
from arcsm_cli.models.config import ModelConfig
from arcsm_cli.randomness import Purpose, generator_for


@dataclass(frozen=True)
class Question:
    """What is asked of a model of any order: log p(target | given), without the other variables.

    Arguments:
        target: which places are asked for, bool (P,); a place is a pixel or a variable of vectors.
        given: which are known, bool (P,), none of them asked for.
        orders: how many orders, drawn at random, the likelihood is averaged over; 0 for one, that
            of the places.
        seed: of these orders, which are the same for all examples.
    """

    target: Tensor
    given: Tensor
    orders: int = 0
    seed: int = 0

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        target: Tensor | None,
        given: Tensor | None,
        orders: int | None,
        seed: int,
    ) -> Question | None:
        """Return what options ask, None if they ask for all in the model's own order.

        Arguments:
            target, given: bool, of an example's shape; by default what is not given, and nothing.
            orders: None for the order of the places.

        Raises:
            UsageError: the model follows one order, or the parts are none.
        """
        if target is None and given is None and orders is None:
            return None
        if config.order != ANY:
            options = {"--target": target, "--given": given, "--orders": orders}
            option = next(name for name, value in options.items() if value is not None)
            raise UsageError(
                f"{option} is for models trained with --order any, this one follows one order: "
                f"{config.order}"
            )
        known = _places(given, config, "--given")
        asked = ~known if target is None else _places(target, config, "--target")
        if bool((asked & known).any()):
            raise UsageError("--target and --given have variables in common")
        if not bool(asked.any()):
            raise UsageError("--given leaves nothing to ask for")
        return cls(asked, known, orders or 0, seed)

    def sequences(self) -> Iterator[Tensor]:
        """Iterate over the orders (P,): first what is given, then what is asked for."""
        if not self.orders:
            yield in_turn(self.given, self.target)
        for k in range(self.orders):
            generator = generator_for(self.seed, Purpose.MEASURED_ORDERS, k)
            yield in_turn(self.given, self.target, generator=generator)

    def dimensions(self, model: AutoregressiveModel) -> Tensor:
        """Return which of a model's D dimensions are asked for, bool (D,)."""
        channels = model.config.dimensions // len(self.target)
        return self.target.repeat_interleave(channels)


def _places(part: Tensor | None, config: ModelConfig, option: str) -> Tensor:
    """Return which places a part of an example has."""
    if part is None:
        return torch.zeros(place_count(config.shape), dtype=torch.bool)
    found = whole_places(part, config.shape)
    if found is None:
        raise UsageError(f"{option} has some channels of a pixel without the others")
    if not bool(found.any()):
        raise UsageError(f"{option} holds no variables")
    return found


@torch.no_grad()
def part_log_likelihood(
    model: AutoregressiveModel, batch: Batch, question: Question, method: str | None = None
) -> Tensor:
    """Return log p(target | given) of sorted, perturbed examples, (B,), float64 on the CPU.

    In nats. Over several orders, the logarithm of the mean of the probabilities, not the mean of
    their logarithms: a density again, that of an ensemble with one member an order.

    Arguments:
        method: see `log_likelihood`.
    """
    asked, found = question.dimensions(model), []
    for order in question.sequences():
        turned = batch._replace(order=order.to(batch.x.device).expand(batch.size, -1))
        log_p = log_likelihood(model, turned, method).cpu().double()
        found.append(log_p[:, asked].sum(1))
    return torch.stack(found).logsumexp(0) - math.log(len(found))
