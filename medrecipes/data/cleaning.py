"""One row cleaned: text normalised, what teaches nothing dropped with its reason, and the form rows are compared in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from functools import lru_cache

from medrecipes.core.bounded_reading import SURROGATE, thin
from medrecipes.data.records import Conversation, Message
from medrecipes.data.sources import Ledger, Source

# anything that normalising would change, so that clean text (most of it) costs one search
UNTIDY = re.compile(r"[^\S\n ]|[\x00-\x08\x0e-\x1f\x7f-\x9f\xa0]|  | \n|\n |\n\n\n|[^\x00-\u01ff]")
LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# control and format characters, lone surrogates, and the private-use area (which rendering keeps for itself): none has
# a meaning that survives out of its font or program; joiners stay, words in some scripts need them
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\U000f0000-\U0010ffff]"
)
BLANKS = re.compile(r"[^\S\n]+")
EDGES = re.compile(r" ?\n ?")
GAPS = re.compile(r"\n{3,}")

# words that ask without saying about what: a question of these alone lost its subject, as `What is (are) ?`
WORDS = """
a affected and any are at be by can cause caused causes changes complications diagnose do does exams for frequency genetic
get have how i if in inherited is it its latest many me more much my need of on or outlook people please prevent prevented
related research risk should signs so some stages symptom symptoms tell tests that the them there these this those to treat
treated treatment treatments was what when where which who why with you your
"""
ASKING = frozenset(WORDS.split())
# letters and digits stay, all else is a blank: bytes.translate is many times as fast as a pattern
ALPHANUMERIC = bytes(byte if byte < 128 and chr(byte).isalnum() else 32 for byte in range(256))


def tidy(text: str, *, keeps_layout: bool = False) -> str:
    """NFC, `\\n` line ends, no unseen characters and, unless the layout means something, no runs of blanks."""
    if not _untidy(text):
        return text.strip()
    text = thin(UNSEEN.sub("", LINE_END.sub("\n", text)))
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    if not keeps_layout:
        text = GAPS.sub("\n\n", EDGES.sub("\n", BLANKS.sub(" ", text)))
    return text.strip()


def _untidy(text: str) -> bool:
    """Whether normalising would change a text; told of plain ASCII, most of all text, without a pattern."""
    if text.isascii() and text.replace("\n", " ").isprintable():
        return any(gap in text for gap in ("  ", " \n", "\n ", "\n\n\n"))
    return bool(UNTIDY.search(text))


@lru_cache(maxsize=32)  # of the row at hand: its texts are compared in several ways
def plain(text: str) -> bytes:
    """The form that texts are compared in: letters and digits, case folded, one blank between words."""
    if text.isascii():
        return b" ".join(text.lower().encode().translate(ALPHANUMERIC).split())
    return " ".join(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())).encode()


def clean(record: Conversation, source: Source, ledger: Ledger) -> Conversation | None:
    """The record with tidy text, or None where nothing can be learned from it; either is counted."""
    messages = tuple(_tidied(m, keeps_layout=source.keeps_layout) for m in record.messages)
    if any(new is not old for new, old in zip(messages, record.messages, strict=True)):
        if any(
            (new.content, new.reasoning, new.extra) != (old.content.strip(), old.reasoning.strip(), old.extra)
            for new, old in zip(messages, record.messages, strict=True)
        ):
            ledger.repair("text normalised", record.id)
        record = replace(record, messages=messages)
    names = {"": record.group, **record.meta}
    if not all(value.isascii() for value in names.values() if isinstance(value, str)):
        # what names a row is kept as it is written, but half a character can be neither printed nor saved
        whole = {key: SURROGATE.sub("", value) if isinstance(value, str) else value for key, value in names.items()}
        if whole != names:
            ledger.repair("half a character taken out of a name", record.id)
            record = replace(record, group=whole.pop(""), meta=whole)
    if reason := _hopeless(record, source):
        ledger.drop(reason, record.id)
        return None
    return record


def _tidied(message: Message, *, keeps_layout: bool) -> Message:
    """A turn with tidy texts; itself where they are."""
    text = tidy(message.content, keeps_layout=keeps_layout)
    thought = tidy(message.reasoning, keeps_layout=keeps_layout) if message.reasoning else ""
    extra = UNSEEN.sub("", message.extra) if message.extra else ""
    if (text, thought, extra) == (message.content, message.reasoning, message.extra):
        return message
    return replace(message, content=text, reasoning=thought, extra=extra)


def _hopeless(record: Conversation, source: Source) -> str | None:
    """Why nothing can be learned from a record, if so."""
    if not all(plain(m.content) or m.calls for m in record.messages if m.role == "assistant"):
        return "empty answer"
    texts = {"question": record.question, "answer": record.answer}
    for defect in source.defects:
        if defect.pattern and defect.pattern.search(texts[defect.where]):
            return defect.reason
    question = record.question
    if len(record.prompt()) == 1 and len(question) < 200 and ASKING.issuperset(plain(question).decode().split()):
        return "question without content"
    return None
