"""Benchmark contamination: rows that hold a test question, word for word or nearly, leave training (decontamination).

A question of 13 words and more is looked for in all that a row says: one stretch of it has 60% of its word triples, or 40% of
them and 13 words in a row, and more than 80% of its words that say something. A shorter one is looked for in what the user
says: as a line or sentence of its own, give or take one mistyped word or filler; within other text where it has enough words
that tell what it is about; else where its options stand beside it. Triples that many questions share count for nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medrecipes.data.benchmarks import Excluded, Question
from medrecipes.data.cleaning import ASKING, plain
from medrecipes.data.light_edits import edits, one_edit, said, same, stands, without_one
from medrecipes.data.near_duplicates import WIDTH, Hashes, mixed
from medrecipes.data.reading import Rows
from medrecipes.data.records import Conversation
from medrecipes.data.sources import EXAMPLES
from medrecipes.data.token_pairs import Ints, starts

RUN = 13  # words; a shorter question is a short one
SHARE, RUN_SHARE = 0.6, 0.4  # of a long question's triples: alone, and beside a run of 13 words
FORMULA = 10  # questions; a triple or an option that more of them have says nothing
VIGNETTE = 25  # words; in a shorter question one of five may be another, in a longer one sentences may change places
WORDS = 0.8  # of a long question's words that say something; a text with no more of them asks of something else
LEAST = 4  # triples that are no formula; a long question with fewer is looked for word for word alone
# words of a short question that say what it is about, from which it is known at the end of a line, and in the middle of one
TELLING, TELLING_NEAR = 3, 4
CANDIDATE = 1 / 3  # of a short question's pairs of words; what shares fewer is not looked at closely
CHUNK = 2048  # rows at a time
BREAK = re.compile(r"(?<=[.!?:;])\s+")  # where a line may go on with a question


@dataclass(frozen=True)
class Texts:
    """A row in the form that texts are compared in: all that it says, what the user says, and the lines of that."""

    whole: bytes
    asked: bytes
    lines: Sequence[bytes]

    @classmethod
    def of(cls, record: Conversation) -> Texts:
        """The texts of a conversation; a line of several sentences counts as a whole, and by its sentences."""
        asked = [message.content for message in record.messages if message.role == "user"]
        lines = [line for text in asked for line in text.splitlines()]
        pieces = [piece for line in lines if len(parts := BREAK.split(line.strip())) > 1 for piece in parts]
        whole = b" ".join(plain(text) for m in record.messages for text in (m.content, m.reasoning) if text)
        return cls(whole, b" ".join(map(plain, asked)), [plain(text) for text in (*lines, *pieces)])


@dataclass(frozen=True)
class Found:
    """A question that a row holds, and how it was known: `exact` or `near`."""

    question: int
    how: str


class _Known(dict[bytes, int]):
    """The numbers of words; 0 for those that no question has."""

    def __missing__(self, word: bytes) -> int:
        return 0


@dataclass(frozen=True)
class _Table:
    """Which questions hold which hash, by hash."""

    hashes: Hashes
    owner: Ints

    @classmethod
    def of(cls, hashes: Hashes, owner: Ints, most: int | None = None) -> _Table:
        """Every hash of a question once; without those that more than `most` questions hold."""
        order = np.lexsort((owner, hashes))
        hashes, owner = hashes[order], owner[order]
        first = np.ones(len(hashes), bool)
        first[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
        hashes, owner = hashes[first], owner[first]
        if most is not None:
            counts = np.diff(starts(hashes), append=len(hashes))
            rare = np.repeat(counts <= most, counts)
            hashes, owner = hashes[rare], owner[rare]
        return cls(hashes, owner)

    def sizes(self, questions: int) -> Ints:
        """How many hashes each question has."""
        return np.bincount(self.owner, minlength=questions)

    def shared(self, row: Ints, hashes: Hashes, questions: int) -> tuple[Ints, Ints, Ints]:
        """Rows and questions that share hashes, and how many."""
        begin = np.searchsorted(self.hashes, hashes, "left")
        held = begin < len(self.hashes)
        held[held] = self.hashes[begin[held]] == hashes[held]
        row, hashes = row[held], hashes[held]
        order = np.lexsort((hashes, row))
        row, hashes = row[order], hashes[order]
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (hashes[1:] != hashes[:-1])
        row, hashes = row[first], hashes[first]
        begin, end = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        count = end - begin
        places = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)
        both, shared = np.unique(np.repeat(row, count) * questions + self.owner[places], return_counts=True)
        return both // questions, both % questions, shared


class Index:
    """The questions by their words, for finding which of them a row holds."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = questions
        self.stems = [plain(question.stem) for question in questions]
        self.words = [stem.split() for stem in self.stems]
        self.known = _Known()
        for words in self.words:
            for word in words:
                self.known.setdefault(word, len(self.known) + 1)
        self.said = [said(words) for words in self.words]

    @cached_property
    def _options(self) -> list[tuple[bytes, ...]]:
        """Each question's options, without those that many questions have, such as `none of the above`."""
        all_options = [tuple({plain(option) for option in question.options} - {b""}) for question in self.questions]
        often = Counter(option for options in all_options for option in options)
        return [tuple(option for option in options if often[option] <= FORMULA) for options in all_options]

    @cached_property
    def _lines(self) -> dict[bytes, list[int]]:
        """The short questions by their plain text, and by what is left of it without any one of its words."""
        found: dict[bytes, list[int]] = {}
        for number, words in enumerate(self.words):
            if 0 < len(words) < RUN:
                for key in without_one(words):
                    found.setdefault(key, []).append(number)
        return found

    @cached_property
    def _long(self) -> _Table:
        numbers = [number for number, words in enumerate(self.words) if len(words) >= RUN]
        hashes, owner = self._triples(numbers, [self.words[number] for number in numbers])
        return _Table.of(hashes, owner, FORMULA)

    @cached_property
    def _triple_counts(self) -> Ints:
        return self._long.sizes(len(self.questions))

    @cached_property
    def _short(self) -> _Table:
        numbers = [number for number, words in enumerate(self.words) if 0 < len(words) < RUN]
        return _Table.of(*self._pairs(numbers, [self.said[number] for number in numbers]))

    @cached_property
    def _pair_counts(self) -> Ints:
        return self._short.sizes(len(self.questions))

    def find(self, rows: Sequence[Texts]) -> Iterator[Found | None]:
        """What each row holds."""
        for start in range(0, len(rows), CHUNK):
            yield from self._found(rows[start : start + CHUNK])

    def _found(self, rows: Sequence[Texts]) -> list[Found | None]:
        found = [next(filter(None, map(self._line, row.lines)), None) for row in rows]
        hashes, row = self._triples(range(len(rows)), [row.whole.split() for row in rows])
        for at, question in self._likely(self._long, self._triple_counts, row, hashes, RUN_SHARE):
            if found[at] is None and (how := self._long_question(question, rows[at].whole)):
                found[at] = Found(question, how)
        spoken = [said(row.asked.split()) for row in rows]
        hashes, row = self._pairs(range(len(rows)), spoken)
        for at, question in self._likely(self._short, self._pair_counts, row, hashes, CANDIDATE):
            if found[at] is None and (how := self._short_question(question, rows[at], spoken[at])):
                found[at] = Found(question, how)
        return found

    def _line(self, line: bytes) -> Found | None:
        """The short question that a line is, give or take one word that is mistyped, or says nothing."""
        words = line.split()
        if not 0 < len(words) <= RUN:
            return None
        for key in without_one(words):
            for question in self._lines.get(key, ()):
                if self.words[question] == words:
                    return Found(question, "exact")
                if self.said[question] and one_edit(self.words[question], words):
                    return Found(question, "near")
        return None

    def _likely(self, table: _Table, sizes: Ints, row: Ints, hashes: Hashes, least: float) -> Iterator[tuple[int, int]]:
        """Rows with the questions of which they hold a share of at least so much; the largest first."""
        at, question, shared = table.shared(row, hashes, len(self.questions))
        share = shared / np.maximum(sizes[question], 1)
        likely = np.flatnonzero(share >= least)
        likely = likely[np.argsort(-share[likely], kind="stable")]
        yield from zip(at[likely].tolist(), question[likely].tolist(), strict=True)

    def _long_question(self, question: int, text: bytes) -> str | None:
        """Whether a text holds a long question."""
        if b" %s " % self.stems[question] in b" %s " % text:
            return "exact"
        share, stretch = self._stretch(question, text.split())
        if self._triple_counts[question] < LEAST or not (
            share >= SHARE or (share >= RUN_SHARE and self._run(question, stretch))
        ):
            return None
        words = self.words[question]
        if len(words) < VIGNETTE and edits(words, stretch) > len(words) // 5:
            return None
        wanted, there = set(self.said[question]), set(stretch)
        missing = sum(not any(same(word, other) for other in there) for word in wanted - there)
        return "near" if len(wanted) - missing > WORDS * len(wanted) else None

    def _stretch(self, question: int, words: Sequence[bytes]) -> tuple[float, Sequence[bytes]]:
        """The part of a text, half as long again as a question, that has most of its triples: what share, and the words."""
        own = self._triples_of(question)
        at = np.flatnonzero(np.isin(hashes := mixed(self._numbers([0], [words])[0]), own))
        if not len(at):
            return 0.0, ()
        begin = np.searchsorted(at, at - 3 * len(self.words[question]) // 2)
        last = int(np.argmax(np.arange(len(at)) - begin))
        part = at[begin[last] : last + 1]
        share = len(np.unique(hashes[part])) / len(own)
        return share, words[max(0, int(part[0]) - RUN) : int(part[-1]) + WIDTH + RUN]

    def _triples_of(self, question: int) -> Hashes:
        """The triples of a long question that are no formula."""
        order, begin = self._by_question
        return self._long.hashes[order[begin[question] : begin[question + 1]]]

    @cached_property
    def _by_question(self) -> tuple[Ints, Ints]:
        """The table of triples in the order of their questions, and where each question's begin."""
        return np.argsort(self._long.owner, kind="stable"), np.concatenate(([0], np.cumsum(self._triple_counts)))

    def _run(self, question: int, stretch: Sequence[bytes]) -> bool:
        """Whether 13 words of a question stand in a stretch of text in a row."""
        words, text = self.words[question], b" %s " % b" ".join(stretch)
        return any(b" %s " % b" ".join(words[at : at + RUN]) in text for at in range(len(words) - RUN + 1))

    def _short_question(self, question: int, row: Texts, spoken: Sequence[bytes]) -> str | None:
        """Whether what the user says holds a short question."""
        words, wanted, options = self.words[question], self.said[question], self._options[question]
        telling = sum(len(word) >= 3 and word.decode() not in ASKING for word in wanted)
        stem, padded = b" %s " % self.stems[question], b" %s " % row.asked
        named = sum(b" %s " % option in padded for option in options)
        beside = named >= 2 and 2 * named >= len(options)
        # what goes on behind it, as `syndrome, type 2`, may be another question
        ends = telling >= TELLING and any((b" %s " % line).endswith(stem) for line in row.lines)
        if stem in padded and (beside or ends or telling >= TELLING_NEAR):
            return "exact"
        if (beside or telling >= TELLING_NEAR) and stands(wanted, spoken, len(wanted) // 4):
            return "near" if beside or edits(words, row.asked.split()) <= max(1, len(words) // 6) else None
        return "near" if beside and 2 * len(set(wanted) & set(spoken)) >= len(set(wanted)) else None

    def _triples(self, of: Sequence[int], texts: Sequence[Sequence[bytes]]) -> tuple[Hashes, Ints]:
        """The hashes of all word triples, and whose they are; none with a word that no question has."""
        words, owner = self._numbers(of, texts)
        last = max(0, len(words) - WIDTH + 1)
        whole = owner[:last] == owner[WIDTH - 1 :]
        for at in range(WIDTH):
            whole &= words[at : at + last] != 0
        return mixed(words)[whole] if last else words[:0], owner[:last][whole]

    def _pairs(self, of: Sequence[int], texts: Sequence[Sequence[bytes]]) -> tuple[Hashes, Ints]:
        """The hashes of all pairs of words that are neighbours, or have one word between them, and whose they are."""
        words, owner = self._numbers(of, texts)
        hashes, owners = [words[:0]], [owner[:0]]
        for apart in (1, 2):
            one, other = words[:-apart], words[apart:]
            whole = (owner[:-apart] == owner[apart:]) & (one != 0) & (other != 0)
            threes = np.column_stack((one, other, np.zeros_like(one)))[whole].ravel()
            if len(threes):
                hashes.append(mixed(threes)[::WIDTH])
                owners.append(owner[: len(one)][whole])
        return np.concatenate(hashes), np.concatenate(owners)

    def _numbers(self, of: Sequence[int], texts: Sequence[Sequence[bytes]]) -> tuple[Hashes, Ints]:
        """The words of all texts as numbers, end to end, and whose each is."""
        words = np.fromiter((self.known[word] for text in texts for word in text), np.uint64)
        return words, np.repeat(np.array(of, np.int64), [len(text) for text in texts])


def exclude(rows: Rows, kept_out: Sequence[Excluded]) -> dict[str, Any]:
    """Drop the rows that hold a question of these, counted; returned: what data.json says of it. Official test rows stay."""
    questions = [(one.name, question) for one in kept_out for question in one.questions()]
    index = Index([question for _, question in questions])
    report: dict[str, Any] = {
        one.name: {
            "questions": 0,
            "content": one.content,
            "sha": one.sha,
            "rows": 0,
            "exact": 0,
            "near": 0,
            "examples": [],
        }
        for one in kept_out
    }
    for name, count in Counter(name for name, _ in questions).items():
        report[name]["questions"] = count
    left = [row for row in rows.alive() if not rows.official(row)]
    for start in range(0, len(left), CHUNK):
        part = left[start : start + CHUNK]
        for row, found in zip(part, index.find([Texts.of(rows.records[row]) for row in part]), strict=True):
            if found is None:
                continue
            name, question = questions[found.question]
            rows.drop(row, f"holds a test question of {name}")
            told = report[name]
            told["rows"] += 1
            told[found.how] += 1
            if len(told["examples"]) < EXAMPLES:
                told["examples"].append({"row": rows.records[row].id, "question": question.id, "how": found.how})
    return report
