"""``arcsm info``: what a file is, and where it comes from."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from arcsm_cli.cli.options import Json
from arcsm_cli.cli.table import print_result
from arcsm_cli.errors import DamagedInputError

_BLOCK_VALUES = 1 << 20  # of one dataset, in memory at a time
_LONG_LIST = 16


def run(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A checkpoint, its .resume or .reference file, or samples; - is stdin.",
        ),
    ],
    json: Json = False,
) -> None:
    """Say what a file is and where it comes from.

    Reads the whole file and checks it, whatever its name: a checkpoint (kind of model, settings,
    number of parameters, how far it was trained), the .resume file beside one, or samples (how
    many, their shape, what else is stored). The provenance lists every command that touched the
    data, oldest first. Also the .reference file of ood-score, and the results of compare.

    Examples:

      arcsm info digits.safetensors
      arcsm info samples.h5 --json | jq .metrics.samples
      arcsm sample digits.safetensors -n 8 -o - | arcsm info -
    """
    from arcsm_cli.io.comparison_file import is_comparison
    from arcsm_cli.io.streams import describe, label, local_input, sniff

    with local_input(file) as path:
        kind = sniff(path)
        if kind == "samples":
            found = _comparison(path) if is_comparison(path) else _samples(path)
        elif kind == "checkpoint":
            found = _tensors(path)
        else:
            with path.open("rb") as opened:
                what = describe(opened.read(512))
            raise DamagedInputError(
                f"{label(path)}: is {what}; no checkpoint (safetensors) and no samples (HDF5) of "
                "arcsm, to which 'arcsm data' converts DATA"
            )
        result = {"file": label(path), "bytes": path.stat().st_size, **found}
        print_result(result if json else _summed_up(result), json=json)


def _samples(path: Path) -> dict[str, Any]:
    from arcsm_cli.io.samples import SampleFile

    with SampleFile(path) as samples:
        count = len(samples)
        datasets = {}
        for name in samples.names:
            shape = samples.read(0, 0, name).shape[1:]
            block = max(1, _BLOCK_VALUES // max(1, math.prod(shape)))
            for start in range(0, count, block):  # a damaged block shows when it is read
                samples.read(start, start + block, name)
            datasets[name] = [count, *shape]
        return {
            "format": "arcsm-samples",
            "shape": list(samples.shape),
            **({} if samples.columns is None else {"columns": list(samples.columns)}),
            "metrics": {"samples": count, "dimensions": math.prod(samples.shape)},
            "datasets": datasets,
            "provenance": [_entry(step) for step in samples.provenance],
        }


def _comparison(path: Path) -> dict[str, Any]:
    from arcsm_cli.io.comparison_file import FORMAT, load_comparison

    found = load_comparison(path)
    tables = {
        name: [len(next(iter(table.values()))), *table] for name, table in found.tables.items()
    }
    return {
        "format": FORMAT,
        "experiment": found.experiment,
        "metrics": {"records": sum(rows[0] for rows in tables.values()), "tables": len(tables)},
        "settings": found.settings,
        "tables": tables,
        "provenance": [_entry(step) for step in found.provenance],
    }


def _tensors(path: Path) -> dict[str, Any]:
    from arcsm_cli.io.streams import label
    from arcsm_cli.io.tensor_file import format_of, open_tensors

    with path.open("rb") as file, open_tensors(file, label(path), "numpy") as opened:
        form = format_of(opened.metadata() or {})

    from arcsm_cli.io import reference_file

    if form == "reference":
        reference = asdict(reference_file.load_reference_file(path))
        vectors = reference.pop("vectors")
        typical, spread = reference.pop("statistics"), reference.pop("multiscale")
        medians = {name: values["median"] for name, values in typical.items()}
        deviations = {f"{name}_mad": values["mad"] for name, values in typical.items()}
        if spread is not None:
            reference["multiscale_levels"] = list(spread["levels"])
            reference["vectors"] = 0 if vectors is None else len(vectors)
        return {"format": "arcsm-reference", "metrics": medians | deviations, **reference}

    # After the header has shown that the file deserves it: this loads PyTorch.
    from arcsm_cli.io.checkpoint import load_checkpoint, load_resume

    if form == "resume":
        tensors, state = load_resume(path)
        return {
            "format": "arcsm-resume",
            "metrics": {"tensors": len(tensors), "values": _count(tensors)},
            "state": state,
        }
    checkpoint = load_checkpoint(path)
    return {
        "format": "arcsm-checkpoint",
        "kind": checkpoint.kind,
        "metrics": {
            "parameters": _count(
                {k: t for k, t in checkpoint.tensors.items() if t.is_floating_point()}
            ),
            "tensors": len(checkpoint.tensors),
        },
        "config": checkpoint.config,
        "training": checkpoint.training,
        "shapes": {name: list(t.shape) for name, t in sorted(checkpoint.tensors.items())},
        "provenance": [_entry(step) for step in checkpoint.provenance],
    }


def _entry(step: dict[str, Any]) -> dict[str, Any]:
    """A provenance entry in the order of reading: what was run, then when and where."""
    first = ("command", "arguments", "seed", "inputs", "time", "host")
    return {key: step[key] for key in (*first, *step) if key in step}


def _summed_up(value: Any) -> Any:
    """`value` with long lists of numbers, such as training curves, reduced to their ends."""
    if isinstance(value, Mapping):
        value = {key: _summed_up(item) for key, item in value.items()}
        if isinstance(hashes := value.get("sketch"), list):
            value["sketch"] = f"{len(hashes)} hashes of training examples (all with --json)"
        return value
    if not isinstance(value, list) or len(value) <= _LONG_LIST:
        return value
    if not all(isinstance(item, int | float) for item in value):
        return value
    return f"{len(value)} values, {value[0]:.6g} ... {value[-1]:.6g} (all with --json)"


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
