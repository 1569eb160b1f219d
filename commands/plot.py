"""``arcsm plot``: draw a figure of a file."""

import math
import os
from functools import partial
from typing import Annotated, Literal

import typer

from arcsm_cli.cli.groups import Without
from arcsm_cli.cli.options import (
    Device,
    Force,
    resolve_device,
)
from arcsm_cli.cli.progress import progress
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.options import given_flags

_MOST_SLICES = 5


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
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="CHECKPOINT",
            help="Draw this model's density under samples of one or two dimensions.",
        ),
    ] = None,
    density: Annotated[
        bool,
        typer.Option(
            "--density",
            help="Of a checkpoint of one or two dimensions, draw the density, not the training.",
        ),
    ] = False,
    slices: Annotated[
        str | None,
        typer.Option(
            "--slices",
            metavar="X,X,...",
            help="With --density in two dimensions, also draw the second variable's density given "
            "these values of the first.",
        ),
    ] = None,
    scale: Annotated[
        Literal["density", "nats"] | None,
        typer.Option(
            "--scale",
            show_default="density",
            help="Show densities, or their logarithms in nats, where the tails are seen.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            metavar="N",
            min=1,
            show_default="64 images, 10000 points, 2000 over a heat map; of DATA 16, 5000 codes",
            help="Draw the first N samples, or examples of DATA.",
        ),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option(
            "--columns",
            metavar="N",
            min=1,
            show_default="about square",
            help="Images in a row.",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="SCORES",
            show_default="none",
            help="Of what ood-score wrote, draw ROC curves and histograms against these.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="Of a VAE, draw examples of DATA, their reconstructions, and samples.",
        ),
    ] = None,
    latent: Annotated[
        bool,
        typer.Option(
            "--latent", help="With --data, draw the codes of the examples: the aggregate posterior."
        ),
    ] = False,
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
    from arcsm_cli.io.streams import label, local_input, sniff
    from arcsm_cli.plotting.by_kind import (
        figure_of_checkpoint,
        figure_of_comparison,
        figure_of_samples,
        figure_of_scores,
        figure_of_vae,
    )
    from arcsm_cli.plotting.figure import figure_format
    from arcsm_cli.pretrained import PREFIX, is_name

    others = against or []
    if latent and data is None:
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
    values = _slice_values(slices)
    check_output(output, force=force)
    computes = density or model is not None or data is not None
    device = resolve_device(device) if computes else "cpu"
    track = partial(progress, description="evaluating")
    with local_input(file) as path:
        kind = sniff(path)
        if kind == "samples" and is_comparison(path):
            given = (model, scale, count, columns, slices, against, data)
            if density or any(value is not None for value in given):
                raise UsageError(
                    f"{label(file)} holds results of compare: its figure has no options"
                )
            write = figure_of_comparison(path)
        elif kind == "samples":
            if density or values:
                raise UsageError(f"{label(file)} holds samples; --density is for checkpoints")
            if data is not None:
                raise UsageError(f"{label(file)} holds samples; --data is for a VAE")
            if others and (model, scale, count, columns) != (None, None, None, None):
                raise UsageError("--against draws scores: without options of other figures")
            write = (
                figure_of_scores(path, others)
                if others
                else figure_of_samples(
                    path,
                    model=model,
                    scale=scale,
                    count=count,
                    columns=columns,
                    device=device,
                    track=track,
                )
            )
        elif kind == "checkpoint":
            others_given = (
                (model, against) if data is not None else (model, count, columns, against)
            )
            if any(value is not None for value in others_given):
                raise UsageError(
                    f"{label(file)} is a checkpoint; --model, --count, --columns and --against are "
                    "for samples"
                )
            if data is not None:
                if density or values or scale is not None:
                    raise UsageError("--data draws a VAE: without --density, --slices and --scale")
                write = figure_of_vae(
                    path,
                    data,
                    options,
                    latent=latent,
                    count=count,
                    columns=columns,
                    device=device,
                )
            else:
                write = figure_of_checkpoint(
                    path, density=density, slices=values, scale=scale, device=device, track=track
                )
        else:
            raise DamagedInputError(
                f"{label(file)}: neither a checkpoint (safetensors) nor samples (HDF5) of arcsm"
            )
        with atomic_output(output, force=force) as target:
            write(target, form)


def _slice_values(text: str | None) -> list[float]:
    if text is None:
        return []
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= _MOST_SLICES or not all(map(math.isfinite, values)):
        raise UsageError(f"--slices {text}: expected one to five numbers such as -1,0,1")
    return values
