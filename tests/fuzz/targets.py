"""What is fuzzed: readers, files to start from and changes that get past their checksums."""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import mutators, readers, seeds
from tests.fuzz.mutators import Mutator


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        run: reads a file of these bytes; raises what no reader may raise.
        seeds: sound files.
        change: a structure-aware change.
        modules: those that the reader is in, whose branches guide the fuzzer.
        longest: bytes of the longest input worth trying.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    change: Mutator
    modules: tuple[str, ...]
    longest: int = 1 << 14

    def mutate(self, data: bytes, rng: random.Random) -> bytes:
        """Return other bytes, close to these."""
        return mutators.mutated(data, self.change, rng)[: self.longest]


def _json_text(data: bytes, rng: random.Random) -> bytes:
    return mutators.hostile_json(data.decode(), rng).encode("utf-8", "surrogatepass")


def _from_sound(data: bytes, rng: random.Random) -> bytes:
    """A change of a sound file: nothing tells the fuzzer which branches another process takes."""
    return mutators.in_place(rng.choice(seeds_of("hdf5")), rng)


def _npy_or_npz(data: bytes, rng: random.Random) -> bytes:
    return (mutators.npz if data[:2] == b"PK" else mutators.npy)(data, rng)


def _download(data: bytes, rng: random.Random) -> bytes:
    kind = (data[0] if data else 0) % 6
    change = {2: mutators.packed, 4: mutators.mat}.get(kind, mutators.blindly)
    return data[:1] + change(data[1:], rng)


_CELLS = (",", ";", "\t", " ", "\n", '"', "nan", "inf", "1e999", "1_0", "0x1", "\0", "#", "\r", "-",
          "\ufeff", "9" * 400, "١", "a")  # fmt: skip
_TOML = ("=", "\n", "steps", "hidden", ".", "[", "]", "{", "}", '"', "'", '"""', "1e999", "nan",
         "inf", "true", "0x" + "f" * 9000, "9" * 5000, "1979-05-27", '"\\u0000"', '"\\n"', ",",
         "a.a.a.a.a.a.a.a.a.a", "[[a]]\n", "\\", "#", "-", "_")  # fmt: skip

_HEADERS = ("arcsm_cli.io.tensor_file", "arcsm_cli.io.bounded_json", "arcsm_cli.io.streams")
_CHECKPOINTS = (*_HEADERS, "arcsm_cli.io.checkpoint", "arcsm_cli.io.provenance")
_MODELS = ("arcsm_cli.models.load", "arcsm_cli.models.restore", "arcsm_cli.models.config",
           "arcsm_cli.models.vae_config")  # fmt: skip
_HDF5 = ("arcsm_cli.io.hdf5_guard", "arcsm_cli.io.isolated")
_PIL = tuple(
    f"PIL.{kind}ImagePlugin"
    for kind in ("Png", "Jpeg", "Bmp", "Ppm", "WebP", "Tiff", "Mpo", "Gif", "Jpeg2K", "Avif")
)

TARGETS: dict[str, Target] = {
    "checkpoint": Target(
        readers.checkpoint, seeds.checkpoints, mutators.safetensors, (*_CHECKPOINTS, *_MODELS)
    ),
    "info": Target(
        readers.info,
        lambda: seeds.checkpoints()[::5] + seeds.references(),
        mutators.safetensors,
        (*_CHECKPOINTS, "arcsm_cli.cli.table", "arcsm_cli.reporting.contents"),
    ),
    "reference": Target(
        readers.reference,
        seeds.references,
        mutators.safetensors,
        (*_HEADERS, "arcsm_cli.io.reference_file"),
    ),
    "samples": Target(
        readers.samples,
        lambda: [bytes(8), bytes(range(64))],
        mutators.blindly,
        (*_HDF5, "arcsm_cli.io.sample_reader", "arcsm_cli.io.sample_layout"),
        64,
    ),
    "hdf5": Target(
        readers.hdf5,
        lambda: seeds.sample_files() + seeds.comparisons(),
        _from_sound,
        (*_HDF5, "arcsm_cli.io.streams"),
        1 << 16,
    ),
    "comparison": Target(
        readers.comparison,
        readers.descriptions,
        _json_text,
        (
            "arcsm_cli.io.comparison_file",
            "arcsm_cli.io.comparison_reader",
            "arcsm_cli.io.bounded_json",
            "arcsm_cli.io.hdf5_guard",
        ),
    ),
    "array": Target(
        readers.array,
        seeds.arrays,
        _npy_or_npz,
        (
            "arcsm_cli.data.arrays",
            "arcsm_cli.data.files",
            "arcsm_cli.data.layout",
            "arcsm_cli.data.scale",
            "arcsm_cli.data.named",
            "zipfile",
        ),
    ),
    "table": Target(
        readers.table, seeds.tables, mutators.words(*_CELLS), ("arcsm_cli.data.tables",), 1 << 12
    ),
    "image": Target(
        readers.image, seeds.images, mutators.png, ("arcsm_cli.data.decoding", *_PIL), 1 << 12
    ),
    "downloads": Target(
        readers.downloads,
        seeds.downloads,
        _download,
        ("arcsm_cli.data.vision", "arcsm_cli.data.celeba", "arcsm_cli.io.isolated", "gzip"),
    ),
    "config": Target(
        readers.config,
        seeds.configs,
        mutators.words(*_TOML),
        ("arcsm_cli.cli.config", "tomllib"),
        1 << 15,
    ),
    "json": Target(
        readers.text,
        seeds.texts,
        _json_text,
        ("arcsm_cli.io.bounded_json", "arcsm_cli.io.provenance", *_MODELS),
    ),
}


@functools.cache
def seeds_of(name: str) -> tuple[bytes, ...]:
    """The sound files of a target."""
    return tuple(TARGETS[name].seeds())


COUNTS = dict.fromkeys(TARGETS, 200) | {
    **{"checkpoint": 100, "info": 50, "samples": 100, "comparison": 100, "downloads": 20}
}
"""Changed files of each target that take about half a second."""


def fuzz(name: str, numbers: range) -> None:
    """Read changed files of a target, each of which has a number.

    Raises:
        AssertionError: One of them does more than to be refused.
    """
    target = TARGETS[name]
    for number in numbers:
        rng = random.Random(f"{name} {number}")
        data = rng.choice(seeds_of(name))
        for _ in range(rng.randrange(5)):
            data = target.mutate(data, rng)
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"file {number} of {name}: {data[:200]!r}") from error
