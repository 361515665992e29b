"""medical-o1-reasoning-SFT: open questions made from examinations', with a reasoning trace and an answer by GPT-4o.

Columns and files by the dataset's card on the Hub (FreedomIntelligence/medical-o1-reasoning-SFT): medical_o1_sft.json is the English
set; the Chinese one and the two mixtures with general data have the same columns, and are read where data.path names them.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows, text


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with an answer, its thought before it."""
    for blob in tables(files.path):
        for number, row in rows(blob, ("Question", "Complex_CoT", "Response")):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            question, reasoning, answer = (
                text(blob, number, row, name) for name in ("Question", "Complex_CoT", "Response")
            )
            if answer.strip():
                yield Conversation.of(id, "", question, answer, reasoning=reasoning.strip())
            else:
                ledger.drop("empty answer", id)


SOURCE = Source(
    name="medical_o1_reasoning",
    title="medical-o1-reasoning-SFT",
    homepage="https://github.com/FreedomIntelligence/HuatuoGPT-o1",
    repo="FreedomIntelligence/medical-o1-reasoning-SFT",
    hub_files=("medical_o1_sft.json",),
    licence="Apache-2.0",
    redistributable="yes",
    citation="J. Chen et al., HuatuoGPT-o1, Towards Medical Complex Reasoning with LLMs, arXiv:2412.18925, 2024",
    read=read,
    keeps_layout=True,
    seeds=("medqa", "medmcqa"),
    defects=(
        Defect(
            "thoughts and answers were written by a language model (GPT-4o), whose terms may bind what is trained on them"
        ),
        Defect(
            "questions were rewritten from training questions of MedQA and MedMCQA, so that test questions may be among them"
        ),
        Defect(
            "thoughts were searched for until they reached the known answer, so that they show more certainty than there was"
        ),
    ),
)
