"""Anyone's own data: conversations, or named columns, as JSONL, JSON, CSV, TSV or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast, get_args

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation, Message, Role, check_turns
from medrecipes.data.sources import Files, Ledger, Source
from medrecipes.data.sources._files import Blob, tables
from medrecipes.data.sources._tables import columns_of, rows, text


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with an answer: `messages`, or the columns that the recipe names."""
    columns = files.columns
    paired = columns.question is not None and columns.answer is not None
    if (columns.question is None) != (columns.answer is None) or (paired and columns.messages):
        raise DataError("data.columns: name question and answer together, or messages alone")
    turns = columns.messages or "messages"
    for blob in tables(files.path):
        for number, row in rows(blob):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            if paired:
                question, answer = (text(blob, number, row, str(c)) for c in (columns.question, columns.answer))
                messages = [Message("user", question), Message("assistant", answer)]
            elif turns in row:
                messages = _messages(blob, number, row[turns])
            else:
                raise DataError(
                    f"{blob.name}: row {number} has no column {turns!r}, only {columns_of(row)}; name its columns, "
                    'such as data.columns = { question = "...", answer = "..." }'
                )
            if columns.system and (system := text(blob, number, row, columns.system).strip()):
                if any(m.role == "system" for m in messages):
                    ledger.repair("the column's system message stands for that of the turns", id)
                messages = [Message("system", system), *(m for m in messages if m.role != "system")]
            if not all(m.content.strip() for m in messages if m.role == "assistant"):
                ledger.drop("empty answer", id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            named = {"qtype": columns.type, "official": columns.split, "document": columns.document}
            known = {key: text(blob, number, row, column).strip() for key, column in named.items() if column}
            document = known.pop("document", "")
            if known.get("official", "").casefold() == "test":
                known["official"] = "test"
            else:
                known.pop("official", None)  # only a test set binds; train and dev are this project's to choose
            yield Conversation(id, document, tuple(messages), known)


def _messages(blob: Blob, number: int, value: Any) -> list[Message]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise DataError(f"{blob.name}: row {number}: messages is no list of objects with role and content; write it so")
    messages = []
    for turn in value:
        role = text(blob, number, turn, "role")
        if role not in get_args(Role):
            raise DataError(
                f"{blob.name}: row {number}: role {role[:40]!r} is none of {', '.join(get_args(Role))}; rename it"
            )
        messages.append(Message(cast(Role, role), text(blob, number, turn, "content")))
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
    keeps_layout=True,
)
