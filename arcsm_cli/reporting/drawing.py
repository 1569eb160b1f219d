"""A graph as rows of text with lines beside them, the way histories of versions are drawn.

The text has all the width that there is, so it can be read on a telephone and on paper.
"""

from __future__ import annotations

from typing import NamedTuple

from arcsm_cli.reporting.chain import Graph, Node, inputs_of
from arcsm_cli.reporting.markup import Markup, joined, tag

ROW = 52  # pixels
_LANE = 14
_MOST_ROWS, _MOST_LANES = 200, 12


class Edge(NamedTuple):
    """From row to row; ``lane`` is the one it runs down in."""

    start: int
    end: int
    lane: int
    certain: bool


def draw_graph(graph: Graph, places: dict[str, str]) -> Markup:
    """Return the graph, or, of one with no room on a page, a line that says so.

    Arguments:
        places: where on the page files at hand are shown, by digest.
    """
    lanes, edges = lay_out(graph)
    if len(graph) > _MOST_ROWS or max(lanes, default=0) >= _MOST_LANES:
        return tag("p", f"A graph of {len(graph)} commands and files has no room here.")
    rows = [
        tag("div", _lines(i, node, lanes, edges), tag("div", *_text(node, places)), class_="row")
        for i, node in enumerate(graph.values())
    ]
    return tag("div", *rows, class_="graph", role="group", aria_label="What each came from")


def lay_out(graph: Graph) -> tuple[list[int], list[Edge]]:
    """Return the lane of each node's row, and the edges; no edge passes through a node.

    A node has its lane from its own row to that of the last one which comes from it.
    """
    rows = {key: i for i, key in enumerate(graph)}
    last = list(range(len(graph)))
    for i, node in enumerate(graph.values()):
        for source in node.sources:
            last[rows[source]] = i
    lanes: list[int] = []
    for i in range(len(graph)):
        taken = {lanes[j] for j in range(i) if last[j] > i}
        lanes.append(next(lane for lane in range(len(graph) + 1) if lane not in taken))
    edges = [
        Edge(rows[source], i, lanes[rows[source]], sure)
        for i, node in enumerate(graph.values())
        for source, sure in node.sources.items()
    ]
    return lanes, edges


def _lines(row: int, node: Node, lanes: list[int], edges: list[Edge]) -> Markup:
    """What there is of all lines beside one row: paper may end below any."""
    width, middle = (max(lanes) + 1) * _LANE, ROW // 2

    def place(lane: int) -> int:
        return lane * _LANE + _LANE // 2

    own = place(lanes[row])
    found = {}  # of several edges in one lane the certain one is drawn
    for edge in sorted(edges, key=lambda edge: edge.certain):
        x = place(edge.lane)
        if edge.start == row:
            found[f"M{x},{middle}V{ROW}"] = edge.certain
        elif edge.start < row < edge.end:
            found[f"M{x},0V{ROW}"] = edge.certain
        elif edge.end == row:
            found[f"M{x},0C{x},{middle // 2} {own},{middle // 3} {own},{middle}"] = edge.certain
    paths = [tag("path", d=d, class_="sure" if sure else "guessed") for d, sure in found.items()]
    if node.kind == "command":
        mark = tag("rect", x=own - 5, y=middle - 5, width=10, height=10, rx=2)
    else:
        mark = tag("circle", cx=own, cy=middle, r=5, class_="hand" if node.at_hand else None)
    box = {"viewBox": f"0 0 {width} {ROW}", "width": width, "height": ROW}
    return tag("svg", *paths, mark, aria_hidden="true", **box)


def _text(node: Node, places: dict[str, str]) -> tuple[Markup, Markup]:
    if node.kind == "command":
        entry = node.entry
        seed, when, host = entry.get("seed"), str(entry.get("time", "")), entry.get("host")
        said = [
            None if seed is None else f"seed {seed}",
            when[:16].replace("T", " ") or None,
            None if host is None else f"on {host}",
            f"{len(inputs_of(entry))} inputs" if len(inputs_of(entry)) > 1 else None,
        ]
        about = " \u00b7 ".join(part for part in said if part is not None)
        return tag("code", node.text, title=node.text), tag("small", about)
    place = places.get(node.digest)
    name = node.text if place is None else tag("a", node.text, href=f"#{place}")
    return (
        tag("span", name, title=node.text),
        tag("small", joined("SHA-256 ", tag("code", node.digest[:12]))),
    )
