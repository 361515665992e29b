"""MedMCQA: multiple-choice questions of Indian entrance examinations (AIIMS, NEET PG), with explanations.

Columns, splits and licence by the dataset's card on the Hub (openlifescienceai/medmcqa): train 182,822, validation 4,183,
test 6,150. The Hub's `cop` counts the options from 0 and is -1 in the test set, whose answers are not published; the JSON of
the authors' repository counts from 1, and has no `cop` there.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._choices import answered, asked
from medrecipes.data.sources._files import Blob, tables
from medrecipes.data.sources._parts import held_out
from medrecipes.data.sources._tables import Row, rows, text

OPTIONS = ("opa", "opb", "opc", "opd")


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every question whose answer is published; those of the validation set are the test set, as everybody judges by it."""
    found = tables(files.path)
    tests = held_out(found, ("dev", "test"))
    for blob in found:
        first = _first_option(blob)
        for number, row in rows(blob, ("question", *OPTIONS)):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            right = row.get("cop")
            if right is None or right == -1:
                ledger.drop("no answer is published", id)
                continue
            if not isinstance(right, int) or not 0 <= right - first < len(OPTIONS):
                raise DataError(f"{blob.name}: row {number}: cop is {str(right)[:40]}, which names none of four options; fetch the file again")  # fmt: skip
            options = [text(blob, number, row, name) for name in OPTIONS]
            meta = {
                "qtype": _or_none(blob, number, row, "subject_name"),
                "topic": _or_none(blob, number, row, "topic_name"),
            }
            known = {key: value for key, value in meta.items() if value}
            if blob.name in tests:
                known["official"] = "test"
            answer = answered(right - first, options, _or_none(blob, number, row, "exp"))
            yield Conversation.of(id, "", asked(text(blob, number, row, "question"), options), answer, **known)


def _first_option(blob: Blob) -> int:
    """What `cop` calls the first option: 0 on the Hub, 1 in the authors' files; a file that has neither's mark is refused."""
    seen = {row["cop"] for _, row in rows(blob) if isinstance(row.get("cop"), int)} - {-1}
    if 0 in seen and 4 in seen:
        raise DataError(f"{blob.name}: cop counts both from 0 and to 4; keep the Hub's rows and those of the authors' JSON in files of their own")  # fmt: skip
    if seen and not seen & {0, 4}:
        raise DataError(
            f"{blob.name}: cop is never 0 and never 4, so what it counts from cannot be told; use the whole file"
        )
    return 1 if 4 in seen else 0


def _or_none(blob: Blob, number: int, row: Row, column: str) -> str:
    """A cell as text, empty where the column is missing."""
    return text(blob, number, row, column).strip() if column in row else ""


SOURCE = Source(
    name="medmcqa",
    title="MedMCQA",
    homepage="https://medmcqa.github.io",
    repo="openlifescienceai/medmcqa",
    hub_files=("data/train-*.parquet", "data/validation-*.parquet"),
    licence="Apache-2.0",
    redistributable="yes",
    citation="A. Pal, L. K. Umapathi and M. Sankarasubbu, MedMCQA: A Large-scale Multi-Subject Multi-Choice Dataset for "
    "Medical domain Question Answering, CHIL 2022, PMLR 174:248-260",
    read=read,
    compared="question",
    choices=True,
    seeds=("medmcqa",),
    defects=(
        Defect("questions marked `multi` have a single right option as well"),
        Defect("many explanations are quotations of textbooks with their page numbers, or are missing"),
        Defect("words are broken by the scan they were read from, such as 'aery' for 'artery'"),
        Defect("questions were collected from examinations and books, whose own rights the licence may not cover"),
    ),
)
