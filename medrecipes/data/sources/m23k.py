"""m23k: 23,493 hard questions of examinations with reasoning traces of DeepSeek-R1 that reach the right answer.

Columns by what others read of the dataset on the Hub (UCSC-VLAA/m23k-tokenized): prompt, reasoning, distilled_answer_string,
source; others that it may have are not read. Its licence could not be looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows, text

COLUMNS = ("prompt", "reasoning", "distilled_answer_string", "source")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every prompt with the answer behind its reasoning."""
    for blob in tables(files.path):
        for number, row in rows(blob, COLUMNS):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            prompt, reasoning, answer, source = (text(blob, number, row, column) for column in COLUMNS)
            if answer.strip():
                yield Conversation.of(id, "", prompt, answer, reasoning=reasoning.strip(), collection=source.strip())
            else:
                ledger.drop("empty answer", id)


SOURCE = Source(
    name="m23k",
    title="m23k",
    homepage="https://github.com/UCSC-VLAA/m1",
    repo="UCSC-VLAA/m23k-tokenized",
    hub_files=("*.parquet", "*.jsonl", "*.json"),
    licence="unknown",
    redistributable="unknown",
    citation="X. Huang et al., m1: Unleash the Potential of Test-Time Scaling for Medical Reasoning with Large Language Models, "
    "arXiv:2504.00869, 2025",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa", "pubmedqa", "headqa"),
    defects=(
        Defect("thoughts and answers were written by a language model (DeepSeek-R1)"),
        Defect("made of training questions of MedQA, MedMCQA, PubMedQA and HEAD-QA: test questions may be among them"),
        Defect("thoughts are long: up to about 30,000 characters"),
    ),
)
