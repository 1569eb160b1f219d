"""The scale in which a model sees its data, and warnings of columns that no scale suits."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from arcsm_cli.data.dataset import Rows
from arcsm_cli.data.moments import Moments
from arcsm_cli.errors import UsageError
from arcsm_cli.io.streams import label

_log = logging.getLogger(__name__)

_LARGEST, _SMALLEST = 1e17, 1e-17  # within what configurations take
_RARE = 0.001  # share of the rows, one at least, that may make up a column's whole spread
_NARROW = 1e-3  # what the others span then, in standard deviations
_FEWEST = 20  # rows, of fewer nothing is said
_UNLIKE = 1e3  # ratio of standard deviations


class Scaling(NamedTuple):
    """model value = (file value - shift) / scale; each one number or D.

    Attributes:
        mean, sd: of the data in the model's scale.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    mean: Tensor
    sd: Tensor


def scaling_of(data: Rows, *, standardize: bool) -> Scaling:
    """Return the scale for data, from all of its examples: images go to [-1, 1].

    Vectors stay as they are, or are brought to mean 0 and variance 1, column by column; a constant
    column is only shifted.

    Raises:
        UsageError: a column's values are beyond what models take or, where they stay as they are,
            too close together for single precision; the column is named.
    """
    found = data.moments()
    if data.kind == "image":
        return Scaling((0.5,), (0.5,), (found.mean - 0.5) / 0.5, found.sd / 0.5)
    _check_range(data, found)
    _warn_of_constants(data, found)
    if standardize:
        shift, scale = found.mean, torch.where(found.sd > 0, found.sd, 1.0)
        mean, sd = (found.mean - shift) / scale, found.sd / scale
        return Scaling(tuple(shift.tolist()), tuple(scale.tolist()), mean, sd)
    if merged := data.merged_columns():
        raise UsageError(
            f"{label(data.name)}: values of {data.columns_text(merged)} are too close together, "
            "so far from zero, for single precision: use --standardize"
        )
    return Scaling((0.0,), (1.0,), found.mean, found.sd)


def warn_of_scales(data: Rows, sd: Tensor, sigma_min: float) -> None:
    """Warn of columns that stay as they are and that the noise, or others, dwarf.

    Arguments:
        sd: of each column, (D,).
        sigma_min: the model's last noise level.
    """
    hidden = ((sd > 0) & (sd < sigma_min)).nonzero().flatten().tolist()
    if hidden:
        _log.warning(
            "%s: the last noise level, %g, hides the values of %s: use --standardize, or a lower "
            "--sigma-min",
            *(label(data.name), sigma_min, data.columns_text(hidden)),
        )
        return
    spread = sd[sd > 0]
    if len(spread) > 1 and spread.max() > _UNLIKE * spread.min():
        _log.warning(
            "%s: the standard deviations of its columns lie between %g and %g: use --standardize "
            "for a model of all of them",
            *(label(data.name), spread.min(), spread.max()),
        )


def _check_range(data: Rows, found: Moments) -> None:
    most = torch.maximum(found.low.abs(), found.high.abs())
    for beyond, what in (
        (most > _LARGEST, f"values beyond {_LARGEST:g}"),
        ((found.sd > 0) & (found.sd < _SMALLEST), f"a standard deviation below {_SMALLEST:g}"),
    ):
        if columns := beyond.nonzero().flatten().tolist():
            raise UsageError(
                f"{label(data.name)}: {data.columns_text(columns)}: {what}, which no model takes: "
                "use another unit"
            )


def _warn_of_constants(data: Rows, found: Moments) -> None:
    """Warn of columns that hold one value, and of those that all but a few rows make so."""
    name = label(data.name)
    if constant := (found.sd == 0).nonzero().flatten().tolist():
        _log.warning(
            "%s: %s: one value in all %d training rows, of which a model learns nothing: use "
            "--drop %s",
            *(name, data.columns_text(constant), len(data), data.columns_key(constant)),
        )
    few = max(1, int(_RARE * len(data)))
    if len(data) < _FEWEST:
        return
    # So few rows make a spread only if one of them lies far out.
    far = torch.maximum(found.high - found.mean, found.mean - found.low)
    suspects = (found.sd > 0) & (far > 0.9 * found.sd * (len(data) / few - 1) ** 0.5)
    nearly = [j for j in suspects.nonzero().flatten().tolist() if _clusters(data, j, few, found)]
    if nearly:
        _log.warning(
            "%s: %s: one value, or nearly, but for %s of %d training rows, which alone make its "
            "scale: mend those rows, or use --drop %s",
            *(name, data.columns_text(nearly), "one" if few == 1 else f"up to {few}", len(data)),
            data.columns_key(nearly),
        )


def _clusters(data: Rows, column: int, few: int, found: Moments) -> bool:
    """Whether all but ``few`` rows lie within a small part of the column's spread."""
    values = np.sort(data.column(column).double().numpy())
    spans = values[len(values) - few - 1 :] - values[: few + 1]
    return bool(spans.min() <= _NARROW * float(found.sd[column]))
