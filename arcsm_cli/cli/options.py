"""Options that several commands share, as annotated types, and what they stand for.

A command takes one by annotating a parameter; the parameter's default is the option's:

    def run(model: Model, *, device: Device = "auto", seed: Seed = 0, json: Json = False) -> None:

Every command has ``--config``, ``-q``, ``-v`` and ``--debug`` without naming them.

Names: `Data`, `DataFiles`, `Model` (positional); `Output`, `Force`, `Device`, `Seed`,
`BatchSize`, `Json`. What is said of DATA comes as one group, `arcsm_cli.data.options.DataOptions`.
"""

from typing import Annotated, Any

import typer

from arcsm_cli.distributed.launch import launched
from arcsm_cli.errors import UnavailableError, UsageError
from arcsm_cli.registry import SOURCES

_DATA_HELP = (
    f"A data set ({', '.join(SOURCES)}) with or without :SPLIT, a file (.h5, .npz, .npy, .mat, "
    ".csv) with or without ::ARRAY, a folder, .zip or .tar of images, or - for standard input."
).replace("gaussian,", "gaussian:D,")


def _data_argument(metavar: str = "DATA") -> Any:
    several = " Several files, or a quoted pattern, are taken as one." if "." in metavar else ""
    return typer.Argument(metavar=metavar, help=_DATA_HELP + several)


# Positional arguments
Data = Annotated[str, _data_argument()]
DataFiles = Annotated[list[str], _data_argument("DATA...")]
OptionalDataFiles = Annotated[list[str] | None, _data_argument("DATA...")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A checkpoint, arcsm:NAME (see 'arcsm models'), a folder that export wrote, or - for "
        "standard input.",
    ),
]

# Outputs
Output = Annotated[
    str,
    typer.Option("--output", "-o", metavar="FILE", help="Where the result goes; - is stdout."),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

# Computation
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        envvar="ARCSM_DEVICE",
        help="auto, cpu, cuda, cuda:N or mps; auto takes the fastest there is.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", min=0, max=2**63 - 1, help="Same seed, same machine: same bytes."
    ),
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", metavar="N", min=1, help="Examples computed at a time.")
]

# Of every command; the frame adds them
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="Take options from a file, by their long names; the command line wins.",
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py|MODULE",
        show_default="none",
        help="Python code of your own that adds context networks, objectives, likelihoods or "
        "data sets.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, errors only.")]
Verbose = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice, say everything.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


def resolve_device(name: str) -> str:
    """The device that ``--device`` names, as PyTorch calls it: ``cpu``, ``cuda:0``, ``mps``.

    Raises:
        UsageError: `name` is not a device's name.
        UnavailableError: This machine, or this PyTorch, does not have the device.
    """
    kind, colon, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (colon and kind != "cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    if colon and not number.isdecimal():
        raise UsageError(f"--device {name}: expected a number after 'cuda:'")
    if kind == "cpu":
        return "cpu"

    import torch

    if kind == "mps" or (kind == "auto" and not torch.cuda.is_available()):
        if torch.backends.mps.is_available():
            return "mps"
        if kind == "auto":
            return "cpu"
        raise UnavailableError("--device mps: not available here; use --device auto or cpu")
    if not torch.cuda.is_available():
        raise UnavailableError(f"--device {name}: no CUDA device here; use --device auto or cpu")
    count = torch.cuda.device_count()
    # Of a machine's GPUs, or of those that the launcher shows it, each process takes its own.
    index = int(number) if colon else launched().local_rank % max(1, count)
    if index >= count:
        raise UnavailableError(f"--device {name}: there are {count} CUDA devices, numbered from 0")
    return f"cuda:{index}"
