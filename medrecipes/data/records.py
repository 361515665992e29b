"""What every source yields: conversations to learn from, or tagged tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from medrecipes.core.bounded_reading import SURROGATE
from medrecipes.core.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn, e.g. `Message("user", "What is asthma?")`."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue that ends with the assistant; `group` names the document it belongs to, `meta` what the source knows."""

    id: str
    group: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, id: str, group: str, question: str, answer: str, **meta: Any) -> Conversation:
        """A question and its answer as a conversation of one turn."""
        return cls(id, group, (Message("user", question), Message("assistant", answer)), meta)

    @property
    def question(self) -> str:
        """What the user said first."""
        return next(m.content for m in self.messages if m.role == "user")

    @property
    def answer(self) -> str:
        """What the assistant said last."""
        return self.messages[-1].content

    @property
    def answer_bytes(self) -> int:
        """How long all that the assistant says is, in UTF-8: what its bits are shared out over."""
        return sum(len(m.content.encode()) for m in self.messages if m.role == "assistant")

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


def kind(meta: Mapping[str, Any]) -> str:
    """Where a row comes from and what it asks for, as far as its source knows, e.g. `medquad/CancerGov`."""
    return "/".join(str(meta[key]) for key in ("source", "collection", "task") if meta.get(key))


def check_turns(id: str, messages: Sequence[Message], *, complete: bool = True) -> None:
    """Raise unless an optional system message is followed by user and assistant in turn, `complete`: the answer last."""
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    for position, message in enumerate(turns):
        expected = "user" if position % 2 == 0 else "assistant"
        if message.role != expected:
            raise DataError(
                f"row {id}: turn {position + 1} is {message.role!r} where {expected!r} belongs; "
                "order the turns as [system,] user, assistant, user, assistant"
            )
    last = "assistant" if complete else "user"
    if not turns or turns[-1].role != last:
        raise DataError(f"row {id}: the conversation must end with the {last}; drop or complete the last turn")
    if complete:
        for message in turns[1::2]:
            if not message.content.strip():
                raise DataError(f"row {id}: an answer is empty; there is nothing to learn from it, drop the row")
