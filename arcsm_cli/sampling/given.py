"""What samples of a conditional model are given: labels, the rows of a file, or labels drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.conditions import Condition, Conditions, names_of
from arcsm_cli.data.dataset import Beside
from arcsm_cli.data.given import classes, encoded, label_numbers, labelled
from arcsm_cli.data.options import DataOptions, column_list
from arcsm_cli.data.spec import load_beside
from arcsm_cli.errors import UsageError
from arcsm_cli.io.sample_layout import statistic_of
from arcsm_cli.io.streams import label, show
from arcsm_cli.notices import note
from arcsm_cli.randomness import Purpose, SampleNoise

_EACH = 8  # samples of a label, unless told
_COUNT = 64
_COLUMNS = 16  # at most, of a row of pictures of one label


class Told(NamedTuple):
    """What some samples are given.

    Attributes:
        given: (N, F), as the model is told it; None of models that are told nothing.
        labels: (N,), as files hold them, where the model is told labels alone.
        statistics: what else files hold of it, (N,) by name.
    """

    given: Tensor | None = None
    labels: Tensor | None = None
    statistics: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Giving:
    """How many samples are drawn, and what they are given.

    Attributes:
        count: of samples.
        rows: gives what the samples of these numbers are given.
        shown: the numbers of those that pictures show, None for the first ones.
        columns: pictures a row, None for about as many as rows.
    """

    count: int
    rows: Callable[[range], Told]
    shown: list[int] | None = None
    columns: int | None = None


def giving(
    conditions: Conditions,
    name: str,
    *,
    labels: str | None,
    source: str | None,
    count: int | None,
    seed: int,
) -> Giving:
    """Return what samples are given.

    Arguments:
        conditions: what the model is told of each example.
        name: the model, for messages.
        labels: ``--label``, samples of each in turn.
        source: ``--given``, a file with a row for each sample.
        count: ``--count``, None where it was left open.
        seed: of labels that are drawn, as often as they are among training examples.

    Raises:
        UsageError: the options do not fit the model, or one is missing.
        ArcsmError: as of `load_data`, of the file.
    """
    for option, value in (("--label", labels), ("--given", source)):
        if value is not None and not conditions:
            raise UsageError(f"{option}: {name} models examples given nothing")
    if labels is not None and source is not None:
        raise UsageError("give --label or --given, not both")
    if not conditions:
        plain = count or _COUNT
        return Giving(plain, lambda rows: Told())
    if source is not None:
        return _of_file(conditions, source, count)
    known = classes(conditions)
    if known is None:
        what = names_of(conditions)
        option = "--label is of models given labels alone" if labels else "say what is given"
        raise UsageError(f"{name} models examples given {what}: {option}; --given FILE holds them")
    if labels is not None:
        return _of_labels(known, labels, count)
    note("draws %s as often as training examples have them; --label says which", known.name)
    shares = torch.tensor(known.counts, dtype=torch.float64).cumsum(0)

    def drawn(rows: range) -> Told:
        u = torch.special.ndtr(SampleNoise(seed, rows, purpose=Purpose.LABELS).normal(1)[:, 0])
        return _told(known, torch.searchsorted(shares, u * shares[-1]).clamp(max=len(shares) - 1))

    plain = count or _COUNT
    return Giving(plain, drawn)


def _of_labels(known: Condition, text: str, count: int | None) -> Giving:
    wanted = column_list("--label", text)
    for item in wanted:
        if item not in known.categories:
            there = show(", ".join(known.categories[:20]), 300)[1:-1]
            raise UsageError(f"--label {show(item, 60)}: the model knows {there}")
    total = count or (_COUNT if len(wanted) == 1 else _EACH * len(wanted))
    if total % len(wanted):
        least = max(1, total // len(wanted)) * len(wanted)
        raise UsageError(f"-n {total}: is not as many for each of {len(wanted)} labels; {least} is")
    each = total // len(wanted)
    places = torch.tensor([known.categories.index(item) for item in wanted])

    def told(rows: range) -> Told:
        return _told(known, places[torch.tensor(rows, dtype=torch.int64) // each])

    if len(wanted) == 1:
        return Giving(total, told)
    columns = min(each, _COLUMNS)
    shown = [row * each + column for row in range(len(wanted)) for column in range(columns)]
    return Giving(total, told, shown, columns)


def _told(known: Condition, places: Tensor) -> Told:
    return Told(labelled(known, places), label_numbers(known)[places])


def _of_file(conditions: Conditions, source: str, count: int | None) -> Giving:
    beside = load_beside(source, DataOptions().told(conditions))
    total = len(beside[0].values)
    if count is not None and count > total:
        raise UsageError(f"-n {count}: {label(source)} has {total} rows")
    given = encoded(beside, conditions, label(source))
    total = count or total

    def told(rows: range) -> Told:
        part = slice(rows.start, rows.stop)
        known = classes(conditions)
        if known is not None:
            return _told(known, given[part].argmax(1))
        return Told(given[part], None, _statistics(beside, conditions, given, part))

    return Giving(total, told)


def _statistics(
    beside: tuple[Beside, ...], conditions: Conditions, given: Tensor, part: slice
) -> dict[str, Tensor]:
    """Return what files hold of rows: numbers as they are, categories by their place."""
    found, start = {}, 0
    for values, known in zip(beside, conditions, strict=True):
        own = given[part, start : start + known.features]
        name = statistic_of(known.name).partition("/")[2]
        found[name] = own.argmax(1) if known.categories else values.values[part]
        start += known.features
    return found
