"""``--config FILE.toml``: any long option or positional argument of a command, from a file.

A key is the option's long name, with dashes or underscores, or a positional argument's name in
lower case. What the command line says wins over the file, and the file over the environment; an
option wins over those that say the same in another way as well (``--steps`` over ``epochs``).
"""

import difflib
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from arcsm_cli.errors import DamagedInputError, MissingInputError, UsageError

# Options of which a command takes one.
_ALTERNATIVES = (
    {"steps", "epochs"},
    {"limit", "shuffle"},
    {"count", "shuffle"},
    {"label", "given"},
)
# A configuration is written by hand; anything larger is some other file, given by mistake.
_SIZE_LIMIT = 1 << 20  # bytes
# Options have plain names. The parser's time and memory grow like the square of a key's parts.
_PARTS = 16
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_LONG_KEY = re.compile(
    rf"^[ \t]*\[{{0,2}}[ \t]*(?:{_PART}[ \t]*\.[ \t]*){{{_PARTS}}}", re.MULTILINE
)


def read_config(path: str) -> dict[str, Any]:
    """The keys of a TOML file.

    Raises:
        MissingInputError: There is no such file.
        DamagedInputError: It cannot be read or is not TOML.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such configuration file (option --config)") from None
    except OSError as error:
        raise DamagedInputError(
            f"{path}: cannot be read as a configuration file: {error.strerror}"
        ) from error
    if len(content) > _SIZE_LIMIT:
        raise DamagedInputError(f"{path}: too large for a configuration file (limit 1 MiB)")
    try:
        text = content.decode("utf-8-sig")  # some editors put a mark before the text
        if long := _LONG_KEY.search(text):
            line = text.count("\n", 0, long.start()) + 1
            raise DamagedInputError(f"{path}: line {line}: a key of more than {_PARTS} parts")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers with too many digits
        raise DamagedInputError(f"{path}: not a TOML file: {_brief(error, 200)}") from error


def named_plugins(arguments: list[str]) -> list[str]:
    """What ``--plugin`` names on a command line, or else in its ``--config``.

    Read before the command line is parsed, since plugins decide what options there are.

    Raises:
        MissingInputError, DamagedInputError, UsageError: of the file of ``--config``.
    """
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    plugins, configs = _values("--plugin", words), _values("--config", words)
    if plugins or not configs:
        return plugins
    found = read_config(configs[-1]).get("plugin", [])
    names = found if isinstance(found, list) else [found]
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"{configs[-1]}: plugin: expected a string, or an array of them")
    return names


def _values(option: str, words: list[str]) -> list[str]:
    following = [after for word, after in itertools.pairwise(words) if word == option]
    joined = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    return following + joined


class Config:
    """The keys of a configuration file, matched against a command's parameters.

    Arguments:
        path: The file, as errors name it.
        parameters: The command's parameters (options and arguments as typer built them).
        types: The annotated type of each parameter, by its Python name.
    """

    def __init__(self, path: str, parameters: list[Any], types: Mapping[str, Any]) -> None:
        self.path = path
        self.values: dict[str, Any] = {}  # by Python name, as the parser delivers values
        self._keys: dict[str, str] = {}
        known = {key: p for p in parameters for key in _keys_of(p)}
        for key, value in read_config(path).items():
            parameter = known.get(_normal(key))
            if parameter is None:
                raise UsageError(f"{path}: {_brief(key)}: unknown key{_suggestion(key, known)}")
            if parameter.name in self.values:
                raise UsageError(
                    f"{path}: {_brief(key)}: given twice, with a dash and an underscore"
                )
            self._keys[parameter.name] = key
            self.values[parameter.name] = self._converted(
                key, value, parameter, types[parameter.name]
            )

    def complete(self, given: dict[str, Any]) -> set[str]:
        """Adds to the parsed command line what it does not say; returns the names added."""
        said = {name for name, value in given.items() if _is_given(value)}
        said = said.union(*(names for names in _ALTERNATIVES if names & said))
        missing = self.values.keys() - said
        given.update({name: self.values[name] for name in missing})
        return missing

    def explain(self, name: str, message: str) -> UsageError:
        """The error for a value from this file that the parameter `name` does not take."""
        return UsageError(f"{self.path}: {self._keys[name]}: {message}")

    def _converted(self, key: str, value: Any, parameter: Any, annotation: Any) -> Any:
        """`value` as the command line's parser would deliver it."""
        several = parameter.nargs == -1 or bool(getattr(parameter, "multiple", False))
        kind = _plain_type(annotation)
        if several:
            items = value if isinstance(value, list) else [value]
            return tuple(self._word(key, item, kind) for item in items)
        if getattr(parameter, "count", False):
            return int(value) if isinstance(value, bool) else self._typed(key, value, int)
        if kind is bool:
            return self._typed(key, value, bool)
        return self._word(key, value, kind)

    def _word(self, key: str, value: Any, kind: Any) -> str:
        return str(self._typed(key, value, kind))

    def _typed(self, key: str, value: Any, kind: Any) -> Any:
        accepted = {bool: (bool,), int: (int,), float: (int, float)}.get(kind, (str,))
        # In Python a bool is an int, in TOML it is not.
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            expected = {bool: "true or false", int: "a whole number", float: "a number"}
            raise UsageError(
                f"{self.path}: {key}: expected {expected.get(kind, 'a string')}, got {_told(value)}"
            )
        if isinstance(value, int) and value.bit_length() > 64:
            raise UsageError(f"{self.path}: {key}: the number is too large")
        return value


def _brief(text: object, limit: int = 60) -> str:
    """`text` for a message of one line, cut where it is too long."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text)[:limit])
    return line if len(str(text)) <= limit else f"{line}..."


def _told(value: Any) -> str:
    if isinstance(value, dict | list):  # in whatever depth
        return "a table" if isinstance(value, dict) else "an array"
    if isinstance(value, int) and value.bit_length() > 64:  # perhaps of more digits than are shown
        return "a very large number"
    return _brief(repr(value))


def _normal(key: str) -> str:
    return key.replace("_", "-").lower()


def _keys_of(parameter: Any) -> list[str]:
    """The keys that mean this parameter."""
    if parameter.name in ("config", "help"):
        return []
    if parameter.param_type_name == "argument":
        return [_normal(parameter.name)]
    return [option[2:] for option in parameter.opts if option.startswith("--")]


def _suggestion(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(_normal(key), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; the keys are {', '.join(known)}"


def _plain_type(annotation: Any) -> Any:
    """The type of one value: ``int`` for ``int``, ``int | None``, ``list[int]``."""
    if get_origin(annotation) is Literal:
        return str
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return _plain_type(inner[0]) if inner else annotation


def _is_given(value: Any) -> bool:
    """Whether the parser found a value (it marks absent ones differently between versions)."""
    if isinstance(value, str | bool | int):
        return True
    return isinstance(value, list | tuple) and len(value) > 0
