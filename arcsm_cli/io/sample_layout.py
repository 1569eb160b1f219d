"""What a sample file consists of, checked on opening, before any numbers are read."""

from typing import Any

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json, hdf5_guard
from arcsm_cli.io.column_names import sound_names
from arcsm_cli.io.hdf5_guard import Found
from arcsm_cli.io.provenance import parse_chain
from arcsm_cli.io.streams import show

FORMAT = "arcsm-samples"
FORMAT_VERSION = 1
EXAMPLES = ("samples", "clean", "corrupted")  # these share one shape
LABELS = "labels"
STATISTICS = "statistics"
_MAX_NAMES = 16 << 20  # characters


def statistic_of(name: str) -> str:
    """Return the dataset of a statistic, or of what examples are given, by its name.

    Example:
        >>> statistic_of("mg/l")
        'statistics/mg_l'
    """
    plain = name.replace("/", "_")
    return f"{STATISTICS}/{'_' if plain == '.' else plain}"


def read_header(file: Any, name: str) -> list[dict[str, Any]]:
    """Check the root attributes of an `h5py.File` and return the provenance chain.

    Raises:
        DamagedInputError: it is no sample file, or from a later version of the format.
    """
    found = hdf5_guard.text_attribute(file, "format", name)
    if found != FORMAT:
        what = "has no format attribute" if found is None else f"has the format {show(found)}"
        raise DamagedInputError(f"{name}: is an HDF5 file but {what}, {FORMAT!r} is expected")
    version = hdf5_guard.integer_attribute(file, "format_version", name)
    if version is None or version < 1:
        raise DamagedInputError(f"{name}: its format_version is {version}, not 1 or more")
    if version > FORMAT_VERSION:
        raise DamagedInputError(
            f"{name}: has format_version {version}, newer than the {FORMAT_VERSION} that this "
            "arcsm reads: upgrade arcsm"
        )
    return parse_chain(hdf5_guard.text_attribute(file, "provenance", name) or "", name)


def read_columns(file: Any, shape: tuple[int, ...], name: str) -> list[str] | None:
    """Return the names of the columns of samples of a shape (N, D), or None.

    Raises:
        DamagedInputError: they are no D different names.
    """
    text = hdf5_guard.text_attribute(file, "columns", name)
    if text is None:
        return None
    try:
        columns = bounded_json.parse(text, size=_MAX_NAMES)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its columns {error}") from error
    if len(shape) != 2 or not isinstance(columns, list) or not sound_names(columns, shape[1]):
        raise DamagedInputError(f"{name}: its columns are not the names of columns of vectors")
    return columns


def find(file: Any, size: int, name: str) -> dict[str, Found]:
    """The datasets of an `h5py.File` by name, ``samples`` first, all checked.

    Args:
        file: the open file.
        size: its length in bytes.
        name: what messages call it.

    Raises:
        DamagedInputError: something does not belong, is missing, incomplete or does not fit.
    """
    present = hdf5_guard.members(file, {*EXAMPLES, LABELS, STATISTICS}, 16, name)
    found = {
        key: hdf5_guard.dataset(file, key, key, size, name, wide=key in EXAMPLES)
        for key in (*EXAMPLES, LABELS)
        if key in present
    }
    if STATISTICS in present:
        if not hdf5_guard.is_group(file, STATISTICS):
            raise DamagedInputError(f"{name}: {STATISTICS!r} is not a group")
        group = file[STATISTICS]
        for key in hdf5_guard.members(group, None, hdf5_guard.MAX_STATISTICS, name):
            title = f"{STATISTICS}/{key}"
            found[title] = hdf5_guard.dataset(group, key, title, size, name)
    if "samples" not in found:
        raise DamagedInputError(f"{name}: holds no dataset 'samples'")
    _check_shapes(found, name)
    stored = sum(entry.stored for entry in found.values())
    if stored > size or size - stored > stored + hdf5_guard.OVERHEAD:
        raise DamagedInputError(f"{name}: {size} bytes long, its datasets take {stored}")
    return found


def _check_shapes(found: dict[str, Found], name: str) -> None:
    shape = found["samples"].shape
    if len(shape) < 2 or 0 in shape[1:]:
        raise DamagedInputError(
            f"{name}: 'samples' has the shape {shape}, where (N, ...) is expected"
        )
    for key, entry in found.items():
        fits = entry.shape == shape if key in EXAMPLES else entry.shape[:1] == shape[:1]
        if not fits or (key == LABELS and len(entry.shape) != 1):
            raise DamagedInputError(
                f"{name}: dataset {show(key)} has the shape {entry.shape}, which does not fit "
                f"samples of {shape}"
            )
