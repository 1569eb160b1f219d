"""Examples to learn from and to measure, and a data set of them in memory."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.data.moments import Moments, moments
from arcsm_cli.data.precision import merged_columns
from arcsm_cli.data.sketch import sketch_of
from arcsm_cli.data.splits import Hashes
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, show

MAX_BYTES = 16 * 2**30
"""No source loads more than this many bytes of values: data sets are held in memory."""

_SHOWN = 5  # columns that a message names
_VALUES = 1 << 22  # of the examples, held in double precision at a time
_SKETCHED = 1024  # examples hashed at a time


class Beside(NamedTuple):
    """What is known of each example beside its values.

    Attributes:
        name: of the column or array that says it.
        values: (N,), float64 numbers, or as int64 places in ``classes``.
        classes: what is said, as texts, all different; None of numbers.
    """

    name: str
    values: Tensor
    classes: tuple[str, ...] | None = None


class Rows(ABC):
    """Examples in a fixed order: in memory (`Dataset`), or in files (`streamed.StreamedRows`).

    Attributes:
        name: the specification that they came from.
        digest: SHA-256 of the input file, or of the values where there is no one file.
        inputs: SHA-256 of each file, by name, where there are several; else empty.
        source: provenance chain of the input, oldest entry first.
        columns: names of the columns of vectors, all different, where the source has names.
        skipped: how many examples of the input could not be read and were left out.
        beside: what is known of each example beside its values, as ``--given`` asked for it.
    """

    name: str
    digest: str
    inputs: dict[str, str]
    source: list[dict[str, Any]]
    columns: tuple[str, ...] | None
    skipped: int
    beside: tuple[Beside, ...]

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (D,)."""

    @property
    def kind(self) -> str:
        """``"image"`` or ``"vector"``."""
        return "image" if len(self.shape) == 3 else "vector"

    @abstractmethod
    def stored(self, index: Tensor | slice) -> Batch:
        """Return the examples at ``index`` (int64, or a slice) as they are stored.

        8-bit images are bytes, see `as_float`.
        """

    @abstractmethod
    def select(self, index: Tensor, name: str | None = None) -> Dataset:
        """Return the examples at ``index`` (int64) in memory, under another name if given one."""

    @abstractmethod
    def telling(self, encode: Callable[[Sequence[Beside]], Tensor]) -> Rows:
        """Return the same examples with what a model is told of each, made of `beside`."""

    @abstractmethod
    def column(self, index: int) -> Tensor:
        """Return all values of a column of vectors, (N,)."""

    @abstractmethod
    def content(self) -> str:
        """Return the SHA-256 of the examples themselves, and of what a model is told of them."""

    @abstractmethod
    def merged_columns(self) -> list[int]:
        """Return the columns of vectors that `precision.merged_columns` names."""

    def take(self, index: Tensor) -> Tensor:
        """Return the examples at ``index`` (int64, shape B), images in [0, 1] as float32."""
        return as_float(self.stored(index).x)

    def rows(self, start: int, stop: int) -> Batch:
        """Return the examples from ``start`` on and before ``stop``, as ``take`` returns them."""
        batch = self.stored(slice(start, stop))
        return batch.holding(as_float(batch.x))

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over all examples in order, ``size`` at a time, as ``take`` returns them."""
        for start in range(0, len(self), size):
            yield self.rows(start, start + size)

    def moments(self) -> Moments:
        """Return the moments of each column of vectors, or of all values of images (D = 1)."""
        size = max(1, _VALUES // math.prod(self.shape))
        return moments(as_columns(batch.x) for batch in self.batches(size))

    def sketch(self) -> Hashes:
        """Return the sketch by which the examples are recognised; see `arcsm_cli.data.sketch`."""
        return sketch_of(batch.x for batch in self.batches(_SKETCHED))

    def columns_text(self, indices: list[int]) -> str:
        """Return what messages call columns of vectors: ``column 2 ('b')``."""
        shown = [
            str(i + 1) if self.columns is None else f"{i + 1} ({show(self.columns[i], 40)})"
            for i in indices[:_SHOWN]
        ]
        more = f" and {len(indices) - _SHOWN} more" if len(indices) > _SHOWN else ""
        return f"{'column' if len(indices) == 1 else 'columns'} {', '.join(shown)}{more}"

    def columns_key(self, indices: list[int]) -> str:
        """Return how ``--columns`` and ``--drop`` would name columns: ``age,pay`` or ``2,5``."""
        names = self.columns or [str(i + 1) for i in range(self.shape[0])]
        shown = [f'"{names[i]}"' if "," in names[i] else names[i] for i in indices[:_SHOWN]]
        return show(",".join(shown) + ",..." * (len(indices) > _SHOWN), 200)[1:-1]


@dataclass(frozen=True, eq=False)
class Dataset(Rows):
    """Examples in memory: images N x C x H x W or vectors N x D.

    Arguments:
        name: The specification that the examples came from.
        values: ``uint8`` (8-bit images, 0 to 255) or ``float32`` (images in [0, 1], vectors as
            they are), the first axis over examples; vectors that float32 does not carry are
            ``float64`` (see `arcsm_cli.data.precision`).
        labels: Class of each example (int64, shape N), where the source has classes.
        digest, inputs, source, columns, skipped, beside: See `Rows`.
        classes: What the labels are numbers of, 0 being the first; None where they are numbers.
        given: (N, F) float32, the same as a model is told it (see `arcsm_cli.data.given`).
    """

    name: str
    values: Tensor
    labels: Tensor | None = None
    digest: str = ""
    source: list[dict[str, Any]] = field(default_factory=list)
    columns: tuple[str, ...] | None = None
    skipped: int = 0
    classes: tuple[str, ...] | None = None
    beside: tuple[Beside, ...] = ()
    given: Tensor | None = None
    inputs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {2: (torch.float32, torch.float64), 4: (torch.uint8, torch.float32)}
        if self.values.dtype not in known.get(self.values.dim(), ()):
            raise ValueError(f"{tuple(self.values.shape)} {self.values.dtype} is no data set")
        if self.labels is not None and self.labels.shape != self.values.shape[:1]:
            raise ValueError(f"{len(self.values)} examples with labels {self.labels.shape}")
        if self.columns is not None and self.shape != (len(set(self.columns)),):
            raise ValueError(f"examples of shape {self.shape} with columns {self.columns}")
        if not self.digest:
            # frozen: this is the one place where the value is still being made
            object.__setattr__(self, "digest", content_digest(self.values))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (D,)."""
        return tuple(self.values.shape[1:])

    def stored(self, index: Tensor | slice) -> Batch:
        """Return the examples at ``index`` (int64, or a slice) as they are stored."""
        x = self.values[index]
        return Batch.of(x) if self.given is None else Batch(x, self.given[index])

    def limit(self, count: int | None) -> Dataset:
        """Return the first ``count`` examples; all of them for ``None``."""
        if count is None or count >= len(self):
            return self
        return self._at(slice(count))

    def select(self, index: Tensor, name: str | None = None) -> Dataset:
        """Return the examples at ``index`` (int64), under another name if one is given."""
        return replace(self._at(index), name=name or self.name)

    def _at(self, index: Tensor | slice) -> Dataset:
        return replace(
            self,
            values=self.values[index],
            labels=None if self.labels is None else self.labels[index],
            beside=tuple(b._replace(values=b.values[index]) for b in self.beside),
            given=None if self.given is None else self.given[index],
        )

    def telling(self, encode: Callable[[Sequence[Beside]], Tensor]) -> Dataset:
        """Return the same examples with what a model is told of each, made of `beside`."""
        return replace(self, given=encode(self.beside))

    def column(self, index: int) -> Tensor:
        """Return all values of a column of vectors, (N,)."""
        return self.values[:, index]

    def content(self) -> str:
        """Return the SHA-256 of the examples themselves, and of what a model is told of them."""
        return content_digest(self.values, self.given)

    def merged_columns(self) -> list[int]:
        """Return the columns of vectors that `precision.merged_columns` names."""
        return merged_columns(self.values)

    def carve(self) -> tuple[Dataset, Dataset]:
        """Part the examples into training data and held-out validation data.

        The last tenth of a fixed shuffle is held out: at least 1 example and at most 10,000.

        Raises:
            UsageError: There are fewer than two examples.
        """
        require_two(len(self), self.name)
        train, valid = carved(len(self))
        return self.select(train), self.select(valid, f"{self.name} (held out)")


def require_two(count: int, name: str) -> None:
    """Check that there are enough examples to hold one out.

    Raises:
        UsageError: There are fewer than two.
    """
    if count < 2:
        raise UsageError(
            f"{label(name)} gives 1 example; training takes at least 2, to hold one out"
        )


def carved(count: int) -> tuple[Tensor, Tensor]:
    """Return which of ``count`` examples are trained on and held out, see `Dataset.carve`."""
    held_out = min(10_000, max(1, count // 10))
    order = fixed_order(count)
    return order[:-held_out].sort().values, order[-held_out:].sort().values


def as_columns(x: Tensor) -> Tensor:
    """Return vectors (N, D) as they are, and all values of images as one column (N, 1)."""
    return x.reshape(-1, 1) if x.dim() == 4 else x


def as_float(values: Tensor) -> Tensor:
    """Return 8-bit values divided by 255, as float32, and all others as they are."""
    return values.float().div_(255) if values.dtype == torch.uint8 else values


def fixed_order(count: int) -> Tensor:
    """Return a permutation of ``range(count)`` (int64) that depends on nothing but ``count``."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(1_797))


def content_digest(*values: Tensor | None) -> str:
    """Return the SHA-256 of the bytes of tensors, as hexadecimal digits; None has none."""
    digest = hashlib.sha256()
    for tensor in values:
        if tensor is not None:
            digest.update(tensor.contiguous().view(-1).numpy().data)
    return digest.hexdigest()


def require_finite(values: Tensor, where: str, first: int = 0) -> None:
    """Check that no value is NaN, infinite or beyond the range of float32.

    Arguments:
        first: The number of the first example among those of the input.

    Raises:
        DamagedInputError: One is; the message names the input and the first bad index.
    """
    most = torch.finfo(torch.float32).max
    for start in range(0, len(values), 4096):  # in parts, to need no second copy of the data
        bad = (~(values[start : start + 4096].abs() <= most)).nonzero()
        if len(bad):
            row, *rest = bad[0].tolist()
            place = ", ".join(str(i) for i in (first + start + row, *rest))
            value = values[(start + row, *rest)].item()
            raise DamagedInputError(
                f"{where}: the value at [{place}] is {value}, not a finite number of 32 bits"
            )
