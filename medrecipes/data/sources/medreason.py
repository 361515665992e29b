"""MedReason: 32,682 questions of seven datasets with reasoning along the paths of a knowledge graph.

Columns by the dataset on the Hub (UCSC-VLAA/MedReason): dataset_name, id_in_dataset, question, answer, reasoning, options;
`options` is one text with a line an option, and empty where the question has none. The names of its files could not be looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows, text

COLUMNS = ("dataset_name", "question", "answer", "reasoning", "options")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every question with an answer, its reasoning before it; a row of the dataset it came from is its document."""
    for blob in tables(files.path):
        for number, row in rows(blob, (*COLUMNS, "id_in_dataset")):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            name, question, answer, reasoning, options = (text(blob, number, row, column).strip() for column in COLUMNS)
            if not answer:
                ledger.drop("empty answer", id)
                continue
            asked = f"{question}\n\n{options}" if options else question
            document = f"{name}/{row['id_in_dataset']}"
            yield Conversation.of(id, document, asked, answer, reasoning=reasoning, collection=name)


SOURCE = Source(
    name="medreason",
    title="MedReason",
    homepage="https://github.com/UCSC-VLAA/MedReason",
    repo="UCSC-VLAA/MedReason",
    hub_files=("*.jsonl", "*.json", "*.parquet"),
    licence="Apache-2.0",
    redistributable="yes",
    citation="J. Wu et al., MedReason: Eliciting Factual Medical Reasoning Steps in LLMs via Knowledge Graphs, arXiv:2504.00993, 2025",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa", "pubmedqa", "mmlu_medical"),
    defects=(
        Defect("reasoning was written by a language model, whose terms may bind what is trained on it"),
        Defect(
            "overlaps with test questions of benchmarks: its makers' followers took out thousands of rows for it (II-Medical-RL)"
        ),
        Defect("some answers hold an explanation behind 'Explanation:', some the option alone"),
    ),
)
