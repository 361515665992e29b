"""A chat template rendered once for every shape of conversation: control tokens, and runs of text with gaps to fill."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Self

import jinja2.ext
import jinja2.nodes

from medrecipes.core.errors import TemplateError
from medrecipes.data.reasoning import KEYS, MARKS
from medrecipes.data.records import Message, Role
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.bounded_jinja import Bounded

# Private-use characters stand for contents and answer borders while a shape is rendered. Contents never pass through
# there, so they may hold the same characters; proofs.py compares with the plain rendering, row by row.
OPEN, CLOSE, BEGIN, END = "\ue000", "\ue001", "\ue002", "\ue003"
FLAGS = "[lrbnmj]*"  # what is done to a content once it is there, as `stripped` does it
MARK = re.compile(f"{OPEN}({FLAGS})(\\d+){CLOSE}|([{BEGIN}{END}])")
LAST = re.compile(f"{OPEN}({FLAGS})(\\d+){CLOSE}$")

# how a template reads a key of a message
READS = r"""\w\.{0}\b|\w\[['"]{0}['"]\]|['"]{0}['"] in |\.get\(['"]{0}['"]"""

WITHOUT_REASONING = "set data.reasoning = 'as_text' to learn it as text between <think> marks, or 'drop'"

# what a template that writes today's date is given, in training as in use: the date that Llama 3.1's falls back to
TODAY = datetime.date(2024, 7, 26)


@dataclass(frozen=True)
class Supervision:
    """What of a conversation is kept and supervised: its reasoning, the answer alone, every turn or the last."""

    reasoning: Literal["keep", "drop", "as_text"] = "keep"
    supervise: Literal["answer", "reasoning_and_answer"] = "reasoning_and_answer"
    turns: Literal["all", "last"] = "all"

    @classmethod
    def of(cls, recipe: Recipe) -> Self:
        """What the recipe says."""
        return cls(recipe.data.reasoning, recipe.train.supervise, recipe.train.turns)


ALL = Supervision()


class Turn(NamedTuple):
    """What a template may see of a message: its role, its content where no character of it is visible, what else it has."""

    role: Role
    blank: str | None = None
    reasons: bool = False
    supervised: bool = True
    extra: str = ""

    @property
    def message(self) -> Message:
        """A message of that kind, by whose fields a template tells it from others."""
        return Message(self.role, "" if self.blank is None else self.blank, "", self.supervised, self.extra)


Shape = tuple[Turn, ...]
EXCHANGE = (Turn("user"), Turn("assistant"))  # a question and its answer


def shape_of(messages: Iterable[Message]) -> Shape:
    """What a template may see of messages."""
    return tuple(
        Turn(m.role, None if m.content.strip() else m.content, bool(m.reasoning), m.supervised, m.extra)
        for m in messages
    )


def texts_of(messages: Sequence[Message]) -> list[str]:
    """What the places of a shape are filled with: the content of every message, and its reasoning."""
    return [text for m in messages for text in (m.content, m.reasoning)]


class _StandIn(str):
    """The place of a content: what a template strips from it is noted, and done when the content is there."""

    __slots__ = ()

    def lstrip(self, chars: str | None = None) -> str:
        return self._noted(chars, {None: "l", "\n": "n"})

    def rstrip(self, chars: str | None = None) -> str:
        return self._noted(chars, {None: "r", " ": "b", "\n": "m"})

    def strip(self, chars: str | None = None) -> str:
        return _trim(self) if chars is None else self._noted(chars, {"\n": "nm"})

    def replace(self, old: str, new: str, count: int = -1, /) -> str:  # type: ignore[override]
        return _StandIn(str.replace(self, old, new, count))  # what it finds in a real content, the proofs find

    def _noted(self, chars: str | None, known: Mapping[str | None, str]) -> str:
        if chars not in known:
            raise TemplateError(f"strips {chars!r} from a content; strip white space alone")
        left, right = ("".join(flag for flag in known[chars] if flag in of) for of in ("ln", "rbm"))
        text = str(self)
        if left:
            text = OPEN + left + text[1:] if text.startswith(OPEN) else str.lstrip(text, chars)
        if right:
            text = LAST.sub(rf"{OPEN}\g<1>{right}\2{CLOSE}", text) if LAST.search(text) else str.rstrip(text, chars)
        return _StandIn(text)


def _trim(text: str) -> str:
    """jinja's trim, which on a stand-in is put off until the content is there."""
    text = re.sub(f"^{OPEN}", f"{OPEN}l", str.strip(text))
    return LAST.sub(f"{OPEN}\\1r\\2{CLOSE}", text)


def stripped(text: str, flags: str) -> str:
    """A content with the white space off that its template strips: l left, r right, b blanks alone on the right, n and m
    line ends alone on the left and on the right; j: as JSON then, without the quotes around it."""
    if "l" in flags and "r" in flags:
        text = text.strip()
    else:
        text = text.lstrip() if "l" in flags else text.lstrip("\n") if "n" in flags else text
        for flag, chars in (("r", None), ("b", " "), ("m", "\n")):
            if flag in flags:
                text = text.rstrip(chars)
                break
    for _ in range(flags.count("j")):
        text = _json(text)[1:-1]
    return text


@dataclass(frozen=True, slots=True)
class Control:
    """A control token of the template itself."""

    id: int
    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Text between control tokens: literals and places `(number among texts_of, flags)`; `continuing` after other text."""

    pieces: tuple[str | tuple[int, str], ...]
    supervised: bool
    continuing: bool

    def fill(self, texts: Sequence[str]) -> str:
        """The run with the texts in their places."""
        return "".join([p if isinstance(p, str) else stripped(texts[p[0]], p[1]) for p in self.pieces])


Parts = tuple[Control | Run, ...]


def until_answer_ends(parts: Parts) -> Parts:
    """The parts up to the last content: no stop token, nor what a template puts before it."""
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        places = [i for i, p in enumerate(part.pieces) if not isinstance(p, str)] if isinstance(part, Run) else []
        if isinstance(part, Run) and places:
            return (*parts[:at], Run(part.pieces[: places[-1] + 1], part.supervised, part.continuing))
    return parts


@dataclass(frozen=True)
class _Marks:
    """What stands around an answer in a shape (nothing in plain text), and where the answers are gathered."""

    begin: str = ""
    end: str = ""
    answers: list[str] = field(default_factory=list)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`: what the assistant writes, stop token included."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own interface

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        answer = caller()
        marks = self.environment.globals["_marks"]
        assert isinstance(marks, _Marks)
        marks.answers.append(answer)
        return f"{marks.begin}{answer}{marks.end}"


def _json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers writes JSON in a template: without HTML's escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _json_of_stand_ins(value: Any, *options: Any, **named: Any) -> str:
    """The same with stand-ins in it, which is done to their contents once these are there."""
    return MARK.sub(
        lambda mark: mark[0] if mark[3] else f"{OPEN}{mark[1]}j{mark[2]}{CLOSE}", _json(value, *options, **named)
    )


def _raise(message: str) -> None:
    raise TemplateError(f"refuses the conversation: {message}")


def _environment(marks: _Marks, *, stand_ins: bool) -> Bounded:
    """The environment that transformers renders chat templates in, with limits, plus the marks."""
    environment = Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.globals["_marks"] = marks
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = TODAY.strftime
    environment.filters["tojson"] = environment.limited(_json)
    if stand_ins:
        environment.filters["trim"] = environment.limited(_trim)
        environment.filters["tojson"] = environment.limited(_json_of_stand_ins)
    return environment


@dataclass(frozen=True)
class Thoughts:
    """How a template writes the reasoning of an answer: the text before it and behind it, and what else opens an answer.

    `before` is empty where the prompt opens the thought; `bare` stands before the content of an answer without reasoning.
    """

    before: str
    behind: str
    bare: str


class Shapes:
    """A template's text with the control tokens that it may write; `variables` are what transformers hands it too.

    `finds`: the template does not mark its answers, so they are found by rendering: an answer goes from where its prompt
    ends to the control token behind its content.
    """

    def __init__(
        self, text: str, controls: Mapping[str, int], foreign: Iterable[str], variables: Mapping[str, Any], *,
        finds: bool = False, supervision: Supervision = ALL,
    ) -> None:  # fmt: skip
        self._plain_marks = _Marks()
        marks = _Marks() if finds else _Marks(BEGIN, END)
        environments = (_environment(self._plain_marks, stand_ins=False), _environment(marks, stand_ins=True))
        self._plain, self._marked = ((e, e.compiled(text)) for e in environments)
        self._controls, self._variables, self._finds = controls, variables, finds
        self._supervision = supervision
        # the name by which the template reads reasoning, where it does
        self.key = next((key for key in KEYS if re.search(READS.format(key), text)), None)
        # one that reads none, but writes the marks of thoughts as control tokens, is given them within the content
        self._within = supervision.reasoning == "as_text" or (
            self.key is None and {"<think>", "</think>"} <= controls.keys()
        )
        empty = re.search(r"<think>(?:\\n)+</think>((?:\\n)+)", text) if supervision.reasoning != "as_text" else None
        self._behind = MARKS[1].rstrip("\n") + (empty[1].replace("\\n", "\n") if empty else "\n\n")
        self._pattern = re.compile("|".join(sorted(map(re.escape, controls), key=len, reverse=True)) or "(?!)")
        self._foreign = sorted(foreign, key=len, reverse=True)
        self.parts = lru_cache(maxsize=4096)(self._parts)

    def prepared(self, messages: Sequence[Message], system: str | None) -> list[Message]:
        """The messages under a system message of the recipe where they have none, without reasoning where that is dropped,
        and with weight 0 for answers that are not supervised."""
        told, turns = self._supervision, list(messages)
        if system and turns[0].role != "system":
            turns = [Message("system", system, extra=turns[0].extra), replace(turns[0], extra=""), *turns[1:]]
        if told.reasoning == "drop" and any(m.reasoning for m in turns):
            turns = [replace(m, reasoning="") for m in turns]
        if told.turns == "last":
            turns = [replace(m, supervised=False) if m.role == "assistant" else m for m in turns[:-1]] + turns[-1:]
        return turns

    def pieces(self, text: str) -> list[str]:
        """A text of the template's own, cut at its control tokens."""
        ends = [0, *(end for match in self._pattern.finditer(text) for end in match.span()), len(text)]
        return [text[a:b] for a, b in pairwise(ends) if a < b]

    def text(self, messages: Sequence[Message], *, ask: bool) -> str:
        """The plain text as transformers renders it."""
        return self._rendered(self._plain, messages, ask)

    def render(self, messages: Sequence[Message], *, ask: bool) -> tuple[str, list[str]]:
        """The plain text as transformers renders it, and what stands between the `{% generation %}` marks of each
        supervised answer, stop token included; nothing of a template that has no marks."""
        text = self._rendered(self._plain, messages, ask)
        answers = (message for message in messages if message.role == "assistant")
        return text, [said for said, by in zip(self._plain_marks.answers, answers, strict=False) if by.supervised]

    def turns(self, messages: Sequence[Message], texts: Sequence[str]) -> list[dict[str, Any]]:
        """The messages as a template is given them, with these texts in place of theirs."""
        turns = []
        for message, content, thought in zip(messages, texts[::2], texts[1::2], strict=True):
            turn = {"role": message.role, "content": content}
            if thought and self._within:
                turn["content"] = type(content)(f"{MARKS[0]}{thought}{self._behind}{content}")
            elif thought and self.key is None:
                raise TemplateError(f"has no place for reasoning; {WITHOUT_REASONING}")
            elif thought:
                turn[str(self.key)] = thought
            turns.append(turn | {key: value for key, value in message.more.items() if key != "tools"})
        return turns

    def _rendered(self, look: tuple[Bounded, jinja2.Template], messages: Sequence[Message], ask: bool) -> str:
        texts = texts_of(messages)
        return self._told(look, messages, texts, ask)

    def _told(
        self, look: tuple[Bounded, jinja2.Template], messages: Sequence[Message], texts: Sequence[str], ask: bool
    ) -> str:
        environment, template = look
        marks = environment.globals["_marks"]
        assert isinstance(marks, _Marks)
        marks.answers.clear()  # of the conversation before
        given = {**self._variables, **({"tools": tools} if (tools := messages[0].more.get("tools")) else {})}
        turns = self.turns(messages, texts)
        return environment.rendered(template, texts, messages=turns, add_generation_prompt=ask, **given)

    def _with_stand_ins(self, shape: Shape, ask: bool) -> str:
        texts: list[str] = []
        for turn in shape:
            texts.append(_StandIn(f"{OPEN}{len(texts)}{CLOSE}") if turn.blank is None else turn.blank)
            texts.append(_StandIn(f"{OPEN}{len(texts)}{CLOSE}") if turn.reasons else "")
        return self._told(self._marked, [turn.message for turn in shape], texts, ask)

    @property
    def writes_thoughts(self) -> bool:
        """Whether it has a place for reasoning, be it within the content."""
        return self.key is not None or self._within

    @cached_property
    def thoughts(self) -> Thoughts | TemplateError:
        """How the template writes reasoning, or why it cannot."""
        bare, thinking = EXCHANGE, (EXCHANGE[0], EXCHANGE[1]._replace(reasons=True))
        try:
            answers = []
            for shape in (bare, thinking):
                text = self._with_stand_ins(shape, False)
                if self._finds:
                    text = self._bordered(shape, text)
                answers.append(text.split(BEGIN)[-1].split(END)[0])
            content, thought = re.compile(f"{OPEN}{FLAGS}2{CLOSE}"), re.compile(f"{OPEN}{FLAGS}3{CLOSE}")
            before, *rest = thought.split(answers[1])
            if len(rest) != 1 or content.search(before):
                return TemplateError("has no place for reasoning")
            if self._within and "</think>" in text.split(BEGIN)[-2]:
                return TemplateError("asks for an answer without a thought")
            return Thoughts(before, content.split(rest[0])[0], content.split(answers[0])[0])
        except TemplateError as error:
            return error

    def _supervised(self, shape: Shape, text: str) -> str:
        """The rendering with marks around what is supervised alone: not around turns of weight 0, nor around thoughts."""
        head, *answers = text.split(BEGIN)
        asked = [i for i, turn in enumerate(shape) if turn.role == "assistant"]
        if len(answers) > len(asked):
            raise TemplateError("marks more answers than a conversation has; put {% generation %} around each once")
        for i, piece in zip(asked, answers, strict=False):
            answer, _, rest = piece.partition(END)
            if shape[i].supervised:
                skip = self._thought(2 * i + 1, answer) if self._supervision.supervise == "answer" else 0
                answer = f"{answer[:skip]}{BEGIN}{answer[skip:]}{END}"
            head += answer + rest
        return head

    def _thought(self, place: int, answer: str) -> int:
        """How many characters of an answer with stand-ins are its thought, or the marks of an empty one."""
        thoughts = self.thoughts
        if isinstance(thoughts, TemplateError) or not answer.startswith(thoughts.before):
            return 0
        at = len(thoughts.before)
        if thought := re.compile(f"{OPEN}{FLAGS}{place}{CLOSE}").match(answer, at):
            at = thought.end()
        elif not thoughts.before or not answer.startswith(thoughts.behind, at):
            return 0
        same = zip(answer[at:], thoughts.behind, strict=False)
        return at + next((n for n, (a, b) in enumerate(same) if a != b), min(len(answer) - at, len(thoughts.behind)))

    def _bordered(self, shape: Shape, text: str) -> str:
        """The rendering with borders around each answer, found by what its prompt ends with and what follows it."""
        places, borders = self._places(shape, text), []
        answers = [i for i, turn in enumerate(shape) if turn.role == "assistant"]
        for i in answers:
            begin, end = places[i]
            before, following = places[i - 1][1], places[i + 1][0] if i + 1 < len(shape) else len(text)
            asked = self._with_stand_ins(shape[:i], True)
            end_of_user = self._places(shape[:i], asked)[i - 1][1]
            if i == answers[-1] and asked[:end_of_user] != text[:before]:
                raise TemplateError(
                    f"writes another text before the answer of turn {i + 1} once that answer is there, so it would be served after "
                    "another prompt than it was trained after; name one of templates/ as template.name"
                )
            prompt, header = asked[end_of_user:], text[before:following]
            shared = next(
                (n for n, (a, b) in enumerate(zip(prompt, header, strict=False)) if a != b),
                min(len(prompt), len(header)),
            )
            if shared < len(prompt) and i == answers[-1]:
                raise TemplateError(
                    f"asks for the answer of turn {i + 1} after {prompt[-60:]!r} but trains it after {text[before:begin][-60:]!r}, so it "
                    "would be served after another prompt than it was trained after; name one of templates/ as template.name"
                )
            at = before + shared
            at = next((m.start() for m in self._pattern.finditer(text) if m.start() < at < m.end()), at)
            if shape[i].message.calls:
                stop = self._behind_calls(shape[: i + 1], text, before)
            else:
                stop = self._pattern.search(text, end)
            if not stop or stop.start() >= following:
                raise TemplateError(
                    f"writes no control token behind the answer of turn {i + 1}, so nothing would teach the model to stop; "
                    "name one of templates/ as template.name"
                )
            borders += [(at, BEGIN), (stop.end(), END)]
        for at, border in reversed(borders):
            text = text[:at] + border + text[at:]
        return text

    def _behind_calls(self, shape: Shape, text: str, before: int) -> re.Match[str] | None:
        """The control token that ends a turn with tool calls, whose predecessor ends at `before`: the one that ends the text
        where that turn is the last, and so often as it stands there, for it may end each of several calls."""
        alone = self._with_stand_ins(shape, False)
        behind = self._places(shape, alone)[-2][1]
        ends = [match[0] for match in self._pattern.finditer(alone, behind)]
        found = self._pattern.finditer(text, before)
        same = [match for match in found if match[0] == ends[-1]] if ends else []
        count = ends.count(ends[-1]) if ends else 0
        return same[count - 1] if 0 < count <= len(same) else None

    def _places(self, shape: Shape, text: str) -> list[tuple[int, int]]:
        """Where each content stands in a rendering, which has to write every one, once, in its order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for match in MARK.finditer(text):
            if match[2]:
                found.setdefault(int(match[2]), []).append(match.span())
        places: list[tuple[int, int]] = []
        for i, turn in enumerate(shape):
            spans = found.get(2 * i, [])
            last = places[-1][1] if places else 0
            if turn.blank is not None and not spans:  # an empty content leaves no trace
                if turn.role == "assistant" and not turn.message.calls:
                    raise TemplateError(f"cannot be proved on turn {i + 1}, whose answer is empty; drop the row")
                spans = [(last, last)]
            if len(spans) != 1 or spans[0][0] < last:
                how = "leaves out" if not spans else "writes more than once" if len(spans) > 1 else "moves"
                raise TemplateError(
                    f"{how} the content of turn {i + 1} ({turn.role}); leave such turns out, or name one of templates/ as template.name"
                )
            places += spans
        return places

    def _parts(self, shape: Shape, ask: bool) -> Parts:
        """The parts of any conversation of one shape."""
        text = self._with_stand_ins(shape, ask)
        if self._finds and not ask:
            text = self._bordered(shape, text)
        text = self._supervised(shape, text)
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
            for match in [*self._pattern.finditer(text), None]:
                between = text[at : match.start() if match else len(text)]
                for token in self._foreign:
                    if token in between:
                        raise TemplateError(
                            f"writes {token} as text, which is a control token of this tokenizer; "
                            "choose the template of this base's family"
                        )
                if between:
                    pieces.append(between)
                if match:
                    close()
                    parts.append(Control(self._controls[match[0]], match[0], supervised))
                    continuing = False
                    at = match.end()

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
