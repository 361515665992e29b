"""Synthetic medical questions and answers: `question` and `response`, written by a language model."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._tables import pairs


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with a response."""
    for id, question, answer, _ in pairs(files, ledger, "question", "response"):
        yield Conversation.of(id, "", question, answer)


SOURCE = Source(
    name="synthetic_qa",
    title="Synthetic Medical QA",
    homepage="https://huggingface.co/datasets/thesven/SyntheticMedicalQA-4336",
    repo="thesven/SyntheticMedicalQA-4336",
    hub_files=("*.parquet", "*.json", "*.jsonl", "*.csv"),
    licence="unknown",
    redistributable="unknown",
    citation="thesven, SyntheticMedicalQA-4336, Hugging Face Hub",
    read=read,
    defects=(
        Defect("answers were written by a language model and not checked by anyone"),
        Defect("a refusal stands where an answer should", "language-model failure", "answer",
               re.compile(r"^(?:I'm sorry|I apologi[sz]e|as an ai\b|as a language model)", re.IGNORECASE)),
    ),
)  # fmt: skip
