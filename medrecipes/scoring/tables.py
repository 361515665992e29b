"""Figures as people read them: titles, units, and tables for the console and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medrecipes.core.markup import plain
from medrecipes.scoring.predictions import QA
from medrecipes.scoring.span_report import type_rows

# name in a report -> what a person reads, and whether more is better (None: neither)
METRICS: dict[str, tuple[str, bool | None]] = {
    "bits_per_byte": ("bits per byte of answer", False),
    "rouge1": ("ROUGE-1", True),
    "rouge2": ("ROUGE-2", True),
    "rougeL": ("ROUGE-L", True),
    "stops": ("stops by itself", True),
    "limit": ("hits the length limit", False),
    "length_ratio": ("words per word of reference", None),
    "repeated_ngrams": ("repeated runs of 4 words", False),
    "repeated_items": ("repeated list items", False),
    "exact_match": ("exact match", True),
    "doses_kept": ("doses of the reference kept", True),
    "doses_contradicted": ("doses contradicted", False),
    "units_contradicted": ("of these by the unit alone", False),
    "negations_kept": ("negations kept", True),
    "negations_contradicted": ("negations contradicted", False),
    "micro_f1": ("F1 of lists, micro", True),
    "macro_f1": ("F1 of lists, macro", True),
    "span_f1": ("F1 of spans, micro", True),
    "span_macro_f1": ("F1 of spans, macro", True),
    "span_precision": ("precision of spans, micro", True),
    "span_recall": ("recall of spans, micro", True),
}
SHARES = {
    name
    for name in METRICS
    if name.split("_")[0] in ("stops", "limit", "repeated", "exact", "doses", "units", "negations")
}
# what the console shows; report.md has the rest
HEADLINES = ("bits_per_byte", "rouge1", "rouge2", "rougeL", "stops", "exact_match", "micro_f1", "macro_f1", "span_f1",
             "span_macro_f1", "span_precision", "span_recall")  # fmt: skip
LISTS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "hallucination_rate": "hallucinated",
    "recall_ceiling": "recall ceiling",
    "exact_match": "exact match",
}
COUNTS = ("tp", "predicted", "gold", "true_negatives", "parse_failures", "hallucinated", "duplicates")


def show(name: str, figure: Mapping[str, float | None], *, signed: bool = False) -> str:
    """A figure with its interval, e.g. `1.234 [1.1, 1.3]`; shares as percentages; `-` where there is no such thing."""
    scale, digits, unit = (100, 0, "%") if name in SHARES else (1, 3, "")
    sign = "+" if signed else ""
    value, low, high = (
        None if part is None else f"{part * scale:{sign}.{digits}f}"
        for part in (figure[k] for k in ("value", "low", "high"))
    )
    if value is None:
        return "-"
    return f"{value}{unit} [-]" if low is None else f"{value}{unit} [{low}, {high}]"


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table of texts, and of what is `Markup`; the first row is its head."""
    head, *body = [[plain(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


def aligned(rows: Sequence[Sequence[str]], width: float = math.inf) -> list[str]:
    """The same as plain text, columns aligned; in a terminal that is too narrow, every figure above its interval."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows]
    return lines if max(map(len, lines), default=0) <= width else aligned(_stacked(rows))


def _stacked(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    found = []
    for row in rows:
        cells = [cell.partition(" [") for cell in row]
        found.append([figure for figure, _, _ in cells])
        if any(interval for _, _, interval in cells):
            found.append(["  95% interval", *(f"[{interval}" if interval else "" for _, _, interval in cells[1:])])
    return found


def answers_rows(task: Mapping[str, Any]) -> list[list[str]]:
    """The figures of answers to questions."""
    names = [name for name in METRICS if isinstance(task.get(name), dict)]
    return [[f"{task['rows']} questions", "", ""], *([METRICS[n][0], show(n, task[n]), ""] for n in names)]


def lists_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """Figures of lists: a row a task, then micro and macro, each named."""
    rows = [["lists", *LISTS.values()]]
    tasks = {task: value for task, value in report["tasks"].items() if task != QA}
    named = {**tasks, "micro average": report["micro"], "macro average": report["macro"]}
    for name, figures in named.items():
        rows.append([name, *(show("", figures[key]) if key in figures else "" for key in LISTS)])
    return rows


def counts_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """The counts behind the figures of lists."""
    tasks = {task: value for task, value in report["tasks"].items() if task != QA}
    rows = [["counts", "rows", *(name.replace("_", " ") for name in COUNTS)]]
    for name, value in {**tasks, "all": report["micro"]}.items():
        rows.append([name, str(value["rows"]), *(str(value[key]) for key in COUNTS)])
    return rows


def score_lines(report: Mapping[str, Any]) -> list[str]:
    """A score report for the console."""
    lines = [f"{report['rows']} predictions, {report['groups']} groups; intervals: {report['intervals']}", ""]
    if QA in report["tasks"]:
        lines += [*aligned(answers_rows(report["tasks"][QA])), ""]
    if report["micro"]:
        lines += [*aligned(lists_rows(report)), "", *aligned(counts_rows(report)), ""]
        lines += [f"the same: {report['normalisation']}", ""]
    if spans := report.get("spans"):
        lines += [f"{spans['rows']} tagged rows, strict: type and both borders right", ""]
        lines += [*aligned(type_rows(spans["strict"], spans["support"], show)), ""]
    if report.get("filtered", {}).get("micro"):
        lines += [f"filtered: {report['filtered']['filter']}", *aligned(lists_rows(report["filtered"])), ""]
    return lines[:-1]
