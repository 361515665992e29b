"""The comparison page in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.evaluation.compare import compare
from tests.browser import DARK, NO_CHROMIUM, errors, look, require_accessible
from tests.test_compare import make_run

pytestmark = NO_CHROMIUM
# what a person would notice: something wider than the window, a plot without curves, text on text
PROBE = """<script>
const root = document.documentElement, plots = [...document.querySelectorAll("figure svg")];
const overlap = plots.some(svg => { const boxes = [...svg.querySelectorAll("text")].map(t => t.getBoundingClientRect());
  return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2)); });
const inside = plots.every(svg => [...svg.querySelectorAll("text")].every(t => { const a = t.getBoundingClientRect(), b = svg.getBoundingClientRect();
  return a.left >= b.left - 1 && a.right <= b.right + 1; }));
parent.document.title = JSON.stringify({width: innerWidth, scroll: root.scrollWidth, plots: plots.length, overlap, inside,
  headings: [...document.querySelectorAll("h2")].map(h => h.textContent), curves: document.querySelectorAll("figure .curve").length, tables: document.querySelectorAll("table").length,
  back: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    runs = [
        make_run(folder / f"mistral-rank-{rank}-long-name", seed=rank, rank=rank, steps=200) for rank in (4, 8, 16, 32)
    ]
    runs[3] = make_run(folder / "on-other-rows", questions=50)
    compare(runs, folder / "out", Console(), anyway=True)
    return (folder / "out" / "comparison.html").read_text()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window_and_every_curve_is_drawn(page: str, width: int, tmp_path: Path) -> None:
    seen = look(page, PROBE, width, tmp_path)
    assert (seen["width"], seen["scroll"]) == (width, width)
    assert (seen["plots"], seen["curves"], seen["tables"]) == (4, 16, 3)
    assert (seen["overlap"], seen["inside"]) == (False, True)
    assert seen["headings"][:3] == ["Settings that differ", "Which differences are real", "Figures"]


def test_it_is_light_or_dark_as_the_reader_likes(page: str, tmp_path: Path) -> None:
    light = look(page, PROBE, 1280, tmp_path / "light")
    dark = look(page, PROBE, 1280, tmp_path / "dark", DARK)
    assert (light["back"], light["ink"]) == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    assert (dark["back"], dark["ink"]) == ("rgb(20, 23, 27)", "rgb(230, 233, 237)")


def test_axe_finds_nothing_serious_and_the_console_is_empty(page: str, tmp_path: Path) -> None:
    assert errors(page, tmp_path / "console") == []
    require_accessible(page, tmp_path)


def test_runs_of_the_same_test_have_their_intervals_drawn(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"mistral-long-name-rank-{rank}", rank=rank, bits=2 - rank / 100) for rank in (4, 16)]
    compare(runs, tmp_path / "out", Console())
    text = (tmp_path / "out" / "comparison.html").read_text()
    assert 'aria-label="bits per byte of answer: mistral-long-name-rank-4 1.9' in text
    for width in (400, 1280):
        seen = look(text, PROBE, width, tmp_path / str(width))
        assert (seen["width"], seen["scroll"], seen["overlap"], seen["inside"]) == (width, width, False, True)
        assert seen["plots"] == 4 + 6  # losses; bits, three ROUGEs, stops and length, for all else is 0
    require_accessible(text, tmp_path, widths=(1280,))
