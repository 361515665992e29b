"""Token classification without a model: words to pieces and windows, and what a model says back to tags and spans."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from medrecipes.core.errors import DataError
from medrecipes.core.files import writing
from medrecipes.data.bio_tags import Span, malformed, read_spans
from medrecipes.data.records import Tagged
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.tokenizer import Tokenizer

MASKED = -100
ABOUT = "tagging.json"  # beside the adapter: what the head's outputs mean
DECODING = "each word takes its likeliest tag; a tag that goes on from nothing begins a span"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a row that fits the context; it speaks for `words` of it, each by its first piece at `firsts`."""

    row: int
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    words: tuple[int, int]
    firsts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model said of a row: the tag of each word, its spans, how likely each is, and what had to be mended."""

    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    probabilities: tuple[float, ...]
    repaired: Counter[str]


def pieces(tokenizer: Tokenizer, rows: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """The ids of every word of every row, each as it stands after a blank: no piece reaches over the border of a word."""
    known = list(dict.fromkeys(word for row in rows for word in row))
    ids = dict(zip(known, tokenizer.encode([f" {word}" for word in known], continuing=True), strict=True))
    for word, found in ids.items():
        if not found:
            raise DataError(f"the word {word!r} has no piece in this tokenizer; drop it from the data")
    return [[ids[word] for word in row] for row in rows]


def windows(
    tokenizer: Tokenizer, rows: Sequence[Tagged], labels: Sequence[str], max_tokens: int, overlap: int
) -> list[Window]:
    """The windows of all rows; every word is spoken for by exactly one of them, the one that shows most around it."""
    number = {label: i for i, label in enumerate(labels)}
    begin = () if tokenizer.bos is None else (tokenizer.bos,)
    found: list[Window] = []
    for at, (row, words) in enumerate(zip(rows, pieces(tokenizer, [row.tokens for row in rows]), strict=True)):
        try:
            stretches = list(cut([len(ids) for ids in words], max_tokens - len(begin), overlap))
        except DataError as error:
            raise DataError(f"row {row.id}: {error}") from None
        borders = [0, *(middle(*pair) for pair in pairwise(stretches)), len(words)]
        for (start, end), first, last in zip(stretches, borders, borders[1:], strict=False):
            ids, tags, firsts = list(begin), [MASKED] * len(begin), []
            for word in range(start, end):
                spoken = first <= word < last
                if spoken:
                    firsts.append(len(ids))
                # a type that training never showed cannot be learned, and is scored all the same
                tags += [number.get(row.tags[word], MASKED) if spoken else MASKED]
                tags += [MASKED] * (len(words[word]) - 1)
                ids += words[word]
            found.append(Window(at, tuple(ids), tuple(tags), (first, last), tuple(firsts)))
    return found


def cut(sizes: Sequence[int], room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Stretches of words of at most `room` pieces, neighbours sharing up to `overlap` of them."""
    start = 0
    while True:
        end, used = start, 0
        while end < len(sizes) and used + sizes[end] <= room:
            used += sizes[end]
            end += 1
        if end == start:
            raise DataError(f"a word of {sizes[start]} pieces does not fit into {room} tokens; raise data.max_tokens")
        yield start, end
        if end == len(sizes):
            return
        back, shared = end, 0
        while back - 1 > start and shared + sizes[back - 1] <= overlap:
            back -= 1
            shared += sizes[back]
        start = back


def middle(one: tuple[int, int], other: tuple[int, int]) -> int:
    """Where two neighbouring stretches hand over: in the middle of what they share."""
    return (other[0] + one[1] + 1) // 2


def decode(probabilities: Sequence[Sequence[float]], labels: Sequence[str]) -> Decoded:
    """One row's words, each with the probability of every label, as tags and spans by DECODING.

    A span is as likely as its words' tags are on average (the geometric mean of their probabilities).
    """
    best = [max(range(len(row)), key=row.__getitem__) for row in probabilities]
    tags = tuple(labels[i] for i in best)
    spans = tuple(read_spans(tags))
    logs = [math.log(max(row[i], 1e-12)) for row, i in zip(probabilities, best, strict=True)]
    likely = tuple(math.exp(sum(logs[s.start : s.end]) / (s.end - s.start)) for s in spans)
    return Decoded(tags, spans, likely, malformed(tags, "IOB2"))


def gather(
    count: int, found: Sequence[Window], said: Sequence[Sequence[Sequence[float]]]
) -> list[list[Sequence[float]]]:
    """What all windows say of their words, put together by row; no word is lost, none stands twice."""
    rows: list[list[Sequence[float]]] = [[] for _ in range(count)]
    for window, words in zip(found, said, strict=True):
        if (len(rows[window.row]), len(words)) != (window.words[0], window.words[1] - window.words[0]):
            raise DataError(
                f"row {window.row}: its windows leave words out, or speak for some twice; report this mistake"
            )
        rows[window.row] += words
    return rows


@dataclass(frozen=True)
class Proof:
    """What was proved of a part: gold tags, cut into pieces and windows, come back as the same spans, row for row."""

    rows: int
    words: int
    tokens: int
    windows: int
    spans: int
    unlearnable: int
    tokenizer_sha256: str

    def __str__(self) -> str:
        note = f"; {self.unlearnable:,} of types that training never shows" if self.unlearnable else ""
        return (
            f"{self.rows:,} rows proved: {self.words:,} words in {self.tokens:,} tokens and {self.windows:,} windows give "
            f"back their {self.spans:,} spans{note}"
        )

    def counts(self) -> dict[str, int]:
        """As data.json counts a part; it has no answers, hence no bytes of them."""
        return {"tokens": self.tokens, "supervised": self.words, "windows": self.windows, "answer_bytes": 0}

    def to_json(self) -> dict[str, Any]:
        """As run.json holds it."""
        return asdict(self)


def prove(tokenizer: Tokenizer, rows: Sequence[Tagged], labels: Sequence[str], max_tokens: int, overlap: int) -> Proof:
    """Gold tags through windows and back, for every row; a span that is lost or doubled raises."""
    found = windows(tokenizer, rows, labels, max_tokens, overlap)
    certain = {i: [float(i == j) for j in range(len(labels))] for i in range(len(labels))}
    said = [
        [certain[w.labels[first]] if w.labels[first] != MASKED else certain[0] for first in w.firsts] for w in found
    ]
    spans = unlearnable = 0
    for row, words in zip(rows, gather(len(rows), found, said), strict=True):
        gold = read_spans(row.tags)
        learnable = [span for span in gold if f"B-{span.type}" in labels]
        if list(decode(words, labels).spans) != learnable:
            raise DataError(f"row {row.id}: its tags do not come back from this tokenizer's pieces; drop the row")
        spans += len(gold)
        unlearnable += len(gold) - len(learnable)
    learned = sum(len(row.tokens) for row in rows)
    tokens = sum(len(window.input_ids) for window in found)
    return Proof(len(rows), learned, tokens, len(found), spans, unlearnable, tokenizer.hash)


def frequencies(found: Sequence[Window], labels: int) -> list[int]:
    """How often each label is learned."""
    counts = Counter(label for window in found for label in window.labels)
    return [counts[i] for i in range(labels)]


def about(recipe: Recipe, labels: Sequence[str]) -> dict[str, Any]:
    """What a tagging head's outputs mean, and how rows are cut for it: tagging.json."""
    return {
        "labels": list(labels),
        "attention": recipe.model.attention,
        "unit": recipe.tag.unit,
        "max_tokens": recipe.data.max_tokens,
        "overlap": recipe.tag.overlap,
    }


def copy_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Save the base's tokenizer as it is: words are cut by it, and no template is needed."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tokenizer.folder / name).exists():
            with writing(folder):
                (folder / name).write_bytes((tokenizer.folder / name).read_bytes())
