"""The pages in headless Chromium: no errors, every figure drawn, nothing wider than a phone, nothing lost on paper.

The pages hold no script and forbid any. A wrapper beside a page shows it in a frame of a given width and writes what it
measures there into its own title.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from megatron_redone.reporting.ablation_page import ablation_html
from megatron_redone.reporting.html import report_html
from megatron_redone.reporting.run_files import load_run
from tests.unit.reporting.synthetic_ablation import synthetic_ablation
from tests.unit.reporting.synthetic_run import write_run

PHONE, DESK, PAPER = 390, 1280, 718
"""Widths in CSS pixels; paper is A4 at 96 a inch between margins of 10 mm."""
WRAPPER = """\
<!doctype html><meta charset="utf-8"><title>nothing measured</title>
<iframe id="page" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").addEventListener("load", event => {{
  const page = event.target.contentDocument;
  const all = (what, fault) => [...page.querySelectorAll(what)].filter(fault).length;
  const right = one => one.getBoundingClientRect().right;
  const small = one => Math.min(one.getBoundingClientRect().width, one.getBoundingClientRect().height) < 40;
  document.title = JSON.stringify({{
    width: page.documentElement.scrollWidth,
    figures: all("figure svg", one => true),
    hidden: all("figure svg", one => !one.closest("details:not([open])") && small(one)),
    beyond: all("td, th, p, li, figure", one => !one.closest(".scroll") && right(one) > {width} + 1),
    cut: all("td, th", one => right(one) > {width} + 1),
    folded: all("details td, details p, details dd", one => !one.getClientRects().length),
  }});
}});
</script>
"""


def chromium() -> str:
    """The browser of this machine; without one the test skips."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on this machine")


def browse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
        "--virtual-time-budget=10000",
    ]  # fmt: skip
    return subprocess.run([chromium(), *options, *arguments], capture_output=True, text=True, timeout=240, check=True)


def measured(folder: Path, page: str, width: int) -> dict[str, Any]:
    """What the wrapper measured of a page in a frame of `width` pixels; the browser logged no error meanwhile."""
    path = folder / f"wrapper-{width}.html"
    path.write_text(WRAPPER.format(width=width, page=html.escape(page, quote=True)), encoding="utf-8")
    done = browse(folder, f"--window-size={width + 40},1000", "--dump-dom", path.as_uri())
    assert "CONSOLE" not in done.stderr, done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None
    found: dict[str, Any] = json.loads(html.unescape(title[1]))
    return found


@pytest.fixture(scope="module", params=["report", "ablation"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    chromium()
    if request.param == "ablation":
        return ablation_html(synthetic_ablation())
    return report_html(load_run(write_run(tmp_path_factory.mktemp("browser") / "run")))


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_figure_is_drawn_and_the_page_is_no_wider_than_the_screen(page: str, width: int, tmp_path: Path) -> None:
    found = measured(tmp_path, page, width)
    assert found["figures"] == page.count("<figure>") > 2
    assert (found["hidden"], found["beyond"]) == (0, 0)
    assert found["width"] <= width, "tables scroll inside their own frame"


@pytest.mark.slow
def test_a_planted_fault_is_measured(page: str, tmp_path: Path) -> None:
    found = measured(tmp_path, page.replace("<h1>", '<p style="width:900px">wide</p><h1>'), PHONE)
    assert found["width"] > PHONE and found["beyond"] > 0


@pytest.mark.slow
def test_paper_shows_what_the_screen_folds_away_and_cuts_no_table(page: str, tmp_path: Path) -> None:
    found = measured(tmp_path, page.replace("@media print", "@media all"), PAPER)
    assert (found["cut"], found["folded"]) == (0, 0)
    path, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    path.write_text(page, encoding="utf-8")
    browse(tmp_path, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", path.as_uri())
    assert pdf.read_bytes().startswith(b"%PDF-") and len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) > 1
