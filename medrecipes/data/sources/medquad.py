"""MedQuAD: questions and answers from NIH pages, one document each; XML folders, the CSV, or the Hub's form."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

from medrecipes.core.bounded_reading import LONGEST
from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import TABLES, Blob, blobs
from medrecipes.data.sources._tables import rows, text

# root element → what its parts are called; four NINDS files and one CDC file differ from the other 11,269
SCHEMAS = {
    "Document": ("source", "Focus", "QAPair", "Question", "Answer"),
    "DiseaseFile": ("source", "Focus", "QAPair", "Question", "Answer"),
    "doc": ("corpus", "doctitle-focus", "pair", "question", "answer"),
}
LIST = "qapairs"  # what holds them, in letters of either case; some pages have an empty one

HEADING = re.compile(
    r"^(?:topics|frequently asked qu\w+ \(faqs\)|(?:how|what|is|are|can|do|does)\b[^?.\n]{0,200}\?)$", re.IGNORECASE
)


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every pair with an answer, whichever of the three published forms lies at the path."""
    xml = blobs(files.path, (".xml",))
    tables = blobs(files.path, TABLES)
    if xml and tables:
        raise DataError(
            f"{files.path}: holds XML files and tables ({tables[0].name}) of the same rows; set data.path to one of them"
        )
    if not xml and not tables:
        raise DataError(f"{files.path}: holds neither XML files nor a table; set data.path to MedQuAD's folder or CSV")
    for blob in xml:
        yield from _document(blob, ledger)
    for blob in tables:
        yield from _table(blob, ledger)


def _document(blob: Blob, ledger: Ledger) -> Iterator[Conversation]:
    with blob.open() as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise DataError(
            f"{blob.name}: is more than {LONGEST >> 20} MB, and MedQuAD's pages have kilobytes; is this MedQuAD?"
        )
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{blob.name}: line {error.position[0]}: broken XML ({error}); fetch the file again") from None
    except (ValueError, LookupError) as error:  # an encoding that Python's parser lacks
        raise DataError(f"{blob.name}: line 1: cannot be read as XML ({error}); save it as UTF-8") from None
    if root.tag not in SCHEMAS:
        raise DataError(f"{blob.name}: root element <{root.tag}> is none of {', '.join(SCHEMAS)}; is this MedQuAD?")
    source, focus, pair, question, answer = SCHEMAS[root.tag]
    # ids repeat across collections, so the folder is part of the name
    document = "/".join(blob.inside.with_suffix("").parts[-2:])
    lists = [element for element in root.iter() if element.tag.lower() == LIST]
    if not lists or any(child.tag != pair for element in lists for child in element):
        raise DataError(
            f"{blob.name}: holds no list of <{pair}> alone, so rows would be lost; is this MedQuAD? Fetch the file again"
        )
    for position, element in enumerate(root.iter(pair), 1):
        asked, answered = element.findall(question), element.findall(answer)
        if len(asked) > 1 or len(answered) > 1:
            raise DataError(
                f"{blob.name}: <{pair}> {position} holds {len(asked)} <{question}> and {len(answered)} <{answer}>; give each answer a <{pair}>"
            )
        yield from _pair(
            ledger,
            id=f"{document}#{element.get('pid') or position}",
            document=document,
            question=_text(asked),
            answer=_text(answered),
            qtype=(asked[0].get("qtype") if asked else None) or "",
            collection=root.get(source) or "",
            focus=(root.findtext(focus) or "").strip(),
        )


def _text(elements: Sequence[ElementTree.Element]) -> str:
    """All that an element says, its mark-up left out."""
    return "".join(part for element in elements for part in element.itertext())


def _table(blob: Blob, ledger: Ledger) -> Iterator[Conversation]:
    for number, row in rows(blob, ("question", "answer")):

        def cell(column: str, number: int = number, row: dict[str, object] = row) -> str:
            return text(blob, number, row, column).strip()

        hub = "question_focus" in row
        collection = cell("document_source" if hub else "source")
        focus = cell("question_focus" if hub else "focus_area")
        # the CSV has no document ids: all that is said of one subject in one collection is taken as one document
        document = cell("document_id") if hub else focus
        yield from _pair(
            ledger,
            id=f"{blob.stem}:{number}",
            document=f"{collection}/{document}" if document else "",
            question=text(blob, number, row, "question"),
            answer=text(blob, number, row, "answer"),
            qtype=cell("question_type") if hub else "",
            collection=collection,
            focus=focus,
        )


def _pair(ledger: Ledger, *, id: str, document: str, question: str, answer: str, **meta: str) -> Iterator[Conversation]:
    ledger.seen += 1
    if answer.strip():
        yield Conversation.of(id, document, question, answer, **meta)
    else:
        ledger.drop("empty answer", id)


SOURCE = Source(
    name="medquad",
    title="MedQuAD",
    homepage="https://github.com/abachaa/MedQuAD",
    repo="lavita/MedQuAD",
    hub_files=("*.parquet", "*.csv", "*.json", "*.jsonl"),
    licence="CC-BY-4.0",
    redistributable="yes",
    citation="A. Ben Abacha and D. Demner-Fushman, A Question-Entailment Approach to Question Answering, "
    "BMC Bioinformatics 20:511, 2019",
    read=read,
    defects=(
        Defect("the answers of three MedlinePlus collections (ADAM, Drugs, Herbs) were removed for copyright"),
        Defect("some answers are a heading of the page and nothing else", "boilerplate", "answer",
               HEADING),
        Defect("875 questions have several different answers; one inheritance answer stands 348 times"),
        Defect("612 of 4,746 subjects occur in several collections"),
    ),
)  # fmt: skip
