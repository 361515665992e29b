"""What became of the rows, for the screen: asked and got of a split, what was left out and its share, and what to beware of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medrecipes.data.grouping import FEW, PARTS

MANY = 0.05  # a larger share of the rows left out is a warning, for figures then speak of other rows than the data's
FAR = 0.25  # of what was asked; a part that misses by more is a warning
# reasons that the recipe asked for
ASKED = ("over data.limit", "over the limit of its dataset", "over its weight in the mixture")
HOW = {"exact": "word for word", "near": "nearly word for word"}
Said = tuple[str, str]  # what a line is (a note, or a warning), and its text


def parts(report: Mapping[str, Any], train: str = "rows to train on") -> str:
    """The rows of each part with what was got of what was asked, e.g. `47 rows to train on (61.0%, asked 60%)`."""
    found = []
    for part in PARTS:
        wanted, got = report["asked"][part], report["got"][part]
        share = "official" if wanted is None else f"{got:.1%}, asked {100 * wanted:.4g}%"
        told = f" ({share})" if report["rows"][part] or wanted else ""
        found.append(f"{report['rows'][part]:,} {train if part == 'train' else part}{told}")
    return ", ".join(found)


def told(report: Mapping[str, Any]) -> Iterator[Said]:
    """What else is to be said of a split: its groups, what was left out, shares that were missed, a test set of few groups."""
    groups = report["groups"]
    inside = ", ".join(f"{groups['in'][part]:,} {part}" for part in PARTS if groups["in"][part])
    yield "groups", f"{inside}; the largest has {groups['largest']:,} row{'s' * (groups['largest'] != 1)}{_are(groups)}"
    if report["dropped"]:
        yield _dropped(report)
    if report.get("benchmarks"):
        yield "kept out", _kept_out(report["benchmarks"])
    yield from _missed(report)
    held = "test" if report["rows"]["test"] else "dev"
    few = groups["in"][held]
    if 0 < few < FEW:
        yield (
            "warning",
            (
                f"{held} has {few} group{'s' if few != 1 else ''}, fewer than {FEW}: its intervals cannot show how groups differ; "
                f"use more documents, or a larger data.split.{held}"
            ),
        )


def _are(groups: Mapping[str, Any]) -> str:
    return f"; they are {groups['are']}" if "are" in groups else ""


def _dropped(report: Mapping[str, Any]) -> Said:
    """What was left out before the split, with its share of the rows that were seen."""
    count = sum(report["dropped"].values())
    unasked = sum(n for reason, n in report["dropped"].items() if reason not in ASKED)
    why = ", ".join(f"{reason}: {n:,}" for reason, n in report["dropped"].items())
    kind = "warning" if unasked > MANY * report["seen"] else "dropped"
    return kind, f"{count:,} of {report['seen']:,} rows ({count / report['seen']:.1%}) are left out: {why}"


def _kept_out(benchmarks: Mapping[str, Any]) -> str:
    """The benchmarks whose test questions were looked for, and the rows that held one."""
    rows = sum(each["rows"] for each in benchmarks.values())
    found = ", ".join(
        f"{name} ({each['questions']:,} questions) in {each['rows']:,}" for name, each in benchmarks.items()
    )
    first = next((each["examples"][0] for each in benchmarks.values() if each["examples"]), None)
    example = f"; e.g. row {first['row']} holds {first['question']}, {HOW[first['how']]}" if first else ""
    return f"{rows:,} rows hold a test question and leave training: {found}{example}"


def _missed(report: Mapping[str, Any]) -> Iterator[Said]:
    """A part that is far from what was asked, and why whole groups allow no better."""
    groups = report["groups"]
    for part in PARTS:
        wanted, got = report["asked"][part], report["got"][part]
        if not wanted or abs(got - wanted) <= FAR * wanted:
            continue
        why = f"its {groups['count']:,} groups are whole, the largest of {groups['largest']:,} rows"
        if bound := groups["bound_by"]:
            chains = " and ".join(f"{name.replace('_', '-')} ({rows:,} rows)" for name, rows in list(bound.items())[:2])
            why += f", which shared {chains} bind into one"
        yield "warning", f"data.split.{part} asks for {100 * wanted:.4g}% of the rows and gets {got:.1%}: {why}; use more documents, or other shares"  # fmt: skip
