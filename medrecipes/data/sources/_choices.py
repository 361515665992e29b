"""Multiple-choice questions: how the options are asked, and how the answer names one of them."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase


def asked(stem: str, options: Sequence[str]) -> str:
    """The question with its options, a letter and a line each."""
    listed = "\n".join(f"{letter}. {option.strip()}" for letter, option in zip(ascii_uppercase, options, strict=False))
    return f"{stem.strip()}\n\n{listed}"


def answered(number: int, options: Sequence[str], explanation: str = "") -> str:
    """The option of that number, from 0, and what explains it."""
    answer = f"Answer: {ascii_uppercase[number]}. {options[number].strip()}"
    return f"{answer}\n\n{explanation.strip()}" if explanation.strip() else answer
