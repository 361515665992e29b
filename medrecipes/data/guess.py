"""Columns guessed from rows: question, answer, document, kind and the like, by their names, then by what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from medrecipes.core.errors import DataError, did_you_mean, shown
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows
from medrecipes.data.sources.jsonl import NO_ROWS
from medrecipes.recipe.schema import Columns

LOOKED = 2000  # rows that a guess is made from
# what columns are called in the datasets of the Hub and in people's own, the likeliest first
NAMES = {
    "question": "question, query, prompt, frage, pregunta, domanda, vraag, instruction, input, user, human, patient, problem, q",
    "answer": "answer, response, reply, output, completion, antwort, respuesta, reponse, risposta, antwoord, assistant, doctor, target, solution, a",
    "document": "document, document id, doc, doc id, leaflet, article, pmid, page, url, link, focus area, focus, topic, title, subject, disease, "
    "condition, file, chapter, patient id, case id, group, source",
    "type": "kind, type, qtype, question type, category, typ, art, specialty",
    "context": "input, context, passage",
    "system": "system, system prompt, system message",
    "split": "split",
}
FEW_DOCUMENTS = 5  # fewer are no documents: a split by them could not be made
LONGEST_NAME = 100  # characters of what names a document or a kind, on the average
ASKED = ("question", "answer", "document", "type")  # what a person is asked about


@dataclass(frozen=True)
class Guess:
    """What the columns of a file are taken for, the columns there are, the first rows, which tell so, and how many there are."""

    columns: Columns
    names: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    count: int

    @property
    def turns(self) -> bool:
        """Whether the rows are conversations."""
        return self.columns.question is None


class _Column:
    """A column: its values in the rows that were looked at."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name, self.values = name, values
        self.words = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).casefold().split())
        self.filled = [str(value) for value in values if value not in (None, "")]

    @cached_property
    def text(self) -> bool:
        """Whether it holds texts, and seldom nothing."""
        return all(value is None or isinstance(value, str) for value in self.values) and 2 * len(self.filled) > len(self.values)  # fmt: skip

    @property
    def numbers(self) -> bool:
        """Whether all that it holds is numbers, which nobody asks and which are hardly an answer."""
        return all(re.fullmatch(r"[-+]?[\d.,]+ ?%?", value.strip()) for value in self.filled)

    @cached_property
    def distinct(self) -> int:
        """How many different values it has."""
        return len(set(self.filled))

    @property
    def mean(self) -> float:
        """Characters of a value."""
        return sum(map(len, self.filled)) / max(1, len(self.filled))

    @property
    def asking(self) -> float:
        """The share of its values that end in a question mark."""
        return sum(value.rstrip().endswith(("?", "？", "؟")) for value in self.filled) / max(1, len(self.filled))

    @cached_property
    def names(self) -> bool:
        """Whether its values name something that several rows share."""
        plain = all(value is None or type(value) in (str, int) for value in self.values)
        return plain and self.mean <= LONGEST_NAME and 1 < self.distinct < len(self.filled)

    @cached_property
    def turns(self) -> bool:
        """Whether it holds conversations: lists of objects with role and content, or with ShareGPT's from and value."""
        return bool(self.values) and all(
            isinstance(value, list) and value and all(isinstance(turn, dict) and ({"role", "content"} <= turn.keys() or {"from", "value"} <= turn.keys()) for turn in value)
            for value in self.values
        )  # fmt: skip


def guess(path: Path, said: Mapping[str, str | None]) -> Guess:
    """What the columns of a file or folder are; `said`: what a person says of some, None where there is no such column."""
    every = _rows(path)
    looked = tuple(islice(every, LOOKED))
    count = len(looked) + sum(1 for _ in every)
    names = list(dict.fromkeys(str(name) for row in looked for name in row))
    for role, name in said.items():
        if name is not None and name not in names:
            known = ", ".join(names[:24])
            raise DataError(f"{path}: has no column {shown(name, 60)} for the {'kind' if role == 'type' else role}, only {known}{_meant(name, names)}")  # fmt: skip
    everywhere = [_Column(name, [row[name] for row in looked]) for name in names if all(name in row for row in looked)]
    found = {role: name for role, name in said.items() if name is not None}
    free = _Free([column for column in everywhere if column.name not in found.values()], {*said})
    if not {"question", "answer"} & found.keys() and (turns := [c for c in everywhere if c.turns]):
        found |= {} if turns[0].name in ("messages", "conversations") else {"messages": turns[0].name}
    else:
        found |= _pair(path, free, found, names)
    found |= free.naming()
    systems = [column for column in free.called("system") if column.text]
    splits = [column for column in free.called("split") if "test" in map(str.casefold, column.filled)]
    found |= {role: columns[0].name for role, columns in (("system", systems), ("split", splits)) if columns}
    return Guess(Columns(**found), tuple(names), looked, count)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for blob in tables(path):
        if blob.inside.name not in NO_ROWS:
            yield from (row for _, row in rows(blob))


def _meant(name: str, names: Iterable[str]) -> str:
    hint = did_you_mean(name, names)
    return hint if hint.startswith("; did") else ""


class _Free:
    """The columns that are not taken yet; `settled`: what is not guessed, for a person has said it."""

    def __init__(self, columns: list[_Column], settled: set[str]) -> None:
        self.columns, self.settled = columns, settled

    def called(self, role: str) -> list[_Column]:
        """The columns whose name says that they are this, the likeliest first; none where that was said."""
        if role in self.settled:
            return []
        names = NAMES[role].split(", ")
        whole = [c for name in names for c in self.columns if c.words == name or c.words == f"{name}s"]
        parts = [c for name in names for c in self.columns if c not in whole and len(name) > 1 and f" {name} " in f" {c.words} "]  # fmt: skip
        return [*whole, *sorted(parts, key=lambda c: -c.distinct)]

    def take(self, column: _Column) -> str:
        """It is something from now on."""
        self.columns.remove(column)
        return column.name

    def naming(self) -> dict[str, str]:
        """The columns that name a document and a kind."""
        found = {}
        named = [c for c in self.called("document") if c.names and c.distinct >= FEW_DOCUMENTS]
        kinds = [c for c in self.called("type") if c.names]
        short = [c for c in self.columns if c.names and c not in kinds]
        many = [c for c in short if c.distinct >= max(FEW_DOCUMENTS, len(c.filled) / 10)]
        if "document" not in self.settled and (named or many):
            found["document"] = self.take(named[0] if named else max(many, key=lambda c: c.distinct))
        kinds = [c for c in kinds if c in self.columns]
        few = [c for c in short if c in self.columns and c.distinct < len(c.filled) / 10 and c.words != "split"]
        if "type" not in self.settled and (kinds or few):
            found["type"] = self.take(kinds[0] if kinds else min(few, key=lambda c: c.distinct))
        return found


def _pair(path: Path, free: _Free, said: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The columns with question and answer, and with what the question is about."""
    found: dict[str, str] = {}
    if "question" not in said:
        texts = [c for c in free.columns if c.text and not c.numbers]
        asking = sorted((c for c in texts if c.asking > 0.3), key=lambda c: -c.asking)
        named = [c for c in free.called("question") if c.text]
        if not (chosen := [*named, *asking, *(texts if len(texts) == 2 else ())]):
            raise _unclear(path, "question", names)
        found["question"] = free.take(chosen[0])
        found |= _instructions(free, chosen[0])
    if "answer" not in said:
        texts = [c for c in free.columns if c.text and not c.numbers]
        named = [c for c in free.called("answer") if c.text]
        long = sorted(texts, key=lambda c: -c.mean)
        if not (chosen := [*named, *(c for c in long if not c.names)]):
            raise _unclear(path, "answer", names)
        found["answer"] = free.take(chosen[0])
    return found


def _instructions(free: _Free, question: _Column) -> dict[str, str]:
    """What stands beside a question: Alpaca's input; where its instruction is the same for all rows, the input is the question."""
    beside = [c for c in free.called("context") if c.distinct > 1 and all(isinstance(v, str | None) for v in c.values)]
    if not beside:
        return {}
    if question.words == "instruction" and question.distinct <= 3 and len(beside[0].filled) == len(beside[0].values):
        return {"question": free.take(beside[0]), "system": question.name}
    return {"context": free.take(beside[0])} if beside[0].words != "input" or question.words == "instruction" else {}


def _unclear(path: Path, role: str, names: Sequence[str]) -> DataError:
    return DataError(
        f"{path}: none of its columns ({', '.join(names[:24])}) is clearly the {role}; "
        f"name both with `medrecipes init {path} --question COLUMN --answer COLUMN`"
    )
