"""Conversations that try everything a template could stumble on: generated ones, hand-made ones, and real rows."""

from __future__ import annotations

import csv
import gzip
import os
import sys
from functools import lru_cache
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from medrecipes.data.records import Conversation, Message

ROOT = Path(__file__).parent.parent
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

CONTROL_STRINGS = (
    "<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]",
    "[control_17]", "<SPECIAL_20>", "<<SYS>>", "<</SYS>>", "<|begin_of_text|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>",
    "<0x0A>", "▁", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<think>", "</think>", "<tool_call>",
    "</tool_call>", "<tool_response>", "<|fim_prefix|>", "<|fim_middle|>", "<|file_sep|>", "<repo_name>", "<|dummy_87|>",
    "<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>", "<|end|>", "<|startoftext|>", "<|header_start|>",
    "<|header_end|>", "<|eot|>", "<|eom|>", "<|image|>", "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>",
    "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", '<|"|>', "<|tool>", "<tool|>", "<start_of_image>",
)  # fmt: skip
WHITE = (" ", "  ", "     ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u2003", "\u3000", "\x85", "\x1c")
AWKWARD = (
    *WHITE, "\u200b", "\x00", "e\u0301", "é", "ß", "ſ", "İ", "½", "²", "\u0345", "漢字かな", "नमस्ते", "مرحبا",
    "🩺", "🇺🇳", "\U0001f9ff", "1234567", "3.5 mg/dL", "...", "—", "I'm", "it'S", "aaaaaaaa", "<|", "|>",
    "{{ x }}", "{% generation %}", "### Answer:", "\ue0000\ue001", "\ue002",
)  # fmt: skip
WORDS = ("What", "is", "asthma", "the", "patient", "inhaler", "Symptoms", "include", "and", "a", "cough", "O'Brien")

fragments = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(AWKWARD),
    st.sampled_from(CONTROL_STRINGS),
    st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=6),
)
# hypothesis draws from the constants of the source, too, and what is refused is among them
texts = st.builds(
    lambda parts, glue: glue.join(parts), st.lists(fragments, max_size=12), st.sampled_from(["", " ", " ", "\n", "  "])
).filter(lambda text: "\\n" not in text)
answers = texts.filter(lambda text: bool(text.strip()))


@st.composite
def dialogues(draw: st.DrawFn) -> tuple[Message, ...]:
    """One to four turns, with or without a system message."""
    messages = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, 4]))):
        messages += [Message("user", draw(texts)), Message("assistant", draw(answers))]
    return tuple(messages)


def generated(count: int) -> list[tuple[Message, ...]]:
    """The same dialogues on every run."""
    found: list[tuple[Message, ...]] = []

    @settings(
        derandomize=True,
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(dialogues())
    def gather(messages: tuple[Message, ...]) -> None:
        found.append(messages)

    gather()
    return found


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def system(text: str) -> Message:
    return Message("system", text)


def handmade() -> list[tuple[Message, ...]]:
    """What generation would find too seldom."""
    long = "The patient, aged 53, reports dyspnoea;  SpO2 94 %.\n\t- history: none\n" * 400
    rows = [
        (user(""), assistant("An answer to nothing.")),
        (system(""), user(""), assistant("x")),
        (system("  "), user(" "), assistant(" x ")),
        (system("Be brief."), user("\n\nq \n"), assistant("\n a\n\n")),
        (system("Brief. "), user("q1"), assistant("a1  "), user("q2 "), assistant("a2 "), user(" q3"), assistant(" a")),
        (user(long), assistant(long)),
        (user("blanks" + " " * 70 + "end"), assistant(" " * 33 + "indented" + " " * 17)),
    ]
    rows += [(user(f"before{n * ' '}after"), assistant(f"{n * ' '}a{n * chr(10)}b")) for n in range(1, 40)]
    rows += [(user(f"say {token} now{token}"), assistant(f"{token} and {token}")) for token in CONTROL_STRINGS]
    return rows


def rows_of(file: Path, count: int) -> list[tuple[Message, ...]]:
    """Real questions and answers, spread over a MedQuAD table."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8", newline="") as lines:
        rows = [(row["question"], row["answer"]) for row in csv.DictReader(lines) if row["answer"].strip()]
    step = max(1, len(rows) // count)
    return [(Message("user", question), Message("assistant", answer)) for question, answer in rows[::step]]


def medquad(count: int) -> list[tuple[Message, ...]]:
    """The published table where there is a copy, else the project's sample of it."""
    place = os.environ.get("MEDRECIPES_DATA")
    return rows_of(Path(place) / "medquad" / "medquad.csv.gz" if place else ROOT / "data" / "medquad.csv", count)


@lru_cache
def conversations() -> tuple[Conversation, ...]:
    """The whole corpus: at least 300 conversations."""
    found = [*handmade(), *generated(200), *rows_of(ROOT / "data" / "medquad.csv", 80)]
    found += medquad(300) if os.environ.get("MEDRECIPES_DATA") else []
    return tuple(Conversation(f"row-{i}", f"group-{i}", messages) for i, messages in enumerate(found))
