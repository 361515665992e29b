"""Personal data hidden in rows, in every way of writing that was thought of, and long texts made to keep the search busy."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from medrecipes.release.personal_data import find, masked
from medrecipes.release.personal_data.survey import TAG, joined
from tests.attack.harness import limited
from tests.planted_personal import planted

# how the same sentence may come: between others, in quotes, in a list, in a table, with other blanks, with its lines broken
DISGUISES: tuple[Callable[[str], str], ...] = (
    lambda text: f"Thank you for your question. {text} I hope that this helps.",
    lambda text: f"“{text}”",
    lambda text: f"- {text}\n- Take it with food.",
    lambda text: f"| note | {text} |",
    lambda text: f"<p>{text}</p>",
    lambda text: text.replace(" ", "\u00a0"),
    lambda text: text.replace("-", "\u2011"),
    lambda text: f"Q: How are you?\nA: {text}\nQ: Since when?",
)


def test_planted_data_is_found_however_it_is_wrapped(record_property: Callable[[str, object], None]) -> None:
    found = count = 0
    for disguise in DISGUISES:
        for _, _, words, text in planted():
            wrapped = disguise(text)
            start = wrapped.lower().find(disguise(words).lower() if disguise(words) in wrapped else words.lower())
            if start < 0:
                continue
            count += 1
            found += any(f.start < start + len(words) and start < f.start + len(f.text) for f in find(wrapped))
    assert count >= 3000
    assert found >= 0.97 * count, (found, count)
    record_property("attacks", ("planted pieces of personal data", count))


def test_no_report_shows_what_it_found() -> None:
    for _, _, words, text in planted():
        for finding in find(text):
            shown = str(finding)
            assert len(words) < 6 or words not in shown, shown
            assert sum(c.isalnum() for c in masked(finding.text)) <= 2


PIECES = """a A 1 9 a@ @ a. % 1~ 1- 1. 1/ (1)~ +1~ A.~ Aa~ AA~ Aa- Aa' Dr.~ Dr.~Aa~ DR~AA~ Mr~ http://a https://a.b/ http://a/~ :: a: 0: 00: ab:cd:
a~at~ a~(at)~ a~dot~ Dear~Aa~ my~name~is~ name:~Aa~ my~son~Aa~ -~ regards~ thanks~ best~ rue~Aa~ 1~rue~ calle~Aa~ via~Aa~ Am~Aa~ straße~1 Aastraße~
路 市 区 号 路1 患者 さん 王 先生 姓名 年 2020年 1/1/1 1-1-1 1~may~ may~1~ born~ admitted~ aged~9 ninety~ she~is~9 99~years~ MRN~ no.~ id~ no~no~ tel~
(01) (01)12345678901234 A1 AB12~ 1234~ 12345~ 1234567890~ 0~ 00~ 09 imgur.com/ facebook.com/ me~@ photo~of~me~ data:image/ plate~A car~is~ lives~in~
Aa,~IL~ Flat~1,~ address:~ 1.1111, 41.8819,~ ° ' - _ é İ नाम~ ー ・ 〒 1, $ \\ x= ?mrn= http://a?mrn= user= blogspot. img face me jpg by~Aa~ patient~Aa~ MD
Aa,~ SMITH,~ John~ John~Aa~ de~la~ Mac Mc O'A d' < > <p &nbsp &#1 <a~"""


def long_texts(length: int) -> Iterator[str]:
    """Pieces that rules begin with, over and over, alone, in pairs and in any order."""
    dice = random.Random(7)
    pieces = [piece.replace("~", " ") for piece in PIECES.split()]
    yield from (piece * (length // len(piece)) for piece in pieces)
    for _ in range(60):
        pair = "".join(dice.sample(pieces, 2))
        yield pair * (length // len(pair))
    for _ in range(20):
        yield " ".join(dice.choice(pieces) for _ in range(length // 4))


def seconds(text: str) -> float:
    began = time.process_time()
    for _ in find(text):
        pass
    TAG.search(text)
    return time.process_time() - began


def test_no_text_keeps_the_search_busy(record_property: Callable[[str, object], None]) -> None:
    count = 0
    with limited(60):
        for text in long_texts(4000):
            count += 1
            assert seconds(text) < 1.5, text[:60]  # the slowest takes a fifth of that
    record_property("attacks", ("long texts against the search for personal data", count))


@pytest.mark.parametrize(
    "piece", ["a", "1", "A ", "Dr. Aa ", "1-", "a@", "市", "Dear Aa, ", "http://a/", "O'", "1.1.", "no. ", "<a "]
)
def test_twice_the_text_takes_twice_the_time(piece: str) -> None:
    def best(length: int) -> float:
        return min(seconds(piece * (length // len(piece))) for _ in range(3))

    assert best(32_000) < 4 * best(8_000) * 2 + 0.05


def test_words_are_joined_whatever_they_are() -> None:
    dice = random.Random(3)
    signs = [*".,;:!?)([]@/'’_-–", "a", "John", "5", "", "\n", "<b>", "患者"]
    for _ in range(500):
        words = [dice.choice(signs) for _ in range(dice.randint(0, 30))]
        text = joined(words)
        assert "".join(text.split()) == "".join("".join(words).split())
        assert len(list(find(text))) < 20
