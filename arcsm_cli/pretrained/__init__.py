"""Models that come with the program: ``arcsm:NAME``, two files each in this folder.

``NAME.safetensors`` is the checkpoint and ``NAME.toml`` what is declared of it; nothing else has to
be said of a model anywhere. docs/models.md says how one is added.
"""

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from arcsm_cli.errors import DamagedInputError, MissingInputError

PREFIX = "arcsm:"
"""What the name of such a model begins with; a file of that name is ``./arcsm:NAME``."""

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Declaration:
    """What is said of a model.

    Attributes:
        summary: what it is, in a line.
        data: the DATA that it was trained on.
        source: where they come from.
        licence: of the data.
        recipe: the commands that make its checkpoint, in order.
        measured: what was measured: ``command``, and its ``figures`` by name.
        sha256: of the checkpoint.
        notes: what else one should know.
    """

    summary: str
    data: str
    source: str
    licence: str
    recipe: list[str]
    measured: list[dict[str, Any]]
    sha256: str
    notes: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """All that was measured, by name."""
        return {name: value for entry in self.measured for name, value in entry["figures"].items()}


def names() -> list[str]:
    """The names of all models, without `PREFIX`."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def is_name(source: object) -> bool:
    """Whether an input is the name of a model that comes with the program, there or not.

    >>> is_name("arcsm:digits"), is_name("./arcsm:digits")
    (True, False)
    """
    return isinstance(source, str) and source.startswith(PREFIX)


def declaration(source: str) -> Declaration:
    """Return what is declared of the model ``arcsm:NAME``.

    Raises:
        MissingInputError: there is none of that name.
        DamagedInputError: the installation is damaged.
    """
    path = _known(source).with_suffix(".toml")
    try:
        return Declaration(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        wanted = ", ".join(field.name for field in fields(Declaration))
        raise DamagedInputError(
            f"{source}: its declaration {path} cannot be read, install arcsm again (or, of a model "
            f"of your own, declare {wanted}): {error}"
        ) from error


def checkpoint_of(source: str) -> Path:
    """Return where the checkpoint of ``arcsm:NAME`` lies, having compared its SHA-256.

    Raises:
        MissingInputError: there is no model of that name.
        DamagedInputError: the file is not the one that was declared.
    """
    path = _known(source)
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DamagedInputError(
            f"{source}: its checkpoint {path} cannot be read, install arcsm again"
        ) from error
    if digest != declaration(source).sha256:
        raise DamagedInputError(
            f"{source}: {path} has not the SHA-256 of its declaration, install arcsm again"
        )
    return path


def _known(source: str) -> Path:
    name = source.removeprefix(PREFIX)
    if name not in (known := names()):
        raise MissingInputError(
            f"{source if source.isprintable() else ascii(source)}: no model of that name comes "
            f"with arcsm, which has {', '.join(known)} ('arcsm models')"
        )
    return _FOLDER / f"{name}.safetensors"
