"""How near an answer comes to its reference, and how often it repeats itself."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

NAMES = ("rouge1", "rouge2", "rougeL")
REPEATED = 4  # words: shorter runs recur in any sound text
ITEM = re.compile(r"^\s*(?:[-*•·–—]+|\(?\d{1,3}[.)])\s*(\S.*)$")


class _Stemmer:
    """Porter's stemmer with a memory: a word is stemmed once, and rouge-score asks for each again and again."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]

        self.stem = lru_cache(maxsize=None)(PorterStemmer().stem)


@lru_cache
def _stemmer() -> _Stemmer:
    return _Stemmer()


def words(text: str) -> list[str]:
    """The stemmed words of a text, by rouge-score's own tokenizer."""
    from rouge_score.tokenize import tokenize

    found: list[str] = tokenize(text, _stemmer())
    return found


def rouge(references: Sequence[str], answers: Sequence[str]) -> dict[str, list[float]]:
    """ROUGE F-measures of each answer, e.g. `{"rouge1": [0.4, …], …}`, exactly those of rouge-score with its stemmer."""
    scores: dict[str, list[float]] = {name: [] for name in NAMES}
    for reference, answer in zip(references, answers, strict=True):
        wanted, given = words(reference), words(answer)
        for name, size in (("rouge1", 1), ("rouge2", 2)):
            ours, theirs = _ngrams(given, size), _ngrams(wanted, size)
            common = sum(min(count, theirs[gram]) for gram, count in ours.items())
            scores[name].append(_f(common, max(sum(ours.values()), 1), max(sum(theirs.values()), 1)))
        both = bool(wanted and given)
        scores["rougeL"].append(_f(common_subsequence(wanted, given), len(given), len(wanted)) if both else 0.0)
    return scores


def common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the table in one big integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for position, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << position
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        found = row & places.get(word, 0)
        row = (row + found | row - found) & full
    return len(a) - row.bit_count()


def repeated_ngrams(answer: str) -> tuple[int, int]:
    """How many of an answer's runs of four words stood in it before, and how many it has."""
    plain = answer.casefold().split()
    runs = list(zip(*(plain[start:] for start in range(REPEATED)), strict=False))
    return len(runs) - len(set(runs)), len(runs)


def repeated_items(answer: str) -> tuple[int, int]:
    """How many items of an answer's lists stood in it before, and how many it has."""
    items = [" ".join(match[1].casefold().split()) for line in answer.splitlines() if (match := ITEM.match(line))]
    return len(items) - len(set(items)), len(items)


def same_text(reference: str, answer: str) -> bool:
    """Whether an answer is the reference, but for white space and case."""
    return reference.casefold().split() == answer.casefold().split()


def bits(nats: float) -> float:
    """Natural units of information as bits."""
    return nats / math.log(2)


def _ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1))


def _f(common: int, given: int, wanted: int) -> float:
    precision, recall = common / given, common / wanted
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
