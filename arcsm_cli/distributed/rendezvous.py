"""Where the processes of one command find each other, so that waiting is seen and can be stopped.

PyTorch's own rendezvous waits within one call, in which no signal is answered and nothing is said.
Here each rank leaves its number in the store that all of them reach, and asks for the others'.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

from arcsm_cli.distributed.launch import SWITCH, Launch, meeting_place, step_name
from arcsm_cli.errors import UnavailableError, UsageError

logger = logging.getLogger(__name__)

LIMIT = "ARCSM_RANK_TIMEOUT"
"""Seconds that a rank waits for others, at the start and between two meetings."""

_PATIENCE = 1800.0  # seconds: loading and saving may take long
_SILENCE = 5.0  # seconds before it is said for whom we wait
_PAUSE = 0.05  # seconds between two questions
_ANSWER = timedelta(seconds=60)  # of the store, to one question
_MOST_NAMED = 8


def patience() -> timedelta:
    """Return how long a rank waits for others.

    Raises:
        UsageError: the environment's limit is not a positive number.
    """
    text = os.environ.get(LIMIT, "")
    try:
        seconds = float(text) if text else _PATIENCE
        if not 0 < seconds < 1e8:
            raise ValueError
    except ValueError:
        raise UsageError(f"{LIMIT}={text}: expected a number of seconds above 0") from None
    return timedelta(seconds=seconds)


def meet(launch: Launch) -> Any:
    """Return the store that the ranks of this command share, once all of them are there.

    Raises:
        UnavailableError: some do not come in time, or another run listens at their place.
        UsageError: the limit is not a number.
    """
    limit = patience()
    address, port = meeting_place()
    place = f"{address}:{port}"
    deadline = time.monotonic() + limit.total_seconds()
    # torchrun's agent listens there itself, as it says by this variable.
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    listens = launch.is_first and not agent
    if not listens:
        _wait(lambda: [] if _answers(address, port) else [0], launch, place, deadline)
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
        address,
        port,
        is_master=listens,
        timeout=_ANSWER,
        wait_for_workers=False,  # whoever comes may be of another run
    )
    if launch.launcher == "srun":
        name = step_name()
        if launch.is_first:
            store.set("name", name)
        elif store.get("name").decode() != name:
            raise UnavailableError(
                f"another run has taken {place}, where the processes of this command meet: "
                "set MASTER_PORT to a free port"
            )
    else:
        name = f"arcsm/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    shared = torch.distributed.PrefixStore(name, store)  # type: ignore[attr-defined]
    shared.set(f"rank/{launch.rank}", "here")

    def missing() -> list[int]:
        if shared.check([f"rank/{i}" for i in range(launch.size)]):
            return []
        return [i for i in range(launch.size) if not shared.check([f"rank/{i}"])]

    _wait(missing, launch, place, deadline)
    store.set_timeout(limit)
    return shared


def _wait(missing: Callable[[], list[int]], launch: Launch, place: str, deadline: float) -> None:
    """Wait until no rank is missing, and say for whom, each time that somebody has come."""
    said: list[int] = []
    since = time.monotonic()
    while absent := missing():
        now = time.monotonic()
        if now > deadline:
            raise UnavailableError(
                f"{_named(absent, launch)} did not come to {place} in "
                f"{patience().total_seconds():g} s ({LIMIT} sets another limit){_doubt(launch)}"
            )
        if absent != said and now - since > _SILENCE:
            said, since = absent, now
            logger.warning(
                "waiting for %s at %s, for %.0f s at most (%s)%s",
                _named(absent, launch),
                place,
                deadline - now,
                LIMIT,
                _doubt(launch),
            )
        time.sleep(_PAUSE)


def _named(ranks: list[int], launch: Launch) -> str:
    names = ", ".join(map(str, ranks[:_MOST_NAMED]))
    more = f" and {len(ranks) - _MOST_NAMED} more" if len(ranks) > _MOST_NAMED else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {names}{more} of {launch.size}"


def _doubt(launch: Launch) -> str:
    if launch.launcher == "srun" or "TORCHELASTIC_RUN_ID" in os.environ:
        return ""
    return (
        "; RANK and WORLD_SIZE say that there are others: if they are left over from another run, "
        f"unset them or set {SWITCH}=0"
    )


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=_ANSWER.total_seconds()):
            return True
    except (OSError, UnicodeError):
        return False
