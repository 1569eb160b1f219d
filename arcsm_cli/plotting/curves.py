"""Training curves."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.plotting.figure import BLUE, VERMILION, add_grid

_LARGEST = 1e30  # no figure of a training is beyond it, and matplotlib's arithmetic holds
_EARLY = 0.1  # share of a run whose losses may leave the axes
_MOST_STAGES = 10  # that there is room to name
_NAME = re.compile(r"[a-z-]{1,16}")
_SMALL = {"score_loss": "score\nloss", "lr": "learning\nrate"}
_TALL = 15.0  # how many times higher than the rest they must reach to do so


@dataclass(frozen=True)
class History:
    """What a checkpoint tells of its training.

    Attributes:
        step: (R,) optimizer steps at which something was recorded, R at least 1.
        curves: by name, ``loss`` and where they are there ``valid_loss``, ``score_loss`` and
            ``lr``; (R,) each.
        quantity: what the loss is, with its unit.
        stages: the steps at which the stages of staged annealing begin, with their noise levels;
            empty for other models.
    """

    step: NDArray[np.float64]
    curves: dict[str, NDArray[np.float64]]
    quantity: str
    stages: list[tuple[int, float]]


def read_history(training: dict[str, Any], config: dict[str, Any], name: str) -> History:
    """Check and take the history from the untrusted parts of a checkpoint.

    Arguments:
        training, config: of the checkpoint.
        name: what messages call the file.

    Raises:
        DamagedInputError: there is no history, or it is damaged.
    """
    history = training.get("history")
    if not isinstance(history, dict) or not history.get("step"):
        raise DamagedInputError(
            f"{name}: holds no training history, so there are no curves to draw; the first record "
            "comes after a hundredth of a training"
        )
    columns = {
        key: _numbers(history.get(key), f"{name}: its history's {key}")
        for key in ("step", "loss", "valid_loss", "score_loss", "lr")
        if key in history or key == "loss"
    }
    if len({len(column) for column in columns.values()}) != 1:
        raise DamagedInputError(f"{name}: the columns of its history differ in length")
    step = columns.pop("step")
    if (np.diff(step) <= 0).any():
        raise DamagedInputError(f"{name}: the steps of its history do not ascend")
    settings = training.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    objective = settings.get("objective", config.get("method"))
    if not isinstance(objective, str) or not _NAME.fullmatch(objective):
        objective = ""
    quantity = f"{objective.upper()} loss per dimension".lstrip()
    if "latent_dim" in config:
        quantity = "-ELBO, nats" if objective == "elbo" else "-log p(x, z), nats"
    stages = _stages(settings, config, float(step[-1]))
    return History(step, columns, quantity, stages)


def draw_history(figure: Figure, history: History) -> None:
    """Draw the loss against the step and, on a small panel below, the learning rate."""
    small = [name for name in ("score_loss", "lr") if name in history.curves]
    panels = figure.subplots(
        1 + len(small), 1, sharex=True, squeeze=False, height_ratios=(4, *(1 for _ in small))
    )[:, 0]
    axes, lowest = panels[0], panels[-1]
    for name, panel in zip(small, panels[1:], strict=True):
        _plot(panel, history, name, color="#555555")
        panel.set_ylabel(_SMALL[name], fontsize="small")
        add_grid(panel)
        if name == "lr":
            panel.set_ylim(0, max(float(history.curves[name].max()), 1e-12) * 1.15)
        else:
            _bound(panel, history, history.curves[name])
    _draw_losses(axes, history)
    add_grid(axes)
    figure.align_ylabels()
    lowest.set_xlabel("step")
    for begin, sigma in history.stages:
        if begin > 0:
            axes.axvline(begin, color="#999999", linewidth=1.0, linestyle=":")
        axes.annotate(
            f"\u03c3 = {sigma:.3g}",
            (begin, 1.0),
            xytext=(3, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize="small",
        )


def _draw_losses(axes: Axes, history: History) -> None:
    loss, valid = history.curves["loss"], history.curves.get("valid_loss")
    _plot(axes, history, "loss", color=BLUE, label="training")
    shown = loss
    if valid is not None:
        shown = np.stack([loss, valid])
        _plot(axes, history, "valid_loss", color=VERMILION, label="held out, averaged weights")
        axes.legend()
    axes.set_ylabel(history.quantity)
    _bound(axes, history, shown)


def _bound(axes: Axes, history: History, shown: NDArray[np.float64]) -> None:
    """Keep the first losses of a run from pressing the rest of the curve flat."""
    late = shown[..., history.step >= _EARLY * history.step[-1]]
    low, high = float(late.min()), float(late.max())
    if len(history.step) > 1 and shown.max() > high + _TALL * (high - low) > low:
        axes.set_ylim(min(low, float(shown.min())) - 0.1 * (high - low), high + 2 * (high - low))
        axes.set_title(f"(begins above the axes, at {float(shown.max()):.3g})")


def _plot(axes: Axes, history: History, name: str, **options: Any) -> None:
    values = history.curves[name]
    if len(values) <= 10:  # a single point would not be seen otherwise
        options |= {"marker": "o", "markersize": 3}
    # Stages do not continue each other.
    ends = np.searchsorted(history.step, [begin for begin, _ in history.stages[1:]], "right")
    x, y = (np.insert(column, ends, np.nan) for column in (history.step, values))
    axes.plot(x, y, **options)


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    if not isinstance(values, list) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= _LARGEST
        for v in values
    ):
        raise DamagedInputError(f"{what} is not a list of numbers")
    return np.array(values, dtype=np.float64)


def _stages(
    settings: dict[str, Any], config: dict[str, Any], last: float
) -> list[tuple[int, float]]:
    steps, levels = settings.get("steps"), config.get("levels")
    if config.get("annealing") != "staged" or not isinstance(levels, list):
        return []
    if type(steps) is not int or not 0 < steps < _LARGEST:
        return []
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in levels):
        return []
    reached = [(i * steps, float(v)) for i, v in enumerate(levels) if i * steps < last]
    return reached if len(reached) <= _MOST_STAGES else []
