"""Fully Open Meditron: 601,346 conversations, public question sets and three synthetic parts that clinicians looked at.

Files and parts by the dataset's card on the Hub (EPFLiGHT/fully-open-meditron): data/PART/train-*.parquet with the parts curated_qa,
synthetic_curated_qa, guidelines_qa and synthetic_moove, each row a conversation of system, user and assistant. What the column is
called could not be looked up: `messages` and `conversations` are both read, in either of the usual forms of a turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation, check_turns
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows
from medrecipes.data.sources.jsonl import messages_of

PARTS = ("curated_qa", "synthetic_curated_qa", "guidelines_qa", "synthetic_moove")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every conversation that ends with an answer; the folder of its file is the part that it belongs to."""
    for blob in tables(files.path):
        part = blob.inside.parent.name
        for number, row in rows(blob):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            messages = messages_of(blob, number, row, None)
            if not all(message.content.strip() for message in messages if message.role == "assistant"):
                ledger.drop("empty answer", id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            yield Conversation(id, "", tuple(messages), {"collection": part} if part in PARTS else {})


SOURCE = Source(
    name="fully_open_meditron",
    title="Fully Open Meditron Corpus",
    homepage="https://huggingface.co/datasets/EPFLiGHT/fully-open-meditron",
    repo="EPFLiGHT/fully-open-meditron",
    hub_files=("data/*/train-*.parquet",),
    licence="CC-BY-NC-4.0",
    redistributable="yes",
    citation="Fully Open Meditron: An Auditable Pipeline for Clinical LLMs, arXiv:2605.16215, 2026",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa", "pubmedqa"),
    defects=(
        Defect("for non-commercial use alone; copies on the Hub state Apache-2.0, which their makers cannot grant"),
        Defect("two parts of three were written by a language model (gpt-oss-120b)"),
        Defect(
            "made of training questions of MedQA, MedMCQA, PubMedQA and others; 173 rows were taken out by its makers as test questions"
        ),
    ),
)
