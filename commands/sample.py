"""``arcsm sample``: draw samples from a model."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import (
    BatchSize,
    Device,
    Force,
    Json,
    Model,
    Output,
    Seed,
    resolve_device,
)
from arcsm_cli.cli.progress import Bar, progress
from arcsm_cli.cli.table import print_result
from arcsm_cli.errors import OutputError, UsageError
from arcsm_cli.options import Given
from arcsm_cli.sampling.options import Drawing

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def _check_png(png: str, output: str) -> None:
    """Refuse a picture that would replace the samples."""
    if png == output or (output != "-" and os.path.realpath(png) == os.path.realpath(output)):
        raise OutputError(f"--png {png}: is the output of the samples as well")


def _shard(text: str | None, count: int) -> range:
    """The numbers of the samples that ``--shard I/N`` asks for."""
    if text is None:
        return range(count)
    index, slash, of = text.partition("/")
    if not (slash and index.isdecimal() and of.isdecimal() and int(index) < int(of)):
        raise UsageError(f"--shard {text}: expected I/N with 0 <= I < N, such as 0/4")
    i, n = int(index), int(of)
    return range(count * i // n, count * (i + 1) // n)


def _known_rows(source: Path, model: Any, name: str) -> "torch.Tensor":
    """Read what ``--known`` says of examples of a model, (N, *shape) with NaN for the unknown."""
    from arcsm_cli.data.known import read_known
    from arcsm_cli.io.streams import label
    from arcsm_cli.models.any_order import whole_places
    from arcsm_cli.models.architecture import ANY

    if getattr(model.config, "order", None) != ANY:
        raise UsageError(
            f"--known is for models trained with --order any: {name} does not draw some variables "
            "given any others"
        )
    rows = read_known(source, model.config.shape, model.config.columns)
    if whole_places(rows.isnan(), model.config.shape) is None:
        raise UsageError(
            f"--known {label(source)}: some channels of a pixel are known without the others"
        )
    return rows


def run(
    model: Model,
    output: Output,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-n",
            metavar="N",
            min=1,
            show_default="64; 8 of each of several labels; all rows of --given or --known",
            help="How many samples.",
        ),
    ] = None,
    *,
    labels: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="L,...",
            show_default="drawn as often as in training",
            help="Of a model trained --given labels: draw these, as many of each.",
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--given",
            metavar="FILE",
            show_default="none",
            help="Of a conditional model: draw a sample for each row, whose labels or columns are "
            "what it is given.",
        ),
    ] = None,
    drawing: Given[Drawing],
    denoise: Annotated[
        bool,
        typer.Option(
            "--denoise",
            help="Give the expected clean value of each scalar instead of its noisy one; of a VAE "
            "the mean given the code.",
        ),
    ] = False,
    known: Annotated[
        str | None,
        typer.Option(
            "--known",
            metavar="FILE",
            show_default="none",
            help="Draw what is missing in the rows of FILE, of a model trained with --order any: a "
            "table with some of its columns or with empty cells, or .npy with NaN. Sample i "
            "completes row i; with fewer rows than samples they are taken in turn.",
        ),
    ] = None,
    clip: Annotated[bool, typer.Option("--clip/--no-clip", help="Clip images to [0, 1].")] = True,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Draw only part I of N parts, from 0."),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option("--png", metavar="GRID.png", help="Also draw the first samples as a grid."),
    ] = None,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw samples from a model.

    Dimension after dimension, at the cost of one forward pass of the context network in all. What
    is drawn follows the density that the model was trained on: data plus noise of the last level;
    --denoise takes the noise off. A VAE draws a code from the prior and decodes it. Sample i
    depends on the seed and i alone, so shards and batches of any size give the same samples (up to
    rounding); processes started by torchrun or srun share the batches.

    A conditional model is given a label (--label; several make rows of the grid) or what the rows
    of a file hold (--given); files hold labels beside the samples.

    Examples:

      arcsm sample digits.safetensors -n 64 -o samples.h5 --denoise --png samples.png
      arcsm sample by-label.safetensors --label 0,1,2 -n 30 -o some.h5 --png rows.png
      arcsm sample by-quality.safetensors --given rows.csv -o wines.csv
      arcsm sample m.safetensors -n 10000 --shard 2/4 -o part-2.h5
      arcsm sample any.safetensors --known rows.csv -o completed.csv
      arcsm sample m.safetensors -n 8 --sampler langevin --steps 50 -o - | arcsm info -
    """
    import torch

    from arcsm_cli.data.source import path_of
    from arcsm_cli.distributed.ranks import joined
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.provenance import extend, sha256_file
    from arcsm_cli.io.sample_output import check_sample_output, sample_output
    from arcsm_cli.io.streams import label, local_input
    from arcsm_cli.models.load import load_any
    from arcsm_cli.models.vae import VAE
    from arcsm_cli.runtime import reuse_memory
    from arcsm_cli.sampling.drawer import Drawer
    from arcsm_cli.sampling.given import giving

    check_sample_output(output, force=force)
    if png is not None:
        _check_png(str(png), output)
        check_output(str(png), force=force)
    torch_device = resolve_device(device)
    reuse_memory()
    with joined(torch_device) as ranks, ExitStack() as stack:
        with local_input(model) as path:
            checkpoint, network = load_any(path)
            digest = sha256_file(path)
        network = network.to(torch_device)
        inputs = {label(model): digest}
        rows = None
        if known is not None:
            with local_input(known) as path:
                rows = _known_rows(path, network, label(model))
                inputs[label(known)] = sha256_file(path)
            count = count or len(rows)
        if png is not None and not network.config.is_image:
            raise UsageError("--png draws images; 'arcsm plot' draws vectors")
        if given == "-":  # its spool file stands for it, which can be read twice
            given = os.fspath(stack.enter_context(local_input(given)))
        conditions = () if isinstance(network, VAE) else network.config.given
        plan = giving(conditions, label(model), labels=labels, source=given, count=count, seed=seed)
        indices = _shard(shard, plan.count)
        grid = set(indices[:64] if shard or plan.shown is None else plan.shown)
        columns = None if shard else plan.columns
        if png is not None and not indices:
            raise UsageError("--png: this shard has no samples to draw")
        drawer = Drawer(
            network,
            label(model),
            plan,
            drawing,
            seed=seed,
            denoise=denoise,
            clip=clip,
            known=rows,
        )
        if given is not None and os.path.isfile(file_given := path_of(given) or ""):
            inputs[label(given)] = sha256_file(file_given)
        entry = provenance_entry(seed=seed, inputs=inputs)
        total = ranks.own_count(len(indices), batch_size) * network.config.dimensions

        def batches(bar: Bar) -> "Iterator[torch.Tensor]":
            for start in ranks.starts(len(indices), batch_size):
                part = indices[start : start + batch_size]

                def tick(dimensions: int, count: int = len(part)) -> None:
                    bar.update(dimensions * count)

                yield drawer(part, tick)

        shown: list[torch.Tensor] = []
        file = sample_output(
            output,
            network.config.shape,
            extend([checkpoint.provenance], entry),
            columns=network.config.columns,
            force=force,
            writes=ranks.is_first,
        )
        with file as append, progress(total, "sampling") as bar:
            done = 0
            for drawn in ranks.in_order(batches(bar), len(indices), batch_size):
                part = indices[done : done + len(drawn)]
                done += len(drawn)
                told = plan.rows(part)
                append(drawn, labels=told.labels, statistics=told.statistics)
                if png is not None and part:
                    shown.append(drawn[[i - part[0] for i in part if i in grid]])
    if not ranks.is_first:
        return
    if png is not None:
        from arcsm_cli.plotting.images import write_grid

        with atomic_output(str(png), force=force) as target:
            write_grid(torch.cat(shown), target, columns=columns)
    if json and output != "-":
        print_result({"metrics": {"samples": len(indices)}}, json=True)
