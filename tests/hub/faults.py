"""What can go wrong on the way to the Hub and back: each fault waits for a request that it fits, and strikes a few times."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Harm:
    """What happens to a request; all harmless by default."""

    status: int = 0  # answer this instead of doing anything
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    slow: float = 0.0  # seconds before anything else
    hear: int | None = None  # read this many bytes of the request, then hang up
    mute: bool = False  # do what is asked, then hang up without an answer
    say: int | None = None  # send this many bytes of the answer's body, then hang up
    shorten: int = 0  # leave out this many bytes of the answer's body, and say so in its length
    spoil: bool = False  # turn a bit of the answer's body, or of what is uploaded
    before: Callable[[], object] | None = None  # something that happens in between, such as somebody else's commit


@dataclass
class Fault:
    """A harm, the requests it fits (`METHOD path`, a regular expression), and how often it strikes after how many passes."""

    fits: str
    harm: Harm
    times: int = 1
    after: int = 0


class Faults:
    """The faults that still wait."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()
        self.struck: list[str] = []

    def add(self, *faults: Fault) -> None:
        """Lay faults in wait."""
        with self._lock:
            self._waiting += faults

    def clear(self) -> None:
        """Let everything go well again."""
        with self._lock:
            self._waiting.clear()

    def meet(self, request: str) -> Harm:
        """What happens to this request."""
        with self._lock:
            for fault in self._waiting:
                if fault.times > 0 and re.search(fault.fits, request):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    self.struck.append(request)
                    return fault.harm
        return Harm()
