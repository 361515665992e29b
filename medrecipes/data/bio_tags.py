"""Tags and spans: IOB1, IOB2 and BIOES read by one stated rule, and written as IOB2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medrecipes.core.errors import DataError

OUTSIDE = "O"
BEGINS, ENDS, ALONE = "B", "EL", "SU"  # the letters of BIOES and of BILOU, which is the same
LETTERS = "BI" + ENDS + ALONE
RULE = (
    "a span begins where a tag cannot go on from the one before: at B and S, after O, after another type, after E and S"
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """An entity: its first word, the word after its last, and its type."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """The letter and the type of a tag, e.g. `B-Disease` is `("B", "Disease")`; raises ValueError for what is no tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, dash, type = tag.partition("-")
    if len(letter) != 1 or letter not in LETTERS or not dash or not type:
        raise ValueError(tag)
    return letter, type


def read_spans(tags: Iterable[str]) -> list[Span]:
    """The spans of a tagged text in any of the schemes, by RULE."""
    spans: list[Span] = []
    start, open_type, at = 0, "", 0
    for at, tag in enumerate([*tags, OUTSIDE]):
        letter, type = split_tag(tag)
        goes_on = type == open_type and letter not in BEGINS + ALONE
        if open_type and not goes_on:
            spans.append(Span(start, at, open_type))
            open_type = ""
        if type and not goes_on:
            start, open_type = at, type
        if open_type and letter in ENDS + ALONE:
            spans.append(Span(start, at + 1, open_type))
            open_type = ""
    return spans


def write_tags(length: int, spans: Iterable[Span]) -> tuple[str, ...]:
    """The IOB2 tags of a text of so many words; spans must not overlap."""
    tags = [OUTSIDE] * length
    for span in spans:
        if tags[span.start : span.end] != [OUTSIDE] * (span.end - span.start):
            raise DataError(f"{span}: overlaps another span; leave one of them out")
        tags[span.start : span.end] = [f"B-{span.type}"] + [f"I-{span.type}"] * (span.end - span.start - 1)
    return tuple(tags)


def scheme(rows: Iterable[Sequence[str]]) -> str:
    """Which scheme a file is written in, from the tags of all its rows: BIOES, IOB1, else IOB2."""
    begun = apart = False
    for tags in rows:
        before = ("", "")
        for tag in tags:
            letter, type = split_tag(tag)
            if letter in ENDS + ALONE:
                return "BIOES"
            begun |= letter == "B" and before[1] != type
            apart |= letter == "I" and before[1] != type
            before = letter, type
    # IOB1 writes B only between two spans of one type
    return "IOB1" if apart and not begun else "IOB2"


def malformed(tags: Sequence[str], scheme: str) -> Counter[str]:
    """What RULE had to mend, counted; IOB1 has nothing that could be wrong."""
    found: Counter[str] = Counter()
    if scheme == "IOB1":
        return found
    open_type = ""
    for tag in [*tags, OUTSIDE]:
        letter, type = split_tag(tag)
        inside = letter == "I" or letter in ENDS
        if inside and type != open_type:
            found["a tag went on from nothing: a span begins there"] += 1
        if scheme == "BIOES" and open_type and not (inside and type == open_type):
            found["a span had no end tag: it ends where the next tag cannot go on"] += 1
        # after an end tag nothing is open, though another inside tag would be as wrong there
        open_type = "" if letter in ENDS + ALONE else type
    return found
