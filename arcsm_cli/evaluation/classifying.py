"""Which label an example has, by Bayes' rule over its likelihoods under each."""

from __future__ import annotations

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.given import classes, label_numbers, labelled
from arcsm_cli.evaluation.likelihood import log_likelihood
from arcsm_cli.models.base import AutoregressiveModel


@torch.no_grad()
def log_posteriors(
    model: AutoregressiveModel, rows: Batch | Tensor, method: str | None = None
) -> Tensor:
    """Return log p(y | x) of sorted, perturbed examples (B, D) for all K labels, (B, K), float64.

    p(y | x) is proportional to p(x | y) p(y), the exact likelihood of the example given each label
    times the label's share of the training examples.

    Arguments:
        model: given labels alone, see `arcsm_cli.data.given.classes`.
        method: of the likelihood, see `log_likelihood`.
    """
    known = classes(model.config.given)
    assert known is not None
    batch = Batch.of(rows)
    joint = torch.tensor(known.counts, dtype=torch.float64).log().repeat(batch.size, 1)
    for place in [place for place, count in enumerate(known.counts) if count]:
        given = labelled(known, torch.full((batch.size,), place))
        log_p = log_likelihood(model, batch._replace(given=given), method)
        joint[:, place] += log_p.cpu().double().sum(1)
    return joint.log_softmax(1)


def figures_of_labels(
    model: AutoregressiveModel, rows: Batch, method: str | None = None
) -> dict[str, Tensor]:
    """Return whether the most probable label is the one given, and its number, (B,) each."""
    known = classes(model.config.given)
    assert known is not None
    best = log_posteriors(model, rows, method).argmax(1)
    right = best == rows.given.argmax(1).cpu()
    return {"accuracy": right.double(), "predicted": label_numbers(known)[best].double()}
