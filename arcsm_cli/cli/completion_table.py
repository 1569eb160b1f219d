"""What shells complete, written down from the options of all commands: completion.json.

An object of ``options``, the program's own with their meaning, and ``commands``: by name the
summary, the options (by every name what value it takes, or null, and its meaning), and the places
of arguments (what each takes, and whether more follow). A value is described by ``words`` with
their meaning, ``list`` (several with commas), ``splits`` of data sets, ``files``, and ``models``.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from arcsm_cli import registry
from arcsm_cli.cli import help

_METRICS = dict.fromkeys(registry.METRICS, "")
_STATISTICS = dict.fromkeys(registry.STATISTICS, "") | {"typicality": ""}
_STATISTICS |= {
    f"{name}-typicality": "" for name in _STATISTICS if name in ("score-norm", "csm", "nll")
}
# Options whose values are not all told by their types.
_WORDS: dict[str, dict[str, Any]] = {
    "--metric": {"words": _METRICS, "list": True},
    "--statistic": {"words": _STATISTICS, "list": True},
    "--device": {"words": dict.fromkeys(("auto", "cpu", "cuda", "mps"), "")},
    "--corrupt": {"words": dict.fromkeys(("gaussian:", "salt-pepper:", "mask:"), "")},
    "--given": {"words": {"labels": ""}, "files": True},
}
_FILES = ("FILE", "DIR", "FOLDER", ".png", "SCORES", "DATA", "MODEL", "CHECKPOINT")


def table(
    program_options: Mapping[str, str], commands: Mapping[str, tuple[str, list[Any], Any]]
) -> str:
    """Return the table as JSON.

    Arguments:
        program_options: of the program itself, with their meaning.
        commands: by name the summary, the parameters as typer built them, and their types.
    """
    found = {
        name: [summary, _options(parameters, types), _places(parameters, types)]
        for name, (summary, parameters, types) in commands.items()
    }
    whole = {"options": dict(program_options), "commands": found}
    return json.dumps(whole, indent=1, ensure_ascii=True) + "\n"


def _options(parameters: Iterable[Any], types: Mapping[str, Any]) -> dict[str, Any]:
    options = help.shown_parameters(parameters)[1]
    return {
        name: [
            None if p.is_flag or p.count else _value(p, types.get(p.name)),
            (p.help or "").partition(". ")[0].rstrip("."),
        ]
        for p in options
        for name in (*sorted(p.opts, key=len), *p.secondary_opts)
        if p.help is not None
    }


def _places(parameters: Iterable[Any], types: Mapping[str, Any]) -> list[Any]:
    arguments = help.shown_parameters(parameters)[0]
    return [[_value(p, types.get(p.name)), p.nargs == -1] for p in arguments]


def _value(parameter: Any, annotation: Any) -> dict[str, Any]:
    named = next((n for n in parameter.opts if n in _WORDS), None)
    if named is not None:
        return _WORDS[named]
    shown = str(parameter.metavar or "")
    if choices := _choices(annotation):
        return {"words": dict.fromkeys(choices, "")}
    if "|" in shown and shown.islower():
        return {"words": dict.fromkeys(shown.split("|"), "")}
    value: dict[str, Any] = {}
    if shown.startswith("DATA"):
        value |= {"words": {n: registry.SOURCES.part(n).help for n in registry.SOURCES}}
        value["words"] = {
            f"{n}:" if registry.SOURCES.has(n, "sized") else n: text
            for n, text in value["words"].items()
        }
        value["splits"] = {n: _splits(n) for n in registry.SOURCES if _splits(n)}
    its_name = parameter.param_type_name == "argument" and shown == "NAME"
    if its_name or shown.startswith(("MODEL", "CHECKPOINT")):
        value["models"] = True
    if any(word in shown for word in _FILES):
        value["files"] = True
    return value


def _splits(name: str) -> list[str]:
    if registry.SOURCES.has(name, "shaped") or registry.SOURCES.has(name, "sized"):
        return []
    return ["train", "test", *(["valid"] if registry.SOURCES.has(name, "valid") else [])]


def _choices(annotation: Any) -> list[str]:
    """The texts of a Literal, wherever it stands in a type."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]
