"""What a model will see and learn of a few conversations, token by token, in the terminal or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, get_args

from rich.console import Console
from rich.text import Text

from medrecipes.core.bounded_reading import SURROGATE, JsonError, loads, read_text
from medrecipes.core.errors import DataError, did_you_mean
from medrecipes.data.reasoning import KEYS
from medrecipes.data.records import Conversation, Message, Role, Tagged, check_turns
from medrecipes.recipe.schema import Data
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.packing import learn_all
from medrecipes.rendering.tokenizer import BLANK, Tokenizer

STYLES = {"masked": "dim", "learned": "green", "masked control": "black on cyan", "learned control": "black on green"}
# what training makes of a row that is too long
BEYOND = {
    "drop": "a run leaves it out", "error": "a run ends with an error",
    "shorten_context": "a run shortens its context", "shorten_answer": "a run shortens its answer",
}  # fmt: skip
R = TypeVar("R", Conversation, Tagged)
BORDER = "│"  # no token is shown with it: one that holds it is spelled out, and `|`, which many hold, is another
LINE_BREAK = "↵"


def preview(
    template: ChatTemplate, conversations: Sequence[Conversation], console: Console, data: Data | None = None,
    *, whole: bool = False,
) -> None:  # fmt: skip
    """Print each conversation token by token, a line for every stretch that is learned or masked, then the totals.

    `data`: the recipe's section, where there is one, so that a row which training will not see as it stands says so;
    `whole`: as a recipe with train.loss_on = "all" learns it.
    """
    console.print(_legend(template), soft_wrap=True)
    if whole:
        console.print(Text("train.loss_on = 'all': every token is learned, questions and system prompts too", "bold red"), soft_wrap=True)  # fmt: skip
    tokens = learned = 0
    for example in _examples(template, conversations, whole=whole):
        tokens += len(example.input_ids)
        learned += example.supervised
        console.print()
        console.print(Text(f"{example.id}: {_share(example.supervised, len(example.input_ids))}", "bold"))
        if data and len(example.input_ids) > data.max_tokens:
            console.print(
                Text(f"longer than data.max_tokens = {data.max_tokens}: {BEYOND[data.on_overflow]}", "bold red")
            )
        for line in _stretches(template.tokenizer, example):
            console.print(line, soft_wrap=True)
    console.print()
    rows = f"{len(conversations):,} conversation{'s' if len(conversations) != 1 else ''}"
    console.print(Text(f"{rows}: {_share(learned, tokens)}", "bold"))


def _examples(template: ChatTemplate, conversations: Sequence[Conversation], *, whole: bool) -> Sequence[Example]:
    found = list(template.examples(conversations))
    return learn_all(found) if whole else found


def preview_json(
    template: ChatTemplate, conversations: Sequence[Conversation], *, whole: bool = False
) -> Iterator[str]:
    """One line of JSON a conversation: its id, its text as the template renders it, its ids and its labels."""
    for conversation, example in zip(conversations, _examples(template, conversations, whole=whole), strict=True):
        value = {
            "id": conversation.id,
            "text": template.render(conversation.messages),
            "ids": example.input_ids,
            "labels": example.labels,
        }
        yield json.dumps(value, ensure_ascii=False)


def choose(rows: Sequence[R], count: int = 5, row: str | None = None) -> list[R]:
    """The first `count` rows, or the one whose id is `row`."""
    if row is None:
        return list(rows[:count])
    found = [each for each in rows if each.id == row]
    if not found:
        hint = did_you_mean(row, [each.id for each in rows])
        raise DataError(f"no row has the id {row!r}{hint or '; leave --row out to see the first ones'}")
    return found


def conversations_from_file(path: Path) -> list[Conversation]:
    """Conversations from a file with one `{"messages": [{"role": …, "content": …}, …]}` a line; an `id` is kept."""
    lines = read_text(path, "give a file of JSON lines, one conversation each").split("\n")
    found = [_conversation(f"{path}:{number}", number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise DataError(f"{path}: holds no conversation; write one JSON object a line")
    return found


def _conversation(where: str, number: int, line: str) -> Conversation:
    try:
        value = loads(line)
    except JsonError as error:
        raise DataError(f"{where}: {error}") from None
    turns = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(turns, list) or not turns:
        raise DataError(f'{where}: no messages; write {{"messages": [{{"role": "user", "content": "…"}}, …]}}')
    id = str(value.get("id", number))
    messages = tuple(_message(f"{where}: message {position}", turn) for position, turn in enumerate(turns, 1))
    try:
        check_turns(id, messages)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    return Conversation(id, str(value.get("group", id)), messages)


def _message(where: str, turn: Any) -> Message:
    role: Any = turn.get("role") if isinstance(turn, dict) else None
    content = turn.get("content") if isinstance(turn, dict) else None
    if role not in get_args(Role):
        known = ", ".join(get_args(Role))
        raise DataError(f"{where} has the role {role!r}, not one of {known}; correct it")
    if not isinstance(content, str):
        raise DataError(f"{where} has no text in content; write it as a string")
    if SURROGATE.search(content):
        raise DataError(f"{where} holds half a character; write it whole, or delete it")
    if turn.get("tool_calls"):
        raise DataError(f"{where} holds tool calls; preview a recipe whose source jsonl reads this file")
    thought = next((text for key in KEYS if isinstance(text := turn.get(key), str)), "")
    return Message(role, content, thought.strip(), turn.get("weight") != 0)


def _share(learned: int, tokens: int) -> str:
    return f"{tokens:,} tokens, {learned:,} learned ({learned / tokens if tokens else 0:.0%})"


def _legend(template: ChatTemplate) -> Text:
    """What the colours and signs mean, and the tokens that matter most."""
    tokenizer = template.tokenizer
    bos = tokenizer.named.get("bos_token", "none")
    legend = Text(f"template {template.name}: begins with {bos}, learns to stop with {template.stops[0]}, ")
    legend.append(f"stops at {' '.join(template.stops)}, pads with {template.pad[0]}\n")
    for name, style in STYLES.items():
        legend.append(f"«{name}»" if "control" in name else name, style).append("  ")
    return legend.append(f"{BORDER} token border  {BLANK} blank  {LINE_BREAK} line break")


def _stretches(tokenizer: Tokenizer, example: Example) -> Iterator[Text]:
    """The stretches of a row that are learned or masked, each as a line; no colour is needed to tell them apart."""
    control = set(tokenizer.control.values())
    pairs = zip(example.input_ids, example.labels, strict=True)
    for learned, stretch in groupby(pairs, key=lambda pair: pair[1] != MASKED):
        kind = "learned" if learned else "masked"
        line = Text(f"{kind:>7} ", STYLES[kind])
        for position, (id, _) in enumerate(stretch):
            if position:
                line.append(BORDER, "dim")
            if id in control:
                line.append(f"«{tokenizer.token(id)}»", STYLES[f"{kind} control"])
            else:
                line.append(visible(tokenizer, id), STYLES[kind])
        yield line


def visible(tokenizer: Tokenizer, id: int) -> str:
    """A token so that it can be seen, e.g. `▁asthma`, `↵`, `<0xF0>`."""
    piece = tokenizer.token(id)
    if BLANK not in tokenizer.json["model"]["vocab"]:
        # byte pieces are spelled in stand-in letters: their text, unless they are but a part of a character
        text = tokenizer.decode([[id]], control=True)[0]
        piece = text if "\ufffd" not in text else piece
    piece = {"<0x0A>": "\n", "<0x09>": "\t"}.get(piece, piece).replace(" ", BLANK).replace("\n", LINE_BREAK)
    return "".join(c if c.isprintable() and c != BORDER else c.encode("unicode_escape").decode() for c in piece)
