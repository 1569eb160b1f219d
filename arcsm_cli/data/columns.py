"""Columns of vectors: their names, which of them are taken, and in which order."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from arcsm_cli.data.conditions import LABELS
from arcsm_cli.data.dataset import Beside, Dataset
from arcsm_cli.data.given import as_classes
from arcsm_cli.data.options import Asked, DataOptions, column_list
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, show

_log = logging.getLogger(__name__)


def chosen(
    options: DataOptions,
    names: Sequence[str] | None,
    count: int,
    where: str,
    option: str = "--columns",
) -> list[int] | None:
    """Return the columns that ``--columns`` and ``--drop`` leave, None for all as they are.

    Arguments:
        names: of the columns, if they have any; a number from 1 stands for the column in that
            place unless it is a name.
        count: how many columns there are.
        where: the input, for messages.
        option: what names the columns that are taken, for messages.

    Raises:
        UsageError: there is no such column, one is named twice, or none is left.

    Example:
        >>> chosen(DataOptions(columns="c,1"), ["a", "b", "c"], 3, "t.csv")
        [2, 0]
    """
    taken = column_list(option, options.columns)
    left_out = column_list("--drop", options.drop)
    given = set(given_columns(options, names, count, where).values())
    if not taken and not left_out and not given:
        return None
    places = _places(names, count)

    def found(option: str, wanted: Sequence[str]) -> list[int]:
        for name in wanted:
            if name not in places:
                raise _no_column(option, name, names, count, where)
            if places[name] in given:
                raise UsageError(f"{option} {show(name, 60)}: --given names this column as well")
        found = [places[name] for name in wanted]
        if len(set(found)) < len(found):
            raise UsageError(f"{option} {','.join(wanted)}: names a column of {where} twice")
        return found

    kept = found(option, taken) or list(range(count))
    dropped = set(found("--drop", left_out)) | given
    kept = [i for i in kept if i not in dropped]
    if not kept:
        option = f"--drop {options.drop}" if left_out else f"--given {options.given}"
        raise UsageError(f"{option}: leaves no column of {where}")
    return kept


def given_columns(
    options: DataOptions,
    names: Sequence[str] | None,
    count: int,
    where: str,
    *,
    elsewhere: bool = True,
) -> dict[Asked, int]:
    """Return the places of the columns that ``--given`` names, in its order.

    Arguments:
        names, count, where: as of `chosen`.
        elsewhere: what no column says may be said elsewhere, as by labels; else it must be there.

    Raises:
        UsageError: there is no such column, or one is named twice.
    """
    places, found = _places(names, count), {}
    for item in options.asked:
        if item.name in places:
            found[item] = places[item.name]
        elif not elsewhere:
            raise _no_column("--given", item.name, names, count, where)
    if len(set(found.values())) < len(found):
        raise UsageError(f"--given {options.given}: names a column of {where} twice")
    return found


def _places(names: Sequence[str] | None, count: int) -> dict[str, int]:
    places = {str(i + 1): i for i in range(count)}
    return places | {name: i for i, name in enumerate(names or [])}


def _no_column(
    option: str, name: str, names: Sequence[str] | None, count: int, where: str
) -> UsageError:
    there = f"1 to {count}" if names is None else ", ".join(names[:20])
    return UsageError(
        f"{option} {show(name, 60)}: {where} has no such column; it has {show(there, 300)[1:-1]}"
    )


def matched(names: Sequence[str] | None, wanted: Sequence[str], where: str) -> list[int] | None:
    """Return the order that brings columns to the wanted ones, None if they stand in it already.

    Data without names are taken as they are; this and a new order are said in the log.

    Arguments:
        names: of the columns of ``where``, or None.
        wanted: of the model; empty if it was trained on columns without names.

    Raises:
        DamagedInputError: names are missing, or others than the wanted ones.

    Example:
        >>> matched(["b", "a"], ["a", "b"], "t.csv")
        [1, 0]
    """
    if not wanted or (names is not None and list(names) == list(wanted)):
        return None
    text = show(", ".join(wanted[:20]) + (", ..." if len(wanted) > 20 else ""), 300)[1:-1]
    if names is None:
        _log.warning("%s: has no column names; they are taken to be %s", where, text)
        return None
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DamagedInputError(
            f"{where}: has no column {show(missing[0], 60)}; the model's columns are {text}"
        )
    others = [name for name in names if name not in set(wanted)]
    if others:
        raise DamagedInputError(
            f"{where}: has a column {show(others[0], 60)} that the model does not know: leave it "
            f"out with --drop, or take --columns; the model's are {text}"
        )
    _log.warning("%s: its columns are put into the model's order: %s", where, text)
    places = {name: i for i, name in enumerate(names)}
    return [places[name] for name in wanted]


def selected(
    options: DataOptions,
    names: Sequence[str] | None,
    count: int,
    wanted: Sequence[str],
    where: str,
) -> tuple[list[int] | None, tuple[str, ...] | None]:
    """Return the columns that the options leave, in the model's order, and their names.

    Arguments:
        options, names, count, wanted, where: see `chosen` and `matched`, which raise.
    """
    index = chosen(options, names, count, where)
    if index is not None and names is not None:
        names = [names[i] for i in index]
    order = matched(names, wanted, where)
    if order is not None:
        names, index = wanted, order if index is None else [index[i] for i in order]
    return index, None if names is None else tuple(names)


def with_columns(data: Dataset, index: list[int] | None) -> Dataset:
    """Return vectors with the columns at ``index`` alone, in that order; all of them for None."""
    if index is None:
        return data
    names = None if data.columns is None else tuple(data.columns[i] for i in index)
    return replace(data, values=data.values[:, torch.tensor(index)], columns=names)


def choose(data: Dataset, options: DataOptions) -> Dataset:
    """Apply ``--columns``, ``--drop`` and ``--given`` to data other than text tables.

    Raises:
        UsageError: the options name no columns of the data, or the data have none.
        DamagedInputError: the data do not say what is to be given.
    """
    where = label(data.name)
    check_options(options, data.kind, where)
    data = replace(data, beside=tuple(_beside(data, item, where) for item in options.asked))
    if data.kind == "image":
        return data
    return with_columns(data, chosen(options, data.columns, data.shape[0], where))


def _beside(data: Dataset, item: Asked, where: str) -> Beside:
    """Return what data say of something that ``--given`` names."""
    known = {part.name: part for part in data.beside}
    if item.name in known:
        return known[item.name]
    places = {} if data.kind == "image" else _places(data.columns, data.shape[0])
    # What this program wrote of a model's examples holds its labels under their own name.
    labelled = data.labels is not None and (item.name == LABELS or bool(data.source))
    if item.name in places and not (item.name == LABELS and labelled):
        values = data.values[:, places[item.name]].double()
        return as_classes(item.name, values) if item.labels else Beside(item.name, values)
    if item.labels and labelled and data.labels is not None:
        if item.name in places:
            raise UsageError(f"--given {LABELS}: {where} has labels, and a column of that name")
        if data.classes is None:
            return as_classes(item.name, data.labels)
        return Beside(item.name, data.labels, data.classes)
    what = f"column {show(item.name, 60)}" if data.kind == "vector" else show(item.name, 60)
    if item.labels:
        what = "labels" if item.name == LABELS else f"labels {show(item.name, 60)}"
    raise DamagedInputError(f"{where}: has no {what}, which the model is to be told")


def check_options(options: DataOptions, kind: str, where: str) -> None:
    """Refuse options that data other than text tables have no use for.

    Raises:
        UsageError: ``--header``; ``--columns`` or ``--drop`` for images; see also `check_size`.
    """
    if options.header is not None:
        raise UsageError(f"--header: {where} is no table in text")
    check_size(options, kind, where)
    if kind == "image" and (options.columns or options.drop):
        option = "--columns" if options.columns else "--drop"
        raise UsageError(f"{option}: {where} holds images, not vectors")


def check_size(options: DataOptions, kind: str, where: str) -> None:
    """Refuse to crop or resize vectors.

    Raises:
        UsageError: naming the option.
    """
    if kind == "vector" and (options.center_crop, options.resize) != (None, None):
        option = "--resize" if options.center_crop is None else "--center-crop"
        raise UsageError(f"{option}: {where} holds vectors, not images")


def fitted(data: Dataset, wanted: Sequence[str]) -> Dataset:
    """Return vectors with their columns as a model wants them; see `matched`."""
    if data.kind == "image":
        return data
    return with_columns(data, matched(data.columns, wanted, label(data.name)))
