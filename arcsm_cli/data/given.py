"""What is given of examples: from labels and columns to the numbers that a model is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import functional

from arcsm_cli.data.conditions import (
    MOST_FEATURES,
    Condition,
    Conditions,
    feature_count,
)
from arcsm_cli.data.dataset import Beside, Rows
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.column_names import LONGEST_NAME
from arcsm_cli.io.streams import label, show

_SHOWN = 12

R = TypeVar("R", bound=Rows)


def conditions_of(train: Rows, valid: Rows) -> Conditions:
    """Return what a model of ``train`` is told of each example: categories, moments of numbers.

    Categories are those of both data sets, so that the second can be told; their counts and the
    moments are of the first.

    Raises:
        UsageError: there are too many categories.
    """
    pairs = zip(train.beside, valid.beside, strict=True)
    conditions = tuple(_condition(train.name, *pair) for pair in pairs)
    if (count := feature_count(conditions)) > MOST_FEATURES:
        raise UsageError(
            f"--given: {label(train.name)} has {count} categories and numbers to be told, more "
            f"than {MOST_FEATURES}"
        )
    return conditions


def _condition(where: str, train: Beside, valid: Beside) -> Condition:
    if train.classes is None:
        sd = float(train.values.std(correction=0))
        return Condition(train.name, mean=float(train.values.mean()), sd=sd or 1.0)
    counts = {text: 0 for part in (train, valid) for text in _present(part)}
    found = torch.bincount(train.values, minlength=len(train.classes)).tolist()
    counts |= {text: n for text, n in zip(train.classes, found, strict=True) if text in counts}
    whole = all(map(_is_whole, counts))
    texts = sorted(counts, key=int) if whole else sorted(counts)
    if long := next((text for text in texts if not 0 < len(text) <= LONGEST_NAME), None):
        raise UsageError(f"--given {train.name}: {label(where)}: {show(long, 60)} is no category")
    return Condition(train.name, tuple(texts), tuple(counts[text] for text in texts))


def _present(part: Beside) -> list[str]:
    assert part.classes is not None
    return [part.classes[i] for i in torch.unique(part.values).tolist()]


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and str(int(text)) == text


def told(data: R, conditions: Conditions) -> R:
    """Return data with what a model is told of each example.

    Arguments:
        data: read with the options that ask for it, `DataOptions.told`.

    Raises:
        DamagedInputError: a category is unknown to the model, or texts stand for numbers.
    """
    if not conditions:
        return data
    where = label(data.name)
    return cast(R, data.telling(lambda beside: encoded(beside, conditions, where)))


def encoded(beside: Sequence[Beside], conditions: Conditions, where: str) -> Tensor:
    """Return what is known of N examples as a model is told it, (N, F) float32.

    Arguments:
        where: the input, for messages.

    Raises:
        DamagedInputError: as `told`.
    """
    return torch.cat(
        [_encoded(part, known, where) for part, known in zip(beside, conditions, strict=True)], 1
    )


def _encoded(part: Beside, known: Condition, where: str) -> Tensor:
    if not known.categories:
        if part.classes is not None:
            raise DamagedInputError(
                f"{where}: {show(known.name, 60)} holds texts, and the model is told numbers"
            )
        return ((part.values - known.mean) / known.sd).float()[:, None]
    texts = as_classes(part.name, part.values) if part.classes is None else part
    assert texts.classes is not None
    places = {text: i for i, text in enumerate(known.categories)}
    numbered = not all(map(_is_whole, known.categories))
    for text in _present(texts):
        # Numbers stand for classes that have names as the model counts them.
        if text not in places and numbered and _is_whole(text):
            places |= {str(i): i for i in range(len(known.categories))}
        if text not in places:
            row = int((texts.values == texts.classes.index(text)).nonzero()[0])
            there = ", ".join(known.categories[:_SHOWN])
            more = ", ..." if len(known.categories) > _SHOWN else ""
            raise DamagedInputError(
                f"{where}: {show(known.name, 60)} of example {row} is {show(text, 60)}; the model "
                f"knows {show(there, 200)[1:-1]}{more}"
            )
    return labelled(known, torch.tensor([places.get(t, -1) for t in texts.classes])[texts.values])


def as_classes(name: str, values: Tensor) -> Beside:
    """Return numbers (N,) taken for classes, whole ones written without a point.

    Example:
        >>> as_classes("y", torch.tensor([2.0, 0.5, 2.0])).classes
        ('0.5', '2')
    """
    found, places = torch.unique(values, return_inverse=True)
    texts = [str(int(v)) if float(v).is_integer() else repr(float(v)) for v in found.tolist()]
    return Beside(name, places, tuple(texts))


def classes_of(name: str, texts: Sequence[str]) -> Beside:
    """Return texts taken for classes; numbers among them as `as_classes` writes them."""
    places: dict[str, int] = {}
    codes = [places.setdefault(_written(text), len(places)) for text in texts]
    return Beside(name, torch.tensor(codes), tuple(places))


def _written(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text.strip()
    return str(int(value)) if value.is_integer() else repr(value)


def classes(conditions: Conditions) -> Condition | None:
    """Return the one thing that a model is told, if that is one of several categories, or None."""
    alone = len(conditions) == 1 and conditions[0].categories
    return conditions[0] if alone else None


def label_numbers(known: Condition) -> Tensor:
    """Return the numbers (int64) that files hold of categories: their own, or their places.

    Example:
        >>> label_numbers(Condition("labels", ("3", "7"))).tolist()
        [3, 7]
        >>> label_numbers(Condition("labels", ("cat", "dog"))).tolist()
        [0, 1]
    """
    texts = known.categories
    own = all(_is_whole(text) and abs(int(text)) < 2**62 for text in texts)
    return torch.tensor([int(text) for text in texts] if own else range(len(texts)))


def labelled(known: Condition, places: Tensor) -> Tensor:
    """Return what a model is told of examples of these categories (N,), by place; (N, F)."""
    return functional.one_hot(places, known.features).float()
