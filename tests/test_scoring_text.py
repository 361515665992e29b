"""ROUGE as rouge-score has it, repetition and exactness in literals."""

from __future__ import annotations

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from medrecipes.scoring.text_overlap import bits, common_subsequence, repeated_items, repeated_ngrams, rouge, same_text
from tests.conftest import ROOT

WORDS = ["the", "patient's", "Patients", "running", "runs", "5", "mg", "β-blocker", "(twice)", "daily,", "no", "NO", "not", "acute.", "naïve\n\nx", "1,000", "hyper-tension"]  # fmt: skip


def test_rouge_is_rouge_scores_own_to_the_last_bit() -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randrange(40))) for _ in range(400)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")
    references, answers = texts[:200] + readme, texts[200:] + readme[1:] + [""]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    theirs = [scorer.score(reference, answer) for reference, answer in zip(references, answers, strict=True)]
    ours = rouge(references, answers)
    for name in ("rouge1", "rouge2", "rougeL"):
        assert ours[name] == [score[name].fmeasure for score in theirs]


ROUGE = [
    ("", "", (0, 0, 0)),
    ("asthma", "", (0, 0, 0)),
    ("a b c d", "a b c d", (1, 1, 1)),
    ("a b c d", "d c b a", (1, 0, 0.25)),
    ("a b c d", "a c", (2 / 3, 0, 2 / 3)),
    ("patients running", "patient runs", (1, 1, 1)),
]


@pytest.mark.parametrize(("reference", "answer", "wanted"), ROUGE)
def test_rouge_by_hand(reference: str, answer: str, wanted: tuple[float, ...]) -> None:
    scores = rouge([reference], [answer])
    assert [scores[name][0] for name in ("rouge1", "rouge2", "rougeL")] == pytest.approx(wanted)


SUBSEQUENCES = [("", "abc", 0), ("abc", "abc", 3), ("abcbdab", "bdcaba", 4), ("aaaa", "aa", 2), ("abc", "xyz", 0)]


@pytest.mark.parametrize(("a", "b", "length"), SUBSEQUENCES)
def test_common_subsequence(a: str, b: str, length: int) -> None:
    assert common_subsequence(list(a), list(b)) == length
    assert common_subsequence(list(b), list(a)) == length


REPEATS = [
    ("", (0, 0)),
    ("one two three", (0, 0)),
    ("one two three four", (0, 1)),
    ("a a a a a a", (2, 3)),
    ("one two three four one two three four", (1, 5)),
    ("One two three four. ONE two three four.", (1, 5)),
]


@pytest.mark.parametrize(("answer", "wanted"), REPEATS)
def test_repeated_runs_of_words(answer: str, wanted: tuple[int, int]) -> None:
    assert repeated_ngrams(answer) == wanted


ITEMS = [
    ("- rest\n- ice\n- Rest", (1, 3)),
    ("1. rest\n2. rest\n3. rest", (2, 3)),
    ("no list at all", (0, 0)),
    ("Do this:\n* rest\n\n* ice", (0, 2)),
]


@pytest.mark.parametrize(("answer", "wanted"), ITEMS)
def test_repeated_list_items(answer: str, wanted: tuple[int, int]) -> None:
    assert repeated_items(answer) == wanted


def test_exactness_and_bits() -> None:
    assert same_text("Rest  and\nice.", "rest and ice.")
    assert not same_text("Rest and ice.", "Rest and ice")
    assert bits(0.6931471805599453) == 1.0
