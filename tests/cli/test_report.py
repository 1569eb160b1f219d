"""``arcsm report``: the page is the output, and nothing else is printed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.preloaded import Done


def test_the_page_holds_what_json_printed(call: Callable[..., "Done"], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"metrics": {"nll": 1.25}}')
    done = call("report", "result.json", "-o", "r.html")
    assert (done.code, done.out, done.err) == (0, b"", "")
    page = (tmp_path / "r.html").read_text()
    assert "result.json" in page
    assert "1.25" in page
    assert call("report", "result.json", "-o", "r.html").code == 73


def test_standard_input_is_read_once(call: Callable[..., "Done"]) -> None:
    assert call("report", "-", "-", "-o", "r.html").code == 2
