"""The part of Go's text/template that an Ollama Modelfile of this project uses, with Go's own semantics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

WHITE = " \t\r\n"  # what Go's trim markers take away
ACTION = re.compile(r'\{\{(- )?((?:"(?:\\.|[^"\\])*"|[^"}])*?)( -)?\}\}')
WORD = re.compile(r'"(?:\\.|[^"\\])*"|[()]|[^\s()]+')
FUNCTIONS = {
    "eq": lambda one, other: one == other,
    "not": lambda value: not value,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
}


def render(text: str, messages: Sequence[Mapping[str, str]]) -> str:
    """What Ollama hands to a template: the messages, and all system messages together as `.System`."""
    system = "\n\n".join(m["Content"] for m in messages if m["Role"] == "system")
    data = {"System": system, "Messages": list(messages)}
    tokens = list(_tokens(text))
    out, rest = _run(tokens, data, {"$": data}, True)
    assert not rest, rest
    return out


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Texts and actions; a dash beside the braces, with a blank, takes the white space of the text next to it."""
    at, trim = 0, False
    for match in ACTION.finditer(text):
        piece = text[at : match.start()]
        piece = piece.lstrip(WHITE) if trim else piece
        yield "text", piece.rstrip(WHITE) if match[1] else piece
        yield "action", match[2].strip()
        at, trim = match.end(), bool(match[3])
    yield "text", text[at:].lstrip(WHITE) if trim else text[at:]


def _run(
    tokens: list[tuple[str, str]], dot: Any, names: dict[str, Any], live: bool
) -> tuple[str, list[tuple[str, str]]]:
    """Render up to the `end` or `else` of the block that this is; `live`: whether anything is written."""
    out = ""
    while tokens:
        kind, text = tokens[0]
        if kind == "action" and re.match(r"(end|else)\b", text):
            return out, tokens
        tokens = tokens[1:]
        if kind == "text":
            out += text if live else ""
        elif text.startswith("range "):
            found = re.fullmatch(r"range (\$\w+), (\$\w+) := (.+)", text)
            assert found
            rows = _value(found[3], dot, names) if live else []
            rest: list[tuple[str, str]] = _run(tokens, dot, names, False)[1]
            for i, row in enumerate(rows):
                said, rest = _run(tokens, row, {**names, found[1]: i, found[2]: row}, live)
                out += said
            assert rest[0] == ("action", "end")
            tokens = rest[1:]
        elif text.startswith("if "):
            said, tokens = _if(text[3:], tokens, dot, names, live)
            out += said
        else:
            out += str(_value(text, dot, names)) if live else ""
    return out, tokens


def _if(
    pipe: str, tokens: list[tuple[str, str]], dot: Any, names: dict[str, Any], live: bool
) -> tuple[str, list[tuple[str, str]]]:
    true = live and bool(_value(pipe, dot, names))
    out, rest = _run(tokens, dot, names, true)
    word, rest = rest[0][1], rest[1:]
    if word == "end":
        return out, rest
    if word.startswith("else if "):
        said, rest = _if(word[len("else if ") :], rest, dot, names, live and not true)
    else:
        said, rest = _run(rest, dot, names, live and not true)
        assert rest[0] == ("action", "end")
        rest = rest[1:]
    return out + said, rest


def _value(pipe: str, dot: Any, names: dict[str, Any]) -> Any:
    value, rest = _command(WORD.findall(pipe), dot, names)
    assert not rest
    return value


def _command(words: list[str], dot: Any, names: dict[str, Any]) -> tuple[Any, list[str]]:
    if words[0] not in FUNCTIONS:
        return _operand(words, dot, names)
    arguments, rest = [], words[1:]
    while rest and rest[0] != ")":
        value, rest = _operand(rest, dot, names)
        arguments.append(value)
    return FUNCTIONS[words[0]](*arguments), rest


def _operand(words: list[str], dot: Any, names: dict[str, Any]) -> tuple[Any, list[str]]:
    word, rest = words[0], words[1:]
    if word == "(":
        value, rest = _command(rest, dot, names)
        assert rest[0] == ")"
        return value, rest[1:]
    if word.startswith('"'):
        return json.loads(word), rest
    if word.isdigit():
        return int(word), rest
    name, *fields = word.split(".")
    value = names[name] if name else dot
    for field in fields:
        value = value[field]
    return value, rest
