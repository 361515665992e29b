"""Spans against gold: strict, relaxed and by type alone; confusion, frequent errors, and the dictionary to be beaten."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medrecipes.data.bio_tags import OUTSIDE, Span, read_spans
from medrecipes.scoring.bootstrap import Average, Figure, Floats, Ratio

WAYS = {
    "strict": "type and both borders right",
    "relaxed": "type right, and at least a word shared with a gold span of that type, each counted once",
    "type_only": "as many of a type as gold has in the row, wherever they stand",
}
MISSED, SPURIOUS = "(missed)", "(nothing there)"
AROUND = 6  # words shown on either side of an error


@dataclass(frozen=True)
class Tagging:
    """A row with its gold spans and those that somebody found."""

    id: str
    group: str
    tokens: tuple[str, ...]
    gold: tuple[Span, ...]
    found: tuple[Span, ...]


@dataclass(frozen=True)
class Error:
    """A kind of mistake on one text: what gold says, what was found, how often, and the first place where."""

    gold: str
    found: str
    count: int
    context: str


def types_of(rows: Iterable[Tagging]) -> list[str]:
    """Every type that gold or anybody's finding names."""
    return sorted({span.type for row in rows for span in (*row.gold, *row.found)})


def hits(row: Tagging, type: str, way: str) -> tuple[int, int, int]:
    """Right ones, those found, and gold ones: of one type in one row."""
    gold = sorted(span for span in row.gold if span.type == type)
    found = sorted(span for span in row.found if span.type == type)
    if way == "strict":
        right = len(set(gold) & set(found))
    elif way == "relaxed":
        right = _paired(gold, found)
    else:
        right = min(len(gold), len(found))
    return right, len(found), len(gold)


def _paired(gold: Sequence[Span], found: Sequence[Span]) -> int:
    """How many pairs that share a word can be made, no span in two of them."""
    pairs = i = j = 0
    while i < len(gold) and j < len(found):
        if _touch(gold[i], found[j]):
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif gold[i].end <= found[j].start:
            i += 1
        else:
            j += 1
    return pairs


def _touch(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def span_figures(rows: Sequence[Tagging], way: str, types: Sequence[str]) -> dict[str, dict[str, Figure]]:
    """Precision, recall and F1 of every type, of all spans together (micro), and their plain mean over types (macro)."""
    table = np.array([[hits(row, type, way) for type in types] for row in rows], float).reshape(
        len(rows), len(types), 3
    )
    found = {type: _figures(table[:, i]) for i, type in enumerate(types)}
    averages: dict[str, dict[str, Figure]] = {"micro": dict(_figures(table.sum(1)))}
    # of no type at all the mean is as absent as the figure itself
    averages["macro"] = {
        name: Average(tuple(found[t][name] for t in types) or (whole,))
        for name, whole in _figures(table.sum(1)).items()
    }
    return {**{type: dict(figures) for type, figures in found.items()}, **averages}


def _figures(counts: Floats) -> dict[str, Ratio]:
    """The three figures from counts of `hits`, a row a line; 0 of 0 is 0 wherever there was something to say."""
    right, found, gold = counts.T
    present = found + gold
    return {
        "precision": Ratio(right, found, present),
        "recall": Ratio(right, gold, present),
        "f1": Ratio(2 * right, present, present),
    }


def micro(rows: Sequence[Tagging], way: str = "strict") -> dict[str, Ratio]:
    """The three figures over all spans, whatever their type."""
    types = types_of(rows)
    counts = np.array([np.sum([hits(row, t, way) for t in types], axis=0) if types else np.zeros(3) for row in rows])
    return _figures(counts)


def token_accuracy(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, float | None]:
    """The share of words whose tag is right, with O counted and without; both flatter, and are labelled as what they are."""
    all_words = right = entity_words = entity_right = 0
    for gold, found in pairs:
        for one, other in zip(gold, found, strict=True):
            all_words += 1
            right += one == other
            entity_words += one != OUTSIDE
            entity_right += one == other != OUTSIDE
    return {
        "with_O": right / all_words if all_words else None,
        "without_O": entity_right / entity_words if entity_words else None,
    }


def confusion(rows: Iterable[Tagging]) -> dict[str, dict[str, int]]:
    """For each gold type, what was found in its place (exactly, elsewhere, as another type, not at all); and what was made up."""
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for gold, kind in _compared(row):
            table[gold][kind] += 1
    return {gold: dict(sorted(found.items())) for gold, found in sorted(table.items())}


def _compared(row: Tagging) -> list[tuple[str, str]]:
    return [(gold, found) for gold, found, _ in _mistakes(row, everything=True)]


def _mistakes(row: Tagging, *, everything: bool = False) -> list[tuple[str, str, tuple[Span | None, Span | None]]]:
    """Every gold span beside what was found in its place, and what was found where gold has nothing."""
    listed: list[tuple[str, str, tuple[Span | None, Span | None]]] = []
    for gold in row.gold:
        near = [span for span in row.found if _touch(gold, span)]
        best = max(near, key=lambda span: (span == gold, span.type == gold.type, _shared(gold, span)), default=None)
        if best is None:
            listed.append((gold.type, MISSED, (gold, None)))
        elif best != gold:
            same = (best.start, best.end) == (gold.start, gold.end)
            listed.append((gold.type, best.type + ("" if same else ", other borders"), (gold, best)))
        elif everything:
            listed.append((gold.type, best.type, (gold, best)))
    listed += [
        (SPURIOUS, span.type, (None, span)) for span in row.found if not any(_touch(span, gold) for gold in row.gold)
    ]
    return listed


def _shared(one: Span, other: Span) -> int:
    return min(one.end, other.end) - max(one.start, other.start)


def frequent_errors(rows: Iterable[Tagging], most: int = 20) -> list[Error]:
    """The mistakes that happen most, by type and text, each with the first place where it happened."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        for gold_type, found_type, (gold, found) in _mistakes(row):
            key = f"{gold_type}: {_words(row, gold)}", f"{found_type}: {_words(row, found)}"
            counts[key] += 1
            first.setdefault(key, _context(row, gold, found))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [Error(gold, found, count, first[gold, found]) for (gold, found), count in ranked]


def _words(row: Tagging, span: Span | None) -> str:
    return " ".join(row.tokens[span.start : span.end]).casefold() if span else "-"


def _context(row: Tagging, gold: Span | None, found: Span | None) -> str:
    """The words around, gold in brackets, what was found in braces."""
    spans = [span for span in (gold, found) if span]
    start = max(min(span.start for span in spans) - AROUND, 0)
    end = min(max(span.end for span in spans) + AROUND, len(row.tokens))
    shown = []
    for i in range(start, end):
        opens = ("[" if gold and i == gold.start else "") + ("{" if found and i == found.start else "")
        closes = ("}" if found and i == found.end - 1 else "") + ("]" if gold and i == gold.end - 1 else "")
        shown.append(f"{opens}{row.tokens[i]}{closes}")
    return f"{'… ' if start else ''}{' '.join(shown)}{' …' if end < len(row.tokens) else ''}"


# --- the dictionary ----------------------------------------------------------------------------------------------------


def majority(rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, str]:
    """For every word of the training rows (case folded) the tag that it bears most often; the first seen wins a tie."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for tokens, tags in rows:
        for token, tag in zip(tokens, tags, strict=True):
            counts[token.casefold()][tag] += 1
    return {word: tags.most_common(1)[0][0] for word, tags in counts.items()}


def look_up(dictionary: Mapping[str, str], tokens: Sequence[str]) -> tuple[Span, ...]:
    """What a dictionary of words finds; unknown words are O."""
    return tuple(read_spans(dictionary.get(token.casefold(), OUTSIDE) for token in tokens))
