"""Time and memory of an iteration of each objective on ``gaussian:D`` (the paper's figure 1a)."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from arcsm_cli.comparisons.cost_worker import work
from arcsm_cli.comparisons.memory import MIB, resident
from arcsm_cli.comparisons.tables import Columns, Record, Track, distinct, where
from arcsm_cli.errors import ArcsmError, UsageError

_POLL = 0.05  # seconds
_START = 600.0  # seconds that a process may take to start, on a busy machine
_METHODS = ("csm", "ssm", "ssm-vr", "dsm", "sm", "csm network", "energy network")
_FEW = 50  # dimensions, below which calls cost more than arithmetic


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        seeds: repeats; of weights and data.
        dims: D, ascending.
        methods: objectives, and the networks alone: a forward and a backward pass without any
            derivative in the data.
        steps: iterations timed, after one that is not.
        batch_size: examples an iteration.
        memory_limit: resident memory of a method's process, GiB.
        time_limit: seconds an iteration may take.
        device: see `cost_worker`.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    dims: tuple[int, ...] = (10, 50, 100, 200, 400, 800)
    methods: tuple[str, ...] = ("csm", "ssm", "dsm", "sm", "csm network", "energy network")
    steps: int = 5
    batch_size: int = 100
    memory_limit: float = 4.0
    time_limit: float = 120.0
    device: str = "cpu"


QUICK = Settings(seeds=(0, 1), dims=(10, 50, 100), steps=2, time_limit=20.0)


class _Stopped(Exception):
    """A method exceeded a limit; the message says which: ``time`` or ``memory``."""


def run(settings: Settings, track: Track[Any]) -> dict[str, list[Record]]:
    """Return the table ``iterations``: one record an iteration, and one where a method stopped.

    A method that exceeds a limit at one D is not tried at a larger one with the same seed. Each
    method, D and seed has a process of its own, which is killed at the limit.

    Raises:
        UsageError: a method is unknown.
        ArcsmError: a process ended for another reason.
    """
    for method in settings.methods:
        if method not in _METHODS:
            raise UsageError(f"--methods {method}: cost takes {', '.join(_METHODS)}")
    records: list[Record] = []
    for seed, method in track([(s, m) for s in settings.seeds for m in settings.methods]):
        for dimensions in settings.dims:
            found, stopped = _measure(settings, method, dimensions, seed)
            records += found
            if stopped:
                break
    return {"iterations": records}


def _measure(
    settings: Settings, method: str, dimensions: int, seed: int
) -> tuple[list[Record], str]:
    """Return the records of one process, and which limit stopped it, or nothing."""
    fixed: Record = {"method": method, "dims": dimensions, "seed": seed}
    records: list[Record] = []
    weights, stopped = 0.0, ""
    with closing(_messages(settings, method, dimensions, seed)) as messages:
        try:
            for message in messages:
                if "weights" in message:
                    weights = message["weights"]
                    continue
                figures = {"seconds": message["seconds"], "memory": message["memory"] / MIB}
                records.append({**fixed, "weights": weights, "stopped": "", **figures})
        except _Stopped as limit:
            stopped = str(limit)
    del records[:1]  # what is made on first use is no part of an iteration's cost
    if stopped:
        nothing = {"seconds": float("nan"), "memory": float("nan")}
        records = [{**fixed, "weights": weights, "stopped": stopped, **nothing}]
    return records, stopped


def _messages(
    settings: Settings, method: str, dimensions: int, seed: int
) -> Generator[dict[str, float], None, None]:
    """Iterate over what a worker sends; kill it at a limit, or when the caller is interrupted."""
    wanted = {
        "device": settings.device,
        "seed": seed,
        "method": method,
        "dimensions": dimensions,
        "batch_size": settings.batch_size,
        "iterations": settings.steps + 1,
        "memory_limit": settings.memory_limit * 1024 * MIB,
    }
    # Forked off a process that has imported everything, and done nothing else: starting one from
    # nothing takes longer than most measurements.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, wanted), daemon=True)
    process.start()
    theirs.close()
    patience, began = _START, time.monotonic()
    try:
        while True:
            if ours.poll(_POLL):
                message = ours.recv()
                if message is None:
                    return
                if message == "memory":
                    raise _Stopped("memory")
                yield message
                patience, began = settings.time_limit, time.monotonic()
            if resident(process.pid or 0) > settings.memory_limit * 1024 * MIB:
                raise _Stopped("memory")
            if time.monotonic() - began > patience:
                raise _Stopped("time")
    except EOFError:
        raise ArcsmError(f"measuring {method} in {dimensions} dimensions broke off") from None
    finally:
        process.kill()
        process.join()
        ours.close()


def medians(table: Columns, method: str, figure: str = "seconds") -> dict[int, float]:
    """Return a method's median over iterations and seeds by D, where no limit stopped it."""
    rows = where(table, method=method, stopped="")
    dims = sorted(set(rows["dims"].tolist()))
    return {int(d): float(np.median(where(rows, dims=d)[figure])) for d in dims}


def stops(table: Columns) -> list[Record]:
    """Return which method was stopped where and by which limit."""
    rows = [
        {"method": method, "dims": dims, "limit": limit}
        for method, dims, limit in zip(
            table["method"].tolist(), table["dims"].tolist(), table["stopped"].tolist(), strict=True
        )
        if limit
    ]
    return [dict(pairs) for pairs in dict.fromkeys(tuple(row.items()) for row in rows)]


def exponent(times: dict[int, float]) -> float:
    """Return b of the least-squares fit seconds = a D^b over D >= 50; NaN for fewer than two D."""
    points = [(d, t) for d, t in times.items() if d >= _FEW]
    if len(points) < 2:
        return float("nan")
    d, t = np.log(np.array(points)).T
    return float(np.polyfit(d, t, 1)[0])


def summary(tables: dict[str, Columns]) -> dict[str, float]:
    """Return the figures that the paper's claims are about.

    ``exponent/METHOD`` of D in its seconds; ``exponent/sm/network``, of sm in units of its
    network's own pass (1: linear in D); ``growth/csm/network``, how much more csm's time grew from
    the first D to the last (at most 400) than that of its network; ``speedup/D`` of csm over sm.
    """
    table = tables["iterations"]
    times = {method: medians(table, method) for method in distinct(table["method"])}
    figures = {f"exponent/{method}": exponent(found) for method, found in times.items()}
    if "sm" in times and "energy network" in times:
        figures["exponent/sm/network"] = exponent(_ratio(times["sm"], times["energy network"]))
    if "csm" in times and "csm network" in times:
        ratio = {d: r for d, r in _ratio(times["csm"], times["csm network"]).items() if d <= 400}
        if len(ratio) > 1:
            figures["growth/csm/network"] = ratio[max(ratio)] / ratio[min(ratio)]
    if "csm" in times and "sm" in times:
        gains = _ratio(times["sm"], times["csm"])
        figures |= {f"speedup/{d}": gain for d, gain in gains.items()}
    return figures


def shown(tables: dict[str, Columns]) -> dict[str, list[Record]]:
    """Return what the command prints: medians, and what was stopped."""
    table = tables["iterations"]
    rows: list[Record] = []
    for method in distinct(table["method"]):
        seconds, memory = medians(table, method), medians(table, method, "memory")
        rows += [
            {"method": method, "dims": d, "seconds": seconds[d], "MiB": memory[d]} for d in seconds
        ]
    stopped = stops(table)
    return {"iterations": rows} | ({"stopped": stopped} if stopped else {})


def _ratio(above: dict[int, float], below: dict[int, float]) -> dict[int, float]:
    return {d: above[d] / below[d] for d in above if d in below}
