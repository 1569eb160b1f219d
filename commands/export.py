"""``arcsm export``: a model as files to give away."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import Force, Model
from arcsm_cli.errors import DamagedInputError, UsageError

if TYPE_CHECKING:
    from arcsm_cli.pretrained import Declaration


def run(
    model: Model,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="DIR|FILE", help="Where the model goes."),
    ],
    *,
    to: Annotated[
        Literal["hub", "checkpoint"],
        typer.Option("--to", help="A folder for a model hub, or a checkpoint alone."),
    ] = "hub",
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figures",
            metavar="FILE.json",
            show_default="none; those that come with arcsm have theirs",
            help="For the card: what eval or ood-score printed with --json.",
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="NAME",
            show_default="unknown",
            help="For the card: of the model, as hubs call licences, such as mit.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a model to give away.

    hub: a folder with model.safetensors, config.json and README.md, a model card with tags,
    licence, figures and the commands that made the model. It is a MODEL of every command. What
    config.json holds is in model.safetensors too, which arcsm reads alone.

    checkpoint: one file, as 'arcsm train' writes it.

    Both leave out of the provenance the hosts, times and folders of the machines that the commands
    ran on; commands, seeds, versions and SHA-256 of inputs stay. Weights stay as they are.

    Examples:

      arcsm eval m.safetensors digits --json > figures.json
      arcsm export m.safetensors -o digits-model --figures figures.json --license mit
      arcsm sample digits-model -n 16 -o samples.h5
      arcsm export m.safetensors --to checkpoint -o shared.safetensors
    """
    from dataclasses import replace

    from arcsm_cli.io.atomic import atomic_folder, atomic_output, check_folder, check_output
    from arcsm_cli.io.checkpoint import save_checkpoint
    from arcsm_cli.io.hub import FILES, write_hub_folder
    from arcsm_cli.io.provenance import extend, reproducible, sha256_file
    from arcsm_cli.io.sample_output import check_ending
    from arcsm_cli.io.streams import label, local_input
    from arcsm_cli.models.load import load_any
    from arcsm_cli.pretrained import declaration, is_name

    hub = to == "hub"
    if hub and output == "-":
        raise UsageError("--to hub writes a folder: name one with -o, or give --to checkpoint")
    if not hub and (figures or licence is not None):
        raise UsageError("--figures and --license are for the card of --to hub")
    if hub:
        check_folder(output, force=force, ours=FILES.__contains__)
    else:
        check_ending(output, (".safetensors",), "a checkpoint")
        check_output(output, force=force)
    told = declaration(model) if is_name(model) else None
    measured = [*(told.measured if told else []), *map(_figures_of, figures or [])]
    with local_input(model) as path:
        checkpoint = load_any(path)[0]  # what is given away can be used
        entry = provenance_entry(inputs={label(model): sha256_file(path)})
    chain = reproducible(extend([checkpoint.provenance], entry))
    checkpoint = replace(checkpoint, provenance=chain)
    if hub:
        with atomic_folder(output, force=force, ours=FILES.__contains__) as folder:
            write_hub_folder(
                folder,
                checkpoint,
                name=Path(output).name,
                licence=licence or "unknown",
                measured=measured,
                about={} if told is None else _about(told),
            )
    else:
        with atomic_output(output, force=force) as file:
            save_checkpoint(file, checkpoint)


def _figures_of(source: str) -> dict[str, Any]:
    """What a command that measures printed as JSON, as the card takes it."""
    from arcsm_cli.io.bounded_json import JSONError, parse
    from arcsm_cli.io.streams import label, local_input

    name = label(source)
    with local_input(source) as path, open(path, "rb") as file:
        text = file.read(_MOST + 1).decode("utf-8", "replace")
    try:
        found = parse(text, size=_MOST)
    except JSONError as error:
        raise DamagedInputError(f"--figures {name}: {error}") from error
    metrics = found.get("metrics") if isinstance(found, dict) else None
    values = metrics if isinstance(metrics, dict) else {}
    figures = {str(k): float(v) for k, v in values.items() if isinstance(v, int | float)}
    if not figures:
        raise DamagedInputError(
            f"--figures {name}: holds no metrics as eval and ood-score print them with --json"
        )
    of = found.get("data") or found.get("against")
    return {"figures": figures, "command": f"on {of}" if isinstance(of, str) else name}


_MOST = 1 << 22  # characters of a file of figures


def _about(told: "Declaration") -> dict[str, str]:
    return {
        "What": told.summary,
        "Data": f"{told.data}: {told.source}",
        "Licence of the data": told.licence,
    }
