"""UltraMedical: 409,593 instructions on examinations, literature and open questions, answered by GPT-4.

Columns and file names by the dataset's card on the Hub (TsinghuaC3I/UltraMedical): id, type, conversations (from and value),
answer, score; one split called train.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation, check_turns
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows, text
from medrecipes.data.sources.jsonl import messages_of


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every conversation that ends with an answer; rows made from one row of another dataset are one document."""
    for blob in tables(files.path):
        for number, row in rows(blob, ("id", "type", "conversations")):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            messages = messages_of(blob, number, row, "conversations")
            if not all(message.content.strip() for message in messages if message.role == "assistant"):
                ledger.drop("empty answer", id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            name, kind = (text(blob, number, row, column).strip() for column in ("id", "type"))
            yield Conversation(id, name, tuple(messages), {"qtype": kind, "collection": name.partition(",")[0]})


SOURCE = Source(
    name="ultramedical",
    title="UltraMedical",
    homepage="https://github.com/TsinghuaC3I/UltraMedical",
    repo="TsinghuaC3I/UltraMedical",
    hub_files=("data/train-*.parquet",),
    licence="MIT",
    redistributable="yes",
    citation="K. Zhang et al., UltraMedical: Building Specialized Generalists in Biomedicine, NeurIPS 2024, arXiv:2406.03949",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa", "pubmedqa"),
    defects=(
        Defect("answers were written by a language model (GPT-4), whose terms may bind what is trained on them"),
        Defect(
            "made of training questions of MedQA, MedMCQA and PubMedQA and of new ones after them: test questions may be among them"
        ),
        Defect("licences of the sets that it was made of are not carried along"),
    ),
)
