"""The figures of a run's page: base against tuned as pictures and as a table, and what a task has besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrecipes.data.grouping import FEW
from medrecipes.evaluation.benchmarks import suite_rows
from medrecipes.evaluation.cases import exactly
from medrecipes.evaluation.chat_report import REASONING, reasoning_rows, said_on_dev, spoken
from medrecipes.evaluation.pages.frame import Html, folded, paragraph, section, table, text
from medrecipes.evaluation.pages.plots import intervals
from medrecipes.evaluation.verdicts import nil, verdict
from medrecipes.scoring.entities import NORMALISATION
from medrecipes.scoring.predictions import Prediction
from medrecipes.scoring.span_report import confusion_rows, type_rows
from medrecipes.scoring.spans import WAYS
from medrecipes.scoring.tables import METRICS, counts_rows, lists_rows, show

# figures at the top: the first four of these that say something
KEYS = ("bits_per_byte", "rougeL", "stops", "exact_match", "micro_f1", "macro_f1", "span_f1", "span_macro_f1", "span_precision", "span_recall")  # fmt: skip
VERDICTS = {"better": "good", "worse": "bad"}


def first_figures(report: Mapping[str, Any]) -> str:
    """The first figures that both have, with what their difference shows."""
    names = [
        name
        for name in KEYS
        if name in report["base"] and not all(nil(report[part][name]) for part in ("base", "tuned"))
    ]
    items = []
    for name in names[:4]:
        before, after = (show(name, report[part][name]).partition(" [")[0] for part in ("base", "tuned"))
        change, found = report["difference"][name], _found(report, name)
        items.append(
            f'<li><span>{text(METRICS[name][0])}</span><b>{before} <span class="unit">→</span> {after}</b>'
            f'<span class="soft">{text(show(name, change, signed=True))}</span><span class="{VERDICTS.get(found, "soft")}">{found}</span></li>'
        )
    return f'<ul class="keys">{"".join(items)}</ul>' if items else ""


def _found(report: Mapping[str, Any], name: str) -> str:
    """What a difference shows, where there are groups enough to tell."""
    return "too few groups to tell" if report["groups"] < FEW else verdict(name, report["difference"][name])


def figures(report: Mapping[str, Any], cases: Sequence[Prediction]) -> str:
    """Base against tuned, as pictures and as a table, and what a task has besides."""
    names = list(report["base"])
    return section(
        "figures", "Figures", paragraph(_about(report), "soft"), intervals(report, names), table(_metric_rows(report, names), "figures"),
        *map(paragraph, _remarks(report, names)), *_more_figures(report),
        paragraph(f"Hand-written cases, answered by the tuned model: {exactly(list(cases))}.") if cases else "",
    )  # fmt: skip


def _about(report: Mapping[str, Any]) -> str:
    how = spoken(report["decoding"]) if "decoding" in report else report.get("tagging", {}).get("method", "")
    are = f" ({report['groups_are']})" if "groups_are" in report else ""
    return f"{report['rows']:,} rows of {report['groups']:,} groups{are} of the {report['split']} split; {how}; intervals: {report['intervals']}."


def _metric_rows(report: Mapping[str, Any], names: Sequence[str]) -> list[list[object]]:
    """A row a metric; those that are 0 for both have a line below instead."""
    first, second = report.get("columns", ("base", "tuned"))[:2]
    rows: list[list[object]] = [["metric", first, second, "difference", "verdict"]]
    for name in names:
        if all(nil(report[part][name]) for part in ("base", "tuned")):
            continue
        shown = (
            show(name, report[part][name], signed=part == "difference") for part in ("base", "tuned", "difference")
        )
        found = _found(report, name)
        rows.append([METRICS[name][0], *shown, Html(f'<span class="{VERDICTS.get(found, "soft")}">{found}</span>')])
    return rows


def _remarks(report: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """What else a reader of the figures should know."""
    first = report.get("columns", ("base",))[0]
    if zero := [METRICS[name][0] for name in names if all(nil(report[part][name]) for part in ("base", "tuned"))]:
        yield f"0 for {first} and tuned, interval and all: {', '.join(zero)}."
    if absent := report.get("absent"):
        yield f"Not available from these rows: {', '.join(METRICS[name][0] for name in absent)}."
    if foreign := report.get("foreign_template"):
        yield f"Template {foreign} is not that of the base: the recipe says that it is meant."
    if dev := said_on_dev(report):
        yield f"{dev[0].upper()}{dev[1:]}."
    if first == "dictionary":
        yield "The dictionary gives every word the tag that it bears most often in the training rows."


def _more_figures(report: Mapping[str, Any]) -> Iterator[str]:
    """Reasoning, lists and benchmarks of answers; types, confusion and errors of tags."""
    if thoughts := report.get("reasoning"):
        yield f"<h3>Reasoning</h3>{paragraph(f'{REASONING[0].upper()}{REASONING[1:]}.', 'soft')}{table(reasoning_rows(thoughts), 'reasoning')}"
    if lists := report.get("extraction"):
        note = lists.get("note", "")
        yield f"<h3>Lists</h3>{paragraph(f'Two items are the same after: {NORMALISATION}.', 'soft')}{paragraph(note)}"
        for part in ("base", "tuned"):
            yield table(_named(lists_rows(lists[part]), f"lists, {part}"), f"lists of the {part} model")
            yield folded(
                f"counts behind the lists of the {part} model", table(counts_rows(lists[part]), f"counts, {part}")
            )
            if filtered := lists[part].get("filtered"):
                yield folded(f"filtered ({filtered['filter']})", table(lists_rows(filtered), f"filtered lists, {part}"))
    for suite in report.get("suites", ()):
        yield f"<h3>Benchmarks</h3>{table(suite_rows(suite), 'benchmarks')}"
    for way, meaning in WAYS.items():
        if way in report:
            rows = table(type_rows(report[way], report["support"], show), f"types, {way}")
            title = f"{way.replace('_', ' ').capitalize()}: {meaning}"
            yield f"<h3>{text(title)}</h3>{rows}" if way == "strict" else folded(title, rows)
    if "confusion" in report:
        yield (
            "<h3>Confusion</h3>"
            + paragraph("A row for what gold says, a column for what was found in its place.", "soft")
            + table(confusion_rows(report["confusion"]), "confusion")
        )
    if errors := report.get("errors"):
        found = [
            ["gold", "times", "found", "first place"],
            *([e["gold"], e["count"], e["found"], e["context"]] for e in errors),
        ]
        yield folded(
            "The most frequent errors, [gold] in brackets and {what was found} in braces", table(found, "errors")
        )


def _named(rows: Sequence[Sequence[str]], name: str) -> list[list[str]]:
    return [[name, *rows[0][1:]], *map(list, rows[1:])]
