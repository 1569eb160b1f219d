"""The chain of commands that made a file, one entry per command, oldest first."""

import hashlib
import heapq
import os
import platform
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import arcsm_cli
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.streams import local_input

MAX_CHARACTERS = 4 << 20


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        MissingInputError: it does not exist or cannot be read.
        DamagedInputError: it is a folder or a device.
    """
    with local_input(path) as local, open(local, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_entry(
    *,
    command: str,
    arguments: list[str],
    seed: int | None,
    inputs: dict[str, str],
    processes: int = 1,
) -> dict[str, Any]:
    """The entry that a command appends to the chain of whatever it writes.

    Args:
        command: name of the command, ``train`` for example.
        arguments: its arguments as given, without the program and the command.
        seed: the seed it ran with, or None if it draws nothing.
        inputs: SHA-256 of each input by name, as from `sha256_file`.
        processes: how many shared the work; told where there were several.

    >>> entry = make_entry(command="sample", arguments=["m.safetensors"], seed=1, inputs={})
    >>> entry["program"], entry["command"], entry["seed"]
    ('arcsm', 'sample', 1)
    """
    entry = {
        "program": "arcsm",
        "version": arcsm_cli.__version__,
        "command": command,
        "arguments": list(arguments),
        "seed": seed,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "inputs": dict(inputs),
    }
    return entry | ({"processes": processes} if processes > 1 else {})


def extend(chains: list[list[dict[str, Any]]], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Merge the chains of all inputs, without repeating an entry, and append ``entry``.

    Each chain's own order is kept; where chains leave the order open, the older entry by its time
    comes first. Clocks of different hosts disagree, so time alone must not decide.

    >>> trained, a, b, merged = ({"command": name} for name in ("train", "a", "b", "merge"))
    >>> [step["command"] for step in extend([[trained, a], [trained, b]], merged)]
    ['train', 'a', 'b', 'merge']
    """
    entries: dict[str, dict[str, Any]] = {}
    followers: dict[str, set[str]] = {}
    for chain in chains:
        steps = {bounded_json.dump(step): step for step in chain}
        entries.update(steps)
        for key in steps:
            followers.setdefault(key, set())
        for key, follower in pairwise(steps):
            followers[key].add(follower)
    rank = {key: (str(step.get("time", "")), i) for i, (key, step) in enumerate(entries.items())}
    waiting = dict.fromkeys(entries, 0)
    for after in followers.values():
        for key in after:
            waiting[key] += 1
    ready = [(rank[key], key) for key, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: dict[str, None] = {}
    while ready:
        key = heapq.heappop(ready)[1]
        order[key] = None
        for follower in followers[key]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, (rank[follower], follower))
    # Chains that contradict each other leave a cycle: its entries follow as they were given.
    order.update(dict.fromkeys(entries))
    return [*(entries[key] for key in order), entry]


def reproducible(chain: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a chain without what tells of a machine and its user, for files that are given away.

    Left out are times and hosts, and of absolute paths (and those that begin with ``~`` or ``..``)
    all but the last part. Commands, seeds, versions and the SHA-256 of inputs stay.

    >>> step = make_entry(command="data", arguments=["--x=/home/me/a.npz", "-o", "../b.h5"],
    ...                   seed=0, inputs={"/home/me/a.npz": "1f"})
    >>> (found,) = reproducible([step])
    >>> found["arguments"], found["inputs"], "host" in found
    (['--x=a.npz', '-o', 'b.h5'], {'a.npz': '1f'}, False)
    """

    def bare(text: Any) -> Any:
        if not isinstance(text, str):
            return text
        option, equals, path = text.rpartition("=") if text.startswith("-") else ("", "", text)
        if not path.startswith((os.sep, "~", f"..{os.sep}")):
            return text
        return option + equals + os.path.basename(os.path.normpath(path))

    found = []
    for step in chain:
        kept = {key: value for key, value in step.items() if key not in ("time", "host")}
        if isinstance(arguments := kept.get("arguments"), list):
            kept["arguments"] = [bare(argument) for argument in arguments]
        if isinstance(inputs := kept.get("inputs"), dict):
            kept["inputs"] = {bare(name): digest for name, digest in inputs.items()}
        found.append(kept)
    return found


def parse_chain(text: str, name: str) -> list[dict[str, Any]]:
    """Read a chain from the JSON ``text`` of the file that messages call ``name``.

    Raises:
        DamagedInputError: it is not a JSON list of objects, or is unreasonably long.
    """
    try:
        chain = bounded_json.parse(text, size=MAX_CHARACTERS)
    except bounded_json.JSONError as error:
        raise DamagedInputError(f"{name}: its provenance {error}") from error
    if not isinstance(chain, list) or not all(isinstance(step, dict) for step in chain):
        raise DamagedInputError(f"{name}: its provenance is not a list of entries")
    return chain
