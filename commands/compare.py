"""``arcsm compare``: the experiments between objectives."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import Annotated, Any, Literal

import typer

from arcsm_cli.cli.groups import Without
from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import (
    Device,
    Force,
    Json,
    Output,
    resolve_device,
)
from arcsm_cli.cli.progress import progress
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UsageError
from arcsm_cli.options import given_flags

_MOST = 64  # values in a list


def run(
    name: Annotated[
        Literal["cost", "variance", "convergence", "likelihood", "two-d", "orders"],
        typer.Argument(metavar="NAME", help="Which experiment: see above."),
    ],
    output: Output,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small version that ends within two minutes.")
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="N,N,...",
            show_default="0,1,2; fewer with --quick",
            help="Repeats, each with its own weights, data and draws.",
        ),
    ] = None,
    dims: Annotated[
        str | None,
        typer.Option(
            "--dims",
            metavar="D,D,...",
            show_default="by NAME",
            help="Dimensions of gaussian:D (cost, variance, convergence).",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            show_default="digits; two-d all seven sets",
            help="What to train on (likelihood, orders; two-d: names with commas).",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            metavar="M,M,...",
            show_default="by NAME",
            help="What to compare (cost, two-d; there mle K is a baseline of K components).",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            min=2,
            show_default="by NAME",
            help="Steps of training; cost: iterations timed; variance: draws.",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="RATE",
            show_default="by NAME",
            help="Learning rate of Adam (all but cost and variance).",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", metavar="N", min=2, show_default="by NAME", help="Examples a step."
        ),
    ] = None,
    sigmas: Annotated[
        str | None,
        typer.Option(
            "--sigmas",
            metavar="S,S,...",
            show_default="by NAME",
            help="Noise of dsm (variance, convergence, likelihood).",
        ),
    ] = None,
    projections: Annotated[
        str | None,
        typer.Option(
            "--projections",
            metavar="M,M,...",
            show_default="by NAME",
            help="Projections of ssm (variance, convergence, likelihood).",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="SIGMA",
            show_default="0.2",
            help="Noise that the data carry (likelihood), in the scale [-1, 1] of images.",
        ),
    ] = None,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            "--memory-limit",
            metavar="GIB",
            show_default="4",
            help="Memory that a method's process may hold (cost).",
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            metavar="SECONDS",
            show_default="120; quick 20",
            help="Seconds by the clock that an iteration may take (cost).",
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    options: Annotated[DataOptions, Without("center_crop", "resize")],
) -> None:
    """Run one of the paper's experiments between objectives.

    cost: seconds and memory of an iteration by SM, SSM, DSM and CSM on gaussian:D, each method and
    D in a process of its own, which is killed where it exceeds --memory-limit or --time-limit;
    larger D are then not tried. variance: of each objective's value and gradient over repeated
    draws, at fixed weights. convergence: the error of the learned score of gaussian:D over
    training. likelihood: a MADE with Gaussian conditionals trained by csm, ssm, ssm-vr, dsm and
    mle, and its exact held-out negative log-likelihood. two-d: AR-CSM against a larger MADE with
    mixtures of logistics on the two-dimensional sets. orders: one model under several orders of
    the variables, one of them chosen by mutual information.

    Writes every repeat to an HDF5 file, which 'arcsm plot' draws and 'arcsm info' explains, and
    prints a summary.

    Examples:

      arcsm compare cost --quick -o cost.h5
      arcsm compare cost --dims 10,50,100,200,400 --time-limit 300 -o cost.h5
      arcsm plot cost.h5 -o cost.png
      arcsm compare convergence --sigmas 0.01,0.1 --projections 1,10 --steps 5000 -o c.h5 --json
      arcsm compare likelihood --data mnist --data-dir data -o likelihood.h5
      arcsm compare two-d --data moons,rings --methods csm,"mle 10" -o two-d.h5
    """
    from arcsm_cli.comparisons.experiments import experiment
    from arcsm_cli.comparisons.held_out import train_and_test
    from arcsm_cli.comparisons.tables import columns
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.comparison_file import Comparison, save_comparison
    from arcsm_cli.runtime import reuse_memory

    given: dict[str, Any] = {
        "seeds": _integers("--seeds", seeds, 0, 2**31 - 1),
        "dims": _integers("--dims", dims, 2, 5000),
        "data": data,
        "methods": None if methods is None else tuple(dict.fromkeys(methods.split(","))),
        "steps": steps,
        "lr": _positive("--lr", lr),
        "batch_size": batch_size,
        "sigmas": _numbers("--sigmas", sigmas),
        "projections": _integers("--projections", projections, 1, 10_000),
        "noise": _positive("--noise", noise),
        "memory_limit": _positive("--memory-limit", memory_limit),
        "time_limit": _positive("--time-limit", time_limit),
    }
    if output == "-" and json:
        raise UsageError("-o - takes standard output for the results, so --json needs -o FILE")
    check_output(output, force=force)
    module = experiment(name)
    settings = module.QUICK if quick else module.Settings()
    known = {field.name for field in fields(settings)}
    given = {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in known:
            raise UsageError(f"--{key.replace('_', '-')} has no meaning for {name}")
    if "options" in known:
        given["options"] = options
    elif said := given_flags(options):
        raise UsageError(f"{said[0]} has no meaning for {name}")
    settings = replace(settings, device=resolve_device(device), **given)
    inputs: dict[str, str] = {}
    if "options" in known:
        parts = train_and_test(settings.data, settings.options)
        inputs = {part.name: part.digest for part in parts}
    if name != "cost":  # which measures memory
        reuse_memory()
    with atomic_output(output, force=force) as target:
        records = module.run(settings, _track)
        tables = {table: columns(found) for table, found in records.items()}
        used = {k: v for k, v in asdict(settings).items() if k != "options"}
        entry = provenance_entry(inputs=inputs)
        save_comparison(target, Comparison(name, used, tables, [entry]))
    if output == "-":
        return
    result = {"experiment": name, **module.shown(tables), "metrics": module.summary(tables)}
    print_result(result | ({"settings": used} if json else {}), json=json)


def _track(jobs: Sequence[Any]) -> Iterator[Any]:
    with progress(len(jobs), "run") as bar:
        for job in jobs:
            yield job
            bar.update()


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not 1 <= len(values) <= _MOST or not all(0 < v < math.inf for v in values):
        raise UsageError(f"{option} {text}: expected positive numbers such as 0.01,0.1")
    return tuple(dict.fromkeys(values))


def _integers(option: str, text: str | None, low: int, high: int) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.split(",")
    values = [int(part) for part in parts if part.isdecimal() and len(part) < 12]
    if len(values) < len(parts) or len(parts) > _MOST or not all(low <= v <= high for v in values):
        raise UsageError(f"{option} {text}: expected whole numbers from {low} on, such as 2,10")
    return tuple(dict.fromkeys(values)) if option == "--seeds" else tuple(sorted(set(values)))


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"{option} {value:g}: expected a positive number")
    return value
