"""Reasoning traces: a thought and the answer that follows it as one message, between `<think>` and `</think>`."""

from __future__ import annotations


def thought(reasoning: str, answer: str) -> str:
    """The answer behind its thought; without a thought the answer alone."""
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{answer.strip()}" if reasoning.strip() else answer
