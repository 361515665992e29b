"""OpenMed Medical-Reasoning-SFT: conversations with the reasoning of a language model in `reasoning_content`.

Columns and file names by the card of Medical-Reasoning-SFT-Nemotron-Nano-30B (444,544 rows) on the Hub: messages, each with role,
content and reasoning_content. The other sets of the series have the same column; data.path reads a copy of one.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation, check_turns
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows
from medrecipes.data.sources.jsonl import messages_of


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every conversation that ends with an answer, each thought before its answer."""
    for blob in tables(files.path):
        for number, row in rows(blob, ("messages",)):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            messages = messages_of(blob, number, row, "messages")
            if not all(message.content.strip() for message in messages if message.role == "assistant"):
                ledger.drop("empty answer", id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            yield Conversation(id, "", tuple(messages))


SOURCE = Source(
    name="openmed_reasoning",
    title="OpenMed Medical-Reasoning-SFT (Nemotron-Nano-30B)",
    homepage="https://huggingface.co/OpenMed",
    repo="OpenMed/Medical-Reasoning-SFT-Nemotron-Nano-30B",
    hub_files=("data/train-*.parquet",),
    licence="Apache-2.0",
    redistributable="yes",
    citation="OpenMed, Medical-Reasoning-SFT-Nemotron-Nano-30B, Hugging Face Hub, 2026",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa", "pubmedqa"),
    defects=(
        Defect("thoughts and answers were written by a language model and not checked by anyone"),
        Defect("its card does not say where the questions are from; they are taken to be benchmarks' until it does"),
    ),
)
