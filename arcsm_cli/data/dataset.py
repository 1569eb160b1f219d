"""A data set in memory."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arcsm_cli.data.batch import Batch
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label, show

MAX_BYTES = 16 * 2**30
"""No source loads more than this many bytes of values: data sets are held in memory."""

_SHOWN = 5  # columns that a message names


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


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples in memory: images N x C x H x W or vectors N x D.

    Arguments:
        name: The specification that the examples came from.
        values: ``uint8`` (8-bit images, 0 to 255) or ``float32`` (images in [0, 1], vectors as
            they are), the first axis over examples; vectors that float32 does not carry are
            ``float64`` (see `arcsm_cli.data.precision`).
        labels: Class of each example (int64, shape N), where the source has classes.
        digest: SHA-256 of the input file, or of the bytes of ``values`` where there is no one file.
        source: Provenance chain of the input, oldest entry first.
        columns: Names of the columns of vectors, all different, where the source has names.
        skipped: How many examples of the input could not be read and were left out.
        classes: What the labels are numbers of, 0 being the first; None where they are numbers.
        beside: What is known of each example beside its values, as ``--given`` asked for it.
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

    @property
    def kind(self) -> str:
        """``"image"`` or ``"vector"``."""
        return "image" if self.values.dim() == 4 else "vector"

    def take(self, index: Tensor) -> Tensor:
        """Return the examples at ``index`` (int64, shape B), images in [0, 1] as float32."""
        return as_float(self.values[index])

    def rows(self, start: int, stop: int) -> Batch:
        """Return the examples from ``start`` on and before ``stop``, as ``take`` returns them."""
        batch = self.stored(slice(start, stop))
        return batch.holding(as_float(batch.x))

    def stored(self, index: Tensor | slice) -> Batch:
        """Return the examples at ``index`` (int64, or a slice) as they are stored."""
        x = self.values[index]
        return Batch.of(x) if self.given is None else Batch(x, self.given[index])

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over all examples in order, ``size`` at a time, as ``take`` returns them."""
        for start in range(0, len(self), size):
            yield self.rows(start, start + size)

    def limit(self, count: int | None) -> "Dataset":
        """Return the first ``count`` examples; all of them for ``None``."""
        if count is None or count >= len(self):
            return self
        return self._at(slice(count))

    def select(self, index: Tensor, name: str | None = None) -> "Dataset":
        """Return the examples at ``index`` (int64), under another name if one is given."""
        return replace(self._at(index), name=name or self.name)

    def _at(self, index: Tensor | slice) -> "Dataset":
        return replace(
            self,
            values=self.values[index],
            labels=None if self.labels is None else self.labels[index],
            beside=tuple(b._replace(values=b.values[index]) for b in self.beside),
            given=None if self.given is None else self.given[index],
        )

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

    def carve(self) -> tuple["Dataset", "Dataset"]:
        """Part the examples into training data and held-out validation data.

        The last tenth of a fixed shuffle is held out: at least 1 example and at most 10,000.

        Raises:
            UsageError: There are fewer than two examples.
        """
        if len(self) < 2:
            raise UsageError(
                f"{label(self.name)} gives 1 example; training takes at least 2, to hold one out"
            )
        held_out = min(10_000, max(1, len(self) // 10))
        order = fixed_order(len(self))
        train = order[:-held_out].sort().values
        valid = order[-held_out:].sort().values
        return self.select(train), self.select(valid, f"{self.name} (held out)")


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


def require_finite(values: Tensor, where: str) -> None:
    """Check that no value is NaN, infinite or beyond the range of float32.

    Raises:
        DamagedInputError: One is; the message names the input and the first bad index.
    """
    most = torch.finfo(torch.float32).max
    for start in range(0, len(values), 4096):  # in parts, to need no second copy of the data
        bad = (~(values[start : start + 4096].abs() <= most)).nonzero()
        if len(bad):
            row, *rest = bad[0].tolist()
            place = ", ".join(str(i) for i in (start + row, *rest))
            value = values[(start + row, *rest)].item()
            raise DamagedInputError(
                f"{where}: the value at [{place}] is {value}, not a finite number of 32 bits"
            )
