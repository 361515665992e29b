"""What a rule is: a pattern with the words that it is looked for near, and what makes a match count."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

Check = Callable[[re.Match[str]], bool]
Place = tuple[str, int, int]  # kind, start, end
TOKEN = re.compile(r"[^\W_]+")
# one character for one, so that places stay: wide letters and digits, odd blanks and dashes, digits of other scripts
SAME: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0xA0, 0x2002, 0x2003, 0x2007, 0x2009, 0x202F, 0x3000), " "),
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2212, 0xFE63), "-"),
    **{zero + n: str(n) for zero in (0x0660, 0x06F0, 0x0966, 0x09E6) for n in range(10)},
}
ZEROS = dict.fromkeys(map(ord, "123456789"), "0")  # so that one word, 000, stands for any digits side by side


@dataclass(frozen=True, slots=True)
class Rule:
    """One shape of personal data; it is sought only `left` before and `right` behind one of its `words` or `signs`.

    Words stand alone, in lower case and with 0 for every digit; signs stand anywhere.
    """

    kind: str
    words: str
    pattern: re.Pattern[str]
    counts: Check | None = None
    signs: Collection[str] = ()
    left: int = 72
    right: int = 140


@dataclass(frozen=True)
class Seen:
    """A text as rules look at it: `low` has small letters and 0 for digits, and as many characters as the text."""

    text: str
    low: str
    tokens: frozenset[str]
    odd: bool  # whether a letter has become two

    @classmethod
    def of(cls, text: str) -> Seen:
        """Look at a text."""
        plain = text if text.isascii() else text.translate(SAME)
        low = plain.lower().translate(ZEROS)
        return cls(plain, low, frozenset(TOKEN.findall(low)), len(low) != len(plain))

    def words(self, word: str) -> list[int]:
        """Where a word stands alone."""
        size, low = len(word), f"{self.low} "
        return [at for at in self.signs(word) if not (low[at + size].isalnum() or (at and low[at - 1].isalnum()))]

    def signs(self, sign: str) -> list[int]:
        """Where a sign stands."""
        found, at = [], self.low.find(sign)
        while at >= 0:
            found.append(at)
            at = self.low.find(sign, at + len(sign))
        return found


@dataclass(frozen=True)
class Rules:
    """Rules with an index of their words, so that most texts cost each of them nothing."""

    rules: tuple[Rule, ...]
    by_word: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    signs: dict[bool, list[tuple[str, int]]] = field(default_factory=lambda: {True: [], False: []})

    def __post_init__(self) -> None:
        for number, rule in enumerate(self.rules):
            for word in rule.words.split():
                self.by_word[word].append(number)
            for sign in rule.signs:
                self.signs[sign.isascii()].append((sign, number))

    def find(self, seen: Seen) -> Iterator[tuple[Rule, re.Match[str]]]:
        """Every match that counts, rule by rule."""
        near: dict[int, list[int]] = defaultdict(list)
        for token in seen.tokens & self.by_word.keys():
            at = seen.words(token)
            for number in self.by_word[token]:
                near[number] += at
        for ascii, signs in self.signs.items():
            if ascii or not seen.text.isascii():
                for sign, number in signs:
                    if sign in seen.low:
                        near[number] += seen.signs(sign)
        for number in sorted(near):
            rule = self.rules[number]
            for match in _matches(rule, near[number], seen):
                if rule.counts is None or rule.counts(match):
                    yield rule, match

    def places(self, seen: Seen) -> Iterator[Place]:
        """The same as kinds and places."""
        for rule, match in self.find(seen):
            yield rule.kind, match.start(), match.end()


def _matches(rule: Rule, at: list[int], seen: Seen) -> Iterator[re.Match[str]]:
    length = len(seen.text)
    for start, end in ((0, length),) if seen.odd else _stretches(rule, at, length):
        for match in rule.pattern.finditer(seen.text, start, end):
            if match.end() >= end - 1 and end < length:  # where the look ends, a pattern may end too early
                whole = rule.pattern.match(seen.text, match.start())
                if whole is not None:
                    yield whole
            else:
                yield match


def _stretches(rule: Rule, at: list[int], length: int) -> Iterator[tuple[int, int]]:
    """The stretches of a text around these places; where two touch they are one."""
    start = end = -1
    for place in sorted(at):
        if place - rule.left > end:
            if end >= 0:
                yield start, end
            start = max(0, place - rule.left)
        end = place + rule.right
    yield start, min(end, length)


def around(match: re.Match[str], before: int = 48, after: int = 40) -> tuple[str, str]:
    """What stands before and behind a match in its sentence, in lower case."""
    left = match.string[max(0, match.start() - before) : match.start()].lower()
    right = match.string[match.end() : match.end() + after].lower()
    return re.split(r"[!?。；\n]|;|(?<=\w{4})\. ", left)[-1], re.split(r"[!?。；;\n]|\. ", right)[0]


def either(words: str) -> str:
    """Words as alternatives, the longest first; `_` is a blank."""
    return "|".join(sorted((re.escape(word.replace("_", " ")) for word in words.split()), key=len, reverse=True))


def bag(words: str) -> frozenset[str]:
    """Words as a set."""
    return frozenset(words.split())
