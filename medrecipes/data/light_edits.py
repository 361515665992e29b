"""Light edits of a question: mistyped words, articles more or less, a word gone; what is another question for all its likeness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

NEVER = 1000  # what it costs to change a number
# what a light edit adds or leaves out without asking something else
FILLERS = frozenset(
    b"a an the of in is are was were be been to for and or on at by with from as that this these those it its which what who "
    b"whom whose when where how do does did can could will would should may might has have had following there their his her "
    b"also clearly just please really very".split()
)  # fmt: skip


def without_one(words: Sequence[bytes]) -> Iterator[bytes]:
    """A line, and what is left of it without each of its words."""
    yield b" ".join(words)
    for at in range(len(words)):
        yield b" ".join((*words[:at], *words[at + 1 :]))


def one_edit(one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """Whether two lines that share all but a word of each differ by a mistyped word, or by one that says nothing."""
    if len(one) == len(other):
        apart = [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]
        return len(apart) == 1 and same(*apart[0])
    more, fewer = (one, other) if len(one) > len(other) else (other, one)
    at = next((at for at, (a, b) in enumerate(zip(more, fewer, strict=False)) if a != b), len(fewer))
    return more[at] in FILLERS and list(more[at + 1 :]) == list(fewer[at:])


def said(words: Sequence[bytes]) -> list[bytes]:
    """The words that say something: without articles, prepositions and the like."""
    return [word for word in words if word not in FILLERS]


def stands(wanted: Sequence[bytes], spoken: Sequence[bytes], most: int) -> bool:
    """Whether words stand among others in their order, give or take a letter, with at most so many words in between."""
    there = set(spoken)
    if sum(word not in there for word in wanted) > max(1, len(wanted) // 6):
        return False
    for start in range(len(spoken) - len(wanted) + 1):
        at, left = start, most
        if not same(wanted[0], spoken[at]):
            continue
        for word in wanted[1:]:
            at += 1
            while at < len(spoken) and left and not same(word, spoken[at]):
                at, left = at + 1, left - 1
            if at >= len(spoken) or not same(word, spoken[at]):
                break
        else:
            return True
    return False


def edits(wanted: Sequence[bytes], spoken: Sequence[bytes]) -> int:
    """How many words have to be changed, added or left out for some words to stand among others; a mistyped one costs nothing.

    Another number or letter is another question, such as that of another type of a disease.
    """
    costs = [0] * (len(spoken) + 1)  # of what is wanted so far, ending at each of the spoken words
    for word in wanted:
        out = NEVER if _is_number(word) else 1
        before, costs[0] = costs[0], costs[0] + out
        for at, other in enumerate(spoken, 1):
            change = before + (0 if same(word, other) else out)
            before, costs[at] = costs[at], min(costs[at] + out, costs[at - 1] + 1, change)
    return min(costs)


def _is_number(word: bytes) -> bool:
    """Whether a word is a number or a letter that tells one thing from another, as `type 2` and `hepatitis B` do."""
    return word.isdigit() or (len(word) == 1 and word not in FILLERS)


def same(one: bytes, other: bytes) -> bool:
    """Whether two words are equal, or long ones that a single letter or two swapped ones tell apart."""
    if one == other:
        return True
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1 or not (one.isalpha() and other.isalpha()):
        return False
    front = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    one, other = one[front:], other[front:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return max(len(one), len(other)) <= 1 or (len(one) == len(other) == 2 and one == other[::-1])
