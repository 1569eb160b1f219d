"""``arcsm plot``: draw a figure of a file."""

import math
import os
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import typer

from arcsm_cli.cli.groups import Without
from arcsm_cli.cli.options import Device, Force, resolve_device
from arcsm_cli.cli.progress import progress
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.options import Given, flag, given_flags, option

_MOST_SLICES = 5
_TAKES = {
    "results of compare": (),
    "samples": ("model", "scale", "count", "columns"),
    "scores --against others": ("against",),
    "a checkpoint": ("density", "slices", "scale"),
    "a VAE with --data": ("data", "latent", "count", "columns"),
}
"""Of what is drawn the options."""


@dataclass(frozen=True)
class Picture:
    """What of a file is drawn, and how."""

    model: str | None = option(
        None,
        "Draw this model's density under samples of one or two dimensions.",
        metavar="CHECKPOINT",
    )
    density: bool = option(
        False, "Of a checkpoint of one or two dimensions, draw the density, not the training."
    )
    slices: str | None = option(
        None,
        "With --density in two dimensions, also draw the second variable's density given these "
        "values of the first.",
        metavar="X,X,...",
    )
    scale: Literal["density", "nats"] | None = option(
        None,
        "Show densities, or their logarithms in nats, where the tails are seen.",
        shown="density",
    )
    count: int | None = option(
        None,
        "Draw the first N samples, or examples of DATA.",
        metavar="N",
        least=1,
        flags=("--count", "-n"),
        shown="64 images, 10000 points, 2000 over a heat map; of DATA 16, 5000 codes",
    )
    columns: int | None = option(
        None, "Images in a row.", metavar="N", least=1, shown="about square"
    )
    against: list[str] | None = option(
        None,
        "Of what ood-score wrote, draw ROC curves and histograms against these.",
        metavar="SCORES",
        shown="none",
    )
    data: str | None = option(
        None,
        "Of a VAE, draw examples of DATA, their reconstructions, and samples.",
        metavar="DATA",
    )
    latent: bool = option(
        False, "With --data, draw the codes of the examples: the aggregate posterior."
    )


def run(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Samples or a MODEL; - is standard input.")
    ],
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FIG.png",
            show_default="FILE with the ending .png",
            help="Where the figure goes: .png, .pdf or .svg; - is stdout, as PNG.",
        ),
    ] = None,
    picture: Given[Picture],
    device: Device = "auto",
    force: Force = False,
    options: Annotated[DataOptions, Without("limit", "columns")],
) -> None:
    """Draw a figure of a file.

    What is drawn follows from what FILE is, whatever its name. Samples: images as a grid, in rows
    of clean, corrupted and restored where the file holds those; vectors as a histogram (one
    dimension), a scatter plot (two) or a scatter matrix (of the first five). A checkpoint: its
    training curves or, with --density, the exact density of the model, which is that of the data
    plus noise of the last level. A VAE with --data: reconstructions and samples or, with --latent,
    codes over the prior, coloured by class. Scores, with --against other scores: for each statistic
    the histograms and the ROC curves. Results of compare: the figure of the experiment. Equal files
    give equal figures, byte for byte.

    Examples:

      arcsm plot samples.h5
      arcsm plot g.h5 --model g.safetensors -o scatter.png
      arcsm plot g.safetensors -o training.pdf
      arcsm plot g.safetensors --density --slices -1,0,1 -o density.png
      arcsm plot vae.safetensors --data mnist -o reconstructions.png
      arcsm plot vae.safetensors --data mnist --latent -o codes.png
      arcsm plot scores.h5 --against other.h5 -o roc.png
      arcsm plot cost.h5 -o cost.png
      arcsm sample digits.safetensors -n 100 -o - | arcsm plot - --columns 20 -o digits.png
    """
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.comparison_file import is_comparison
    from arcsm_cli.io.streams import local_input, sniff
    from arcsm_cli.plotting.by_kind import (
        figure_of_checkpoint,
        figure_of_comparison,
        figure_of_samples,
        figure_of_scores,
        figure_of_vae,
    )
    from arcsm_cli.plotting.figure import figure_format
    from arcsm_cli.pretrained import PREFIX, is_name

    data = picture.get("data")
    if "latent" in picture and data is None:
        raise UsageError("--latent draws the codes of examples: name them with --data DATA")
    if data is None and (said := given_flags(options)):
        raise UsageError(f"{said[0]} is of examples: name them with --data DATA")
    if output is None:
        if file == "-":
            raise UsageError("standard input has no name to derive the figure's from: give -o FILE")
        # A model that comes with the program has no folder of the user's.
        named = file.removeprefix(PREFIX) if is_name(file) else file.rstrip(os.sep)
        output = os.path.splitext(named)[0] + ".png"
    form = figure_format(output)
    slices = _slice_values(picture["slices"]) if "slices" in picture else []
    check_output(output, force=force)
    computes = not picture.keys().isdisjoint(("density", "model", "data"))
    device = resolve_device(device) if computes else "cpu"
    track = partial(progress, description="evaluating")
    chosen: dict[str, Any] = {name: picture.get(name) for name in ("scale", "count", "columns")}
    with local_input(file) as path:
        kind = sniff(path)
        if kind == "samples" and is_comparison(path):
            _check(picture, "results of compare", file)
            write = figure_of_comparison(path)
        elif kind == "samples" and "against" in picture:
            _check(picture, "scores --against others", file)
            write = figure_of_scores(path, picture["against"])
        elif kind == "samples":
            _check(picture, "samples", file)
            write = figure_of_samples(
                path, model=picture.get("model"), **chosen, device=device, track=track
            )
        elif kind == "checkpoint" and data is not None:
            _check(picture, "a VAE with --data", file)
            write = figure_of_vae(
                path,
                data,
                options,
                latent="latent" in picture,
                count=chosen["count"],
                columns=chosen["columns"],
                device=device,
            )
        elif kind == "checkpoint":
            _check(picture, "a checkpoint", file)
            write = figure_of_checkpoint(
                path,
                density="density" in picture,
                slices=slices,
                scale=chosen["scale"],
                device=device,
                track=track,
            )
        else:
            raise DamagedInputError(
                f"{label(file)}: neither a checkpoint (safetensors) nor samples (HDF5) of arcsm"
            )
        with atomic_output(output, force=force) as target:
            write(target, form)


def _check(picture: dict[str, Any], drawn: str, file: str) -> None:
    """Refuse options that what is drawn of a file has no use for."""
    for name in picture:
        if name not in _TAKES[drawn]:
            raise UsageError(f"{label(file)}: {flag(name)} is not for {drawn}")


def _slice_values(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= _MOST_SLICES or not all(map(math.isfinite, values)):
        raise UsageError(f"--slices {text}: expected one to five numbers such as -1,0,1")
    return values
