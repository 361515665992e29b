"""The answer in what a model wrote: its reasoning taken off and counted, so that no thought is ever scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from medrecipes.data.reasoning import CLOSES, OPENS
from medrecipes.recipe.schema import Eval
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.template_shapes import Thoughts

THINK = ("<think>", "</think>")
BORDERS = re.compile(f"{OPENS.pattern}|{CLOSES.pattern}")


@dataclass(frozen=True)
class Written:
    """What a model wrote: the answer's text and ids, and those of the reasoning before it; `finished`: it came to its end."""

    text: str
    ids: list[int]
    thought: str
    reasoning: list[int]
    finished: bool = True


@dataclass(frozen=True)
class Answer:
    """An answer as it is scored: its text and tokens, whether it stopped, and how long its reasoning was, if it had any."""

    text: str
    tokens: int
    stopped: bool
    reasoning_tokens: int | None = None
    reasoning_finished: bool | None = None


def answer_of(template: ChatTemplate, ids: Sequence[int], settings: Eval) -> Answer:
    """An answer within its limits; reasoning that is longer than its budget, or never ends, leaves none."""
    written, stopped = written_by(template, ids), bool(ids) and ids[-1] in template.stop_ids
    budget, thought = settings.max_reasoning_tokens, len(written.reasoning)
    if not written.thought:  # none, or an empty one
        thought, tokens = 0, len(ids)
    elif not written.finished:
        return Answer(written.text, len(written.ids), stopped, min(thought, budget or thought), False)
    elif 0 < budget < thought:
        return Answer("", 0, stopped, budget, False)
    else:
        tokens = len(written.ids)
    text, reasoning = written.text, (thought, True) if thought else ()
    if budget and len(written.ids) > settings.max_new_tokens:
        tokens, stopped = settings.max_new_tokens, False
        text = template.tokenizer.decode([written.ids[:tokens]])[0].strip()
    return Answer(text, tokens, stopped, *reasoning)


def written_by(template: ChatTemplate, ids: Sequence[int]) -> Written:
    """What a model wrote, apart: by the marks of its template, by `<think>` as control tokens, and by `<think>` as text."""
    rest, thought, finished = list(ids), list[int](), True
    for before, behind in _pairs(template):
        if (at := _last(rest, behind)) is not None:
            thought, rest = rest[: at + len(behind)], rest[at + len(behind) :]
        if (at := _first(rest, before)) is not None:
            rest, thought, finished = rest[:at], thought + rest[at:], False
    if finished and (bare := _bare(template)) and rest[: len(bare)] == bare:
        rest = rest[len(bare) :]
    said, text = _between_marks(template, thought), template.tokenizer.decode([rest])[0]
    if closes := [*CLOSES.finditer(text)]:
        at = _until(template, rest, lambda said: len(CLOSES.findall(said)) == len(closes))
        thought, rest = thought + rest[:at], rest[at:]
        said, text = [*said, text[: closes[-1].start()]], text[closes[-1].end() :]
    if opening := OPENS.search(text):
        at = _until(template, rest, lambda said: bool(OPENS.search(said))) - 1
        rest, thought, finished = rest[:at], thought + rest[at:], False
        said, text = [*said, text[opening.end() :]], text[: opening.start()]
    if not thought and isinstance(template.thoughts, Thoughts) and not template.thoughts.before.strip():
        rest, thought, said, text, finished = [], rest, [text], "", False  # the prompt opened it, and nothing closed it
    said = [part.strip() for each in said for part in BORDERS.split(each)]
    return Written(text.strip(), rest, "\n\n".join(filter(None, said)), thought, finished)


def _between_marks(template: ChatTemplate, ids: list[int]) -> list[str]:
    """The texts of reasoning, without the control tokens that stand around it."""
    parts = [ids]
    for mark in marks_of(template):
        parts = [piece for part in parts for piece in _split(part, mark)]
    return template.tokenizer.decode(parts)


def _split(ids: list[int], mark: list[int]) -> Iterator[list[int]]:
    """The ids between some that are a mark."""
    while (at := _first(ids, mark)) is not None:
        yield ids[:at]
        ids = ids[at + len(mark) :]
    yield ids


def marks_of(template: ChatTemplate) -> list[list[int]]:
    """The ids of all that a template puts around reasoning, and in place of it, as control tokens, the longest first."""
    marks = (_bare(template), *chain.from_iterable(_pairs(template)))
    return sorted(filter(None, marks), key=len, reverse=True)


def _bare(template: ChatTemplate) -> list[int]:
    """The ids in place of reasoning that is not there."""
    thoughts = template.thoughts
    return template.ids_of(thoughts.bare.strip()) if isinstance(thoughts, Thoughts) else []


def _pairs(template: ChatTemplate) -> Iterator[tuple[list[int], list[int]]]:
    """The ids before and behind a thought, where they are control tokens; none before one that the prompt opens."""
    thoughts, control = template.thoughts, template.tokenizer.control
    if isinstance(thoughts, Thoughts) and (behind := thoughts.behind.strip()) and template.has_control(behind):
        yield template.ids_of(thoughts.before.strip()), template.ids_of(behind)
    elif all(mark in control for mark in THINK):
        yield [control[THINK[0]]], [control[THINK[1]]]


def _first(ids: list[int], wanted: list[int]) -> int | None:
    """Where some ids stand among others for the first time."""
    at = -1
    with suppress(ValueError):
        while wanted:
            at = ids.index(wanted[0], at + 1)
            if ids[at : at + len(wanted)] == wanted:
                return at
    return None


def _last(ids: list[int], wanted: list[int]) -> int | None:
    """Where some ids stand among others for the last time."""
    at = _first(ids[::-1], wanted[::-1])
    return None if at is None else len(ids) - at - len(wanted)


def _until(template: ChatTemplate, ids: Sequence[int], holds: Callable[[str], bool]) -> int:
    """How many ids it takes until their text holds something."""
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(template.tokenizer.decode([ids[:middle]])[0]) else (middle + 1, high)
    return low
