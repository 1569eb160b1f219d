"""Answers shells that complete a command line: ``_ARCSM_COMPLETE``, in a tenth of a second.

What there is to complete was written down from the help (`arcsm_cli.cli.completion_table`), so that
neither typer nor any command is imported. ``_ARCSM_COMPLETE=source_bash arcsm`` prints the script
for bash, likewise zsh and fish. Such a script asks with ``_ARCSM_COMPLETE=bash arcsm WORDS...``,
the last of which is being typed, and gets lines of a kind, a word and its meaning, tabs between:
``w`` a whole word, ``p`` one that goes on, ``f`` a file, ``d`` a folder, ``F`` files as the shell
itself lists them.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from arcsm_cli.pretrained import PREFIX, names

SHELLS = ("bash", "zsh", "fish")
TABLE = Path(__file__).with_name("completion.json")


class Candidate(NamedTuple):
    """What a word may become; the kinds are those of the module."""

    kind: str
    word: str
    help: str = ""


def answer(request: str, words: list[str], environment: Mapping[str, str]) -> int:
    """Print a shell's script, or what its words may become; return the exit code.

    Arguments:
        request: ``source_SHELL`` or the shell's name.
        words: after the program's name; bash's are taken from its ``COMP_LINE``.
        environment: where bash says what it splits words at, too.
    """
    shell = request.removeprefix("source_")
    if shell not in SHELLS:
        return 2
    if request != shell:
        script = Path(__file__).with_name("shells") / f"arcsm.{shell}"
        sys.stdout.write(script.read_text(encoding="utf-8"))
        return 0
    done = 0
    if shell == "bash":
        words = _split(environment.get("COMP_LINE", ""))[1:] or [""]
        breaks = set(environment.get("COMP_WORDBREAKS", ":=")) & {":", "="}
        done = max((words[-1].rfind(mark) + 1 for mark in breaks), default=0)
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    for found in candidates(table, words or [""]):
        listed = _files(words[-1]) if found.kind == "F" and shell == "bash" else [found]
        for kind, word, help in listed:
            print(kind, word[done:] if kind != "F" else word, help, sep="\t")
    return 0


def candidates(table: Mapping[str, Any], words: list[str]) -> Iterator[Candidate]:
    """What the last word may become.

    Arguments:
        table: see `arcsm_cli.cli.completion_table`.
        words: of the command line after the program's name, at least one.
    """
    *before, word = words
    if not before:
        known = table["options"] if word.startswith("-") else table["commands"]
        texts = known.items() if word.startswith("-") else ((n, c[0]) for n, c in known.items())
        yield from (Candidate("w", name, text) for name, text in texts if name.startswith(word))
        return
    if before[0] not in table["commands"]:
        return
    _, options, places = table["commands"][before[0]]
    plain, waiting, placed = False, None, 0
    for given in before[1:]:
        if waiting is not None:
            waiting = None
        elif given == "--" and not plain:
            plain = True
        elif given.startswith("-") and given != "-" and not plain:
            waiting = options.get(given, [None])[0]
        else:
            placed += 1
    name, equals, value = word.partition("=")
    if waiting is not None:
        yield from _values(waiting, word)
    elif word.startswith("-") and not plain and equals:
        wanted = options.get(name, [None])[0]
        for found in _values(wanted, value) if wanted is not None else ():
            yield found._replace(word=f"{name}={found.word}") if found.kind != "F" else found
    elif word.startswith("-") and not plain:
        for option, (_, text) in options.items():
            if option.startswith(word):
                yield Candidate("w", option, text)
    elif places:
        several = places[-1][1]
        if placed < len(places) or several:
            yield from _values(places[min(placed, len(places) - 1)][0], word)


def _values(wanted: Mapping[str, Any], word: str) -> Iterator[Candidate]:
    """The values of an option or a place that is described as in the table."""
    start = ""
    if wanted.get("list"):
        start = word[: word.rfind(",") + 1]
    used = set(start.split(","))
    for choice, text in wanted.get("words", {}).items():
        if f"{start}{choice}".startswith(word) and choice not in used:
            yield Candidate("p" if choice.endswith(":") else "w", f"{start}{choice}", text)
    name, colon, _ = word.partition(":")
    for split in wanted.get("splits", {}).get(name, ()) if colon else ():
        if f"{name}:{split}".startswith(word):
            yield Candidate("w", f"{name}:{split}")
    if wanted.get("models"):
        for model in names():
            if f"{PREFIX}{model}".startswith(word):
                yield Candidate("w", f"{PREFIX}{model}", "comes with arcsm")
    if wanted.get("files"):
        yield Candidate("F", word)


def _files(word: str) -> Iterator[Candidate]:
    """Files and folders that begin so; hidden ones if the word does."""
    value = word.rpartition("=")[2] if word.startswith("--") else word
    lead = word[: len(word) - len(value)]
    folder, slash, start = value.rpartition("/")
    try:
        found = sorted(os.scandir(os.path.expanduser(folder + slash) or "."), key=lambda e: e.name)
    except OSError:
        return
    for entry in found:
        hidden = entry.name.startswith(".") and not start.startswith(".")
        if entry.name.startswith(start) and not hidden and entry.name.isprintable():
            name = f"{lead}{folder}{slash}{entry.name}"
            yield Candidate("d", f"{name}/") if entry.is_dir() else Candidate("f", name)


def _split(line: str) -> list[str]:
    """The words of an unfinished line, the last one that is being typed."""
    for close in ("", "'", '"', " "):
        try:
            words = shlex.split(line + close)
        except ValueError:
            continue
        fresh = line[-1:].isspace() and not line[:-1].endswith("\\") and close == ""
        return [*words, ""] if fresh or not words else words
    return []
