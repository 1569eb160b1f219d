"""``arcsm merge``: shards back together, in order."""

import logging
import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import Force, Output
from arcsm_cli.cli.progress import Bar, progress
from arcsm_cli.errors import DamagedInputError

if TYPE_CHECKING:
    from arcsm_cli.io.sample_output import Append
    from arcsm_cli.io.samples import SampleFile

_log = logging.getLogger(__name__)

_BLOCK_VALUES = 1 << 20  # of the examples, in memory at a time


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Sample files, in the order of the result; one may be - (stdin)."
        ),
    ],
    output: Output,
    force: Force = False,
) -> None:
    """Put shards back together, in order.

    Writes the examples of all FILEs one after the other, with every dataset they hold. All must
    hold the same datasets with examples of the same shape. Memory does not grow with the files.

    Examples:

      arcsm merge part-*.h5 -o all.h5
      arcsm merge a.h5 b.h5 -o - | arcsm info -

      for i in 0 1 2 3; do
        arcsm sample m.safetensors -n 1000 \\
          --shard $i/4 -o part-$i.h5
      done
      arcsm merge part-[0-3].h5 -o samples.h5
    """
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.sample_output import check_sample_output, sample_output
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.io.streams import label, local_input

    check_sample_output(output, force=force)
    with ExitStack() as stack:
        # One shard is open at a time: there may be more of them than files may be open.
        paths = [stack.enter_context(local_input(file)) for file in files]
        first = _Layout(paths[0])
        chains, total = [], 0
        for path in paths:
            with SampleFile(path) as shard:
                first.check(path, shard)
                chains.append(shard.provenance)
                total += len(shard)
        entry = provenance_entry(inputs={label(path): sha256_file(path) for path in paths})
        with (
            sample_output(
                output, first.shape, extend(chains, entry), columns=first.columns, force=force
            ) as append,
            progress(total, "merging") as bar,
        ):
            for path in paths:
                with SampleFile(path) as shard:
                    first.check(path, shard)
                    _copy(shard, append, bar)
    _log.info("merged %d examples of %d files", total, len(files))


class _Layout:
    """What the first shard holds, and all others must."""

    def __init__(self, path: Path) -> None:
        from arcsm_cli.io.samples import SampleFile
        from arcsm_cli.io.streams import label

        with SampleFile(path) as shard:
            self.shape = shard.shape
            self.columns = shard.columns
            self._shapes = _row_shapes(shard)
        self._name = label(path)

    def check(self, path: Path, shard: "SampleFile") -> None:
        from arcsm_cli.io.streams import label

        for name, shape in (found := _row_shapes(shard)).items():
            expected = self._shapes.get(name)
            if expected is not None and shape != expected:
                raise DamagedInputError(
                    f"{label(path)}: its {name} are of shape {_times(shape)}, where {self._name} "
                    f"has {_times(expected)}: shards must have the same shape"
                )
        if shard.columns != self.columns:
            theirs, ours = (
                "no names" if names is None else ", ".join(names)
                for names in (shard.columns, self.columns)
            )
            raise DamagedInputError(
                f"{label(path)}: its columns have {theirs}, those of {self._name} {ours}: shards "
                "must have the same columns"
            )
        if found.keys() != self._shapes.keys():
            raise DamagedInputError(
                f"{label(path)}: holds {', '.join(found)}, where {self._name} holds "
                f"{', '.join(self._shapes)}: shards must hold the same datasets"
            )


def _row_shapes(shard: "SampleFile") -> dict[str, tuple[int, ...]]:
    return {name: shard.read(0, 0, name).shape[1:] for name in shard.names}


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _copy(shard: "SampleFile", append: "Append", bar: Bar) -> None:
    block = max(1, _BLOCK_VALUES // math.prod(shard.shape))
    for start in range(0, max(1, len(shard)), block):  # an empty shard still says what it holds
        batch: dict[str, Any] = {
            name: shard.read(start, start + block, name) for name in shard.names
        }
        prefix = "statistics/"
        statistics = {
            name.removeprefix(prefix): batch.pop(name) for name in shard.names if prefix in name
        }
        samples = batch.pop("samples")
        append(samples, statistics=statistics, **batch)
        bar.update(len(samples))
