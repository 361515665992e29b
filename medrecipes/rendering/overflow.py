"""Conversations that are longer than a model may see, brought within bounds as the recipe says, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from medrecipes.core.errors import TemplateError
from medrecipes.core.files import cache_root, digest, digest_path, read_json, scratch, stage, write_json
from medrecipes.core.progress import counted
from medrecipes.data.records import Conversation, Message
from medrecipes.data.row_files import OnDisk
from medrecipes.data.tally import MANY, Said
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.rendering.chat_template import BATCH, ChatTemplate, Example
from medrecipes.rendering.stored_examples import Shard, StoredExamples, Writer

Overflow = Literal["drop", "shorten_context", "shorten_answer", "error"]
TOO_LONG = "longer than max_tokens"
SHARD = 20_000  # rows of a large part that are rendered for a shard
UNSUPERVISED = "nothing supervised"
# what is done with reasoning, by data.reasoning
BECOMES = {
    "keep": "written as the base's family writes it", "drop": "left out", "as_text": "text between <think> marks",
}  # fmt: skip


@dataclass
class Fitted:
    """Examples that fit, each with the conversation that it shows, and what became of the others."""

    examples: Sequence[Example] = ()
    conversations: Sequence[Conversation] = ()
    counts: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    over: list[int] = field(default_factory=list)  # the tokens of each row that was left out

    @property
    def rows(self) -> int:
        """How many there were."""
        return len(self.examples) + sum(map(len, self.dropped.values()))

    def to_json(self) -> dict[str, Any]:
        """As data.json holds it."""
        return {"rows": self.rows, "dropped": self.dropped, **self.counts}


def fit_parts(
    template: ChatTemplate, parts: Mapping[str, Sequence[Conversation]], data: Data, key: str = "",
    done: Callable[[float], object] = lambda share: None,
) -> dict[str, Fitted]:  # fmt: skip
    """Every part of a split as a model may see it; one of which nothing is left is an error, for all that have none.

    `key`: of the split; what is rendered of a large one is kept under it in shards, for whoever goes on and for the next run;
    `done` hears what share of its rows is rendered.
    """
    _refuse(parts, template.problem)
    try:
        fitted = _fit_all(template, parts, data, key, done)
    except TemplateError:
        _refuse(parts, template.refusal)  # which rows, and how many; where it is none, what was said stands
        raise
    gone = [f"{name} (0 of {f.rows:,}, the shortest of {min(f.over):,})" for name, f in fitted.items() if f.over and not f.examples]  # fmt: skip
    if gone:
        raise TemplateError(
            f"data.max_tokens = {data.max_tokens} leaves no rows in {', '.join(gone)}; raise it, or choose another data.on_overflow than "
            f"{data.on_overflow}"
        )
    return fitted


def _fit_all(
    template: ChatTemplate, parts: Mapping[str, Sequence[Conversation]], data: Data, key: str,
    done: Callable[[float], object],
) -> dict[str, Fitted]:  # fmt: skip
    """Every part, in memory or in shards on disk."""
    fitted: dict[str, Fitted] = {}
    every = max(1, sum(map(len, parts.values())))
    for name, rows in parts.items():
        if isinstance(rows, OnDisk):
            before = sum(each.rows for each in fitted.values())
            fitted[name] = _fit_stored(template, rows, data, [key, name] if key else None, lambda n, m=before: done((m + n) / every))  # type: ignore[misc]  # fmt: skip
        else:
            fitted[name] = fit(template, rows, data.max_tokens, data.on_overflow)
    return fitted


def _refuse(parts: Mapping[str, Sequence[Conversation]], why_not: Callable[[Sequence[Message]], str | None]) -> None:
    """Raise where rows hold what the template does not write, such as tool calls or reasoning, with how many and which."""
    found: dict[str, list[str]] = {}
    for row in chain.from_iterable(parts.values()):
        if why := why_not(row.messages):
            found.setdefault(why, []).append(row.id)
    if found:
        why, ids = max(found.items(), key=lambda item: len(item[1]))
        raise TemplateError(f"{len(ids):,} of {sum(map(len, parts.values())):,} rows ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}) {why}")  # fmt: skip


def told(fitted: Mapping[str, Fitted], data: Data) -> list[Said]:
    """What became of rows that are too long, as lines for the screen, each a note or, of many rows, a warning."""
    long = {name: f for name, f in fitted.items() if f.over}
    said = []
    if long:
        shares = (f"{len(f.over):,} of {f.rows:,} {name} rows ({len(f.over) / f.rows:.1%})" for name, f in long.items())
        many = any(len(f.over) > MANY * f.rows for f in long.values())
        longest = max(max(f.over) for f in long.values())
        said.append(("warning" if many else "note",
            f"data.max_tokens = {data.max_tokens} leaves out {', '.join(shares)}: they are longer, up to {longest:,} tokens; raise it, "
            f"or choose another data.on_overflow than {data.on_overflow}"))  # fmt: skip
    if cut := {name: f for name, f in fitted.items() if f.counts}:
        shares = (f"{f.counts.total():,} of {f.rows:,} {name} rows ({f.counts.total() / f.rows:.1%})" for name, f in cut.items())  # fmt: skip
        said.append(("note", f"data.on_overflow = {data.on_overflow!r} cut {', '.join(shares)} to data.max_tokens = {data.max_tokens}"))  # fmt: skip
    return said


def told_of_reasoning(fitted: Mapping[str, Fitted], recipe: Recipe) -> list[Said]:
    """How many rows hold reasoning and what becomes of it, as lines for the screen; nothing where none does."""
    rows = sum(len(f.conversations) for f in fitted.values())
    held = sum(any(m.reasoning for m in row.messages) for f in fitted.values() for row in f.conversations)
    if not held:
        return []
    what = BECOMES[recipe.data.reasoning]
    said: list[Said] = [("note", f"{held:,} of {rows:,} rows hold reasoning: {what} (data.reasoning = {recipe.data.reasoning!r})")]  # fmt: skip
    if recipe.data.reasoning != "drop" and not recipe.eval.max_reasoning_tokens:
        said.append(("note", f"eval.max_reasoning_tokens = 0 leaves reasoning and answer eval.max_new_tokens = {recipe.eval.max_new_tokens} together; give reasoning a budget of its own"))  # fmt: skip
    return said


def fit(
    template: ChatTemplate, conversations: Sequence[Conversation], max_tokens: int, on_overflow: Overflow
) -> Fitted:
    """Render all conversations and bring those that are too long within `max_tokens`, as the recipe says."""
    fitted = Fitted()
    examples: list[Example] = []
    shown: list[Conversation] = []
    rendered = counted(template.examples(conversations), len(conversations), "rows")
    for conversation, example in zip(conversations, rendered, strict=True):
        if len(example.input_ids) > max_tokens:
            if on_overflow == "error":
                raise TemplateError(
                    f"row {conversation.id}: {len(example.input_ids)} tokens, over data.max_tokens = {max_tokens}; "
                    "raise it, or choose data.on_overflow"
                )
            shorter = None if on_overflow == "drop" else SHORTEN[on_overflow](template, conversation, max_tokens)
            if shorter is None:
                fitted.dropped.setdefault(TOO_LONG, []).append(conversation.id)
                fitted.over.append(len(example.input_ids))
                continue
            fitted.counts[on_overflow] += 1
            conversation, example = shorter
        if not example.supervised:
            fitted.dropped.setdefault(UNSUPERVISED, []).append(conversation.id)
            continue
        examples.append(example)
        shown.append(conversation)
    fitted.examples, fitted.conversations = examples, shown
    return fitted


def _fit_stored(
    template: ChatTemplate,
    rows: Sequence[Conversation],
    data: Data,
    of: Sequence[str] | None,
    done: Callable[[int], object],
) -> Fitted:
    """The same of a large part, in shards on disk: kept under a key, or gone with this process where there is none."""
    said = [
        template.name,
        template.sha256,
        template.tokenizer.hash,
        template.system,
        template.thinking,
        vars(template.supervision),
    ]
    key = digest([of, said, data.max_tokens, data.on_overflow, _code()])
    with nullcontext(cache_root() / f"tokens-{key[:16]}") if of else scratch("tokens") as root:
        folders = []
        for number, first in enumerate(range(0, len(rows), SHARD)):
            build = partial(_fit_shard, template, rows, range(first, min(first + SHARD, len(rows))), data)
            folders.append(stage("tokens", digest([key, number]), build, root))
            done(first)
        examples = StoredExamples([Shard(folder) for folder in folders])
        abouts = [read_json(folder / "about.json") for folder in folders]
    fitted = Fitted(examples, examples.conversations)
    for about in abouts:
        fitted.counts.update(about["counts"])
        fitted.over += about["over"]
        for reason, ids in about["dropped"].items():
            fitted.dropped.setdefault(reason, []).extend(ids)
    return fitted


def _fit_shard(
    template: ChatTemplate, rows: Sequence[Conversation], numbers: range, data: Data, folder: Path
) -> dict[str, Any]:
    """The stage of a shard."""
    writer, whole = Writer(folder), Fitted()
    for first in range(numbers.start, numbers.stop, BATCH):
        fitted = fit(template, rows[first : min(first + BATCH, numbers.stop)], data.max_tokens, data.on_overflow)
        for conversation, example in zip(fitted.conversations, fitted.examples, strict=True):
            writer.add(conversation, example)
        whole.counts += fitted.counts
        whole.over += fitted.over
        for reason, ids in fitted.dropped.items():
            whole.dropped.setdefault(reason, []).extend(ids)
    writer.close()
    write_json(folder / "about.json", {"counts": whole.counts, "over": whole.over, "dropped": whole.dropped})
    return {"rows": len(writer)}


@cache
def _code() -> str:
    """The sha256 of the code that decides what a row becomes."""
    return digest([digest_path(file) for file in sorted(Path(__file__).parent.glob("*.py"))])


def _shorten_answer(
    template: ChatTemplate, conversation: Conversation, max_tokens: int
) -> tuple[Conversation, Example] | None:
    """Cut the last answer at a blank; what was cut short is not taught to stop there."""
    room = max_tokens - len(template.prompts([conversation.prompt()])[0])
    text = conversation.answer.strip()
    while text := template.tokenizer.prefix(text, room).strip():
        shorter = replace(
            conversation, messages=(*conversation.prompt(), replace(conversation.messages[-1], content=text))
        )
        example = template.cut_example(shorter)
        if len(example.input_ids) <= max_tokens:
            return shorter, example
        room -= len(example.input_ids) - max_tokens  # a blank of the template's own, or a cut inside a word
    return None


def _shorten_context(
    template: ChatTemplate, conversation: Conversation, max_tokens: int
) -> tuple[Conversation, Example] | None:
    """Drop the oldest turns, then cut the middle of the last question: its beginning and its cue at the end stay."""

    def fitting(messages: Sequence[Message]) -> tuple[Conversation, Example] | None:
        shorter = replace(conversation, messages=tuple(messages))
        [example] = template.examples([shorter])
        return (shorter, example) if len(example.input_ids) <= max_tokens else None

    first = 1 if conversation.messages[0].role == "system" else 0
    head, turns = conversation.messages[:first], conversation.messages[first:]
    questions = [at for at, turn in enumerate(turns) if turn.role == "user"]
    for at in questions[1:]:
        # what the first turn brings along, such as the tools, goes to the one that is first now
        begins = turns[at] if head else replace(turns[at], extra=turns[0].extra)
        if found := fitting((*head, begins, *turns[at + 1 :])):
            return found
    question, *answer = turns[questions[-1] :]
    question = question if head else replace(question, extra=turns[0].extra)
    context, cue = split_cue(question.content)
    best, low, high = None, 0, len(context)
    while low <= high:  # the most characters of the context that can stay
        keep = (low + high) // 2
        found = fitting((*head, replace(question, content=cut_middle(context, keep) + cue), *answer))
        best, low, high = (found, keep + 1, high) if found else (best, low, keep - 1)
    return best


def split_cue(text: str, longest: int = 300) -> tuple[str, str]:
    """The context and the cue that closes a prompt: its last line, or the end of a line that is too long to be one."""
    border = text.rstrip().rfind("\n") + 1
    if len(text) - border > longest:
        blank = text.find(" ", len(text) - longest)
        border = blank if blank >= 0 else len(text) - longest
    return text[:border], text[border:]


def cut_middle(text: str, keep: int) -> str:
    """About `keep` characters of a text, half from each end, cut at blanks where there are some."""
    if keep >= len(text):
        return text
    head, tail = text[: keep - keep // 2], text[len(text) - keep // 2 :]
    blank = head.rfind(" ")
    head = head[:blank] if blank > 0 else head
    blank = tail.find(" ")
    return head + (tail[blank:] if blank >= 0 else tail)


SHORTEN: dict[str, Callable[[ChatTemplate, Conversation, int], tuple[Conversation, Example] | None]] = {
    "shorten_answer": _shorten_answer,
    "shorten_context": _shorten_context,
}
