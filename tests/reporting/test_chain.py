"""The graph of commands and files: what is joined to what, and how it is drawn."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.reporting.chain import Graph, Known, Node, read_chains
from arcsm_cli.reporting.drawing import lay_out
from tests.reporting.conftest import step


def edges(graph: Graph) -> set[tuple[str, str, bool]]:
    return {
        (graph[source].text, node.text, sure)
        for node in graph.values()
        for source, sure in node.sources.items()
    }


def test_files_are_joined_by_digest_whatever_their_names() -> None:
    train = step("train", "digits", "-o", "a.st")
    draw = step("sample", "renamed.st", **{"renamed.st": "aa"})
    graph = read_chains([Known("here.st", "aa", [train]), Known("s.h5", "bb", [train, draw])])
    assert edges(graph) == {
        ("arcsm train digits -o a.st", "here.st", True),
        ("here.st", "arcsm sample renamed.st", True),
        ("arcsm sample renamed.st", "s.h5", True),
    }


def test_equal_names_with_other_contents_are_not_joined() -> None:
    graph = read_chains([
        Known("m.st", "aa", [step("train", "x", "-o", "m.st")]),
        Known("s.h5", "bb", [step("sample", "m.st", **{"m.st": "cc"})]),
    ])  # fmt: skip
    assert ("m.st", "arcsm sample m.st", True) in edges(graph)
    assert sum(node.digest == "cc" and not node.sources for node in graph.values()) == 1


def test_a_file_that_is_not_at_hand_is_joined_by_name_and_said_to_be() -> None:
    parts = [step("sample", "m", "-o", f"{i}.h5", m="aa") for i in range(2)]
    merge = step("merge", "0.h5", "1.h5", **{"0.h5": "b0", "1.h5": "b1"})
    found = edges(read_chains([Known("all.h5", "cc", [*parts, merge])]))
    assert ("arcsm sample m -o 0.h5", "0.h5", False) in found
    assert ("arcsm sample m -o 1.h5", "1.h5", False) in found


def test_a_result_is_joined_to_what_it_was_read_from() -> None:
    files = [Known("r.json", "rr", [], {"m": "aa"}), Known("m", "aa", [step("train", "x")])]
    assert ("m", "r.json", True) in edges(read_chains(files))


def test_damaged_entries_do_no_harm() -> None:
    chain: list[dict[str, Any]] = [{}, {"inputs": [1], "arguments": "no"}, {"inputs": {"a": 3}}]
    assert len(read_chains([Known("f", "aa", chain)])) == 4


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=12))
def test_no_line_passes_through_a_node_that_it_does_not_belong_to(links: list[list[int]]) -> None:
    graph: Graph = {
        str(i): Node("file", str(i), sources={str(s % i): True for s in sources} if i else {})
        for i, sources in enumerate(links)
    }
    lanes, drawn = lay_out(graph)
    for edge in drawn:
        assert lanes[edge.start] == edge.lane
        assert edge.lane not in lanes[edge.start + 1 : edge.end]
