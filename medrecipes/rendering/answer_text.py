"""The answer in what a model wrote: its reasoning taken off and counted, so that no thought is ever scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from medrecipes.data.reasoning import CLOSES, OPENS
from medrecipes.recipe.schema import Eval
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.template_shapes import Thoughts

THINK = ("<think>", "</think>")


@dataclass(frozen=True)
class Written:
    """What a model wrote: the answer's text and ids, and those of the reasoning before it; `finished`: it came to its end."""

    text: str
    ids: list[int]
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
    said = template.tokenizer.decode([written.reasoning])[0]
    if not OPENS.sub("", CLOSES.sub("", said)).strip():  # none, or an empty one
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
    for before, behind in _marks(template):
        if (at := _last(rest, behind)) is not None:
            thought, rest = rest[: at + len(behind)], rest[at + len(behind) :]
        if (at := _first(rest, before)) is not None:
            rest, thought, finished = rest[:at], thought + rest[at:], False
    if finished and isinstance(template.thoughts, Thoughts):
        bare = template.ids_of(template.thoughts.bare.strip())
        rest = rest[len(bare) :] if bare and rest[: len(bare)] == bare else rest
    text = template.tokenizer.decode([rest])[0]
    if closes := [*CLOSES.finditer(text)]:
        at = _until(template, rest, lambda said: len(CLOSES.findall(said)) == len(closes))
        thought, rest, text = thought + rest[:at], rest[at:], text[closes[-1].end() :]
    if opening := OPENS.search(text):
        at = _until(template, rest, lambda said: bool(OPENS.search(said))) - 1
        rest, thought, text, finished = rest[:at], thought + rest[at:], text[: opening.start()], False
    if not thought and isinstance(template.thoughts, Thoughts) and not template.thoughts.before.strip():
        rest, thought, text, finished = [], rest, "", False  # the prompt opened it, and nothing closed it
    return Written(text.strip(), rest, thought, finished)


def _marks(template: ChatTemplate) -> Iterator[tuple[list[int], list[int]]]:
    """The ids before and behind a thought, where they are control tokens; none before one that the prompt opens."""
    thoughts, control = template.thoughts, template.tokenizer.control
    if isinstance(thoughts, Thoughts) and (behind := thoughts.behind.strip()) and template.has_control(behind):
        yield template.ids_of(thoughts.before.strip()), template.ids_of(behind)
    elif all(mark in control for mark in THINK):
        yield [control[THINK[0]]], [control[THINK[1]]]


def _first(ids: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Where some ids stand among others for the first time."""
    size = len(wanted)
    return next((at for at in range(len(ids) - size + 1) if size and list(ids[at : at + size]) == list(wanted)), None)


def _last(ids: Sequence[int], wanted: Sequence[int]) -> int | None:
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
