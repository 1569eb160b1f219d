"""Comparison files: the tables of an experiment between objectives, in HDF5.

A column is a float32 dataset ``TABLE/COLUMN`` of N numbers, NaN or infinite where a measurement
was; texts are numbers too, places in a list that the attribute ``comparison`` holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.comparison_reader import MAX_COLUMNS, MAX_TABLES, ComparisonReader
from arcsm_cli.io.isolated import Isolated
from arcsm_cli.io.provenance import parse_chain
from arcsm_cli.io.sink import Sink, signals_held
from arcsm_cli.io.streams import HDF5_SIGNATURE, label, local_input, show

FORMAT = "arcsm-comparison"
FORMAT_VERSION = 1
_MAX_ROWS, _MAX_TEXTS = 4 << 20, 4096
_MAX_CHARACTERS = 200
_MAX_JSON = 4 << 20
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Comparison:
    """The results of an experiment.

    Attributes:
        experiment: its name.
        settings: what it was run with.
        tables: by name, columns of one length by name: (N,) float64, or (N,) texts.
        provenance: the chain of commands, oldest first.
    """

    experiment: str
    settings: dict[str, Any]
    tables: dict[str, dict[str, NDArray[Any]]]
    provenance: list[dict[str, Any]]


def save_comparison(path: str | os.PathLike[str], comparison: Comparison) -> None:
    """Write a comparison file; equal content gives equal bytes.

    Wrap it in `atomic.atomic_output` and give it the temporary path.

    Raises:
        OSError: the system refused to write.
        ValueError: a table is empty, its columns differ in length, or a name has a slash.
    """
    layout: dict[str, Any] = {}
    numbers: dict[str, NDArray[np.float32]] = {}
    for table, found in sorted(comparison.tables.items()):
        rows = {len(column) for column in found.values()}
        if len(rows) != 1 or 0 in rows or any("/" in name for name in (table, *found)):
            raise ValueError(f"table {table!r} has columns of lengths {rows} or a slash in a name")
        texts = {name: _texts(column) for name, column in found.items()}
        layout[table] = {"rows": rows.pop(), "columns": texts}
        for name, column in found.items():
            numbers[f"{table}/{name}"] = _numbers(column, texts[name])
    header = {
        "experiment": comparison.experiment,
        "settings": comparison.settings,
        "tables": layout,
    }
    sink = Sink(path)
    try:
        with sink.errors(), h5py.File(sink, "w", libver=("v110", "v110")) as file:
            file.attrs["format"] = FORMAT
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["provenance"] = bounded_json.dump(comparison.provenance)
            file.attrs["comparison"] = bounded_json.dump(header)
            for name, column in numbers.items():
                file.create_dataset(
                    name,
                    data=column,
                    dtype="<f4",
                    chunks=(min(_CHUNK_ROWS, len(column)),),
                    compression="gzip",
                    shuffle=True,
                    fletcher32=True,
                )
    finally:
        with signals_held():
            sink.close()


def _texts(column: NDArray[Any]) -> list[str] | None:
    return list(dict.fromkeys(column.tolist())) if column.dtype.kind in "UO" else None


def _numbers(column: NDArray[Any], texts: list[str] | None) -> NDArray[np.float32]:
    if texts is None:
        with np.errstate(over="ignore"):  # a loss that diverged is infinite
            return np.asarray(column, np.float32)
    place = {text: i for i, text in enumerate(texts)}
    return np.array([place[text] for text in column.tolist()], np.float32)


def is_comparison(path: Path) -> bool:
    """Return whether an HDF5 file says that it is a comparison; it may be damaged all the same.

    Raises:
        DamagedInputError: it is HDF5 that cannot be opened.
    """
    with _opened(path, label(path)) as file:
        return bool(file.call("format") == FORMAT)


def load_comparison(source: str | os.PathLike[str]) -> Comparison:
    """Read a comparison file, checked.

    Arguments:
        source: a path, or ``-`` for standard input.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is of another kind, damaged, or from a later version of the format.
    """
    name = label(source)
    with local_input(source) as path, _opened(path, name) as file:
        found = file.call("format")
        if found != FORMAT:
            raise DamagedInputError(f"{name}: has the format {show(found)}, not {FORMAT!r}")
        version, provenance, text = file.call("texts")
        if version is None or not 1 <= version <= FORMAT_VERSION:
            raise DamagedInputError(
                f"{name}: has format_version {version}, this arcsm reads up to {FORMAT_VERSION}"
            )
        chain = parse_chain(provenance or "", name)
        header = _header(text or "", name)
        file.call(
            "check", {table: list(found["columns"]) for table, found in header["tables"].items()}
        )
        tables = {
            table: _table(file, table, layout, name) for table, layout in header["tables"].items()
        }
    return Comparison(header["experiment"], header["settings"], tables, chain)


@contextmanager
def _opened(path: Path, name: str) -> Iterator[Isolated]:
    """Open an HDF5 file in a process of its own."""
    with open(path, "rb") as raw:
        if raw.read(8) != HDF5_SIGNATURE:
            raise DamagedInputError(f"{name}: is no comparison file (HDF5)")
    with closing(Isolated(lambda: ComparisonReader(path, name), name)) as file:
        yield file


def _header(text: str, name: str) -> dict[str, Any]:
    try:
        header = bounded_json.parse(text, size=_MAX_JSON)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its comparison {error}") from error
    fits = (
        isinstance(header, dict)
        and header.keys() == {"experiment", "settings", "tables"}
        and _is_text(header["experiment"])
        and isinstance(header["settings"], dict)
        and isinstance(header["tables"], dict)
        and len(header["tables"]) <= MAX_TABLES
        and all(_is_layout(table) for table in header["tables"].values())
    )
    if not fits:
        raise DamagedInputError(f"{name}: its comparison is not that of an experiment's tables")
    return dict(header)


def _is_layout(table: Any) -> bool:
    return (
        isinstance(table, dict)
        and table.keys() == {"rows", "columns"}
        and type(table["rows"]) is int
        and 1 <= table["rows"] <= _MAX_ROWS
        and isinstance(table["columns"], dict)
        and 1 <= len(table["columns"]) <= MAX_COLUMNS
        and all(
            texts is None
            or (isinstance(texts, list) and len(texts) <= _MAX_TEXTS and all(map(_is_text, texts)))
            for texts in table["columns"].values()
        )
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_CHARACTERS and value.isprintable()


def _table(
    file: Isolated, table: str, layout: Mapping[str, Any], name: str
) -> dict[str, NDArray[Any]]:
    rows = layout["rows"]
    columns: dict[str, NDArray[Any]] = {}
    for column, texts in layout["columns"].items():
        found = file.call("column", table, column, rows, size=8 * rows)
        numbers = np.asarray(found, np.float64)
        title = f"{table}/{column}"
        columns[column] = numbers if texts is None else _decoded(numbers, texts, title, name)
    return columns


def _decoded(
    numbers: NDArray[np.float64], texts: Sequence[str], title: str, name: str
) -> NDArray[Any]:
    places = numbers.astype(np.int64, copy=True) if np.isfinite(numbers).all() else None
    if places is None or (places != numbers).any() or not _within(places, len(texts)):
        raise DamagedInputError(f"{name}: column {show(title)} names texts that are not there")
    return np.array(texts, dtype=np.str_)[places] if len(texts) else np.empty(0, np.str_)


def _within(places: NDArray[np.int64], count: int) -> bool:
    return bool(((places >= 0) & (places < count)).all())
