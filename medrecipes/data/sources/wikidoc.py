"""Medical Meadow WikiDoc: living-textbook paragraphs as answers to questions that a language model phrased."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._tables import pairs

# what the model wrote where it was asked to phrase a question and did not
FAILURE = re.compile(
    r"\b(?:re|para)phras|proper english|\bas an ai\b|language model|"
    r"\b(?:provide|give|share)\b[^.?]{0,40}\b(?:context|original|sentence|statement|text)\b|"
    r"^(?:i'm sorry|i apologi[sz]e)",
    re.IGNORECASE,
)
REMNANT = re.compile(r"(?<!\s)\s*\bTemplate:\w+")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with an answer; remnants of wiki mark-up are cut out."""
    for id, question, answer, instruction in pairs(files, ledger, "input", "output", "instruction"):
        mended = REMNANT.sub("", answer) if "Template:" in answer else answer
        if mended != answer:
            ledger.repair("wiki template removed", id)
        yield Conversation.of(id, "", question, mended, instruction=instruction)


SOURCE = Source(
    name="wikidoc",
    title="Medical Meadow WikiDoc",
    homepage="https://huggingface.co/datasets/medalpaca/medical_meadow_wikidoc",
    repo="medalpaca/medical_meadow_wikidoc",
    hub_files=("*.json", "*.jsonl", "*.parquet"),
    licence="unknown",
    redistributable="unknown",
    citation="T. Han et al., MedAlpaca: An Open-Source Collection of Medical Conversational AI Models and Training "
    "Data, arXiv:2304.08247, 2023",
    read=read,
    defects=(
        Defect("about 4% of questions are the language model's own failure to phrase one", "language-model failure",
               "question", FAILURE),
        Defect("about 30% of questions are phrased poorly, by the publisher's own account"),
        Defect("one output repeats 64 times in a published subset; values are missing and rows repeat"),
        Defect("half of the outputs have CRLF line ends; remnants such as Template:WS occur"),
    ),
)  # fmt: skip
