"""The report of tagged rows: every way of counting, each figure with its interval over groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medrecipes.data.bio_tags import write_tags
from medrecipes.scoring.bootstrap import Figure, draw_weights, estimate
from medrecipes.scoring.spans import (
    MISSED,
    SPURIOUS,
    WAYS,
    Tagging,
    confusion,
    frequent_errors,
    span_figures,
    token_accuracy,
    types_of,
)

PARTS = ("precision", "recall", "f1")
Shown = Mapping[str, Any]


def span_report(rows: Sequence[Tagging], draws: int, seed: int) -> dict[str, Any]:
    """`{"strict": {"Disease": {"f1": {value, low, high}, …}, "micro": …, "macro": …}, "relaxed": …, "errors": […]}`."""
    types = types_of(rows)
    weights, of_row = draw_weights([row.group for row in rows], draws, seed)
    ways = {way: span_figures(rows, way, types) for way in WAYS}
    return {
        **{
            way: {
                part: {name: estimate(figure, weights, of_row).as_dict() for name, figure in those.items()}
                for part, those in figures.items()
            }
            for way, figures in ways.items()
        },
        "support": {type: sum(span.type == type for row in rows for span in row.gold) for type in types},
        "token_accuracy": token_accuracy(
            (write_tags(len(row.tokens), row.gold), write_tags(len(row.tokens), row.found)) for row in rows
        ),
        "confusion": confusion(rows),
        "errors": [asdict(error) for error in frequent_errors(rows)],
    }


def headline(rows: Sequence[Tagging], types: Sequence[str] | None = None) -> dict[str, Figure]:
    """The strict figures by the names that tables of several models show them under."""
    figures = span_figures(rows, "strict", types_of(rows) if types is None else types)
    micro, macro = figures["micro"], figures["macro"]
    return {
        "span_f1": micro["f1"], "span_macro_f1": macro["f1"],
        "span_precision": micro["precision"], "span_recall": micro["recall"],
    }  # fmt: skip


def type_rows(figures: Mapping[str, Shown], support: Mapping[str, int], show: Any) -> list[list[str]]:
    """A row a type, then micro and macro, each named."""
    rows = [["type", "gold spans", "precision", "recall", "F1"]]
    for name, those in figures.items():
        average = name in ("micro", "macro")
        spans = support.get(name, sum(support.values()) if name == "micro" else None)
        title = f"{name} average" if average else name
        rows.append([title, "" if spans is None else f"{spans:,}", *(show("", those[key]) for key in PARTS)])
    return rows


def confusion_rows(table: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """A row for what gold says, a column for what was found in its place."""
    columns = sorted({kind for row in table.values() for kind in row}, key=lambda kind: (kind == MISSED, kind))
    order = sorted(table, key=lambda gold: (gold == SPURIOUS, gold))
    cells = [[gold, *(str(table[gold].get(kind, 0)) for kind in columns)] for gold in order]
    return [["gold", *columns], *cells]
