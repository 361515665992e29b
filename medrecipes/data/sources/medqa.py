"""MedQA-USMLE: multiple-choice questions of the United States medical licensing examination, four options each.

Files and columns by the dataset on the Hub (GBaker/MedQA-USMLE-4-options): phrases_no_exclude_train.jsonl with 10,178 rows and
phrases_no_exclude_test.jsonl with 1,273; the authors' own repository has a dev file of 1,272 beside them. Its card says
CC-BY-4.0, which its uploader chose; the authors' repository is under MIT.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._choices import answered, asked
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._parts import held_out
from medrecipes.data.sources._tables import rows, text


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every question with its right option."""
    found = tables(files.path)
    tests = held_out(found, ("test",))
    for blob in found:
        for number, row in rows(blob, ("question", "options", "answer_idx")):
            ledger.seen += 1
            options, right = row["options"], text(blob, number, row, "answer_idx")
            if not isinstance(options, dict) or not all(isinstance(option, str) for option in options.values()):
                raise DataError(f'{blob.name}: row {number}: options is no object such as {{"A": …, "B": …}} of texts; fetch the file again')  # fmt: skip
            if right not in options:
                raise DataError(f"{blob.name}: row {number}: answer_idx {right[:20]!r} is none of the options {', '.join(options)[:40]}; correct it")  # fmt: skip
            letters = sorted(options)
            known = {"qtype": text(blob, number, row, "meta_info")} if row.get("meta_info") else {}
            if blob.name in tests:
                known["official"] = "test"
            texts = [options[letter] for letter in letters]
            question = asked(text(blob, number, row, "question"), texts)
            yield Conversation.of(f"{blob.stem}:{number}", "", question, answered(letters.index(right), texts), **known)


SOURCE = Source(
    name="medqa",
    title="MedQA-USMLE",
    homepage="https://github.com/jind11/MedQA",
    repo="GBaker/MedQA-USMLE-4-options",
    hub_files=("*.jsonl",),
    licence="MIT (its authors) or CC-BY-4.0 (its uploader)",
    redistributable="unknown",
    citation="D. Jin et al., What Disease does this Patient Have? A Large-scale Open Domain Question Answering Dataset from "
    "Medical Exams, Applied Sciences 11(14):6421, 2021",
    read=read,
    compared="question",
    choices=True,
    seeds=("medqa",),
    defects=(
        Defect(
            "questions were collected from books and sites for the examination, whose rights neither licence may cover"
        ),
        Defect("answers have no explanation"),
        Defect("pictures and tables that questions speak of are missing"),
    ),
)
