"""An answer while its tokens come, its reasoning apart: whole characters only, and nothing behind a stop string or a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from medrecipes.data.reasoning import WRITTEN
from medrecipes.rendering.answer_text import marks_of, written_by
from medrecipes.rendering.chat_template import ChatTemplate

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to before all of its bytes are there


class Piece(NamedTuple):
    """What can be shown of an answer since the last time, or of the reasoning before it."""

    text: str
    reasoning: bool = False


class Growing:
    """The reasoning and the text of ids that come one by one, as `written_by` tells them apart once all are there.

    `reasoning` and `answer`: the most tokens of each; 0 for no limit of its own.
    """

    def __init__(
        self, template: ChatTemplate, stops: Sequence[str] = (), *, reasoning: int = 0, answer: int = 0
    ) -> None:
        self._template, self._stops, self._most = template, stops, (reasoning, answer)
        self._marks = [mark for mark in marks_of(template) if len(mark) > 1]
        self._ids: list[int] = []
        self._shown = {False: "", True: ""}
        self.ended: Literal["", "stop", "limit"] = ""  # by a stop string, or by a limit of reasoning or answer
        self.reasoning, self.finished = 0, True  # the tokens of its reasoning, and whether that came to its end
        self.text, self.thought = "", ""  # all of the answer so far, and of its reasoning

    def add(self, ids: Sequence[int]) -> list[Piece]:
        """What can be shown since the last time; blanks at the end wait for what follows them: an answer ends without any."""
        if self.ended:
            return []
        self._ids += ids
        waiting = (n for mark in self._marks for n in range(1, len(mark)) if self._ids[-n:] == mark[:n])
        return self._look(self._ids[: len(self._ids) - max(waiting, default=0)], whole=False)

    def end(self) -> list[Piece]:
        """What was held back, once no more tokens come."""
        return [] if self.ended else self._look(self._ids, whole=True)

    def _look(self, ids: Sequence[int], *, whole: bool) -> list[Piece]:
        written, (most, longest) = written_by(self._template, ids), self._most
        text, thought, self.finished = written.text, written.thought, written.finished
        self.reasoning = len(written.reasoning) if thought else 0
        if 0 < most < self.reasoning:
            behind = (len(written.ids) if written.finished else 0) + self.reasoning - most
            within = written_by(self._template, ids[: len(ids) - behind])
            text, thought, self.finished = "", within.thought or within.text, False
            self.reasoning, self.ended = most, "limit"
        elif 0 < longest < len(written.ids):
            text, self.ended = self._template.tokenizer.decode([written.ids[:longest]])[0].strip(), "limit"
        if places := [place for stop in self._stops if (place := text.find(stop)) >= 0]:
            text, self.ended = text[: min(places)].rstrip(), "stop"
        whole = whole or bool(self.ended)
        self.text, self.thought = text, thought
        if self._shown[False] and not text.startswith(self._shown[False]) and thought.startswith(self._shown[False]):
            self._shown = {False: "", True: self._shown[False]}  # what was taken for the answer was reasoning
        return [
            Piece(piece, reasoning)
            for reasoning, said, held in ((True, thought, WRITTEN), (False, text, (*WRITTEN, *self._stops)))
            if (piece := self._piece(reasoning, said if whole else settled(said, held)))
        ]

    def _piece(self, reasoning: bool, text: str) -> str:
        before = len(self._shown[reasoning])
        if len(text) <= before:
            return ""
        self._shown[reasoning] = text
        return text[before:]


def settled(text: str, marks: Sequence[str]) -> str:
    """A growing text without what may still change: half a character, what may become one of these marks, blanks at its end."""
    text = text.rstrip(UNFINISHED)
    held = max((n for mark in marks for n in range(1, len(mark)) if text.endswith(mark[:n])), default=0)
    return text[: len(text) - held].rstrip()
