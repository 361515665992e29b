"""Anyone's own data: conversations, or named columns, as JSONL, JSON, CSV, TSV, Parquet or Excel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast, get_args

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation, Message, Role, check_turns
from medrecipes.data.sources import Files, Ledger, Source
from medrecipes.data.sources._files import TABLES, Blob, tables
from medrecipes.data.sources._tables import Row, no_column, rows, text

TEST = re.compile(
    r"test(?![a-z])", re.IGNORECASE
)  # how the name of an official test set's file begins, as in test-00000-of-00001.parquet
# ShareGPT's names of who speaks
SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
NO_ROWS = (
    "dataset_infos.json",
    "dataset_info.json",
    "dataset_dict.json",
)  # what the Hub's own library writes beside them
CURE = 'name its columns, such as data.columns = { question = "...", answer = "..." }'


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with an answer: `messages`, ShareGPT's `conversations`, or the columns that the recipe names.

    Rows of files called `test` are test rows, where they lie among others.
    """
    columns = files.columns
    paired = columns.question is not None and columns.answer is not None
    if (columns.question is None) != (columns.answer is None) or (paired and columns.messages):
        raise DataError("data.columns: name question and answer together, or messages alone")
    if columns.context and not paired:
        raise DataError("data.columns.context goes behind a question; name question and answer too")
    wanted = {key: name for key, name in columns.model_dump().items() if name is not None and key != "messages"}
    found = [blob for blob in tables(files.path) if blob.inside.name not in NO_ROWS]
    held_out = [blob for blob in found if TEST.match(blob.inside.name)]
    for blob in found:
        for number, row in rows(blob):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            for key, name in wanted.items():
                if name not in row:
                    raise no_column(blob, number, name, row, f"set data.columns.{key} to one of them")
            if paired:
                question, answer = (text(blob, number, row, str(c)) for c in (columns.question, columns.answer))
                if columns.context and (context := text(blob, number, row, columns.context).strip()):
                    question = f"{question}\n\n{context}"
                messages = [Message("user", question), Message("assistant", answer)]
            else:
                messages = messages_of(blob, number, row, columns.messages)
            if columns.system and (system := text(blob, number, row, columns.system).strip()):
                if any(m.role == "system" for m in messages):
                    ledger.repair("the column's system message stands for that of the turns", id)
                messages = [Message("system", system), *(m for m in messages if m.role != "system")]
            if not all(m.content.strip() for m in messages if m.role == "assistant"):
                ledger.drop("empty answer", id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            named = {"qtype": columns.type, "official": columns.split, "document": columns.document}
            known = {key: _name(blob, number, row, column) for key, column in named.items() if column}
            document = known.pop("document", "")
            test = known.pop("official", "").casefold() == "test" or (blob in held_out and len(held_out) < len(found))
            if test:  # only a test set binds; train and dev are this project's to choose
                known["official"] = "test"
            yield Conversation(id, document, tuple(messages), known)


def _name(blob: Blob, number: int, row: Row, column: str) -> str:
    """A cell that names something: a document's number is a name too."""
    value = row[column]
    return str(value) if type(value) is int else text(blob, number, row, column).strip()


def messages_of(blob: Blob, number: int, row: Row, column: str | None) -> list[Message]:
    """The turns of a row, each an object with role and content, or with ShareGPT's from and value."""
    name = column or ("messages" if "messages" in row or "conversations" not in row else "conversations")
    if name not in row:
        raise no_column(blob, number, name, row, CURE)
    value = row[name]
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError(f"{blob.name}: row {number}: {name} is no list of objects with role and content; write it so")
    messages = []
    for turn in value:
        who, what = ("from", "value") if "from" in turn and "role" not in turn else ("role", "content")
        for key in (who, what):
            if key not in turn:
                raise no_column(blob, number, key, turn, f"give each turn {who} and {what}")
        role = text(blob, number, turn, who)
        role = SPEAKERS.get(role, role) if who == "from" else role
        if role not in get_args(Role):
            raise DataError(
                f"{blob.name}: row {number}: role {role[:40]!r} is none of {', '.join(get_args(Role))}; rename it"
            )
        messages.append(Message(cast(Role, role), text(blob, number, turn, what)))
    return messages


SOURCE = Source(
    name="jsonl",
    title="own data",
    homepage="a local file",
    repo=None,
    licence="unknown",
    redistributable="unknown",
    citation="",
    read=read,
    hub_files=tuple(f"*{kind}{packed}" for kind in TABLES for packed in ("", ".gz")),
    keeps_layout=True,
)
