"""JSON in files."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcsm_cli.io.bounded_json import JSONError, dump, parse

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(values)
def test_a_value_round_trips(value: object) -> None:
    assert parse(dump(value), size=1 << 20, depth=64) == value


@given(st.dictionaries(st.text(), st.integers()))
def test_the_order_of_keys_does_not_matter(value: dict[str, int]) -> None:
    assert dump(value) == dump(dict(reversed(value.items())))


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(JSONError):
        parse(text, size=100)


@given(st.text(alphabet='[]{}",:\\1a '))
def test_any_near_json_is_parsed_or_refused(text: str) -> None:
    with suppress(JSONError):
        parse(text, size=100)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_constants_that_are_no_json_are_refused(text: str) -> None:
    with pytest.raises(JSONError):
        parse(text, size=100)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_nan_and_infinity_are_not_written(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump(value)


def test_repeated_keys_are_refused() -> None:
    with pytest.raises(JSONError, match="repeats"):
        parse('{"a": 1, "a": 2}', size=100)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(JSONError, match="nested"):
        parse("[" * 100_000 + "]" * 100_000, size=1 << 20)


def test_brackets_within_texts_do_not_count_as_nesting() -> None:
    text = "[" * 100 + '\\"' + "{" * 100
    assert parse(dump({text: text}), size=1 << 10) == {text: text}


def test_many_items_are_refused() -> None:
    with pytest.raises(JSONError, match="more than 10"):
        parse("[" + "[]," * 10 + "[]]", size=100, items=10)


def test_long_texts_are_refused() -> None:
    with pytest.raises(JSONError, match="longer"):
        parse('"' + "a" * 100 + '"', size=100)


def test_gigantic_integers_are_refused() -> None:
    with pytest.raises(JSONError):
        parse("1" * 10_000, size=1 << 20)
