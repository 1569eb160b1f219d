"""Every random number of the program: a function of a seed, a purpose and an index.

Training draws from `generator_for`, batch by batch, objectives through `Draws`; samples,
corruptions and evaluations from `SampleNoise`, whose streams belong to single examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum

import numpy as np
import torch
from torch import Tensor


class Purpose(Enum):
    """What random numbers are for: streams of one seed that must not meet.

    Either one stream for each index (`generator_for`), or streams of examples (`SampleNoise`), of
    which a purpose has those from its number on. The numbers decide what is drawn.
    """

    ORDER = ("index", 0)
    NOISE = ("index", 1)
    VALIDATION = ("index", 2)
    INITIAL_WEIGHTS = ("index", 3)
    DROPOUT = ("index", 4)
    FRAMES = ("index", 5)
    SUBSET = ("index", 6)
    LESSONS = ("index", 7)
    MEASURED_ORDERS = ("index", 8)
    POOLS = ("index", 9)

    SAMPLES = ("example", 0)
    CORRUPTION = ("example", 1 << 62)
    RESTORATION = ("example", 3 << 61)
    MEASURED = ("example", 1 << 63)  # noise, or binarisation, of examples that are measured
    CODES = ("example", (1 << 63) + (1 << 40))
    CHAINS = ("example", (1 << 63) + (2 << 40))
    LABELS = ("example", (1 << 63) + (3 << 40))  # drawn for samples
    TEACHER = ("example", (1 << 63) + (4 << 40))

    def __init__(self, kind: str, number: int) -> None:
        self.of_examples = kind == "example"
        self.number = number  # where its streams are among those of its kind


def generator_for(
    seed: int, purpose: Purpose, index: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator that is a function of seed, purpose and index."""
    assert not purpose.of_examples, purpose
    mixed = int(np.random.SeedSequence([seed, purpose.number, index]).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the process's generators of the CPU and of a device, and leave no trace of it.

    `torch.manual_seed` would seed those of all kinds of devices, which takes longer than a step of
    a small network: each that is not there yet notes who asked.
    """
    there = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if there else []):
        torch.default_generator.manual_seed(seed)
        if there:
            torch.cuda.manual_seed_all(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


class SampleNoise:
    """Standard normals for a batch of samples, each from its own counter-based stream.

    Sample i's stream is Philox (Salmon et al. 2011) keyed by the seed and, counted from the
    purpose's first, i: it does not matter in which batch, shard or process the sample is drawn.

    Arguments:
        seed: 0 <= seed < 2^64.
        indices: the numbers i of the samples.
        device: where the numbers are wanted; they are always drawn on the CPU.
        purpose: one of examples.

    Example:
        >>> a = SampleNoise(1, range(4)).normal(3)
        >>> b = SampleNoise(1, [2]).normal(3)
        >>> torch.equal(a[2], b[0])
        True
    """

    def __init__(
        self,
        seed: int,
        indices: Iterable[int],
        device: torch.device | str = "cpu",
        purpose: Purpose = Purpose.SAMPLES,
    ) -> None:
        assert purpose.of_examples, purpose
        self.device = device
        keys = (np.array([seed, purpose.number + i], dtype=np.uint64) for i in indices)
        self.streams = [np.random.Generator(np.random.Philox(key=key)) for key in keys]

    def normal(self, *shape: int) -> Tensor:
        """Return the streams' next standard normals, float32 (B, *shape)."""
        out = np.empty((len(self.streams), *shape), dtype=np.float32)
        for row, stream in zip(out, self.streams, strict=True):
            stream.standard_normal(out=row, dtype=np.float32)
        return torch.from_numpy(out).to(self.device)


class Draws:
    """Random numbers for the rows of a batch, one after another from a generator.

    What a row gets does not depend on which part is asked for: the numbers of the whole batch are
    drawn, and those of the part handed out.

    Arguments:
        generator: on the device of the batch.
        rows: of the whole batch; None where the part is all of it.
        own: which rows are computed here.

    Example:
        >>> whole = Draws(torch.Generator().manual_seed(0)).normal(torch.zeros(4, 3), 2)
        >>> part = Draws(torch.Generator().manual_seed(0), 4).part(slice(1, 3))
        >>> bool((part.normal(torch.zeros(2, 3), 2) == whole[1:3]).all())
        True
    """

    def __init__(
        self, generator: torch.Generator, rows: int | None = None, own: slice = slice(None)
    ) -> None:
        self._generator, self._rows, self._own = generator, rows, own

    def part(self, own: slice) -> Draws:
        """Return what is drawn from here on for some rows; others' are drawn from here on too."""
        return Draws(self._generator.clone_state(), self._rows, own)

    def _whole(self, like: Tensor) -> int:
        return len(like) if self._rows is None else self._rows

    def normal(self, like: Tensor, *shape: int) -> Tensor:
        """Return standard normals (B, *shape), of ``like``'s B, type and device."""
        z = torch.randn(
            self._whole(like),
            *shape,
            generator=self._generator,
            device=like.device,
            dtype=like.dtype,
        )
        return z[self._own]

    def signs(self, like: Tensor) -> Tensor:
        """Return random signs of the shape of ``like`` (B, ...)."""
        whole = like.new_empty(self._whole(like), *like.shape[1:])
        return rademacher(whole, self._generator)[self._own]


def rademacher(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return random signs of the shape of ``like``: projections of unit second moment."""
    bits = torch.randint(2, like.shape, generator=generator, device=like.device)
    return bits.to(like.dtype).mul_(2).sub_(1)
