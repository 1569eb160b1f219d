"""What a conditional model is told of each example beside its values: a description for files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io.column_names import LONGEST_NAME, sound_names

LABELS = "labels"
"""What the labels of examples are called, where no column or array of another name holds them."""

MOST_FEATURES = 1024
"""Most numbers that conditions are told in: categories, and one for each number."""

_LARGEST, _SMALLEST = 1e18, 1e-18


@dataclass(frozen=True)
class Condition:
    """One thing that is known of each example: a number, or one of several categories.

    Attributes:
        name: of the column or the array that says it, or ``labels``.
        categories: as texts, in order; none for a number.
        counts: how many training examples are of each.
        mean, sd: of a number, over the training examples.

    Example:
        >>> Condition("labels", ("0", "1"), (60, 40)).features, Condition("age").features
        (2, 1)
    """

    name: str
    categories: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    @property
    def features(self) -> int:
        """How many numbers say it: one a category, of which one is 1 and the others 0; else 1."""
        return len(self.categories) or 1

    @property
    def asked(self) -> str:
        """How ``--given`` asks for it."""
        return f"{LABELS}={self.name}" if self.categories and self.name != LABELS else self.name

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        if not self.categories:
            return {"name": self.name, "mean": self.mean, "sd": self.sd}
        return {
            "name": self.name,
            "categories": list(self.categories),
            "counts": list(self.counts),
        }

    @property
    def is_sound(self) -> bool:
        """Whether files may hold it."""
        if not self.categories:
            finite = abs(self.mean) <= _LARGEST and _SMALLEST <= self.sd <= _LARGEST
            return finite and not self.counts
        return (
            sound_names(self.categories, len(self.categories))
            and len(self.counts) == len(self.categories)
            and all(0 <= count < 2**53 for count in self.counts)
            and sum(self.counts) > 0
        )


Conditions = tuple[Condition, ...]
"""All that is known of each example, in order."""


def feature_count(conditions: Conditions) -> int:
    """Return F, how many numbers conditions are told in."""
    return sum(condition.features for condition in conditions)


def problem(conditions: Conditions) -> str | None:
    """Return what makes conditions unusable, or None."""
    if not sound_names([c.name for c in conditions], len(conditions)):
        return f"given must have different names of up to {LONGEST_NAME} characters"
    if not all(condition.is_sound for condition in conditions):
        return "given must be numbers with mean and sd, or categories with their counts"
    if feature_count(conditions) > MOST_FEATURES:
        return f"given must be at most {MOST_FEATURES} categories and numbers"
    return None


def names_of(conditions: Sequence[Condition]) -> str:
    """Return conditions as messages name them; "nothing" for none."""
    return ", ".join(condition.name for condition in conditions) or "nothing"


def read_conditions(values: Any, where: str) -> Conditions:
    """Return the conditions of an untrusted file, checked by their types; see also `problem`.

    Raises:
        DamagedInputError: they are no list of such objects as `Condition.to_json` gives.
    """
    if not isinstance(values, list) or len(values) > MOST_FEATURES:
        raise DamagedInputError(f"{where} is not a list of conditions")
    return tuple(_read(value, where) for value in values)


def _read(value: Any, where: str) -> Condition:
    damaged = DamagedInputError(f"{where} holds something that is no condition")
    if not isinstance(value, dict) or not isinstance(name := value.get("name"), str):
        raise damaged
    if value.keys() == {"name", "mean", "sd"}:
        numbers = [value["mean"], value["sd"]]
        if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise damaged
        return Condition(name, mean=float(numbers[0]), sd=float(numbers[1]))
    categories, counts = value.get("categories"), value.get("counts")
    if (
        value.keys() != {"name", "categories", "counts"}
        or not isinstance(categories, list)
        or not isinstance(counts, list)
        or not categories
        or not all(isinstance(text, str) for text in categories)
        or not all(type(count) is int for count in counts)
    ):
        raise damaged
    return Condition(name, tuple(categories), tuple(counts))
