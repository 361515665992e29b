"""What every source yields: conversations to learn from, or tagged tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medrecipes.core.bounded_reading import SURROGATE
from medrecipes.core.errors import DataError

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, e.g. `Message("user", "What is asthma?")`; `reasoning`: what the assistant thought before its answer."""

    role: Role
    content: str
    reasoning: str = ""
    supervised: bool = True  # False: an assistant's turn of weight 0, which is context alone
    # as JSON, what else its chat template is given: `tool_calls`, `name` and `tool_call_id` of a tool, on the first turn `tools`
    extra: str = ""

    @property
    def more(self) -> dict[str, Any]:
        """What else its chat template is given."""
        value: dict[str, Any] = json.loads(self.extra) if self.extra else {}
        return value

    @property
    def calls(self) -> bool:
        """Whether the assistant calls tools here."""
        return '"tool_calls"' in self.extra and "tool_calls" in self.more

    def row(self) -> list[Any]:
        """The fields as a list that makes the message again, without those at its end that say nothing."""
        values = [self.role, self.content, self.reasoning, self.supervised, self.extra]  # astuple copies each, slowly
        while len(values) > 2 and values[-1] == ("", True, "")[len(values) - 3]:
            values.pop()
        return values


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue that ends with the assistant; `group` names the document it belongs to, `meta` what the source knows."""

    id: str
    group: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, id: str, group: str, question: str, answer: str, *, reasoning: str = "", **meta: Any) -> Conversation:
        """A question and its answer as a conversation of one turn; `reasoning`: the thought before the answer."""
        return cls(id, group, (Message("user", question), Message("assistant", answer, reasoning)), meta)

    def row(self) -> list[Any]:
        """The fields as a list of what JSON holds."""
        return [self.id, self.group, [m.row() for m in self.messages], dict(self.meta)]

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Conversation:
        """The conversation that such a list is of."""
        id, group, messages, meta = row
        return cls(id, group, tuple(Message(*message) for message in messages), meta)

    @property
    def question(self) -> str:
        """What the user said first."""
        return next(m.content for m in self.messages if m.role == "user")

    @property
    def answer(self) -> str:
        """What the assistant said last."""
        return self.messages[-1].content

    def prompt(self) -> tuple[Message, ...]:
        """All turns before the last answer: what a model is asked."""
        return self.messages[:-1]


@dataclass(frozen=True, slots=True)
class Tagged:
    """A sentence or document as words with one BIO tag each; `group` names the document."""

    id: str
    group: str
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.tags):
            raise DataError(f"row {self.id}: {len(self.tokens)} words but {len(self.tags)} tags; give one tag a word")
        texts = (self.id, self.group, *self.tokens, *self.tags, *map(str, self.meta.values()))
        if half := next((text for text in texts if not text.isascii() and SURROGATE.search(text)), None):
            raise DataError(f"row {self.id}: {half[:60]!r} holds half a character; write it whole, or delete it")


Record = Conversation | Tagged


def uses_tools(rows: Iterable[Conversation]) -> bool:
    """Whether some row calls tools, or describes them."""
    return any(m.role == "tool" or m.extra for row in rows for m in row.messages)


def kind(meta: Mapping[str, Any]) -> str:
    """Where a row comes from and what it asks for, as far as its source knows, e.g. `medquad/CancerGov`."""
    return "/".join(str(meta[key]) for key in ("source", "collection", "task") if meta.get(key))


def check_turns(id: str, messages: Sequence[Message], *, complete: bool = True) -> None:
    """Raise unless an optional system message is followed by user and assistant in turn, `complete`: the answer last.

    Tools come between an assistant that calls them and the assistant that goes on.
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    before: Message | None = None
    for position, message in enumerate(turns):
        expected = _followers(before)
        if message.role not in expected:
            order = "[system,] user, assistant, user, assistant" + (", with tool turns behind an assistant's tool_calls" if message.role == "tool" or "tool" in expected else "")  # fmt: skip
            raise DataError(
                f"row {id}: turn {position + 1} is {message.role!r} where {' or '.join(map(repr, expected))} belongs; "
                f"order the turns as {order}"
            )
        before = message
    last = ("assistant",) if complete else ("user", "tool")
    if not turns or turns[-1].role not in last:
        raise DataError(f"row {id}: the conversation must end with the {last[0]}; drop or complete the last turn")
    if complete:
        for message in turns:
            if message.role == "assistant" and not message.content.strip() and not message.calls:
                raise DataError(f"row {id}: an answer is empty; there is nothing to learn from it, drop the row")


def _followers(before: Message | None) -> tuple[Role, ...]:
    """Who may speak behind a turn."""
    if before is None:
        return ("user",)
    if before.role == "assistant":
        return ("tool",) if before.calls else ("user",)
    return ("tool", "assistant") if before.role == "tool" else ("assistant",)
