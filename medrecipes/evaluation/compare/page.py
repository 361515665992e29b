"""A comparison as one HTML page that needs nothing else: what differs, what it shows, figures, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrecipes import __version__
from medrecipes.evaluation.pages.frame import Html, document, paragraph, section, table, text
from medrecipes.evaluation.pages.plots import colour_style, figure, legend, strip
from medrecipes.runs.loss_plot import Panel, drawn

PAIRED = (
    "Both runs answered the same rows; whole groups are drawn again and again, the same for both, and the interval (95%) is that "
    "of the difference. An interval that holds 0 shows no difference. Not corrected for the number of comparisons."
)


@dataclass(frozen=True)
class Tables:
    """The tables of a comparison; `zero`: the figures that are 0 for every run, which have a line instead of rows.

    `intervals`: what the pictures show, metric by metric, each run with its figure.
    """

    settings: Sequence[Sequence[str]]
    pairs: Sequence[Sequence[str]]
    figures: Sequence[Sequence[str]]
    zero: str = ""
    intervals: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]] = ()


def html(
    tables: Tables, panels: Sequence[Panel], notes: Sequence[str], marks: int, colours: Mapping[str, int]
) -> str:  # fmt: skip
    """The whole page; the first `marks` notes are warnings."""
    told = "".join(
        f'<div class="note{" mark" if number < marks else ""}">{text(note)}</div>' for number, note in enumerate(notes)
    )
    parts = [
        section("settings", "Settings that differ", table(tables.settings, "settings that differ") or paragraph("None that the runs recorded.")),
        section("pairs", "Which differences are real", paragraph(PAIRED, "soft"), table(_coloured(tables.pairs), "differences"))
        if len(tables.pairs) > 1 else "",
        section("figures", "Figures", _pictures(tables, colours), table(tables.figures, "figures"), paragraph(tables.zero, "soft")),
        *(_panel(number, panel, colours) for number, panel in enumerate(panels)),
    ]  # fmt: skip
    body = (
        f"<header><h1>Runs side by side</h1>{paragraph(f'{len(colours)} runs, by medrecipes {__version__}', 'soft')}{legend(list(colours), colours)}{told}</header>\n"
        f"<main>{''.join(parts)}</main>"
    )
    return document("Runs side by side", body, more_style=colour_style(colours))


def _pictures(tables: Tables, colours: Mapping[str, int]) -> str:
    """Every metric with the runs' intervals."""
    strips = [
        strip(name, [(run, f"run{colours[run]}", figure) for run, figure in lanes]) for name, lanes in tables.intervals
    ]
    return f'<div class="strips">{"".join(strips)}</div>' if strips else ""


def _coloured(pairs: Sequence[Sequence[str]]) -> list[list[object]]:
    """The pairs, with those that differ in a colour besides their words."""
    rows: list[list[object]] = [[*pairs[0]]]
    for *start, said, count in pairs[1:]:
        better = said.endswith(" is better")
        rows.append([*start, Html(f'<span class="good">{text(said)}</span>') if better else said, count])
    return rows


def _panel(number: int, panel: Panel, colours: Mapping[str, int]) -> str:
    title = f"{panel.title[:1].upper()}{panel.title[1:]}, {panel.unit}"
    plots = [figure(panel, view, colours) for view in drawn(panel.curves)]
    names = [curve.name for curve in panel.curves]
    return section(
        f"losses-{number}",
        title,
        paragraph(panel.why),
        legend(names, colours),
        f'<div class="plots">{"".join(plots)}</div>',
    )
