"""Words to pieces and back: no entity lost or doubled, in one window or many, with the makers' own tokenizers."""

from __future__ import annotations

import math
import random
from functools import lru_cache
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, read_spans, write_tags
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Files, Ledger
from medrecipes.data.sources.bio_ner import SOURCE
from medrecipes.rendering.tokenizer import Tokenizer
from medrecipes.rendering.word_windows import MASKED, cut, decode, frequencies, gather, middle, pieces, prove, windows
from tests import families
from tests.conftest import ROOT

LABELS = ("O", "B-X", "I-X")
# a SentencePiece tokenizer with a dummy blank, one without, two byte-level ones, and Gemma's kind
KINDS = ("mistral-v1", "mistral-v3", "mistral-v3-tekken", "llama3", "gemma")


@lru_cache
def tokenizer(name: str) -> Tokenizer:
    return Tokenizer(families.folder(name))


def row(words: str, tags: str) -> Tagged:
    names = {"O": "O", "B": "B-X", "I": "I-X"}
    return Tagged("a", "a", tuple(words.split()), tuple(names[t] for t in tags))


def test_the_first_piece_bears_the_tag_and_the_others_none() -> None:
    made = tokenizer("mistral-v1")
    (window,) = windows(made, [row("Take hydroxychloroquine sulfate daily", "OBIO")], LABELS, 64, 8)
    shown = [(made.token(id), label) for id, label in zip(window.input_ids, window.labels, strict=True)]
    assert shown == [
        ("<s>", -100), ("▁Take", 0), ("▁hydro", 1), ("xy", -100), ("ch", -100), ("lor", -100), ("o", -100),
        ("qu", -100), ("ine", -100), ("▁sul", 2), ("f", -100), ("ate", -100), ("▁daily", 0),
    ]  # fmt: skip
    assert (window.words, window.firsts) == ((0, 4), (1, 2, 9, 12))


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_and_odd_words_are_text(kind: str) -> None:
    made = tokenizer(kind)
    words = ("</s>", "<s>", "[INST]", "<|eot_id|>", "<eos>", '"', "None", "β-blocker", "🩺", "x\u00a0y", "\u200b")
    for word, (ids,) in zip(words, pieces(made, [(word,) for word in words]), strict=True):
        assert ids
        assert not set(ids) & set(made.control.values())
        assert made.decode([ids])[0].strip(" ") == word


def test_stretches_of_words_overlap_and_hand_over_in_the_middle() -> None:
    assert list(cut([1] * 10, 10, 4)) == [(0, 10)]
    assert list(cut([1] * 10, 6, 2)) == [(0, 6), (4, 10)]
    assert list(cut([1] * 10, 5, 2)) == [(0, 5), (3, 8), (6, 10)]
    assert list(cut([3, 3, 3], 6, 2)) == [(0, 2), (2, 3)]  # what is shared is whole words
    assert middle((0, 6), (4, 10)) == 5
    with pytest.raises(DataError, match=r"^a word of 9 pieces does not fit into 6 tokens; raise data"):
        list(cut([1, 9], 6, 2))


@pytest.mark.parametrize("room", [6, 9, 17, 40])
@pytest.mark.parametrize("kind", ["mistral-v1", "llama3"])
def test_every_word_is_spoken_for_by_exactly_one_window(kind: str, room: int) -> None:
    draw = random.Random(room)
    made = tokenizer(kind)
    vocabulary = ["renal", "of", "a", "5", "mg", "failure", "cis", "(", "toxic"]
    rows = [row(" ".join(draw.choices(vocabulary, k=k)), "O" * k) for k in (1, 2, 7, 30, 111)]
    found = windows(made, rows, LABELS, room, (room - 1) // 3)
    assert max(len(window.input_ids) for window in found) <= room
    said = [[[float(word)] for word in range(*window.words)] for window in found]
    assert gather(len(rows), found, said) == [[[float(word)] for word in range(len(r.tokens))] for r in rows]
    assert sum(frequencies(found, 3)) == sum(len(r.tokens) for r in rows)
    ids = pieces(made, [r.tokens for r in rows])
    for window in found:  # what stands at the place that speaks for a word is that word's first piece
        for word, first in zip(range(*window.words), window.firsts, strict=True):
            assert window.input_ids[first] == ids[window.row][word][0]
            assert window.labels[first] == 0


def test_a_word_in_an_overlap_is_spoken_for_where_more_is_seen_around_it() -> None:
    one, other = windows(tokenizer("mistral-v1"), [row("a " * 10, "O" * 10)], LABELS, 7, 2)
    assert (one.words, other.words) == ((0, 5), (5, 10))
    assert (len(one.input_ids), len(other.input_ids)) == (7, 7)
    # the last word of the first window is context there, and masked
    assert one.labels == (MASKED, 0, 0, 0, 0, 0, MASKED)
    assert other.labels == (MASKED, MASKED, 0, 0, 0, 0, 0)


def test_decoding_repairs_by_the_rule_and_says_how_sure_it_is() -> None:
    said = decode([[0.1, 0.2, 0.7], [0.1, 0.1, 0.8], [0.9, 0.1, 0.0], [0.2, 0.5, 0.3]], LABELS)
    assert said.tags == ("I-X", "I-X", "O", "B-X")
    assert said.spans == (Span(0, 2, "X"), Span(3, 4, "X"))
    assert said.probabilities == pytest.approx((math.sqrt(0.7 * 0.8), 0.5))
    assert dict(said.repaired) == {"a tag went on from nothing: a span begins there": 1}


def test_a_type_that_training_never_shows_is_counted_not_learned() -> None:
    found = Tagged("a", "a", ("x", "y"), ("B-X", "B-Z"))
    proof = prove(tokenizer("mistral-v1"), [found], LABELS, 64, 8)
    assert (proof.spans, proof.unlearnable) == (2, 1)
    assert str(proof).endswith("give back their 2 spans; 1 of types that training never shows")


@pytest.mark.parametrize("kind", KINDS)
def test_gold_comes_back_from_the_samples(kind: str) -> None:
    rows = list(SOURCE.read(Files(ROOT / "data" / "bio"), Ledger()))
    for room in (256, 24):
        proof = prove(tokenizer(kind), rows, ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"), room, 6)  # type: ignore[arg-type]
        assert (proof.rows, proof.words, proof.spans, proof.unlearnable) == (90, 839, 159, 0)


REAL = {
    "bc5cdr": (13938, 28787, ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")),
    "ncbi_disease": (7287, 6881, ("O", "B-Disease", "I-Disease")),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", ["mistral-v1", "llama3"])
def test_gold_comes_back_from_every_real_sentence(kind: str, name: str, real_data: Path, tmp_path: Path) -> None:
    sentences, spans, labels = REAL[name]
    for file in (real_data / name).glob("*.tsv"):
        (tmp_path / file.name).symlink_to(file)
    rows = [record for record in SOURCE.read(Files(tmp_path), Ledger()) if isinstance(record, Tagged)]
    # in one window each, and in windows so small that most sentences need several
    for room, more in ((2048, False), (96, True)):
        proof = prove(tokenizer(kind), rows, labels, room, 16)
        assert (proof.rows, proof.spans, proof.unlearnable) == (sentences, spans, 0)
        assert (proof.windows > sentences) == more


def test_gold_comes_back_from_whole_real_documents(real_data: Path, tmp_path: Path) -> None:
    for file in (real_data / "bc5cdr").glob("*.txt.gz"):
        (tmp_path / file.name).symlink_to(file)
    rows = [r for r in SOURCE.read(Files(tmp_path, unit="document"), Ledger()) if isinstance(r, Tagged)]
    proof = prove(tokenizer("mistral-v1"), rows, REAL["bc5cdr"][2], 128, 32)
    assert (proof.rows, proof.spans) == (1500, sum(len(read_spans(row.tags)) for row in rows))
    assert proof.windows > 5000


def test_words_that_no_window_or_two_speak_for_are_an_error_whatever_python_leaves_out() -> None:
    made = windows(tokenizer("mistral-v1"), [row("Take aspirin", "OB")], LABELS, 64, 8)
    said = [[[1.0, 0.0, 0.0]] * 2]
    for found, words in (([*made, *made], said * 2), (made, [said[0][:1]])):
        with pytest.raises(DataError, match="leave words out"):
            gather(1, found, words)
    with pytest.raises(DataError, match="overlaps another span"):
        write_tags(3, [Span(0, 2, "X"), Span(1, 3, "X")])
