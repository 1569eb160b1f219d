"""The commands behind several files as one graph, read from their provenance.

Files that commands read are known by their SHA-256. Of the files at hand it is known, too, which
command made them: the last of their chain. What a command wrote to a file that is not at hand is
known by the name it gave it, or else by the order of the chain; such edges are not ``certain``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from arcsm_cli.io import bounded_json
from arcsm_cli.io.provenance import extend

Kind = Literal["command", "file"]


class Known(NamedTuple):
    """A file at hand.

    Attributes:
        name: what the user calls it.
        digest: SHA-256 of its bytes.
        chain: the entries of its provenance, oldest first.
        inputs: SHA-256 of what it was made from, by name, where it has no chain.
    """

    name: str
    digest: str
    chain: list[dict[str, Any]]
    inputs: Mapping[str, str] = {}


@dataclass
class Node:
    """A command, or a file (or a data set) that one reads or makes.

    Attributes:
        text: the command line, or the file's name.
        entry: the command's entry; of files empty.
        digest: the file's; of commands empty.
        at_hand: whether the file is one of those given.
        sources: the keys of the nodes that it comes from, and whether that is certain.
    """

    kind: Kind
    text: str
    entry: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    at_hand: bool = False
    sources: dict[str, bool] = field(default_factory=dict)


Graph = dict[str, Node]
"""By key, each node after all those that it comes from."""


def read_chains(files: Iterable[Known]) -> Graph:
    """Return the graph of all files.

    Example:
        >>> train = {"command": "train", "arguments": ["digits", "-o", "m"], "inputs": {}}
        >>> draw = {"command": "sample", "arguments": ["m"], "inputs": {"m": "ab12"}}
        >>> graph = read_chains([Known("m", "ab12", [train]), Known("s", "cd34", [train, draw])])
        >>> [node.text for node in graph.values()]
        ['arcsm train digits -o m', 'm', 'arcsm sample m', 's']
        >>> [list(node.sources.values()) for node in graph.values()]
        [[], [True], [True], [True]]
    """
    files = list(files)
    steps = {_key(step): step for step in extend([f.chain for f in files], {})[:-1]}
    made: dict[str, str] = {}  # digest of a file at hand: the command that made it
    for file in files:
        if file.chain:
            made.setdefault(file.digest, _key(file.chain[-1]))
    given = {file.digest: file.name for file in reversed(files)}
    graph: Graph = {}

    def add_file(name: str, digest: str) -> str:
        key = f"file {digest}"
        if key not in graph:
            source = made.get(digest)
            sources = {source: True} if source in graph else {}
            at_hand = digest in given
            graph[key] = Node("file", given.get(digest, name), {}, digest, at_hand, dict(sources))
        return key

    for key, step in steps.items():
        inputs = {add_file(name, digest): True for name, digest in inputs_of(step).items()}
        graph[key] = Node("command", command_line(step), step, sources=inputs)
        for digest, maker in made.items():
            if maker == key:
                add_file(given[digest], digest)
    for file in files:
        key = add_file(file.name, file.digest)
        for name, digest in file.inputs.items():
            graph[key].sources[add_file(name, digest)] = True
    for file in files:
        _follow(graph, file.chain)
    return _ordered(graph)


def command_line(step: Mapping[str, Any]) -> str:
    """Return the command of an entry as a shell takes it."""
    arguments = step.get("arguments")
    words = [str(word) for word in arguments] if isinstance(arguments, list) else []
    return f"{step.get('program', 'arcsm')} {step.get('command', '?')} {shlex.join(words)}".strip()


def inputs_of(step: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of a command's inputs, by name."""
    inputs = step.get("inputs")
    found = inputs.items() if isinstance(inputs, dict) else ()
    return {name: digest for name, digest in found if isinstance(digest, str) and digest}


def _follow(graph: Graph, chain: list[dict[str, Any]]) -> None:
    """Join the commands of a chain whose outputs are not at hand to what followed them."""
    keys = list(dict.fromkeys(_key(step) for step in chain))
    for i, key in enumerate(keys[:-1]):
        if any(key in node.sources for node in graph.values()):
            continue
        later = keys[i + 1 :]
        unmade = {
            graph[source].text: source
            for command in reversed(later)
            for source in graph[command].sources
            if graph[source].kind == "file" and not graph[source].sources
        }
        written = _output(graph[key].entry)
        if written in unmade:
            graph[unmade[written]].sources[key] = False
        else:
            graph[later[0]].sources[key] = False


def _output(step: Mapping[str, Any]) -> str:
    """What a command was told to write, as an input of that content would be named."""
    arguments = step.get("arguments")
    words = [str(word) for word in arguments] if isinstance(arguments, list) else []
    for word, following in pairwise([*words, ""]):
        if word in ("-o", "--output"):
            return "standard input" if following == "-" else following
        if word.startswith("--output="):
            return word.partition("=")[2]
    return ""


def _ordered(graph: Graph) -> Graph:
    """The nodes in an order in which sources come first, else as they stand."""
    done: Graph = {}
    waiting = dict(graph)
    while waiting:
        ready = [k for k, node in waiting.items() if all(s in done for s in node.sources)]
        if not ready:  # chains that contradict each other leave a circle, which is cut
            key = next(iter(waiting))
            node = waiting[key]
            node.sources = {s: sure for s, sure in node.sources.items() if s in done}
            ready = [key]
        done[ready[0]] = waiting.pop(ready[0])
    return done


def _key(step: dict[str, Any]) -> str:
    return bounded_json.dump(step)
