"""HTML from parts: what is not markup already is text, and escaped.

Texts come from files that others made, so nothing here takes a string for HTML unless this module
made it.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arcsm_cli.cli.invocation import one_line

_VOID = frozenset({"img", "meta", "path", "circle", "rect", "br"})
_LONGEST = 500  # characters of one text


class Markup(str):
    """HTML that `tag` or `joined` made."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return an element.

    Arguments:
        name: of the element.
        content: elements, and anything else as text; None is left out.
        attributes: a trailing underscore and None are left out, other underscores become dashes.

    Example:
        >>> tag("p", "1 < 2 ", tag("b", "&"), class_="a\\"b")
        '<p class="a&quot;b">1 &lt; 2 <b>&amp;</b></p>'
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{said}>" if name in ("img", "meta", "br") else f"<{name}{said}/>")
    return Markup(f"<{name}{said}>{joined(*content)}</{name}>")


def joined(*content: object) -> Markup:
    """Return several contents as one, without those that are None."""
    return Markup(
        "".join(
            part if isinstance(part, Markup) else html.escape(_text(part))
            for part in content
            if part is not None
        )
    )


def picture(png: bytes, alt: str, class_: str) -> Markup:
    """Return an image that is part of the page."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return tag("div", tag("img", src=source, alt=alt), class_=f"figure {class_}")


def facts(rows: Mapping[str, object]) -> Markup:
    """Return names with their values, those that are there."""
    shown = [(name, value) for name, value in rows.items() if value is not None]
    return tag(
        "dl", *(joined(tag("dt", name), tag("dd", shown_value(value))) for name, value in shown)
    )


def table(rows: Sequence[Mapping[str, object]], caption: str | None = None) -> Markup:
    """Return a table with a column for each key of the rows, numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name for name in names if all(_is_number(row.get(name)) for row in rows)}
    side = {name: "number" if name in numeric else None for name in names}
    body = [
        tag("tr", *(tag("td", shown_value(row.get(n)), class_=side[n]) for n in names))
        for row in rows
    ]
    head = tag("tr", *(tag("th", n, class_=side[n], scope="col") for n in names))
    parts = [tag("caption", caption)] if caption else []
    whole = tag("table", *parts, tag("thead", head), tag("tbody", *body))
    return tag("div", whole, class_="wide", tabindex="0")


def shown_value(value: object) -> object:
    """Return a value as a reader is shown it: a number with five significant digits."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(str(shown_value(item)) for item in value)
    return "\u2013" if value is None else value


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _plain(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else one_line(text)


def _text(value: Any) -> str:
    """A text without control characters, on one line, and not too long."""
    lead, trail = (" " if str(value)[i : i + 1 or None] == " " else "" for i in (0, -1))
    text = one_line(value)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f"{lead}{text}{trail}" if text else lead


def listed(items: Iterable[object], **attributes: object) -> Markup:
    """Return a list whose items stand in order."""
    return tag("ol", *(tag("li", item) for item in items), **attributes)
