"""Conversations to ids and labels, decided once, here: what is an answer is supervised, and nothing else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from medrecipes.errors import TemplateError, did_you_mean
from medrecipes.recipe import template_names, template_path
from medrecipes.records import Conversation, Message, check_turns
from medrecipes.store import digest
from medrecipes.tokens import Tokenizer

MASKED = -100  # the label that every loss in the stack leaves out

# Private-use characters stand for contents and answer borders while a template is rendered once for all conversations
# of one shape; the templates may not branch on contents, and proofs.py compares with the plain rendering, row by row.
OPEN, CLOSE, BEGIN, END = "\ue000", "\ue001", "\ue002", "\ue003"
MARK = re.compile(f"{OPEN}([lr]*)(\\d+){CLOSE}|([{BEGIN}{END}])")
HEAD = re.compile(r"\{#-?(.*?)-?#\}", re.DOTALL)
BATCH = 2048


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`: what the assistant writes, stop token included."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own interface

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return f"{BEGIN}{caller()}{END}"


def _trim(text: str) -> str:
    """jinja's trim, which on a stand-in is put off until the content is there."""
    text = text.strip()
    text = re.sub(f"^{OPEN}(?!l)", f"{OPEN}l", text)
    return re.sub(f"{OPEN}(l?)(\\d+){CLOSE}$", f"{OPEN}\\1r\\2{CLOSE}", text)


def _raise(message: str) -> None:
    raise TemplateError(message)


@lru_cache
def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    """The environment that transformers renders chat templates in, plus the marks."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["trim"] = _trim
    environment.globals["raise_exception"] = _raise
    return environment


@dataclass(frozen=True)
class Control:
    """A control token of the template itself."""

    id: int
    text: str
    supervised: bool


@dataclass(frozen=True)
class Run:
    """Text between control tokens: literals and stand-ins `(message index, flags)`; `continuing` after other text."""

    pieces: tuple[str | tuple[int, str], ...]
    supervised: bool
    continuing: bool

    def text(self, contents: Sequence[str]) -> str:
        """The run with the contents in their places."""
        return "".join(p if isinstance(p, str) else _stripped(contents[p[0]], p[1]) for p in self.pieces)


def _stripped(text: str, flags: str) -> str:
    if flags == "lr":
        return text.strip()
    return text.lstrip() if flags == "l" else text.rstrip() if flags == "r" else text


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation as a model sees it; `labels` are MASKED wherever nothing is learned."""

    id: str
    group: str
    input_ids: list[int]
    labels: list[int]
    answer: str = ""
    cut: bool = False

    @property
    def supervised(self) -> int:
        """How many tokens are learned."""
        return sum(label != MASKED for label in self.labels)


class ChatTemplate:
    """One template bound to one tokenizer: the only way from a conversation to ids, in training as in use."""

    def __init__(self, name: str, tokenizer: Tokenizer, text: str | None = None, system: str | None = None) -> None:
        if text is None:
            path = template_path(name)
            if not path.exists():
                raise TemplateError(f"template {name!r} is unknown{did_you_mean(name, template_names())}")
            text = path.read_text(encoding="utf-8")
        self.name, self.text, self.tokenizer, self.system = name, text, tokenizer, system
        if not re.search(r"\{%-?\s*generation\s*-?%\}", text):
            raise TemplateError(
                f"template {name!r} has no {{% generation %}} marks, so nothing would be learned; "
                "put them around each answer and its stop token"
            )
        self.head = dict(re.findall(r"^(\w+): *(.*?) *$", (HEAD.match(text) or [""])[0], re.MULTILINE))
        self.control = [self._named(token) for token in self.head.get("control", "").split()]
        self.stops = [self._named(token) for token in self.head.get("stop", "eos_token").split()]
        missing = sorted({token for token in [*self.control, *self.stops] if token not in tokenizer.control})
        if missing:
            raise TemplateError(
                f"template {name!r} needs the control token {', '.join(missing)}, which the tokenizer of {tokenizer.folder} "
                "lacks; choose the template of this base's family"
            )
        self._compiled = _environment().from_string(text)
        self._control_pattern = re.compile(
            "|".join(sorted(map(re.escape, {*self.control, *self.stops}), key=len, reverse=True))
        )
        self._shape = lru_cache(maxsize=4096)(self._compile_shape)

    @property
    def sha256(self) -> str:
        """What makes two templates the same one."""
        return digest(self.text)

    @property
    def stop_ids(self) -> list[int]:
        """The ids that end an answer."""
        return [self.tokenizer.control_id(token) for token in self.stops]

    def _named(self, token: str) -> str:
        if token in ("bos_token", "eos_token"):
            if token not in self.tokenizer.named:
                raise TemplateError(
                    f"{self.tokenizer.folder}: the tokenizer names no {token}; template {self.name!r} needs it"
                )
            return self.tokenizer.named[token]
        return token

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """The plain text, control tokens spelled out; `ask`: ready for the assistant's next answer."""
        return re.sub(
            f"[{BEGIN}{END}]", "", self._render([{"role": m.role, "content": m.content} for m in messages], ask)
        )

    def _render(self, messages: list[dict[str, str]], ask: bool) -> str:
        named = {"bos_token": "", "eos_token": "", **self.tokenizer.named}
        try:
            return self._compiled.render(messages=messages, add_generation_prompt=ask, **named)
        except jinja2.TemplateError as error:
            raise TemplateError(f"template {self.name!r}: {error}") from None

    def _compile_shape(self, roles: tuple[str, ...], ask: bool) -> tuple[Control | Run, ...]:
        """The parts of any conversation with these roles."""
        stand_ins = [{"role": role, "content": f"{OPEN}{i}{CLOSE}"} for i, role in enumerate(roles)]
        text = self._render(stand_ins, ask)
        parts: list[Control | Run] = []
        pieces: list[str | tuple[int, str]] = []
        supervised, continuing = False, False

        def close() -> None:
            nonlocal continuing
            if pieces:
                parts.append(Run(tuple(pieces), supervised, continuing))
                continuing = True
                pieces.clear()

        def literal(text: str) -> None:
            nonlocal continuing
            at = 0
            for match in self._control_pattern.finditer(text):
                if match.start() > at:
                    pieces.append(text[at : match.start()])
                close()
                parts.append(Control(self.tokenizer.control_id(match[0]), match[0], supervised))
                continuing = False
                at = match.end()
            if at < len(text):
                pieces.append(text[at:])

        at = 0
        for match in MARK.finditer(text):
            literal(text[at : match.start()])
            at = match.end()
            if match[3]:
                close()
                supervised = match[3] == BEGIN
            else:
                pieces.append((int(match[2]), match[1]))
        literal(text[at:])
        close()
        return tuple(parts)

    def turns(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages with the recipe's system message where they have none."""
        if self.system and messages[0].role != "system":
            return (Message("system", self.system), *messages)
        return tuple(messages)

    def parts(self, messages: Sequence[Message], *, ask: bool = False) -> tuple[Control | Run, ...]:
        """The parts of a conversation: control tokens and runs of text, in order."""
        return self._shape(tuple(m.role for m in messages), ask)

    def prompts(self, asked: Iterable[Sequence[Message]]) -> list[list[int]]:
        """The ids of prompts, ready to be answered: exactly what training put before the answer."""
        rows = []
        for messages in asked:
            check_turns("prompt", messages, complete=False)
            rows.append(self.turns(messages))
        return [ids for ids, _ in self._encode(rows, ask=True)]

    def examples(self, conversations: Iterable[Conversation]) -> Iterator[Example]:
        """Ids and labels of complete conversations, whatever their length, a batch at a time."""
        batch: list[Conversation] = []
        for conversation in conversations:
            check_turns(conversation.id, conversation.messages)
            batch.append(conversation)
            if len(batch) == BATCH:
                yield from self._examples(batch)
                batch = []
        yield from self._examples(batch)

    def _examples(self, batch: Sequence[Conversation]) -> Iterator[Example]:
        encoded = self._encode([self.turns(c.messages) for c in batch], ask=False)
        for conversation, (ids, labels) in zip(batch, encoded, strict=True):
            yield Example(conversation.id, conversation.group, ids, labels, conversation.answer)

    def _encode(self, rows: Sequence[Sequence[Message]], *, ask: bool) -> Iterator[tuple[list[int], list[int]]]:
        """Ids and labels of many conversations: all runs go through the Rust tokenizer in two calls."""
        shapes = [self.parts(row, ask=ask) for row in rows]
        texts: dict[bool, dict[str, int]] = {False: {}, True: {}}  # each distinct run is tokenised once
        for row, shape in zip(rows, shapes, strict=True):
            contents = [m.content for m in row]
            for part in shape:
                if isinstance(part, Run):
                    known = texts[part.continuing]
                    known.setdefault(part.text(contents), len(known))
        ids = {
            continuing: self.tokenizer.encode(list(known), continuing=continuing) for continuing, known in texts.items()
        }
        for row, shape in zip(rows, shapes, strict=True):
            contents = [m.content for m in row]
            input_ids: list[int] = []
            labels: list[int] = []
            for part in shape:
                piece = (
                    [part.id]
                    if isinstance(part, Control)
                    else ids[part.continuing][texts[part.continuing][part.text(contents)]]
                )
                input_ids += piece
                labels += piece if part.supervised else [MASKED] * len(piece)
            yield input_ids, labels


Overflow = Literal["drop", "shorten_context", "shorten_answer", "error"]


@dataclass
class Fitted:
    """Examples that fit, and what was done to the others."""

    examples: list[Example]
    counts: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, list[str]] = field(default_factory=dict)


def fit(
    template: ChatTemplate, conversations: Sequence[Conversation], max_tokens: int, on_overflow: Overflow
) -> Fitted:
    """Render all conversations and bring those that are too long within `max_tokens`, as the recipe says."""
    fitted = Fitted([])
    for conversation, example in zip(conversations, template.examples(conversations), strict=True):
        if len(example.input_ids) <= max_tokens:
            fitted.examples.append(example)
            continue
        if on_overflow == "error":
            raise TemplateError(
                f"row {conversation.id}: {len(example.input_ids)} tokens, over data.max_tokens = {max_tokens}; "
                "raise it, or choose data.on_overflow"
            )
        shorter = None if on_overflow == "drop" else SHORTEN[on_overflow](template, conversation, max_tokens)
        if shorter:
            fitted.counts[on_overflow] += 1
            fitted.examples.append(shorter)
        else:
            fitted.dropped.setdefault("longer than max_tokens", []).append(conversation.id)
    return fitted


def _shorten_answer(template: ChatTemplate, conversation: Conversation, max_tokens: int) -> Example | None:
    """Cut the last answer; what was cut short is not taught to stop there."""
    prompt = template.prompts([conversation.prompt()])[0]
    room = max_tokens - len(prompt)
    text = conversation.answer
    while room > 0:
        text = template.tokenizer.prefix(text, room, continuing=True)
        if not text.strip():
            return None
        messages = (*conversation.prompt(), Message("assistant", text))
        [example] = template.examples([replace(conversation, messages=messages)])
        # whatever follows the answer's text belongs to its end: the stop token, and a template's own tail
        end = max(i for i, label in enumerate(example.labels) if label != MASKED and label not in template.stop_ids) + 1
        if end <= max_tokens:
            return replace(example, input_ids=example.input_ids[:end], labels=example.labels[:end], cut=True)
        room -= end - max_tokens
    return None


def _shorten_context(template: ChatTemplate, conversation: Conversation, max_tokens: int) -> Example | None:
    """Drop the oldest turns, then cut the middle of the last question: its beginning and its cue at the end stay."""
    messages = list(conversation.messages)
    start = 1 if messages[0].role == "system" else 0
    while True:
        [example] = template.examples([replace(conversation, messages=tuple(messages))])
        if len(example.input_ids) <= max_tokens:
            return example
        if len(messages) - start <= 2:
            break
        del messages[start : start + 2]
    question = messages[-2].content
    low, high, best = 0, len(question), None
    while low < high:  # the most characters that can stay
        keep = (low + high + 1) // 2
        messages[-2] = Message("user", cut_middle(question, keep))
        [example] = template.examples([replace(conversation, messages=tuple(messages))])
        if len(example.input_ids) <= max_tokens:
            best, low = example, keep
        else:
            high = keep - 1
    return best


def cut_middle(text: str, keep: int) -> str:
    """About `keep` characters of a text, half from each end, cut at blanks where there are some."""
    if keep >= len(text):
        return text
    head, tail = text[: keep - keep // 2], text[len(text) - keep // 2 :] if keep > 1 else ""
    if (blank := head.rfind(" ")) > 0:
        head = head[:blank]
    if 0 <= (blank := tail.find(" ")) < len(tail) - 1:
        tail = tail[blank:]
    return head + tail


SHORTEN: dict[str, Callable[[ChatTemplate, Conversation, int], Example | None]] = {
    "shorten_answer": _shorten_answer,
    "shorten_context": _shorten_context,
}


def save_template(template: ChatTemplate, folder: Path) -> None:
    """Put the template beside a saved tokenizer, where transformers looks for it."""
    (folder / "chat_template.jinja").write_text(template.text, encoding="utf-8")
