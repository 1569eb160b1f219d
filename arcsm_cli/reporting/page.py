"""A run on one page of HTML, which needs neither a network nor scripts to be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arcsm_cli import __version__
from arcsm_cli.errors import DamagedInputError
from arcsm_cli.evaluation.ood import STATISTICS
from arcsm_cli.evaluation.ood_report import readable, report, short
from arcsm_cli.plotting.roc import MOST_SETS, MOST_STATISTICS
from arcsm_cli.reporting import figures
from arcsm_cli.reporting.chain import Graph, inputs_of, read_chains
from arcsm_cli.reporting.drawing import draw_graph
from arcsm_cli.reporting.markup import Markup, joined, listed, picture, table, tag
from arcsm_cli.reporting.sections import Section, section_of
from arcsm_cli.reporting.style import STYLE

# What a browser is allowed to do with the page, whatever the files brought into it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_MOST_STEPS = 1000  # entries of provenance that are joined to a graph
_MOST_COLUMNS = 6  # figures set side by side


def report_page(paths: Sequence[Path]) -> str:
    """Return the page on these files, in their order; equal files give equal pages.

    Arguments:
        paths: checkpoints, samples, scores and comparisons, and what ``--json`` printed.

    Raises:
        MissingInputError: a file does not exist or cannot be read.
        DamagedInputError: one is damaged, or of another kind.
    """
    sections = [section_of(path) for path in paths]
    places = {section.known.digest: f"file-{i}" for i, section in enumerate(sections, 1)}
    title = f"Report on {sections[0].known.name}"
    if len(sections) > 1:
        title += f" and {len(sections) - 1} more"
    parts = [
        tag("h1", title),
        _overview(sections),
        _together(sections),
        _separation(sections),
        *(_shown(section, f"file-{i}") for i, section in enumerate(sections, 1)),
        *_history(sections, places),
        tag("footer", f"Made by arcsm report, version {__version__}, from the files above alone."),
    ]
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    body = tag("body", tag("main", *parts))
    return f"<!doctype html>\n{tag('html', tag('head', head), body, lang='en')}\n"


def _overview(sections: list[Section]) -> Markup:
    rows = [
        {"file": tag("a", s.known.name, href=f"#file-{i}"), "what it is": s.what}
        for i, s in enumerate(sections, 1)
    ]
    return table(rows)


def _together(sections: list[Section]) -> Markup | None:
    """Figures that several files have, side by side."""
    held = [name for section in sections for name in section.metrics]
    names = [n for n in dict.fromkeys(held) if held.count(n) > 1 and not n.endswith("_se")]
    names = names[:_MOST_COLUMNS]
    if not names:
        return None
    rows = []
    for section in sections:
        found = {}
        for name in names:
            value, error = (section.metrics.get(key) for key in (name, f"{name}_se"))
            said = None if value is None else f"{value:.6g}"
            found[name] = said if error is None else f"{said} \u00b1 {error:.2g}"
        if any(value is not None for value in found.values()):
            rows.append({"file": section.known.name, **found})
    note = tag("p", "With standard errors; likelihoods in nats an example.", class_="what")
    return joined(tag("h2", "Figures side by side"), note, table(rows))


def _separation(sections: list[Section]) -> Markup | None:
    """How well the scores of the first scored file are told from those of the others."""
    scored = [section for section in sections if section.scores]
    if len(scored) < 2:
        return None
    first, *others = scored[: MOST_SETS + 1]
    shared = [n for n in STATISTICS if all(n in section.scores for section in (first, *others))]
    if not shared:
        held = "; ".join(f"{s.known.name} {', '.join(s.scores)}" for s in (first, *others))
        raise DamagedInputError(f"the scored files have no statistic in common: {held}")
    inside = {name: first.scores[name] for name in shared[:MOST_STATISTICS]}
    outside = {section.known.name: section.scores for section in others}
    rows = readable(report(inside, outside), list(outside))["separation"]
    drawn = figures.scores(
        (short(first.known.name), inside), {short(name): found for name, found in outside.items()}
    )
    left = len(scored) - 1 - len(others)
    return joined(
        tag("h2", "Told from other data"),
        tag("p", f"{first.known.name}, scored first, is the positive class.", class_="what"),
        tag("p", f"{left} more scored files have no room here.") if left else None,
        table(rows),
        picture(drawn, "ROC curves", "chart"),
    )


def _shown(section: Section, place: str) -> Markup:
    return tag(
        "section",
        tag("h2", section.known.name),
        tag("p", section.what, class_="what"),
        section.body,
        id=place,
    )


def _history(sections: list[Section], places: dict[str, str]) -> list[Markup | None]:
    steps = sum(len(section.known.chain) for section in sections)
    heading = tag("h2", "How they came about")
    if steps > _MOST_STEPS:
        return [heading, tag("p", f"{steps} commands, more than there is room for here.")]
    graph = read_chains([section.known for section in sections])
    note = (
        "Squares are commands, circles files and data, filled ones are shown above. Files are "
        "joined by the SHA-256 of their contents."
    )
    if not all(sure for node in graph.values() for sure in node.sources.values()):
        note += " Dashed lines follow names and the order of commands: that file was not given."
    drawn = draw_graph(graph, places)
    return [heading, tag("p", note, class_="what"), drawn, *_commands(graph)]


def _commands(graph: Graph) -> list[Markup]:
    items = []
    for node in graph.values():
        if node.kind != "command":
            continue
        said = [f"version {node.entry.get('version', 'unknown')}"]
        said += [f"{name} {value}" for name, value in inputs_of(node.entry).items()]
        items.append(joined(tag("code", node.text), *(tag("small", line) for line in said)))
    if not items:
        return []
    return [tag("h2", "Commands, oldest first"), listed(items, class_="commands")]
