"""``arcsm info``: what a file is, and where it comes from."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from arcsm_cli.cli.options import Json
from arcsm_cli.cli.table import print_result

_LONG_LIST = 16


def run(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A MODEL, its .resume or .reference file, or samples; - is stdin.",
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
    from arcsm_cli.io.streams import label, local_input
    from arcsm_cli.reporting.contents import contents

    with local_input(file) as path:
        result = {"file": label(path), "bytes": path.stat().st_size, **contents(path)}
        print_result(result if json else _summed_up(result), json=json)


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
