"""The chain of commands that made a file."""

import hashlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.errors import DamagedInputError, MissingInputError
from arcsm_cli.io import bounded_json
from arcsm_cli.io.provenance import extend, make_entry, parse_chain, sha256_file

entries = st.fixed_dictionaries(
    {"command": st.sampled_from("abcdef"), "time": st.sampled_from(["1", "2", "3"])}
)
chains = st.lists(st.lists(entries, max_size=6), max_size=4)
NEW: dict[str, Any] = {"command": "new"}


def entry(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"command": "train", "arguments": [], "seed": 0, "inputs": {}}
    return make_entry(**(given | changes))


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"content")
    assert sha256_file(path) == hashlib.sha256(b"content").hexdigest()


def test_the_digest_of_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        sha256_file(tmp_path / "missing")


def test_an_entry_is_json() -> None:
    made = entry(arguments=["digits"], inputs={"digits": "00"})
    assert json.loads(bounded_json.dump(made)) == made


def test_an_entry_has_the_time_in_utc() -> None:
    assert datetime.fromisoformat(entry()["time"]).utcoffset() == timedelta(0)


def test_an_entry_survives_arguments_that_are_no_text() -> None:
    made = entry(arguments=["\udcff"])
    assert parse_chain(bounded_json.dump([made]), "file") == [made]


@given(chains)
def test_the_new_entry_comes_last(given_chains: list[list[dict[str, Any]]]) -> None:
    assert extend(given_chains, NEW)[-1] == NEW


@given(chains)
def test_every_entry_is_kept_once(given_chains: list[list[dict[str, Any]]]) -> None:
    merged = [bounded_json.dump(step) for step in extend(given_chains, NEW)[:-1]]
    assert len(merged) == len(set(merged))
    assert set(merged) == {bounded_json.dump(step) for chain in given_chains for step in chain}


@given(st.lists(st.integers(0, 9), unique=True), st.data())
def test_the_order_of_each_chain_is_kept(order: list[int], data: st.DataObject) -> None:
    # Subsequences of one sequence never contradict each other, whatever their clocks say.
    times = data.draw(st.lists(st.integers(0, 9), min_size=len(order), max_size=len(order)))
    full = [{"command": str(i), "time": str(t)} for i, t in zip(order, times, strict=True)]
    parts = data.draw(
        st.lists(st.lists(st.booleans(), min_size=len(full), max_size=len(full)), max_size=4)
    )
    given_chains = [[s for s, keep in zip(full, part, strict=True) if keep] for part in parts]
    merged = extend(given_chains, NEW)
    for chain in given_chains:
        places = [merged.index(step) for step in chain]
        assert places == sorted(places)


def test_independent_entries_are_ordered_by_time() -> None:
    late, early = {"command": "a", "time": "2"}, {"command": "b", "time": "1"}
    assert extend([[late], [early]], NEW) == [early, late, NEW]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["a"]]', "null", "[", "[{}", '[{"a": NaN}]'])
def test_a_chain_that_is_no_list_of_entries_is_refused(text: str) -> None:
    with pytest.raises(DamagedInputError, match=r"^file: its provenance"):
        parse_chain(text, "file")


@given(chains)
def test_a_chain_round_trips(given_chains: list[list[dict[str, Any]]]) -> None:
    chain = extend(given_chains, NEW)
    assert parse_chain(bounded_json.dump(chain), "file") == chain
