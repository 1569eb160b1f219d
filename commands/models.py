"""``arcsm models``: the models that come with the program."""

from typing import Annotated, Any

import typer

from arcsm_cli.cli.options import Json
from arcsm_cli.cli.table import print_result
from arcsm_cli.errors import UsageError
from arcsm_cli.pretrained import PREFIX, names


def run(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Tell all of this one: how it was made and measured, and of which data.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the models that come with arcsm.

    Each is a MODEL everywhere, as arcsm:NAME, without a network. Of one model all is told that is
    known: the commands that made it, what was measured with which command, where its data come from
    and under which licence, and the SHA-256 of its checkpoint, which is compared whenever it is
    read.

    Examples:

      arcsm models
      arcsm models digits
      arcsm sample arcsm:digits -n 64 -o samples.h5 --png samples.png
      arcsm eval arcsm:digits digits --metric nll
    """
    if name is None:
        found = [_row(each) for each in names()]
        print_result({"models": found if json else [_readable(row) for row in found]}, json=json)
        return
    bare = name.removeprefix(PREFIX)
    if not bare:
        raise UsageError(f"{name}: expected one of {', '.join(names())}")
    print_result(_all_of(bare), json=json)


def _row(name: str) -> dict[str, Any]:
    from arcsm_cli.pretrained import checkpoint_of, declaration

    told, file = declaration(PREFIX + name), checkpoint_of(PREFIX + name)
    return {
        "name": PREFIX + name,
        "kind": _kind(file),
        "data": told.data,
        "bytes": file.stat().st_size,
        "metrics": told.figures,
        "summary": told.summary,
    }


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table, for a narrow terminal too: figures as text, size in MB."""
    figures = ", ".join(
        f"{name} {value:.4g}" for name, value in row["metrics"].items() if name[-3:] != "_se"
    )
    size = f"{row['bytes'] / 1e6:.1f} MB"
    return {
        "name": row["name"],
        "size": size,
        "summary": row["summary"],
        "measured": figures,
    }


def _all_of(name: str) -> dict[str, Any]:
    from arcsm_cli.io.checkpoint import load_checkpoint
    from arcsm_cli.io.streams import local_input
    from arcsm_cli.pretrained import declaration

    told = declaration(PREFIX + name)
    lines = ("summary", "data", "source", "licence", "notes", "sha256")
    with local_input(PREFIX + name) as path:
        checkpoint = load_checkpoint(path)
        weights = (t.numel() for t in checkpoint.tensors.values() if t.is_floating_point())
        return {
            "name": PREFIX + name,
            "kind": checkpoint.kind,
            "shape": checkpoint.config.get("shape"),
            **{key: getattr(told, key) for key in lines},
            "file": path,
            "bytes": path.stat().st_size,
            "metrics": {"parameters": sum(weights)} | told.figures,
            "recipe": [{"command": command} for command in told.recipe],
            "measured": told.measured,
        }


def _kind(path: Any) -> str:
    """The kind of model in a checkpoint, by its header."""
    from arcsm_cli.io.tensor_file import open_tensors

    with open(path, "rb") as file, open_tensors(file, str(path), "numpy") as opened:
        return str((opened.metadata() or {}).get("kind"))
