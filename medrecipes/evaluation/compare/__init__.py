"""Runs side by side: losses in one measure, settings that differ, figures with intervals, and which differences are real."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import RunError
from medrecipes.core.files import PRIVATE, write_text
from medrecipes.core.markup import cell, plain
from medrecipes.evaluation.chat_report import spoken
from medrecipes.evaluation.compare import page
from medrecipes.evaluation.compare.figures import MARKED, figure_rows, lanes, pair_rows, settings_rows, zero_titles
from medrecipes.evaluation.compare.histories import COVERS, UNKNOWN, History, read_history
from medrecipes.runs.folder import holding
from medrecipes.runs.loss_plot import Curve, Panel, Point, panels_png, smooth
from medrecipes.scoring.tables import aligned, markdown

FILES = ("comparison.html", "comparison.md", "losses.png", "losses.csv", "table.csv")
TITLE = "# Runs side by side"
NATS, BITS = "nats a token", "bits per byte of answer"
WHY_BITS = (
    "These runs split text into different tokens, so a loss per token of one says nothing of another. Shown is the loss per "
    "byte of answer: loss a token × learned tokens per byte of answer of the run's own rows / ln 2."
)
WHY_APART = (
    "Their tokenizers differ and their answers' bytes are not known, so no common measure exists: each stands alone."
)
WHY_UNKNOWN = (
    "As published. If these runs' tokenizers differ, or one learned whole texts and another answers only, the heights of "
    "their curves must not be compared, only their shapes."
)


@dataclass(frozen=True)
class Comparison:
    """All that the table, the plots and the page show."""

    runs: tuple[History, ...]
    panels: tuple[Panel, ...]
    settings: list[list[str]]
    figures: list[list[str]]
    pairs: list[list[str]]
    notes: tuple[str, ...]
    zero: tuple[str, ...] = ()
    intervals: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, Any]]]]] = ()

    @property
    def tables(self) -> page.Tables:
        """What people read: figures that are 0 for every run are a line, and no rows."""
        rows = [row for row in self.figures if row[0].removesuffix(MARKED) not in self.zero]
        pairs = [row for row in self.pairs if row[1] not in self.zero]
        zero = f"0 for every run, interval and all: {', '.join(self.zero)}." if self.zero else ""
        return page.Tables(self.settings, pairs, rows, zero, self.intervals)


def compare(paths: Sequence[Path], out: Path, console: Console, *, anyway: bool = False) -> Comparison:
    """Read the runs, refuse what cannot be compared, and write table, plots and page into `out`."""
    _refuse_foreign(out)
    runs = read_runs(paths)
    marks = same_test(runs, anyway=anyway)
    said = dict.fromkeys(note for run in runs for note in run.notes)
    notes = [*marks, *(f"{', '.join(run.name for run in runs if note in run.notes)}: {note}" for note in said)]
    panels = tuple(make_panels(runs))
    made = Comparison(
        tuple(runs), panels, settings_rows(runs), figure_rows(runs, panels, marked=bool(marks)), pair_rows(runs), tuple(notes),
        tuple(zero_titles(runs)), () if marks else lanes(runs),
    )  # fmt: skip
    colours = {run.name: number for number, run in enumerate(runs)}
    out.mkdir(PRIVATE, parents=True, exist_ok=True)
    with holding(out):
        write_text(out / "comparison.md", as_markdown(made))  # the first, by which the others are known
        panels_png(out / "losses.png", panels, colours)
        write_text(out / "losses.csv", losses_csv(panels))
        write_text(out / "table.csv", _csv([*made.figures, *made.settings[1:]]))
        write_text(out / "comparison.html", page.html(made.tables, panels, notes, len(marks), colours))
    _print(made.tables, console)
    for note in notes:
        console.line(f"note: {note}")
    console.line()
    for name in FILES:
        console.line(f"{name:<15} {out / name}")
    return made


def _print(tables: page.Tables, console: Console) -> None:
    """What differs, what it shows, and the figures."""
    for rows in (tables.settings, tables.pairs):
        if len(rows) > 1:
            for line in aligned(rows, console.width):
                console.line(line)
            console.line()
    for line in aligned(tables.figures, console.width):
        console.line(line)
    if tables.zero:
        console.line(tables.zero)


def _refuse_foreign(out: Path) -> None:
    """Raise where a file would be replaced that no comparison wrote."""
    page = out / "comparison.md"
    if page.is_file() and page.read_bytes().startswith(TITLE.encode()):
        return
    if taken := next((out / name for name in FILES if os.path.lexists(out / name)), None):
        raise RunError(f"{taken}: stands in the way and is of no comparison; move it away, or choose another --out")


def read_runs(paths: Sequence[Path]) -> list[History]:
    """The runs, each once and each with a name of its own."""
    runs: list[History] = []
    for path in paths:
        run = read_history(path)
        if any(run.path == other.path for other in runs):
            raise RunError(f"{path}: is given twice; name each run once")
        runs.append(run)
    if len(runs) < 2:
        raise RunError(f"{paths[0]}: is one run; name at least two to compare")
    names = [run.name for run in runs]
    twice = {name for name in names if names.count(name) > 1}
    return [replace(run, name=f"{run.path.parent.name}/{run.name}") if run.name in twice else run for run in runs]


def same_test(runs: Sequence[History], *, anyway: bool) -> list[str]:
    """Raise if two runs were evaluated on different rows or with different decoding; `anyway`: marks that say so, instead."""
    marks = []
    for one, other in combinations([run for run in runs if run.test], 2):
        if not (found := _unlike(one, other)):
            continue
        how, what, said, cure = found
        if not anyway:
            raise RunError(
                f"{one.name} and {other.name} were evaluated {how} different {what} ({said}); {cure}, "
                "or lay them side by side with --anyway"
            )
        marks.append(
            f"DIFFERENT {what.upper()}: {one.name} and {other.name} ({said}); their figures are not comparable"
        )
    return marks


def _unlike(one: History, other: History) -> tuple[str, str, str, str] | None:
    """In what two runs were not evaluated alike."""
    first, second = ({(p.id, p.prompt, p.gold) for p in run.test} for run in (one, other))
    if first != second:
        said = f"{len(first)} and {len(second)} test rows, {len(first & second)} in common"
        return "on", "test sets", said, "evaluate both on one set"
    drawn = [spoken(run.report["decoding"]) for run in (one, other) if run.report and "decoding" in run.report]
    if len(set(drawn)) > 1:
        return "with", "decoding", " against ".join(drawn), "evaluate both with the same [eval]"
    return None


def make_panels(runs: Sequence[History]) -> list[Panel]:
    """Losses that mean the same, together; never answers beside whole texts, nor tokens of one kind beside another."""
    panels = []
    for kind, covers in COVERS.items():
        same = [run for run in runs if run.loss_on == kind]
        if not same:
            continue
        tokenizers = {run.tokenizer for run in same}
        if kind == UNKNOWN or (len(tokenizers) == 1 and None not in tokenizers) or len(same) == 1:
            why = WHY_UNKNOWN if kind == UNKNOWN and len(same) > 1 else ""
            panels.append(_panel(covers, NATS, why, same))
            continue
        convertible = [run for run in same if kind == "answers" and {"train", "dev"} <= set(run.bits)]
        if convertible:
            panels.append(_panel(covers, BITS, WHY_BITS, convertible))
        for run in same:
            if run not in convertible:
                panels.append(_panel(f"{covers}: {run.name}", NATS, WHY_APART, [run]))
    return panels


def _panel(title: str, unit: str, why: str, runs: Sequence[History]) -> Panel:
    return Panel(title, unit, why, tuple(_curve(run, unit) for run in runs))


def _curve(run: History, unit: str) -> Curve:
    def scaled(points: Sequence[Point], split: str) -> list[Point]:
        factor = run.bits[split] if unit == BITS else 1.0
        return [Point(p.step, p.loss * factor, p.tokens, p.seconds) for p in points]

    return Curve(run.name, scaled(run.train, "train"), scaled(run.dev, "dev"))


def losses_csv(panels: Sequence[Panel]) -> str:
    """All points of all runs, a row each."""
    rows = [["run", "split", "step", "tokens", "seconds", "loss", "smoothed", "unit", "covers"]]
    for panel in panels:
        for curve in panel.curves:
            for split, points in (("train", curve.train), ("dev", curve.dev)):
                smoothed = smooth([p.loss for p in points]) if split == "train" else [p.loss for p in points]
                for p, value in zip(points, smoothed, strict=True):
                    seconds = "" if p.seconds is None else f"{p.seconds:.3f}"
                    tokens = "" if p.tokens is None else str(p.tokens)
                    rows.append([curve.name, split, str(p.step), tokens, seconds, repr(p.loss), f"{value:.6f}", panel.unit, panel.title])  # fmt: skip
    return _csv(rows)


def as_markdown(made: Comparison) -> str:
    """The tables and the plot for a README."""
    lines = [TITLE, "", *(f"> {plain(note)}" for note in made.notes), ""]
    tables = made.tables
    if len(tables.settings) > 1:
        lines += ["## Settings that differ", "", *markdown(tables.settings), ""]
    if len(tables.pairs) > 1:
        lines += ["## Which differences are real", "", page.PAIRED, "", *markdown(tables.pairs), ""]
    lines += ["## Figures", "", *markdown(tables.figures), "", *([tables.zero, ""] if tables.zero else [])]
    lines += ["## Losses", "", "![losses](losses.png)", ""]
    for panel in made.panels:
        runs = ", ".join(plain(curve.name) for curve in panel.curves)
        lines += [f"- {plain(panel.title)}, {panel.unit}: {runs}. {panel.why}".rstrip()]
    return "\n".join([*lines, ""])


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(map(cell, row) for row in rows)
    return file.getvalue()
