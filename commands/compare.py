"""``arcsm compare``: the experiments between objectives."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

import typer

from arcsm_cli.cli.groups import Without
from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import Device, Force, Json, Output, resolve_device
from arcsm_cli.cli.progress import progress
from arcsm_cli.cli.table import print_result
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UsageError
from arcsm_cli.options import Given, flag, given_flags, option

_MOST = 64  # values in a list
_WHOLE = {"seeds": (0, 2**31 - 1), "dims": (2, 5000), "projections": (1, 10_000)}
"""Options that are lists of whole numbers, and the least and the largest of these."""


@dataclass(frozen=True)
class Changes:
    """What of an experiment's settings the command line changes; lists as texts."""

    seeds: str | None = option(
        None,
        "Repeats, each with its own weights, data and draws.",
        metavar="N,N,...",
        shown="0,1,2; fewer with --quick",
    )
    dims: str | None = option(
        None,
        "Dimensions of gaussian:D (cost, variance, convergence).",
        metavar="D,D,...",
        shown="by NAME",
    )
    data: str | None = option(
        None,
        "What to train on (likelihood, orders; two-d: names with commas).",
        metavar="DATA",
        shown="digits; two-d all seven sets",
    )
    methods: str | None = option(
        None,
        "What to compare (cost, two-d; there mle K is a baseline of K components).",
        metavar="M,M,...",
        shown="by NAME",
    )
    steps: int | None = option(
        None,
        "Steps of training; cost: iterations timed; variance: draws.",
        metavar="N",
        least=2,
        shown="by NAME",
    )
    lr: float | None = option(
        None,
        "Learning rate of Adam (all but cost and variance).",
        metavar="RATE",
        above=0,
        shown="by NAME",
    )
    batch_size: int | None = option(None, "Examples a step.", metavar="N", least=2, shown="by NAME")
    sigmas: str | None = option(
        None,
        "Noise of dsm (variance, convergence, likelihood).",
        metavar="S,S,...",
        shown="by NAME",
    )
    projections: str | None = option(
        None,
        "Projections of ssm (variance, convergence, likelihood).",
        metavar="M,M,...",
        shown="by NAME",
    )
    noise: float | None = option(
        None,
        "Noise that the data carry (likelihood), in the scale [-1, 1] of images.",
        metavar="SIGMA",
        above=0,
        shown="0.2",
    )
    memory_limit: float | None = option(
        None,
        "Memory that a method's process may hold (cost).",
        metavar="GIB",
        above=0,
        shown="4",
    )
    time_limit: float | None = option(
        None,
        "Seconds by the clock that an iteration may take (cost).",
        metavar="SECONDS",
        above=0,
        shown="120; quick 20",
    )


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
    changes: Given[Changes],
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

    given: dict[str, Any] = dict(changes)
    for field, bounds in _WHOLE.items():
        if field in given:
            given[field] = _integers(field, given[field], *bounds)
    if "methods" in given:
        given["methods"] = tuple(dict.fromkeys(given["methods"].split(",")))
    if "sigmas" in given:
        given["sigmas"] = _numbers("sigmas", given["sigmas"])
    if output == "-" and json:
        raise UsageError("-o - takes standard output for the results, so --json needs -o FILE")
    check_output(output, force=force)
    module = experiment(name)
    settings = module.QUICK if quick else module.Settings()
    known = {field.name for field in fields(settings)}
    for key in given:
        if key not in known:
            raise UsageError(f"{flag(key)} has no meaning for {name}")
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


def _numbers(field: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not 1 <= len(values) <= _MOST or not all(0 < v < math.inf for v in values):
        raise UsageError(f"{flag(field)} {text}: expected positive numbers such as 0.01,0.1")
    return tuple(dict.fromkeys(values))


def _integers(field: str, text: str, low: int, high: int) -> tuple[int, ...]:
    parts = text.split(",")
    values = [int(part) for part in parts if part.isdecimal() and len(part) < 12]
    if len(values) < len(parts) or len(parts) > _MOST or not all(low <= v <= high for v in values):
        raise UsageError(
            f"{flag(field)} {text}: expected whole numbers from {low} on, such as 2,10"
        )
    return tuple(dict.fromkeys(values)) if field == "seeds" else tuple(sorted(set(values)))
