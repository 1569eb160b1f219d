"""The page of a run: what it shows of which file, and nothing that files could do to it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.reporting.page import report_page
from tests.reporting.conftest import HARM


class Seen(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def seen(run_files: list[Path]) -> Seen:
    return Seen(report_page(run_files))


def test_every_file_is_named_and_has_its_figures(seen: Seen, run_files: list[Path]) -> None:
    for path in run_files:
        assert str(path) in seen.text
    assert seen.tags.count("img") == 9  # of each file but the result, histograms, ROC curves
    assert "1.5 \u00b1 0.1" in seen.text
    assert "auroc" in seen.text


def test_texts_of_files_stay_texts(seen: Seen) -> None:
    assert HARM in seen.text
    assert not {"script", "iframe", "object", "link"} & set(seen.tags)
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_nothing_is_fetched(seen: Seen) -> None:
    for name, value in seen.attributes:
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#"))


def test_links_lead_to_places_on_the_page(seen: Seen) -> None:
    places = {value for name, value in seen.attributes if name == "id"}
    links = [value[1:] for name, value in seen.attributes if name == "href"]
    assert links
    assert set(links) <= places


def test_equal_files_give_equal_pages(run_files: list[Path]) -> None:
    chosen = [run_files[0], run_files[-1]]
    assert report_page(chosen) == report_page(chosen)


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", '{"metrics": 3}', '{"metrics": {}, "statistics": 1, "against": 2}', "nll 3"],
)
def test_what_no_command_printed_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(text)
    with pytest.raises(DamagedInputError, match=re.escape(str(file))):
        report_page([file])
