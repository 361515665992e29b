"""Reasoning in a text: a thought between `<think>` marks, apart from the answer behind it."""

from __future__ import annotations

import re

# the names under which datasets keep an assistant's reasoning beside its content
KEYS = ("reasoning_content", "reasoning", "thinking")
MARKS = ("<think>\n", "\n</think>\n\n")  # what stands around a thought that is written as text
OPENS = re.compile(r"<think(?:ing)?>")
CLOSES = re.compile(r"</think(?:ing)?>")
WRITTEN = ("<think>", "</think>", "<thinking>", "</thinking>")  # all that these two find


def split_reasoning(text: str) -> tuple[str, str]:
    """A text's thought and its answer, e.g. `("It wheezes.", "Asthma.")`; a thought that never ends leaves no answer.

    A text that begins within a thought, as some models' do whose prompt opens it, is a thought up to the closing mark.
    """
    thoughts = []
    while closing := CLOSES.search(text):
        opening = OPENS.search(text)
        begins, ends = opening.span() if opening and opening.start() < closing.start() else (0, 0)
        if text[:begins].strip():  # an answer that mentions the mark, or thinks in its middle
            break
        thoughts.append(text[ends : closing.start()])
        text = text[closing.end() :]
    if (opening := OPENS.match(text.lstrip())) and not CLOSES.search(text):
        thoughts.append(text.lstrip()[opening.end() :])
        text = ""
    if not thoughts:
        return "", text
    return "\n\n".join(filter(None, (thought.strip() for thought in thoughts))), text.strip()
