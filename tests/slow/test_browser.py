"""A report in a real browser, as wide as a telephone: chromium, where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from arcsm_cli.reporting.page import report_page
from tests.reporting.conftest import run_files  # noqa: F401

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

# Holds the page in a frame, whose own policy is in force there, and writes down what it finds.
LOOK = """<!doctype html><title>look</title><iframe style="width:WIDTHpx;height:600px"
srcdoc="PAGE"></iframe><pre id="found"></pre><script>
onload = () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument;
  const width = frame.clientWidth;
  const texts = [...page.querySelectorAll("main *")].filter(e => e.innerText && !e.children.length);
  document.getElementById("found").textContent = JSON.stringify({
    harmed: !!window.harmed,
    wide: page.documentElement.scrollWidth - width,
    smallest: Math.min(...texts.map(e => parseFloat(frame.contentWindow.getComputedStyle(e).fontSize))),
    images: [...page.images].map(e => [e.naturalWidth, e.getBoundingClientRect().width]),
    fetched: frame.contentWindow.performance.getEntriesByType("resource")
      .map(e => e.name).filter(n => !n.startsWith("data:")),
    rows: page.querySelectorAll(".row").length,
  });
};
</script>"""  # noqa: E501


def browse(page: Path, *options: str) -> str:
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, timeout=300, check=True)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def page(run_files: list[Path]) -> str:  # noqa: F811
    return report_page(run_files)


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_and_can_be_read(page: str, width: int, tmp_path: Path) -> None:
    looked = LOOK.replace("WIDTH", str(width)).replace("PAGE", html.escape(page))
    (tmp_path / "look.html").write_text(looked)
    dumped = browse(tmp_path / "look.html", "--dump-dom", "--virtual-time-budget=5000")
    text = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert text is not None
    found: dict[str, Any] = json.loads(html.unescape(text[1]))
    assert not found["harmed"]
    assert found["fetched"] == []
    assert found["wide"] <= 0
    assert found["smallest"] >= 11
    assert found["rows"] > 10
    assert found["images"]
    assert all(pixels >= 300 and shown >= 300 for pixels, shown in found["images"])


def test_the_page_is_printed_on_several_sheets(page: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(page)
    browse(tmp_path / "report.html", f"--print-to-pdf={tmp_path / 'report.pdf'}")
    printed = (tmp_path / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 20
