"""Texts cut into sentences and words, each with its exact place in the text."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import itemgetter

# a run of letters and digits is a word, any other sign is one by itself: no name begins or ends inside such a run
WORD = re.compile(r"\w+|[^\w\s]")
END = re.compile(r"[.!?][\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])|\n+")
# what a point belongs to without ending a sentence
_SHORT = "al approx ca cf dr e.g eg etc fig figs i.e ie inc jr mr mrs ms no nos prof ref refs resp sp spp st viz vs"
ABBREVIATIONS = frozenset(_SHORT.split())
LONGEST_SHORT = 40  # as far as is looked back for one, with what brackets and quotes stand before it

Place = tuple[int, int]


def words(text: str, start: int = 0, end: int | None = None) -> list[Place]:
    """Where each word of a text begins and ends, e.g. `5-HT` holds three words."""
    return [match.span() for match in WORD.finditer(text, start, len(text) if end is None else end)]


def sentences(text: str) -> list[Place]:
    """Where each sentence of a text begins and ends; blanks between them belong to none."""
    cuts = [0, *(match.end() for match in END.finditer(text) if _ends(text, match)), len(text)]
    found = []
    for start, end in pairwise(cuts):
        part = text[start:end]
        if part.strip():
            found.append((start + len(part) - len(part.lstrip()), start + len(part.rstrip())))
    return found


def _ends(text: str, match: re.Match[str]) -> bool:
    """Whether a point ends a sentence rather than an abbreviation or an initial."""
    if match[0][0] != ".":
        return True
    last = text[max(0, match.start() - LONGEST_SHORT) : match.start()].rsplit(None, 1)[-1:] or [""]
    word = last[0].lstrip("(['\"").lower()
    return word not in ABBREVIATIONS and not (len(word) == 1 and word.isalpha())


def covering(places: Sequence[Place], start: int, end: int) -> tuple[int, int, bool] | None:
    """The words that a stretch of text touches, as first and after-last, and whether their borders are its own."""
    first, last = bisect_right(places, start, key=itemgetter(1)), bisect_left(places, end, key=itemgetter(0))
    if first >= last:
        return None
    return first, last, (places[first][0], places[last - 1][1]) == (start, end)
