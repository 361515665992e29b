"""What both kinds of cards are written with: sections, tables, sources, leakage, gates, and the metadata block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medrecipes.core.markup import Markup, begun, code, fenced, plain
from medrecipes.data.leakage import table as leakage_table
from medrecipes.release.gates import Gate
from medrecipes.scoring.tables import markdown

DISCLAIMER = (
    "For research and education. Not a medical device: it gives no diagnosis, its answers can be wrong or harmful, "
    "and no decision about anybody's health may rest on them."
)
RELEASE = "."  # what stands for the repository in a card that was not released: the folder that it lies in
HOMEPAGE = re.compile(r"https?://[\w./~%?&=#+:-]+", re.ASCII)
Section = tuple[str, Sequence[str]]  # a heading, and paragraphs; a section without any is left out


def page(metadata: Any, title: str, opening: Sequence[str], sections: Sequence[Section]) -> str:
    """The whole card; `metadata` is one of the Hub client's own card classes."""
    lines = ["---", metadata.to_yaml(), "---", "", f"# {plain(title)}", ""]
    for paragraph in opening:
        lines += [paragraph, ""]
    for heading, paragraphs in sections:
        if paragraphs := [paragraph for paragraph in paragraphs if paragraph]:
            lines += [f"## {heading}", ""]
            for paragraph in paragraphs:
                lines += [paragraph, ""]
    return "\n".join(lines)


def table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, or nothing for no rows."""
    return "\n".join(markdown([head, *([_cell(cell) for cell in row] for row in body)])) if body else ""


def _cell(value: Any) -> str:
    if isinstance(value, Markup):
        return value
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else " ".join(str(value).split())


def bullets(lines: Sequence[str]) -> str:
    """A list of texts, and of what is `Markup`; or nothing."""
    return "\n".join(f"- {begun(line)}" for line in lines)


def sources_table(data: Mapping[str, Any]) -> str:
    """Every source with its licence and where its rows were read."""
    return table(
        ("source", "licence", "may be passed on", "version", "rows read", "rows usable"),
        [
            (_linked(s["title"], str(s.get("homepage"))), s["licence"], s["redistributable"], version(s), s["seen"], s["kept"])
            for s in data.get("sources", ())
        ],
    )  # fmt: skip


def _linked(title: str, homepage: str) -> str:
    """A source's title, linked where its homepage is an address and nothing else."""
    return Markup(f"[{plain(title)}]({homepage})") if HOMEPAGE.fullmatch(homepage) else title


def version(source: Mapping[str, Any]) -> Markup:
    """Which state of a source was read: the Hub's commit, or a file's own hash."""
    if source.get("sha"):
        return Markup(f"{code(str(source['repo']))} at {code(source['sha'][:12])}")
    return Markup(f"{code(str(source.get('file')))}, sha256 {code(str(source.get('content'))[:12])}")


def counts_tables(data: Mapping[str, Any]) -> list[str]:
    """What was left out, what was mended, each reason with its count, and which benchmarks were kept out."""
    dropped, repaired, benchmarks = data.get("dropped", {}), data.get("repaired", {}), data.get("benchmarks", {})
    return [
        table(("left out because", "rows"), list(dropped.items())) or ("Nothing was left out." if data else ""),
        table(("mended", "rows"), list(repaired.items())),
        table(
            ("benchmark kept out of training", "test questions", "rows that held one"),
            [(name, each["questions"], each["rows"]) for name, each in benchmarks.items()],
        ),
    ]


def mixture(data: Mapping[str, Any]) -> str:
    """The share of each source before and after mixing; nothing of a run that does not mix."""
    found = data.get("mixture", {})
    rows = [
        (label, f"{one['asked']:.1%}", *(f"{one[when][f'share_of_{what}']:.1%}" for when in ("before", "after") for what in ("rows", "tokens")), f"{one['repeats']:.2f}")
        for label, one in found.get("sources", {}).items()
    ]  # fmt: skip
    head = (f"source, mixed by {found.get('by')}", "asked", "of rows before", "of tokens before", "of rows in an epoch", "of tokens in an epoch", "times a row comes")  # fmt: skip
    return table(head, rows)


def leakage(data: Mapping[str, Any]) -> list[str]:
    """The report of the split, as the screen shows it."""
    report = data.get("leakage")
    if not report:
        return []
    return [
        "Rows of dev and test that share something with train, in this split and, for comparison, in a naive random one, "
        "which is cut row by row as most scripts do it:",
        fenced("text", leakage_table(report)),
    ]


def defects(data: Mapping[str, Any]) -> list[str]:
    """What is known to be wrong with the sources."""
    return [f"{s['title']}: {defect}" for s in data.get("sources", ()) for defect in s.get("defects", ())]


def citations(data: Mapping[str, Any]) -> list[str]:
    """What the sources ask to be cited."""
    return [s["citation"] for s in data.get("sources", ()) if s.get("citation")]


def gate_section(gates: Sequence[Gate]) -> Iterator[str]:
    """What the gates of the release said, above all those that were waived."""
    if not gates:
        return

    def verdict(gate: Gate) -> str:
        told = "passed" if gate.passed else Markup("**waived**") if gate.waived else "not passed"
        return Markup(f"{told}; {plain(gate.note)}") if gate.note else told

    yield table(("check", "result"), [(gate.name, verdict(gate)) for gate in gates])
    if waived := [gate for gate in gates if gate.waived]:
        yield "Released in spite of:"
        yield bullets([Markup(f"**{plain(gate.name)}**: {plain('; '.join(gate.found))}") for gate in waived])
