"""The text of an answer while its tokens come: whole characters only, and nothing behind a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from medrecipes.rendering.tokenizer import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to before all of its bytes are there


class Growing:
    """The text of ids that come one by one; all its pieces together are what the ids decode to at once, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._ids: list[int] = []
        self._text, self._shown = "", 0
        self.stopped = False  # whether a stop string came

    def add(self, ids: Sequence[int]) -> str:
        """What can be shown since the last time; blanks at the end wait for what follows them: an answer ends without any."""
        if self.stopped:
            return ""
        self._ids += ids
        self._text = self._tokenizer.decode([self._ids])[0].strip()
        places = [place for stop in self._stops if (place := self._text.find(stop)) >= 0]
        if places:
            self.stopped = True
            self._text = self._text[: min(places)].rstrip()
            return self.end()
        if self._text.endswith(UNFINISHED):
            return ""
        # what may become a stop string waits too
        held = max((n for stop in self._stops for n in range(1, len(stop)) if self._text.endswith(stop[:n])), default=0)
        return self._piece(len(self._text[: len(self._text) - held].rstrip()))

    def end(self) -> str:
        """What was held back, once no more tokens come."""
        return self._piece(len(self._text))

    def _piece(self, until: int) -> str:
        piece = self._text[self._shown : until]
        self._shown = max(self._shown, until)
        return piece
