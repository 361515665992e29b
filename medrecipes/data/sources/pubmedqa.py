"""PubMedQA: questions of research, answered yes, no or maybe from the abstract; 1,000 labelled by experts, 211,269 by rule.

Columns and files by the dataset's card on the Hub (qiaojin/PubMedQA): pqa_labeled and pqa_artificial, each one split called
train. Which 500 labelled rows are the test set stands in test_ground_truth.json of the authors' repository alone: where that
file lies beside the tables its rows are kept for the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medrecipes.core.bounded_reading import LONGEST, loads
from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import Blob, blobs, tables
from medrecipes.data.sources._tables import Row, rows, text

TRUTH = "test_ground_truth.json"
DECISIONS = ("yes", "no", "maybe")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every question with a decision; the abstract is asked with it, and is the document that groups are bound by."""
    tests = {pmid for blob in blobs(files.path, (".json",)) if blob.inside.name == TRUTH for pmid in _truth(blob)}
    for blob in (blob for blob in tables(files.path) if blob.inside.name != TRUTH):
        collection = "artificial" if "artificial" in blob.inside.as_posix() else "labelled"
        for number, row in rows(blob, ("pubid", "question", "context", "long_answer", "final_decision")):
            ledger.seen += 1
            id, decision = str(row["pubid"]), text(blob, number, row, "final_decision").strip().lower()
            if decision not in DECISIONS:
                raise DataError(f"{blob.name}: row {number}: final_decision {decision[:20]!r} is none of {', '.join(DECISIONS)}; fetch the file again")  # fmt: skip
            context = _context(blob, number, row)
            question = f"{context}\n\nQuestion: {text(blob, number, row, 'question').strip()}\nAnswer yes, no or maybe."
            answer = f"Answer: {decision}\n\n{text(blob, number, row, 'long_answer').strip()}".strip()
            known = {"collection": collection, "article": id, **({"official": "test"} if id in tests else {})}
            yield Conversation.of(f"{collection}:{id}", id, question, answer, **known)


def _truth(blob: Blob) -> list[str]:
    """The articles of the test set, from the file that gives the decision of each."""
    try:
        with blob.open() as file:
            value = loads(file.read(LONGEST).decode())
    except ValueError as error:
        raise DataError(f"{blob.name}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise DataError(f"{blob.name}: is no object of articles and decisions; fetch it again")
    return list(value)


def _context(blob: Blob, number: int, row: Row) -> str:
    """The abstract without its conclusion, a paragraph with its label each."""
    context: Any = row["context"]
    parts = context.get("contexts") if isinstance(context, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise DataError(
            f"{blob.name}: row {number}: context is no object with a list of contexts; fetch the file again"
        )
    labels = context.get("labels") or []
    labels = labels if len(labels) == len(parts) else [""] * len(parts)
    return "\n".join(f"{label}: {part}" if label else part for label, part in zip(labels, parts, strict=True))


SOURCE = Source(
    name="pubmedqa",
    title="PubMedQA",
    homepage="https://pubmedqa.github.io",
    repo="qiaojin/PubMedQA",
    hub_files=("pqa_labeled/*.parquet", "pqa_artificial/*.parquet"),
    licence="MIT",
    redistributable="yes",
    citation="Q. Jin et al., PubMedQA: A Dataset for Biomedical Research Question Answering, EMNLP-IJCNLP 2019:2567-2577",
    read=read,
    compared="question",
    choices=True,
    seeds=("pubmedqa",),
    defects=(
        Defect(
            "the artificial rows were made from titles that are statements, and their answers by a rule: no maybe among them"
        ),
        Defect("the Hub does not say which labelled rows are the test set; data.exclude keeps them out of training"),
        Defect("abstracts are their publishers', whatever licence the dataset has"),
    ),
)
