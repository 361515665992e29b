"""Span scores: equal to sets counted by hand, to seqeval and to nervaluate on thousands of random sequences."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, read_spans
from medrecipes.scoring.bootstrap import Figure
from medrecipes.scoring.predictions import Prediction, as_taggings, read_predictions, read_spans_text, spans_text
from medrecipes.scoring.span_report import span_report
from medrecipes.scoring.spans import (
    MISSED,
    SPURIOUS,
    Tagging,
    confusion,
    frequent_errors,
    hits,
    look_up,
    majority,
    micro,
    span_figures,
    token_accuracy,
)
from tests.conftest import Cli

TYPES = ("Chemical", "Disease", "Gene")
TAGS = ("O", *(f"{letter}-{type}" for type in TYPES for letter in "BI"))


def sequences(count: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """Random gold tags, and tags that are gold with a few of them changed: malformed ones among both."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        gold = draw.choices(TAGS, [6, 1, 2, 1, 2, 1, 2], k=draw.randrange(1, 15))
        noise = draw.random()
        found.append((gold, [draw.choice(TAGS) if draw.random() < noise else tag for tag in gold]))
    return found


def tagging(gold: Sequence[str], found: Sequence[str], id: str = "a", words: str = "") -> Tagging:
    tokens = tuple(words.split()) or tuple(f"w{i}" for i in range(len(gold)))
    return Tagging(id, id, tokens, tuple(read_spans(gold)), tuple(read_spans(found)))


def values(figures: dict[str, dict[str, Figure]]) -> dict[str, list[float]]:
    return {part: [those[name].value() for name in ("precision", "recall", "f1")] for part, those in figures.items()}


def by_sets(pairs: list[tuple[list[str], list[str]]], types: Sequence[str]) -> list[float]:
    """Precision, recall and F1 by conlleval's rule, written anew: spans as sets of (row, type, words)."""

    def spans(tags: list[str], row: int) -> set[tuple[int, str, tuple[int, ...]]]:
        runs: list[tuple[str, list[int]]] = []
        before = "O"
        for i, tag in enumerate(tags):
            if tag != "O":
                if tag[0] == "B" or before == "O" or before[2:] != tag[2:]:
                    runs.append((tag[2:], []))
                runs[-1][1].append(i)
            before = tag
        return {(row, type, tuple(run)) for type, run in runs if type in types}

    gold: set[Any] = set().union(*(spans(g, i) for i, (g, _) in enumerate(pairs)))
    found: set[Any] = set().union(*(spans(f, i) for i, (_, f) in enumerate(pairs)))
    right = len(gold & found)
    p, r = right / len(found) if found else 0.0, right / len(gold) if gold else 0.0
    return [p, r, 2 * p * r / (p + r) if right else 0.0]


@pytest.mark.parametrize("seed", range(20))
def test_strict_scores_are_those_of_sets(seed: int) -> None:
    pairs = sequences(250, seed)
    rows = [tagging(*pair, id=str(i)) for i, pair in enumerate(pairs)]
    scores = values(span_figures(rows, "strict", TYPES))
    for type in TYPES:
        assert scores[type] == pytest.approx(by_sets(pairs, [type]))
    assert scores["micro"] == pytest.approx(by_sets(pairs, TYPES))
    assert scores["macro"] == pytest.approx([sum(scores[t][i] for t in TYPES) / 3 for i in range(3)])
    assert scores["micro"] == [micro(rows)[name].value() for name in ("precision", "recall", "f1")]


@pytest.mark.parametrize("seed", range(20))
def test_strict_scores_are_those_of_seqeval(seed: int) -> None:
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed; pip install seqeval")
    pairs = sequences(250, seed)
    theirs = metrics.classification_report(*map(list, zip(*pairs, strict=True)), output_dict=True, zero_division=0)
    scores = values(span_figures([tagging(*pair, id=str(i)) for i, pair in enumerate(pairs)], "strict", TYPES))
    for part, name in [*((t, t) for t in TYPES), ("micro", "micro avg"), ("macro", "macro avg")]:
        assert scores[part] == pytest.approx([theirs[name][k] for k in ("precision", "recall", "f1-score")])


@pytest.mark.parametrize("seed", range(8))
def test_strict_scores_are_those_of_nervaluate(seed: int) -> None:
    nervaluate = pytest.importorskip("nervaluate", reason="nervaluate is not installed; pip install nervaluate")
    # it reads a type that changes within a span in its own way: both sides go through IOB2 first
    rows = [tagging(*pair, id=str(i)) for i, pair in enumerate(sequences(250, seed))]

    def spans(those: Sequence[Span]) -> list[dict[str, Any]]:
        return [{"label": s.type, "start": s.start, "end": s.end - 1} for s in those]

    evaluator = nervaluate.Evaluator([spans(r.gold) for r in rows], [spans(r.found) for r in rows], tags=list(TYPES))
    found = evaluator.evaluate()
    scores = values(span_figures(rows, "strict", TYPES))
    theirs = found["overall"]["strict"]
    assert scores["micro"] == pytest.approx([theirs.precision, theirs.recall, theirs.f1])


COUNTED = [
    # gold, found, and right / found / gold of Chemical: strict, relaxed, type only
    ("BIO", "BIO", (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    ("BIO", "BOO", (0, 1, 1), (1, 1, 1), (1, 1, 1)),
    ("BIO", "OOB", (0, 1, 1), (0, 1, 1), (1, 1, 1)),
    ("BII", "BBB", (0, 3, 1), (1, 3, 1), (1, 3, 1)),  # one gold span is found once
    ("BBB", "BII", (0, 1, 3), (1, 1, 3), (1, 1, 3)),
    ("BIB", "OBI", (0, 1, 2), (1, 1, 2), (1, 1, 2)),
    ("OOO", "BOO", (0, 1, 0), (0, 1, 0), (0, 1, 0)),
    ("OOO", "OOO", (0, 0, 0), (0, 0, 0), (0, 0, 0)),
]


@pytest.mark.parametrize(("gold", "found", "strict", "relaxed", "type_only"), COUNTED)
def test_what_counts_as_right(gold: str, found: str, strict: Any, relaxed: Any, type_only: Any) -> None:
    names = {"O": "O", "B": "B-Chemical", "I": "I-Chemical"}
    row = tagging([names[t] for t in gold], [names[t] for t in found])
    assert [hits(row, "Chemical", way) for way in ("strict", "relaxed", "type_only")] == [strict, relaxed, type_only]


def test_another_type_in_the_same_place_is_wrong_in_every_way() -> None:
    row = tagging(["B-Chemical"], ["B-Disease"])
    assert [hits(row, "Chemical", way) for way in ("strict", "relaxed", "type_only")] == [(0, 0, 1)] * 3


def test_relaxed_is_never_below_strict() -> None:
    for gold, found in sequences(2000, 5):
        row = tagging(gold, found)
        for type in TYPES:
            strict, relaxed = (hits(row, type, way)[0] for way in ("strict", "relaxed"))
            assert strict <= relaxed <= hits(row, type, "type_only")[0]


def test_nothing_of_nothing_is_no_figure_and_nothing_of_something_is_zero() -> None:
    silent = span_report([tagging(["O"], ["O"])], 10, 1)
    assert silent["strict"]["micro"]["f1"] == {"value": None, "low": None, "high": None}
    missed = span_report([tagging(["B-Gene"], ["O"])], 10, 1)
    assert [missed["strict"]["micro"][name]["value"] for name in ("precision", "recall", "f1")] == [0, 0, 0]


def test_token_accuracy_with_and_without_o() -> None:
    accuracy = token_accuracy([(["O"] * 7 + ["B-X", "I-X", "B-X"], ["O"] * 6 + ["B-X", "B-X", "O", "O"])])
    assert accuracy == {"with_O": 0.7, "without_O": pytest.approx(1 / 3)}
    assert token_accuracy([(["O"], ["O"])]) == {"with_O": 1.0, "without_O": None}


ROWS = [
    tagging(["B-Disease", "I-Disease", "O", "B-Chemical"], ["O", "B-Disease", "O", "B-Chemical"], "a", "renal failure after gentamicin"),
    tagging(["O", "B-Disease", "I-Disease", "O"], ["O", "O", "B-Disease", "O"], "b", "Another Renal Failure ."),
    tagging(["B-Chemical", "O", "O", "O"], ["B-Disease", "O", "B-Chemical", "O"], "c", "Lithium was not given"),
    tagging(["O"] * 9 + ["B-Chemical"], ["O"] * 10, "d", "one two three four five six seven eight nine aspirin"),
]  # fmt: skip


def test_the_confusion_table_and_the_errors_with_their_context() -> None:
    assert confusion(ROWS) == {
        SPURIOUS: {"Chemical": 1},
        "Chemical": {MISSED: 1, "Chemical": 1, "Disease": 1},
        "Disease": {"Disease, other borders": 2},
    }
    errors = frequent_errors(ROWS)
    assert [(e.count, e.gold, e.found, e.context) for e in errors] == [
        (2, "Disease: renal failure", "Disease, other borders: failure", "[renal {failure}] after gentamicin"),
        (1, "(nothing there): -", "Chemical: not", "Lithium was {not} given"),
        (1, "Chemical: aspirin", "(missed): -", "… four five six seven eight nine [aspirin]"),
        (1, "Chemical: lithium", "Disease: lithium", "[{Lithium}] was not given"),
    ]
    assert len(frequent_errors(ROWS, most=2)) == 2


def test_the_dictionary_is_the_most_frequent_tag_of_each_word() -> None:
    dictionary = majority([
        (("Renal", "failure", "failure"), ("B-X", "I-X", "O")),
        (("renal", "failure"), ("O", "I-X")),
        (("renal", "pain"), ("B-X", "B-X")),
    ])  # fmt: skip
    assert dictionary == {"renal": "B-X", "failure": "I-X", "pain": "B-X"}
    assert look_up(dictionary, ("RENAL", "failure", "or", "failure", "pain")) == (
        Span(0, 2, "X"), Span(3, 4, "X"), Span(4, 5, "X"),
    )  # fmt: skip


def test_spans_stand_in_a_predictions_file_as_lines() -> None:
    tokens, spans = ("renal", "failure", "after", "lithium"), (Span(3, 4, "Chemical"), Span(0, 2, "Disease"))
    text = spans_text(tokens, spans)
    assert text == "Disease\t0\t1\trenal failure\nChemical\t3\t3\tlithium"
    assert set(read_spans_text(text)) == set(spans)
    assert read_spans_text("") == ()
    (row,) = as_taggings([Prediction("1", "g", "spans", " ".join(tokens), text, "")])
    assert (row.tokens, set(row.gold), row.found) == (tokens, set(spans), ())


BROKEN = [
    ("Disease 0 1", "gold is no list of spans; write type, first and last word, parted by tabs"),
    ("Disease\t0\t9\tx", "gold has a span of words 0 to 9, but there are 2; count words from 0"),
    ("Disease\t1\t0\tx", "gold has a span of words 1 to 0, but there are 2; count words from 0"),
]


@pytest.mark.parametrize(("gold", "message"), BROKEN)
def test_broken_spans_are_one_line(gold: str, message: str, tmp_path: Any) -> None:
    file = tmp_path / "p.jsonl"
    line = {"id": "1", "group": "g", "task": "spans", "prompt": "renal failure", "gold": gold, "prediction": ""}
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError) as error:
        read_predictions(file)
    assert str(error.value) == f"{file}:1: {message}"


def test_score_reads_them_too(tmp_path: Any, cli: Cli) -> None:
    file = tmp_path / "p.jsonl"
    lines = [
        {"id": r.id, "group": r.group, "task": "spans", "prompt": " ".join(r.tokens), "gold": spans_text(r.tokens, r.gold),
         "prediction": spans_text(r.tokens, r.found)}
        for r in ROWS
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = cli("score", file, "--json")
    assert done.returncode == 0, done.stderr
    spans = json.loads(done.stdout)["spans"]
    assert spans["strict"]["micro"]["f1"]["value"] == pytest.approx(2 * 1 / (5 + 5))
    shown = cli("score", file).stdout
    assert "4 tagged rows, strict: type and both borders right" in shown
    assert "micro average  5           0.200" in shown
