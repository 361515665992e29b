"""A chat template rendered once for every shape of conversation: control tokens, and runs of text with gaps to fill."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2.ext
import jinja2.nodes

from medrecipes.core.errors import TemplateError
from medrecipes.rendering.bounded_jinja import Bounded

# Private-use characters stand for contents and answer borders while a shape is rendered. Contents never pass through
# there, so they may hold the same characters; proofs.py compares with the plain rendering, row by row.
OPEN, CLOSE, BEGIN, END = "\ue000", "\ue001", "\ue002", "\ue003"
MARK = re.compile(f"{OPEN}([lrbnm]*)(\\d+){CLOSE}|([{BEGIN}{END}])")

# what a template that writes today's date is given, in training as in use: the date that Llama 3.1's falls back to
TODAY = datetime.date(2024, 7, 26)

Shape = tuple[tuple[str, str | None], ...]


def shape_of(messages: Iterable[tuple[str, str]]) -> Shape:
    """What a template may see of `(role, content)` pairs: the roles, and contents without a visible character."""
    return tuple((role, None if content.strip() else content) for role, content in messages)


class _StandIn(str):
    """The place of a content: what a template strips from it is noted, and done when the content is there."""

    __slots__ = ()

    def lstrip(self, chars: str | None = None) -> str:
        return self._noted("l", chars, {None: "l", "\n": "n"})

    def rstrip(self, chars: str | None = None) -> str:
        return self._noted("r", chars, {None: "r", " ": "b", "\n": "m"})

    def strip(self, chars: str | None = None) -> str:
        return _trim(self) if chars is None else self._noted("", chars, {"\n": "nm"})

    def replace(self, old: str, new: str, count: int = -1, /) -> str:  # type: ignore[override]
        return _StandIn(str.replace(self, old, new, count))  # what it finds in a real content, the proofs find

    def _noted(self, side: str, chars: str | None, known: Mapping[str | None, str]) -> str:
        if chars not in known:
            raise TemplateError(f"strips {chars!r} from a content; strip white space alone")
        return _StandIn(self.replace(OPEN, OPEN + known[chars], 1))


def _trim(text: str) -> str:
    """jinja's trim, which on a stand-in is put off until the content is there."""
    text = re.sub(f"^{OPEN}", f"{OPEN}l", str.strip(text))
    return re.sub(f"{OPEN}([lrbnm]*)(\\d+){CLOSE}$", f"{OPEN}\\1r\\2{CLOSE}", text)


def stripped(text: str, flags: str) -> str:
    """A content with the white space off that its template strips: l left, r right, b blanks alone on the right, n and m
    line ends alone on the left and on the right."""
    if "l" in flags and "r" in flags:
        return text.strip()
    text = text.lstrip() if "l" in flags else text.lstrip("\n") if "n" in flags else text
    return (
        text.rstrip()
        if "r" in flags
        else text.rstrip(" ")
        if "b" in flags
        else text.rstrip("\n")
        if "m" in flags
        else text
    )


@dataclass(frozen=True, slots=True)
class Control:
    """A control token of the template itself."""

    id: int
    text: str
    supervised: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Text between control tokens: literals and places `(message index, flags)`; `continuing` after other text."""

    pieces: tuple[str | tuple[int, str], ...]
    supervised: bool
    continuing: bool

    def fill(self, contents: Sequence[str]) -> str:
        """The run with the contents in their places."""
        return "".join([p if isinstance(p, str) else stripped(contents[p[0]], p[1]) for p in self.pieces])


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
    return environment


class Shapes:
    """A template's text with the control tokens that it may write; `variables` are what transformers hands it too.

    `finds`: the template does not mark its answers, so they are found by rendering: an answer goes from where its prompt
    ends to the control token behind its content.
    """

    def __init__(
        self, text: str, controls: Mapping[str, int], foreign: Iterable[str], variables: Mapping[str, Any], *,
        finds: bool = False,
    ) -> None:  # fmt: skip
        self._plain_marks = _Marks()
        marks = _Marks() if finds else _Marks(BEGIN, END)
        environments = (_environment(self._plain_marks, stand_ins=False), _environment(marks, stand_ins=True))
        self._plain, self._marked = ((e, e.compiled(text)) for e in environments)
        self._controls, self._variables, self._finds = controls, variables, finds
        self._pattern = re.compile("|".join(sorted(map(re.escape, controls), key=len, reverse=True)) or "(?!)")
        self._foreign = sorted(foreign, key=len, reverse=True)
        self.parts = lru_cache(maxsize=4096)(self._parts)

    def text(self, messages: Sequence[tuple[str, str]], *, ask: bool) -> str:
        """The plain text as transformers renders it."""
        return self._rendered(self._plain, messages, ask)

    def render(self, messages: Sequence[tuple[str, str]], *, ask: bool) -> tuple[str, list[str]]:
        """The plain text as transformers renders it, and the answers in it: with their stop tokens where the template marks
        them, as text alone where they are found."""
        self._plain_marks.answers.clear()
        text = self._rendered(self._plain, messages, ask)
        if not self._finds:
            return text, list(self._plain_marks.answers)
        contents = [content for _, content in messages]
        answers: list[str] = []
        inside = False
        for part in () if ask else self.parts(shape_of(messages), False):
            if part.supervised:
                piece = "" if isinstance(part, Control) else part.fill(contents)
                answers[-1:] = [answers[-1] + piece] if inside else [*answers[-1:], piece]
            inside = part.supervised
        return text, answers

    def _rendered(self, look: tuple[Bounded, jinja2.Template], messages: Iterable[tuple[str, str]], ask: bool) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        environment, template = look
        contents = [turn["content"] for turn in turns]
        return environment.rendered(template, contents, messages=turns, add_generation_prompt=ask, **self._variables)

    def _with_stand_ins(self, shape: Shape, ask: bool) -> str:
        contents = [_StandIn(f"{OPEN}{i}{CLOSE}") if blank is None else blank for i, (_, blank) in enumerate(shape)]
        return self._rendered(self._marked, [(role, c) for (role, _), c in zip(shape, contents, strict=True)], ask)

    def _bordered(self, shape: Shape, text: str) -> str:
        """The rendering with borders around each answer, found by what its prompt ends with and what follows it."""
        places, borders = self._places(shape, text), []
        answers = [i for i, (role, _) in enumerate(shape) if role == "assistant"]
        for i in answers:
            begin, end = places[i]
            asked = self._with_stand_ins(shape[:i], True)
            end_of_user = self._places(shape[:i], asked)[i - 1][1]
            if i == answers[-1] and asked[:end_of_user] != text[: places[i - 1][1]]:
                raise TemplateError(
                    f"writes another text before the answer of turn {i + 1} once that answer is there, so it would be served after "
                    "another prompt than it was trained after; name one of templates/ as template.name"
                )
            prompt, header = asked[end_of_user:], text[places[i - 1][1] : begin]
            shared = next(
                (n for n, (a, b) in enumerate(zip(prompt, header, strict=False)) if a != b),
                min(len(prompt), len(header)),
            )
            if shared < len(prompt) and i == answers[-1]:
                raise TemplateError(
                    f"asks for the answer of turn {i + 1} after {prompt[-60:]!r} but trains it after {header[-60:]!r}, so it "
                    "would be served after another prompt than it was trained after; name one of templates/ as template.name"
                )
            at = places[i - 1][1] + shared
            at = next((m.start() for m in self._pattern.finditer(text) if m.start() < at < m.end()), at)
            stop = self._pattern.search(text, end)
            following = places[i + 1][0] if i + 1 < len(shape) else len(text)
            if not stop or stop.start() >= following:
                raise TemplateError(
                    f"writes no control token behind the answer of turn {i + 1}, so nothing would teach the model to stop; "
                    "name one of templates/ as template.name"
                )
            borders += [(at, BEGIN), (stop.end(), END)]
        for at, border in reversed(borders):
            text = text[:at] + border + text[at:]
        return text

    def _places(self, shape: Shape, text: str) -> list[tuple[int, int]]:
        """Where each content stands in a rendering, which has to write every one, once, in its order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for match in MARK.finditer(text):
            if match[2]:
                found.setdefault(int(match[2]), []).append(match.span())
        places: list[tuple[int, int]] = []
        for i, (role, blank) in enumerate(shape):
            spans = found.get(i, [])
            last = places[-1][1] if places else 0
            if blank is not None and not spans:  # an empty content leaves no trace
                if role == "assistant":
                    raise TemplateError(f"cannot be proved on turn {i + 1}, whose answer is empty; drop the row")
                spans = [(last, last)]
            if len(spans) != 1 or spans[0][0] < last:
                how = "leaves out" if not spans else "writes more than once" if len(spans) > 1 else "moves"
                raise TemplateError(
                    f"{how} the content of turn {i + 1} ({role}); leave such turns out, or name one of templates/ as template.name"
                )
            places += spans
        return places

    def _parts(self, shape: Shape, ask: bool) -> Parts:
        """The parts of any conversation of one shape."""
        text = self._with_stand_ins(shape, ask)
        if self._finds and not ask:
            text = self._bordered(shape, text)
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
