"""MedQuAD: questions and answers from NIH pages, a document each."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medrecipes.records import Conversation
from medrecipes.sources import Source


def read(path: Path, counts: Counter[str]) -> Iterator[Conversation]:
    """Every answered pair of a folder of XML folders."""
    for file in sorted(path.rglob("*.xml")):
        root = ElementTree.parse(file).getroot()
        document = f"{file.parent.name}/{file.stem}"
        for pair in root.iter("QAPair"):
            question = pair.find("Question")
            answer = (pair.findtext("Answer") or "").strip()
            if question is None or not answer:
                counts["empty answer"] += 1
                continue
            yield Conversation.of(
                f"{document}#{pair.get('pid')}",
                document,
                (question.text or "").strip(),
                answer,
                qtype=question.get("qtype") or "",
            )


SOURCE = Source(
    name="medquad",
    title="MedQuAD",
    repo="lavita/MedQuAD",
    licence="CC-BY-4.0",
    citation="A. Ben Abacha and D. Demner-Fushman, A Question-Entailment Approach to Question Answering, "
    "BMC Bioinformatics 20:511, 2019",
    read=read,
)
