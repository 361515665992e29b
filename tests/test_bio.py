"""Tags, spans, words and sentences: every scheme read by one rule, every place exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrecipes.data.bio_tags import Span, malformed, read_spans, scheme, split_tag, write_tags
from medrecipes.data.segment import covering, sentences, words

A, B = "Chem", "Dis"
# tags of five words, and their spans
READ = [
    (["O", "O", "O", "O", "O"], []),
    (["B-Chem", "I-Chem", "O", "B-Dis", "O"], [Span(0, 2, A), Span(3, 4, B)]),
    (["B-Chem", "B-Chem", "I-Chem", "B-Dis", "I-Dis"], [Span(0, 1, A), Span(1, 3, A), Span(3, 5, B)]),
    # IOB1: B only between two spans of one type
    (["I-Chem", "I-Chem", "O", "I-Dis", "B-Dis"], [Span(0, 2, A), Span(3, 4, B), Span(4, 5, B)]),
    # BIOES, and BILOU, which is the same
    (["S-Chem", "B-Dis", "I-Dis", "E-Dis", "S-Dis"], [Span(0, 1, A), Span(1, 4, B), Span(4, 5, B)]),
    (["U-Chem", "B-Dis", "L-Dis", "U-Dis", "O"], [Span(0, 1, A), Span(1, 3, B), Span(3, 4, B)]),
    # malformed, by the rule
    (["O", "I-Chem", "I-Dis", "O", "E-Chem"], [Span(1, 2, A), Span(2, 3, B), Span(4, 5, A)]),
    (["B-Chem", "I-Dis", "I-Dis", "E-Dis", "I-Dis"], [Span(0, 1, A), Span(1, 4, B), Span(4, 5, B)]),
    (["B-Chem", "S-Chem", "I-Chem", "O", "I-Chem"], [Span(0, 1, A), Span(1, 2, A), Span(2, 3, A), Span(4, 5, A)]),
]


@pytest.mark.parametrize(("tags", "spans"), READ)
def test_spans_of_every_scheme(tags: list[str], spans: list[Span]) -> None:
    assert read_spans(tags) == spans


@pytest.mark.parametrize("tag", ["", "X-Chem", "B", "B-", "-Chem", "Chemical", "BI-Chem", "o"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=f"^{tag}$"):
        split_tag(tag)


def test_a_type_may_hold_dashes() -> None:
    assert split_tag("B-Drug-Brand") == ("B", "Drug-Brand")


tagged = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=12)


@given(tagged)
def test_spans_written_and_read_again_are_the_same(tags: list[str]) -> None:
    spans = read_spans(tags)
    written = write_tags(len(tags), spans)
    assert read_spans(written) == spans
    assert not malformed(written, "IOB2")
    assert [tag == "O" for tag in written] == [tag == "O" for tag in tags]


SCHEMES = [
    ([["B-X", "I-X", "O"], ["O"]], "IOB2"),
    ([["O"], []], "IOB2"),
    ([["I-X", "I-X", "O"], ["I-X", "B-X"]], "IOB1"),
    ([["I-X", "O", "I-Y"]], "IOB1"),
    # one that begins with B where IOB1 would not makes a stray I a mistake
    ([["B-X", "O", "I-Y"]], "IOB2"),
    ([["O", "S-X"]], "BIOES"),
    ([["B-X", "L-X"]], "BIOES"),
]


@pytest.mark.parametrize(("rows", "name"), SCHEMES)
def test_a_file_is_in_one_scheme(rows: list[list[str]], name: str) -> None:
    assert scheme(rows) == name


NOTHING = "a tag went on from nothing: a span begins there"
UNENDED = "a span had no end tag: it ends where the next tag cannot go on"
MENDED = [
    (["O", "I-X", "I-X", "I-Y"], "IOB2", {NOTHING: 2}),
    (["O", "I-X", "I-X", "I-Y"], "IOB1", {}),
    (["B-X", "I-X", "I-Y"], "IOB2", {NOTHING: 1}),
    (["B-X", "E-X", "S-Y", "O"], "BIOES", {}),
    (["B-X", "O", "I-X", "E-X", "E-X"], "BIOES", {UNENDED: 1, NOTHING: 2}),
    (["B-X", "I-X"], "BIOES", {UNENDED: 1}),
]


@pytest.mark.parametrize(("tags", "name", "found"), MENDED)
def test_what_is_malformed_is_counted(tags: list[str], name: str, found: dict[str, int]) -> None:
    assert dict(malformed(tags, name)) == found


def test_words_know_their_places() -> None:
    text = "5-HT (serotonin), 0.5 mg/kg:\n naïve_β-blockers"
    assert [text[a:b] for a, b in words(text)] == [
        "5", "-", "HT", "(", "serotonin", ")", ",", "0", ".", "5", "mg", "/", "kg", ":", "naïve_β", "-", "blockers",
    ]  # fmt: skip
    assert words(text, 6, 15) == [(6, 15)]


@given(st.text(max_size=60))
def test_words_hold_all_that_is_no_blank(text: str) -> None:
    found = words(text)
    assert all(text[a:b].strip() for a, b in found)
    assert "".join(text[a:b] for a, b in found) == "".join(text.split())
    assert all(one[1] <= other[0] for one, other in pairwise(found))


SENTENCES = [
    ("One. Two? Three!", ["One.", "Two?", "Three!"]),
    ("Seen by Dr. Smith et al. The dose was 0.5 mg. It helped.", ["Seen by Dr. Smith et al. The dose was 0.5 mg.", "It helped."]),
    ("E. coli vs. S. aureus. Both grew.", ["E. coli vs. S. aureus.", "Both grew."]),
    ("(He slept.) Then he woke.", ["(He slept.)", "Then he woke."]),
    ("no capital. no cut\nbut a line", ["no capital. no cut", "but a line"]),
    ("  ", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), SENTENCES)
def test_sentences(text: str, found: list[str]) -> None:
    assert [text[a:b] for a, b in sentences(text)] == found


def test_the_words_that_a_stretch_touches() -> None:
    at = words("acute renal failure")
    assert covering(at, 6, 19) == (1, 3, True)
    assert covering(at, 6, 9) == (1, 2, False)
    assert covering(at, 5, 6) is None
