"""Conversations to ids and labels, decided once, here: what is an answer is supervised, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecipes.core.errors import TemplateError, did_you_mean
from medrecipes.core.files import digest, write_json, write_text, writing
from medrecipes.data.records import Conversation, Message, check_turns, kind
from medrecipes.recipe.schema import template_names, template_path
from medrecipes.rendering.template_shapes import (
    ALL,
    EXCHANGE,
    READS,
    WITHOUT_REASONING,
    Control,
    Parts,
    Run,
    Shapes,
    Supervision,
    Thoughts,
    Turn,
    shape_of,
    texts_of,
    until_answer_ends,
)
from medrecipes.rendering.tokenizer import Tokenizer

OWN = "the base's own"  # the name of a template that is not one of `templates/`
TEMPLATE = "chat_template.jinja"  # beside a tokenizer, as transformers names it
MASKED = -100  # the label that every loss in the stack leaves out
HEAD = re.compile(r"\{#-?(.*?)-?#\}", re.DOTALL)
SURROGATE = re.compile("[\ud800-\udfff]")
BATCH = 2048  # rows whose runs are tokenised in one call: enough for all cores, little enough for any memory


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation as a model sees it; `labels` are MASKED wherever nothing is supervised, `cut`: its answer was cut."""

    id: str
    group: str
    input_ids: list[int]
    labels: list[int]
    answer_bytes: int = 0
    cut: bool = False
    kind: str = ""  # where it comes from, to be drawn from evenly

    @property
    def supervised(self) -> int:
        """How many tokens are supervised."""
        return len(self.labels) - self.labels.count(MASKED)


class ChatTemplate:
    """One template bound to one tokenizer: the only way from a conversation to ids, in training as in use.

    A template of `templates/` says in its head what it needs and marks its answers; one that is named `OWN` is the base's,
    whose answers and stop token are found by rendering.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        text: str | None = None,
        system: str | None = None,
        *,
        thinking: bool = False,
        supervision: Supervision = ALL,
    ) -> None:
        if text is None:
            path = template_path(name)
            if not path.exists():
                raise TemplateError(f"template {name!r} is unknown{did_you_mean(name, template_names())}")
            text = path.read_text(encoding="utf-8")
        self.name, self.text, self.system, self.thinking, self.supervision = name, text, system, thinking, supervision
        head = HEAD.match(text)
        lines: list[tuple[str, str]] = re.findall(r"^\s*(\w+): *(.*?) *$", head[1] if head else "", re.MULTILINE)
        self.head = {key: value for key, value in lines if key != "differs"}
        self.differs = [value for key, value in lines if key == "differs"]
        self.own = name == OWN
        self.stops: list[str] = []
        self.ends: list[str] = []
        with _about(name):
            self._bind_own(tokenizer) if self.own else self._bind(tokenizer)
            # a token that closes a thought ends no answer, e.g. gpt-oss' <|end|>, though it may end an earlier one
            self.ends = list(dict.fromkeys([*self.ends, *self.stops]))
            if isinstance(self.thoughts, Thoughts) and thinking:
                self.stops = [stop for stop in self.stops if stop not in self.thoughts.behind]

    def _bind(self, tokenizer: Tokenizer) -> None:
        """A template of ours: its head names the control tokens, `{% generation %}` stands around its answers."""
        if not re.search(r"\{%-?\s*generation\s*-?%\}", self.text):
            raise TemplateError(
                "has no {% generation %} marks, so nothing would be learned; put them around each answer and its stop token"
            )
        self.tokenizer = tokenizer.with_control(
            token.removesuffix("?") for key in ("control", "stop") for token in self.head.get(key, "").split()
        )
        control = self._named("control", "")
        self.stops = self._named("stop", "eos_token")
        names = self.tokenizer.named
        known = {*control, *self.stops, *(names.get(n, "") for n in ("bos_token", "eos_token"))} - {""}
        controls = {token: self.tokenizer.control_id(token) for token in sorted(known)}
        foreign = self.tokenizer.control.keys() - known
        self.shapes = Shapes(self.text, controls, foreign, self.variables, supervision=self.supervision)
        self._check_end()

    def _bind_own(self, tokenizer: Tokenizer) -> None:
        """A base's own template: every control token that it writes is one, and the answers end with the one behind them."""
        self.tokenizer = tokenizer.with_control(tokenizer.mentioned(self.text))
        control, told = self.tokenizer.control, self.supervision
        self.shapes = Shapes(self.text, control, (), self.variables, finds=True, supervision=told)
        ends = [part for part in self.shapes.parts(EXCHANGE, False) if part.supervised]
        # an answer that another question follows may end with another token, as gpt-oss' do
        earlier = self.shapes.parts(EXCHANGE * 2, False)
        learned = [a for a, b in zip(earlier, [*earlier[1:], None], strict=True) if a.supervised and not (b and b.supervised)]  # fmt: skip
        if not ends or not isinstance(ends[-1], Control):
            raise TemplateError(
                "writes no answer that ends with a control token; name one of templates/ as template.name"
            )
        eos = self.tokenizer.named.get("eos_token", "")
        self.stops = list(dict.fromkeys([ends[-1].text, *([eos] if eos in self.tokenizer.control else [])]))
        self.ends = [*self.stops, *(part.text for part in learned if isinstance(part, Control))]
        if calls := self._ends_of_calls(1):
            self.ends.append(calls[-1])
            if self._ends_of_calls(2).count(calls[-1]) <= calls.count(calls[-1]):  # else it ends each of several calls
                self.stops = list(dict.fromkeys([*self.stops, calls[-1]]))

    def _ends_of_calls(self, count: int) -> list[str]:
        """The control tokens that a turn of so many tool calls is supervised on; none where the template writes no such turn."""
        call = {"id": "abcdefgh1", "type": "function", "function": {"name": "look", "arguments": {"at": "it"}}}
        turn = Turn("assistant", "", extra=json.dumps({"tool_calls": [call] * count}))
        try:
            parts = self.shapes.parts((EXCHANGE[0], turn), False) if self.tools else ()
        except TemplateError:
            return []
        return [part.text for part in parts if isinstance(part, Control) and part.supervised]

    @property
    def variables(self) -> dict[str, Any]:
        """What a template is given beside the messages, as transformers does."""
        none = {"tools": None, "documents": None}
        return {"bos_token": "", "eos_token": "", **self.tokenizer.named, **none, "enable_thinking": self.thinking}

    @property
    def switches_thinking(self) -> bool:
        """Whether it can be told to have the model think, or not."""
        return "enable_thinking" in self.text

    @property
    def sha256(self) -> str:
        """What makes two templates the same one."""
        return digest(self.text)

    @property
    def stop_id(self) -> int:
        """The id that ends an answer, and that is learned."""
        return self.tokenizer.control_id(self.stops[0])

    @property
    def stop_ids(self) -> list[int]:
        """All ids at which generation stops, the one that is learned first."""
        return [self.tokenizer.control_id(token) for token in self.stops]

    @property
    def bos_every_turn(self) -> bool:
        """Whether BOS begins each user turn rather than the text alone."""
        return self.head.get("bos", "").startswith("before every user turn")

    @property
    def pad(self) -> tuple[str, int]:
        """The token that padding is made of, and its id."""
        return self.tokenizer.padding(self.stops)

    @property
    def bos_as_written(self) -> bool:
        """Whether BOS stands wherever the template writes it, such as at every turn or nowhere, rather than once at the front."""
        return self.own or ("bos" in self.head and not self.bos_every_turn)

    def _named(self, key: str, default: str) -> list[str]:
        """The control tokens that a line of the head lists; `?` marks those that only some of its tokenizers have."""
        tokens, missing = [], []
        for written in self.head.get(key, default).split():
            token = written.removesuffix("?")
            if token in ("bos_token", "eos_token"):
                token = self.tokenizer.named.get(token, "")
            if token in self.tokenizer.control:
                tokens.append(token)
            elif not written.endswith("?"):
                missing.append(token or f"(its {written} is not named)")
        if missing:
            raise TemplateError(
                f"needs the control token {', '.join(missing)}, which the tokenizer of {self.tokenizer.folder} lacks; choose the template of this base's family"
            )
        return list(dict.fromkeys(tokens))

    def _check_end(self) -> None:
        """Every answer must end with its stop token inside the generation marks, or it is never learned."""
        parts = self.shapes.parts(EXCHANGE, False)
        learned = [part for part in parts if part.supervised]
        if not learned or learned[-1] != Control(self.stop_id, self.stops[0], True):
            raise TemplateError(
                f"does not end an answer with {self.stops[0]} inside its {{% generation %}} marks; move it"
            )

    @property
    def thoughts(self) -> Thoughts | TemplateError:
        """How it writes the reasoning of an answer, or why it cannot."""
        return self.shapes.thoughts

    def remembered(self, reasoning: str) -> str:
        """The reasoning of an earlier turn, for the template to keep or drop as its family does; nothing where it has no place
        for it."""
        return reasoning if self.shapes.writes_thoughts and isinstance(self.thoughts, Thoughts) else ""

    @property
    def tools(self) -> bool:
        """Whether it writes tool calls and tool results: its head says so, or a base's own reads them."""
        return bool(re.search(READS.format("tool_calls"), self.text)) if self.own else "tools" in self.head

    def turns(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as they are rendered: under the recipe's system message where the conversation has none, without
        reasoning where that is dropped, and with weight 0 for what the recipe does not supervise."""
        return self.shapes.prepared(messages, self.system)

    def problem(self, messages: Sequence[Message]) -> str | None:
        """Why a conversation cannot be rendered, as `hold reasoning, …; the next move`, if so: the template knows no tools,
        or no place for reasoning."""
        turns = self.turns(messages)
        if any(m.role == "tool" or m.extra for m in turns):
            if not self.tools:
                cure = "choose a base whose chat template does" if self.own else "leave template.name out for a base whose own template does"  # fmt: skip
                return f"hold tool calls or tool results, which template {self.name!r} does not write; drop them, or {cure}"
            if found := self._control_in(m.extra for m in turns):
                return f"hold the control token {found} in a tool call or a tool's description; take it out"
        if not any(m.reasoning for m in turns):
            return None
        if self.supervision.reasoning == "as_text":
            if self.shapes.key:
                return f"hold reasoning, which template {self.name!r} writes in its family's own way and data.reasoning = 'as_text' writes as text; set data.reasoning = 'keep'"  # fmt: skip
            return None
        if not self.shapes.writes_thoughts:
            return f"hold reasoning, and template {self.name!r} has no place for it; {WITHOUT_REASONING}"
        if isinstance(self.thoughts, TemplateError):
            cure = "set template.thinking = true" if not self.thinking else "name one of templates/ as template.name"
            return f"hold reasoning, and template {self.name!r} {self.thoughts}; {cure}, or data.reasoning = 'drop'"
        return None

    def refusal(self, messages: Sequence[Message]) -> str | None:
        """What the template says of a conversation that it cannot render, if so, such as two tool calls in one turn."""
        try:
            self.parts(messages)
        except TemplateError as error:
            return str(error)
        return None

    def ids_of(self, text: str) -> list[int]:
        """The ids of a text of the template's own, control tokens among it."""
        ids: list[int] = []
        for piece in self.shapes.pieces(text):
            known = self.tokenizer.control.get(piece)
            ids += self.tokenizer.encode([piece], continuing=False)[0] if known is None else [known]
        return ids

    def has_control(self, text: str) -> bool:
        """Whether a text of the template's own holds control tokens."""
        return any(piece in self.tokenizer.control for piece in self.shapes.pieces(text))

    def _control_in(self, texts: Iterable[str]) -> str | None:
        """A control token that is spelled in one of the texts, which are rendered as they stand."""
        held = "\n".join(texts)
        return next((token for token in self.tokenizer.control if token in held), None)

    def render(self, messages: Sequence[Message], *, ask: bool = False) -> str:
        """The plain text, control tokens spelled out; `ask`: ready for the assistant's next answer."""
        with _about(self.name):
            return self.shapes.text(self.turns(messages), ask=ask)

    def render_answers(self, messages: Sequence[Message], *, ask: bool = False) -> tuple[str, list[str]]:
        """The plain text just as transformers renders it, and its supervised answers where the template marks them."""
        with _about(self.name):
            return self.shapes.render(self.turns(messages), ask=ask)

    def parts(self, messages: Sequence[Message], *, ask: bool = False) -> Parts:
        """The parts of a conversation: control tokens and runs of text, in order."""
        return self._parts(self.turns(messages), ask)

    def _parts(self, turns: Sequence[Message], ask: bool) -> Parts:
        with _about(self.name):
            return self.shapes.parts(shape_of(turns), ask)

    def prompts(self, asked: Iterable[Sequence[Message]]) -> list[list[int]]:
        """The ids of prompts, ready to be answered: exactly what training put before the answer."""
        rows = []
        for messages in asked:
            check_turns("prompt", messages, complete=False)
            rows.append(self.turns(messages))
        return [ids for ids, _ in self._encode(rows, [self._parts(row, True) for row in rows])]

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

    def cut_example(self, conversation: Conversation) -> Example:
        """An example that breaks off with the text of its last answer: no stop token, for there is more to say."""
        turns = self.turns(conversation.messages)
        parts = until_answer_ends(self._parts(turns, False))
        [(ids, labels)] = self._encode([turns], [parts])
        size = answer_bytes(turns, parts)
        return Example(conversation.id, conversation.group, ids, labels, size, True, kind(conversation.meta))

    def _examples(self, batch: Sequence[Conversation]) -> Iterator[Example]:
        rows = [self.turns(c.messages) for c in batch]
        for conversation in batch:
            if why := self.problem(conversation.messages):
                raise TemplateError(f"row {conversation.id}: {why.replace('hold', 'holds', 1)}")
        shapes = [self._parts(row, False) for row in rows]
        try:
            encoded = self._encode(rows, shapes)
        except TypeError:  # what the Rust library says to half of a surrogate pair
            for conversation in batch:
                if any(SURROGATE.search(text) for text in texts_of(conversation.messages)):
                    raise TemplateError(
                        f"row {conversation.id}: holds half of a surrogate pair, which is no text; "
                        "mend the file's encoding, or drop the row"
                    ) from None
            raise
        for c, turns, parts, (ids, labels) in zip(batch, rows, shapes, encoded, strict=True):
            yield Example(c.id, c.group, ids, labels, answer_bytes(turns, parts), False, kind(c.meta))

    def _encode(self, rows: Sequence[Sequence[Message]], shapes: Sequence[Parts]) -> list[tuple[list[int], list[int]]]:
        """Ids and labels of many conversations: all runs go through the Rust tokenizer in two calls."""
        known: dict[bool, dict[str, int]] = {False: {}, True: {}}  # each distinct run is tokenised once
        places: list[list[int]] = []
        for row, parts in zip(rows, shapes, strict=True):
            filled = texts_of(row)
            runs = [(known[p.continuing], p.fill(filled)) for p in parts if isinstance(p, Run)]
            places.append([texts.setdefault(text, len(texts)) for texts, text in runs])
        ids = {flag: self.tokenizer.encode(list(texts), continuing=flag) for flag, texts in known.items()}
        encoded = []
        for parts, place in zip(shapes, places, strict=True):
            input_ids: list[int] = []
            labels: list[int] = []
            run = iter(place)
            for part in parts:
                piece = [part.id] if isinstance(part, Control) else ids[part.continuing][next(run)]
                input_ids += piece
                labels += piece if part.supervised else [MASKED] * len(piece)
            encoded.append((input_ids, labels))
        return encoded


def answer_bytes(turns: Sequence[Message], parts: Parts) -> int:
    """How long all that is supervised of the assistant's texts is, in UTF-8: what its bits are shared out over."""
    runs = (part for part in parts if isinstance(part, Run) and part.supervised)
    learned = {place[0] for run in runs for place in run.pieces if not isinstance(place, str)}
    spoken = [m for m in turns if m.role == "assistant" and m.supervised]
    thoughts = [m.reasoning for i, m in enumerate(turns) if 2 * i + 1 in learned]
    return sum(len(text.encode()) for text in [*(m.content + m.extra for m in spoken), *thoughts])


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Puts the template's name before what its text is found wanting in."""
    try:
        yield
    except TemplateError as error:
        raise type(error)(f"template {name!r} {error}") from None


# before a saved template that knows the switch: programs that do not say whether to think get what was trained
THINKING = "{%%- if enable_thinking is not defined %%}{%% set enable_thinking = %s %%}{%% endif -%%}\n"


def for_others(template: ChatTemplate) -> str:
    """A template's text as it is saved: with thinking as it was trained where nothing is said of it."""
    default = THINKING % str(template.thinking).lower() if template.switches_thinking else ""
    return default + template.text


def as_trained(text: str) -> str:
    """The text of a template that was saved so; of one whose base was such a save, that of the base."""
    saved = next((words for value in ("true", "false") if text.startswith(words := THINKING % value)), "")
    return text.removeprefix(saved)


def save_tokenizer(template: ChatTemplate, folder: Path) -> None:
    """Save the base's tokenizer with this template and a pad token, as any program that loads the adapter reads it."""
    tokenizer = template.tokenizer
    config = {key: value for key, value in tokenizer.config.items() if key not in ("chat_template", "auto_map")}
    # transformers 5 gives the classes named after a model its own idea of their dummy blank; this one takes the file's
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", **tokenizer.named, "pad_token": template.pad[0]}
    for name in ("tokenizer.json", "tokenizer.model"):  # the latter, where there is one, is what llama.cpp converts
        if (source := tokenizer.folder / name).exists() and source.resolve() != (folder / name).resolve():
            with writing(folder / name):
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
    write_json(folder / "tokenizer_config.json", config)
    write_text(folder / TEMPLATE, for_others(template))


def generation_config(template: ChatTemplate) -> dict[str, Any]:
    """What is saved beside an adapter, so that any program that serves it stops where training taught it to."""
    tokenizer = template.tokenizer
    stops = {"eos_token_id": template.stop_ids, "pad_token_id": template.pad[1], "do_sample": False}
    return stops if tokenizer.bos is None else {"bos_token_id": tokenizer.bos, **stops}
