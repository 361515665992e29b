"""The card of a dataset: rows, columns, template, what was left out and why, leakage, sources, defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrecipes.core.markup import code, fenced, plain
from medrecipes.release.cards import text
from medrecipes.release.gates import Gate

COLUMNS = {
    "messages": "the turns, each a role and a content",
    "prompt": "the whole conversation as the model's own template writes it",
    "instruction": "the system message, or what the source tells the model to do",
    "input": "what is asked",
    "output": "the answer",
    "group": "what the row is bound to: rows of one group lie in one split",
    "source": "the dataset that the row comes from",
    "meta": "what that dataset knows: document, collection, question type, task",
}
SPLITS = {"train": "train", "validation": "dev", "test": "test"}
SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))
OPEN = ("CC-BY-4.0", "Apache-2.0")  # licences that the Hub knows by these names, in lower case
DISCLAIMER = (
    "For research and education. Not medical advice: answers can be wrong, outdated or unfit for a given person, and no "
    "decision about anybody's health may rest on them."
)


@dataclass(frozen=True)
class Released:
    """Where a dataset is released to, and what was checked before."""

    repo_id: str = text.RELEASE
    gates: Sequence[Gate] = ()


LOCAL = Released()


def dataset_card(
    name: str, report: Mapping[str, Any], parts: Sequence[str], formats: Sequence[str],
    released: Released = LOCAL, columns: Mapping[str, str] = COLUMNS,
) -> str:  # fmt: skip
    """The card of a dataset from its data.json; `formats`: the plain files that lie in data/, a file a split each."""
    from huggingface_hub import DatasetCardData

    sources = report.get("sources", [])
    licences = sorted({source["licence"] for source in sources})
    rows = report.get("rows", {})
    total = sum(rows.values())
    files = [{"split": part, "path": f"data/{part}.{formats[0]}"} for part in parts] if formats else []
    metadata = DatasetCardData(
        language=["en"],
        license=licences[0].lower() if licences and licences[0] in OPEN and len(licences) == 1 else "other",
        task_categories=["text-generation", "question-answering"] if columns is COLUMNS else ["token-classification"],
        tags=["medical", *(["instruction-tuning"] if columns is COLUMNS else []), "medrecipes"],
        size_categories=[next(label for limit, label in SIZES if total < limit)],
        pretty_name=name,
        configs=[{"config_name": "default", "data_files": files}] if files else None,
    )
    groups = report.get("groups", {}).get("count")
    template = report.get("template")
    return text.page(metadata, name, [f"> {DISCLAIMER}"], [
        ("Rows", [
            text.table(("split", "rows"), [(part, rows.get(SPLITS.get(part, part), 0)) for part in parts]),
            f"{report.get('seen', 0):,} rows were read, {sum(report.get('dropped', {}).values()):,} of them left out for the "
            f"reasons below. The {total:,} rows are {groups or 0:,} groups of rows that share a document, an article, a question, "
            "an answer or a near-duplicate; a group lies in one split.",
        ]),
        ("Load", [fenced("python", _load(released.repo_id))] if files else []),
        ("Columns", [text.table(("column", "what it holds"), list(columns.items()))]),
        ("Template", [_template(template)] if template else []),
        ("Left out and mended", text.counts_tables(report)),
        ("Leakage", text.leakage(report)),
        ("Sources", [text.sources_table(report)]),
        ("Known defects", [text.bullets(text.defects(report))]),
        ("Checks of this release", list(text.gate_section(released.gates))),
        ("Cite", [text.bullets(text.citations(report))]),
    ])  # fmt: skip


def _load(repo_id: str) -> str:
    return f'from datasets import load_dataset\n\ndata = load_dataset("{repo_id}")\nprint(data["train"][0])'


def _template(template: Mapping[str, Any]) -> str:
    said = (
        f", with the system message: {plain(' '.join(template['system'].split()))}" if template.get("system") else "."
    )
    return f"`prompt` is written by the template {code(template['name'])} (sha256 {code(str(template['sha256'])[:16])}){said}"
