"""The comparison page in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.evaluation.compare import compare
from tests.test_compare import make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --hide-scrollbars"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
# what a person would notice: something wider than the window, a plot without curves, text on text
PROBE = """<script>
const root = document.documentElement, plots = [...document.querySelectorAll("figure svg")];
const overlap = plots.some(svg => { const boxes = [...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2)); });
const inside = plots.every(svg => [...svg.querySelectorAll("text")].every(t => { const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect();
  return a.left >= b.left - 1 && a.right <= b.right + 1; }));
parent.document.title = JSON.stringify({width: innerWidth, scroll: root.scrollWidth, plots: plots.length, overlap, inside,
  curves: document.querySelectorAll("figure .curve").length, tables: document.querySelectorAll("table").length,
  back: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    runs = [
        make_run(folder / f"mistral-rank-{rank}-long-name", seed=rank, rank=rank, steps=200) for rank in (4, 8, 16, 32)
    ]
    runs[3] = make_run(folder / "on-other-rows", questions=50)
    compare(runs, folder / "out", Console(), anyway=True)
    path = folder / "out" / "comparison.html"
    path.write_text(path.read_text().replace("</body>", f"{PROBE}</body>"))
    return path


def look(page: Path, width: int, profile: Path, *flags: str) -> dict[str, object]:
    # a browser's window is at least 500 wide; a frame is as narrow as it is told
    frame = f'<body style="margin:0"><iframe style="border:0;width:{width}px;height:1600px" srcdoc="{escape(page.read_text())}">'
    profile.mkdir(exist_ok=True)
    (profile / "frame.html").write_text(frame)
    command = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={width},1600", *flags]
    done = subprocess.run(
        [*command, "--dump-dom", (profile / "frame.html").as_uri()], capture_output=True, text=True, timeout=60
    )
    title = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    assert title, done.stderr[-500:]
    found: dict[str, object] = json.loads(title[1])
    return found


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window_and_every_curve_is_drawn(page: Path, width: int, tmp_path: Path) -> None:
    seen = look(page, width, tmp_path)
    assert (seen["width"], seen["scroll"]) == (width, width)
    assert (seen["plots"], seen["curves"], seen["tables"]) == (4, 16, 3)
    assert (seen["overlap"], seen["inside"]) == (False, True)


def test_it_is_light_or_dark_as_the_reader_likes(page: Path, tmp_path: Path) -> None:
    light = look(page, 1280, tmp_path / "light")
    dark = look(page, 1280, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert (light["back"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    assert (dark["back"], dark["ink"]) == ("rgb(20, 23, 27)", "rgb(230, 233, 237)")
