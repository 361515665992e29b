"""The tables of a comparison: settings that differ, figures a run, and which differences are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from medrecipes.evaluation.chat_report import TUNED
from medrecipes.evaluation.compare.histories import UNKNOWN, History
from medrecipes.evaluation.verdicts import nil, verdict
from medrecipes.runs.loss_plot import Panel, Point
from medrecipes.scoring.bootstrap import Estimate, Figure, difference, draw_weights
from medrecipes.scoring.figures import answer_figures, extraction_figures, listed, task_counts
from medrecipes.scoring.predictions import SPANS, Prediction, as_taggings, groups
from medrecipes.scoring.span_report import headline
from medrecipes.scoring.tables import HEADLINES, METRICS, show

BESIDE_RECIPE = ("name", "data.path", "eval.cases")  # where things lie, not what was done
MARKED = " (not comparable)"  # behind a figure of runs that were not evaluated alike
DRAWS, SEED = 1000, 42
LAST = 0.05  # share of steps that the final loss is the mean of
KINDS = {"answers": "answers only", "all": "whole texts", "tags": "tags of words"}


def settings_rows(runs: Sequence[History]) -> list[list[str]]:
    """Every setting that is not the same in all runs that have any."""
    known = [run for run in runs if run.settings]
    keys = dict.fromkeys(key for run in known for key in run.settings if key not in BESIDE_RECIPE)
    rows = [["setting", *(run.name for run in runs)]]
    for key in keys:
        values = [_shown(run.settings.get(key)) for run in known]
        if len(set(values)) > 1:
            rows.append([key, *(_shown(run.settings.get(key)) if run.settings else "unknown" for run in runs)])
    return rows


def figure_rows(runs: Sequence[History], panels: Sequence[Panel], *, marked: bool = False) -> list[list[str]]:
    """Losses, cost and test figures, a column a run."""
    curves = {curve.name: (panel, curve) for panel in panels for curve in panel.curves}
    table: dict[str, list[str]] = {"state": [run.state for run in runs]}
    table["loss covers"] = [KINDS.get(run.loss_on, UNKNOWN) for run in runs]
    table["unit of losses"] = [curves[run.name][0].unit for run in runs]
    table["final training loss"] = [_final(curves[run.name][1].train) for run in runs]
    table["mean training loss, nats a token"] = [_digits(run.stats.get("train_loss")) for run in runs]
    table["best dev loss"] = [_best(curves[run.name][1].dev) for run in runs]
    table["steps"] = [f"{run.train[-1].step:,}" for run in runs]
    table["tokens trained on"] = [_number(run.train[-1].tokens or run.stats.get("tokens")) for run in runs]
    table["tokens a second"] = [_throughput(run) for run in runs]
    table["rows a second"] = [_digits(run.stats.get("train_samples_per_second")) for run in runs]
    table["training time"] = [_time(run.stats.get("train_runtime") or run.train[-1].seconds) for run in runs]
    table["peak memory"] = [f"{run.stats['peak_gb']} GB" if run.stats.get("peak_gb") else "" for run in runs]
    table["test rows"] = [f"{run.report['rows']} of {run.report['split']}" if run.report else "" for run in runs]
    for name, (title, _) in METRICS.items():
        cells = [
            show(name, run.report[TUNED][name]) if run.report and name in run.report[TUNED] else "" for run in runs
        ]
        if any(cells):
            table[f"{title}{MARKED if marked else ''}"] = cells
    return [["figure", *(run.name for run in runs)], *([title, *cells] for title, cells in table.items() if any(cells))]


def zero_titles(runs: Sequence[History]) -> list[str]:
    """The figures that are 0 or none for every run, interval and all."""
    found = [run.report[TUNED] for run in runs if run.report]
    return [title for name, (title, _) in METRICS.items() if (those := [figures[name] for figures in found if name in figures]) and all(map(nil, those))]  # fmt: skip


def lanes(runs: Sequence[History]) -> list[tuple[str, list[tuple[str, Mapping[str, Any]]]]]:
    """Metric by metric, the runs that have a figure of it, for pictures; none of what is 0 for every run."""
    found = []
    for name in METRICS:
        those = [(run.name, run.report[TUNED][name]) for run in runs if run.report and name in run.report[TUNED]]
        known = [(run, figure) for run, figure in those if figure["value"] is not None]
        if len(known) > 1 and not all(nil(figure) for _, figure in known):
            found.append((name, known))
    return found


def pair_rows(runs: Sequence[History]) -> list[list[str]]:
    """For each pair of runs, the difference of each headline figure over their common rows, and whether it is one."""
    rows = [["second minus first", "figure", "difference", "verdict", "rows"]]
    for one, other in combinations([run for run in runs if run.test], 2):
        theirs = {(p.id, p.prompt, p.gold): p for p in other.test}
        common = [(p, theirs[key]) for p in one.test if (key := (p.id, p.prompt, p.gold)) in theirs]
        if not common:
            continue
        first, second = ([pair[side] for pair in common] for side in (0, 1))
        for name, found in paired(first, second).items():
            said = _verdict(name, found, one.name, other.name)
            shown = show(name, found.as_dict(), signed=True)
            rows.append([f"{other.name} - {one.name}", METRICS[name][0], shown, said, str(len(common))])
        if _other_texts(first, second):
            title = METRICS["bits_per_byte"][0]
            rows.append([f"{other.name} - {one.name}", title, "-", "not comparable: one supervises reasoning too", str(len(common))])  # fmt: skip
    return rows


def paired(first: Sequence[Prediction], second: Sequence[Prediction]) -> dict[str, Estimate]:
    """Second minus first on the same resamples of groups, for every headline figure that both have."""
    before, after = _headlines(first), _headlines(second)
    found = {}
    left_out = {"bits_per_byte"} if _other_texts(first, second) else set()
    for name in (name for name in HEADLINES if name in before and name in after and name not in left_out):
        rows = listed(first) if name in ("micro_f1", "macro_f1") else list(first)
        weights, of_row = draw_weights(groups(rows), DRAWS, SEED)
        found[name] = difference(after[name], before[name], weights, of_row)
    return found


def _other_texts(first: Sequence[Prediction], second: Sequence[Prediction]) -> bool:
    """Whether the bits of the same rows are of different texts: of answers here, of reasoning and answers there."""
    return [p.bytes for p in first] != [p.bytes for p in second]


def _headlines(rows: Sequence[Prediction]) -> dict[str, Figure]:
    if all(p.task == SPANS for p in rows):
        return headline(as_taggings(rows))
    figures = answer_figures(rows)
    if lists := listed(rows):
        extraction = extraction_figures(task_counts(lists))
        figures |= {f"{name}_f1": extraction[name]["f1"] for name in ("micro", "macro")}
    return figures


def _verdict(name: str, found: Estimate, one: str, other: str) -> str:
    shown = verdict(name, found.as_dict())
    return {"better": f"{other} is better", "worse": f"{one} is better"}.get(shown, shown)


def _final(points: Sequence[Point]) -> str:
    last = points[-max(1, round(len(points) * LAST)) :]
    return f"{sum(p.loss for p in last) / len(last):.3f}"


def _best(points: Sequence[Point]) -> str:
    best = min(points, key=lambda p: p.loss, default=None)
    return f"{best.loss:.3f} at step {best.step}" if best else ""


def _throughput(run: History) -> str:
    last = run.train[-1]
    return f"{last.tokens / last.seconds:,.0f}" if last.tokens and last.seconds else ""


def _time(seconds: Any) -> str:
    if not seconds:
        return ""
    whole = round(float(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _number(value: Any) -> str:
    return f"{value:,}" if value else ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _digits(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"
