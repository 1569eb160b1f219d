"""What a file of arcsm's is, whatever its name: its kind, sizes, settings and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import reference_file
from arcsm_cli.io.comparison_file import FORMAT, is_comparison, load_comparison
from arcsm_cli.io.samples import SampleFile
from arcsm_cli.io.streams import describe, label, sniff
from arcsm_cli.io.tensor_file import format_of, open_tensors

_BLOCK_VALUES = 1 << 20  # of one dataset, in memory at a time


def contents(path: Path) -> dict[str, Any]:
    """Return what a file is, having read and checked all of it.

    Returns:
        ``format``, one of ``arcsm-checkpoint``, ``arcsm-resume``, ``arcsm-reference``,
        ``arcsm-samples`` and ``arcsm-comparison``; figures under ``metrics``; and what the format
        has besides, ``provenance`` oldest first.

    Raises:
        MissingInputError: the file cannot be read.
        DamagedInputError: it is damaged, or not one of these.
    """
    kind = sniff(path)
    if kind == "samples":
        return _comparison(path) if is_comparison(path) else _samples(path)
    if kind == "checkpoint":
        return _tensors(path)
    with path.open("rb") as opened:
        what = describe(opened.read(512))
    raise DamagedInputError(
        f"{label(path)}: is {what}; no checkpoint (safetensors) and no samples (HDF5) of "
        "arcsm, to which 'arcsm data' converts DATA"
    )


def _samples(path: Path) -> dict[str, Any]:
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
    with path.open("rb") as file, open_tensors(file, label(path), "numpy") as opened:
        form = format_of(opened.metadata() or {})

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


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
