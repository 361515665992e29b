"""Tagged words as questions to a model that writes lists, and its lists back as spans: both evaluated by the same scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, read_spans
from medrecipes.data.records import Conversation, Tagged
from medrecipes.data.segment import words
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.sources.ner_instruct import NOTHING, asked
from medrecipes.scoring.entities import normalise, parse
from medrecipes.scoring.predictions import SPANS, Prediction, spans_text

# what NER-instruct asks for, and the type of the spans that answer it
TASKS = {"chemicals": "Chemical", "diseases": "Disease"}


def text_of(row: Tagged) -> str:
    """The row's text as it was written where the data has it, else its words with blanks between."""
    return str(row.meta.get("text") or " ".join(row.tokens))


def to_conversations(rows: Iterable[Tagged]) -> list[Conversation]:
    """A question for each row and type that NER-instruct knows, answered with the row's entities in their order, each once."""
    found = []
    for row in rows:
        spans = read_spans(row.tags)
        for task, type in TASKS.items():
            names = [_written(row, span) for span in spans if span.type == type]
            items = list({normalise(name): name for name in reversed(names)}.values())[::-1]
            answer = "\n".join(f"- {item}" for item in items) or NOTHING
            question = asked(task, text_of(row))
            found.append(Conversation.of(f"{row.id}:{task}", row.group, question, answer, task=task, article=row.group))
    return found


def _written(row: Tagged, span: Span) -> str:
    """An entity as the text spells it: a word's place is sought from the left."""
    text, at, places = text_of(row), 0, []
    for token in row.tokens[: span.end]:
        start = text.index(token, at)
        at = start + len(token)
        places.append((start, at))
    return text[places[span.start][0] : places[-1][1]]


def find_items(tokens: Sequence[str], items: Mapping[str, Iterable[str]]) -> tuple[Span, ...]:
    """Every place where a listed item stands in a text, whole words, letters of either case; the longest item first."""
    folded = [token.casefold() for token in tokens]
    wanted = {
        (tuple(item[a:b].casefold() for a, b in words(item)), type) for type, those in items.items() for item in those
    }
    taken = [False] * len(tokens)
    spans = []
    for parts, type in sorted(wanted, key=lambda one: (-len(one[0]), one)):
        for start in range(len(tokens) - len(parts) + 1) if parts else ():
            end = start + len(parts)
            if tuple(folded[start:end]) == parts and not any(taken[start:end]):
                spans.append(Span(start, end, type))
                taken[start:end] = [True] * len(parts)
    return tuple(sorted(spans))


def as_spans(rows: Sequence[Tagged], answers: Sequence[Prediction]) -> list[Prediction]:
    """Lists of chemicals and diseases as predictions of spans; a list about a document stands for each of its rows."""
    said = {(answer.id.rpartition(":")[0], answer.task): answer for answer in answers if answer.task in TASKS}
    known = {name for row in rows for name in _names(row)}
    if strays := sorted(id for id, _ in said if id not in known):
        raise DataError(f"the answers are about {strays[0]!r}, which the tagged rows do not hold; name the rows that were asked about")  # fmt: skip
    found = []
    for row in rows:
        items = {}
        for task, type in TASKS.items():
            answer = next((said[name, task] for name in _names(row) if (name, task) in said), None)
            if answer is None:
                raise DataError(f"row {row.id}: nobody listed its {task}; answer every question (raise eval.rows), or name fewer tagged rows")  # fmt: skip
            items[type] = [name for (name,) in parse(task, answer.prediction).items]
        gold = [span for span in read_spans(row.tags) if span.type in items]
        found.append(
            Prediction(
                row.id, row.group, SPANS, " ".join(row.tokens), spans_text(row.tokens, gold),
                spans_text(row.tokens, find_items(row.tokens, items)), answer.model if answer else "",
            )
        )  # fmt: skip
    return found


def _names(row: Tagged) -> tuple[str, ...]:
    """What a question about a row may be called by: the row, or its document."""
    return tuple(dict.fromkeys((row.id, str(row.meta.get("document") or row.id))))


def read_tagged(path: Path) -> list[Tagged]:
    """The tagged rows of a file that `medrecipes build` wrote, or of any that source bio_ner reads."""
    return [row for row in open_source("bio_ner").read(Files(path), Ledger()) if isinstance(row, Tagged)]
