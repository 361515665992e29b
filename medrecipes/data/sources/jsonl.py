"""Anyone's own data: conversations, or named columns, as JSONL, JSON, CSV, TSV, Parquet or Excel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from medrecipes.core.bounded_reading import JsonError, loads
from medrecipes.core.errors import DataError
from medrecipes.data.reasoning import KEYS, split_reasoning
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

    An assistant's reasoning is what the turn holds as `reasoning_content`, `reasoning` or `thinking`, what its text has
    between `<think>` marks, or the column that the recipe names.

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
                messages = [Message("user", question), _thinking(Message("assistant", answer))]
            else:
                turns = row.get(columns.messages or "messages")
                first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
                tools = row.get("tools") or first.get("tools")
                messages = _with_tools(messages_of(blob, number, row, columns.messages), tools)
            if columns.reasoning and messages and (thought := text(blob, number, row, columns.reasoning).strip()):
                messages[-1] = replace(messages[-1], reasoning=thought)
            if columns.system and (system := text(blob, number, row, columns.system).strip()):
                if any(m.role == "system" for m in messages):
                    ledger.repair("the column's system message stands for that of the turns", id)
                tools = messages[0].extra if messages else ""
                messages = [Message("system", system, extra=tools), *_without_system(messages)]
            if reason := _useless([m for m in messages if m.role == "assistant"]):
                ledger.drop(reason, id)
                continue
            check_turns(f"{blob.name}:{number}", messages)
            named = {"qtype": columns.type, "official": columns.split, "document": columns.document}
            known = {key: _name(blob, number, row, column) for key, column in named.items() if column}
            document = known.pop("document", "")
            test = known.pop("official", "").casefold() == "test" or (blob in held_out and len(held_out) < len(found))
            if test:  # only a test set binds; train and dev are this project's to choose
                known["official"] = "test"
            yield Conversation(id, document, tuple(messages), known)


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The turns without a system message, and without the tools that the first of them brought."""
    turns = [m for m in messages if m.role != "system"]
    return [replace(turns[0], extra=""), *turns[1:]] if turns and turns[0] is messages[0] else turns


def _useless(answers: Sequence[Message]) -> str | None:
    """Why nothing can be learned from the answers of a row, if so."""
    for answer in answers:
        if not answer.content.strip() and not answer.calls:
            return "reasoning without an answer" if answer.reasoning else "empty answer"
    return "no turn is supervised" if answers and not any(answer.supervised for answer in answers) else None


def _thinking(answer: Message) -> Message:
    """An answer with the thought in its text, between `<think>` marks, taken out of it."""
    reasoning, said = split_reasoning(answer.content)
    return replace(answer, content=said, reasoning=answer.reasoning or reasoning) if reasoning or said != answer.content else answer  # fmt: skip


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
            if key not in turn and not (key == "content" and turn.get("tool_calls")):
                raise no_column(blob, number, key, turn, f"give each turn {who} and {what}")
        role = text(blob, number, turn, who)
        role = SPEAKERS.get(role, role) if who == "from" else role
        if role not in get_args(Role):
            raise DataError(
                f"{blob.name}: row {number}: role {role[:40]!r} is none of {', '.join(get_args(Role))}; rename it"
            )
        messages.append(_turn(blob, number, {what: "", **turn}, cast(Role, role), what))
    return messages


def _turn(blob: Blob, number: int, turn: Row, role: Role, what: str) -> Message:
    """One turn; of an assistant with its reasoning, its weight and the tools that it calls."""
    content, weight = text(blob, number, turn, what), _read(turn.get("weight"))
    if weight is not None and (weight not in (0, 1) or (weight == 1 and role != "assistant")):
        raise DataError(f"{blob.name}: row {number}: weight = {json.dumps(weight)[:40]} of a turn by the {role}; give an assistant's turn 0 (not supervised) or 1, and no other any")  # fmt: skip
    if role == "tool":
        named = {key: turn[key] for key in ("name", "tool_call_id") if isinstance(turn.get(key), str)}
        return Message(role, content, extra=_json(named))
    if role != "assistant":
        return Message(role, content)
    reasoning = next(
        (thought for key in KEYS if key in turn and (thought := text(blob, number, turn, key).strip())), ""
    )
    calls = [_call(blob, number, call) for call in _read(turn.get("tool_calls")) or ()]
    return _thinking(Message(role, content, reasoning, weight != 0, _json({"tool_calls": calls} if calls else {})))


def _call(blob: Blob, number: int, call: Any) -> dict[str, Any]:
    """A tool call as chat templates know it, whose arguments are an object where they can be read as one."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or "arguments" not in function:
        raise DataError(f"{blob.name}: row {number}: a tool call is no object with name and arguments; write it as {{\"function\": {{\"name\": …, \"arguments\": {{…}}}}}}")  # fmt: skip
    arguments = _read(function["arguments"])
    of = {key: value for key, value in call.items() if key == "id" and isinstance(value, str)}
    return {**of, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _with_tools(messages: list[Message], tools: Any) -> list[Message]:
    """The turns with the tools that the row's column of that name describes, which the first turn brings along."""
    tools = _read(tools)
    if not messages or not tools or not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        return messages
    return [replace(messages[0], extra=_json({**messages[0].more, "tools": tools})), *messages[1:]]


def _read(value: Any) -> Any:
    """What a text of JSON holds; any other value as it is."""
    if isinstance(value, str):
        try:
            return loads(value)
        except JsonError:
            pass
    return value


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""


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
