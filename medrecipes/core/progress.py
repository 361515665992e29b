"""Progress: how far the work at hand is, told from where it is done, without a console, to whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

SOON_S = 1.0  # before that a pace says nothing
FEW = 0.25  # of what is done at once, whose first to end tell nothing of the last


@dataclass
class Work:
    """A stage or a bar: its name, how much of it is done, and since when."""

    name: str
    total: int | None = None
    done: int = 0
    text: str = ""
    bytes: bool = False
    begins: bool = True  # whether it says that it begins where no line can be drawn anew
    at_once: bool = False  # whether its parts are done beside each other, and not one after the other
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.from_here(self.total, self.done, self.text, bytes=self.bytes)
        self.began = self._since

    def from_here(self, total: int | None, done: int, text: str, *, bytes: bool = False) -> None:
        """Another count begins, of which so much was done before."""
        self.total, self.done, self.text, self.bytes = total, done, text, bytes
        self._first, self._since = done, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """The seconds that the rest takes at the pace so far, once there is one."""
        moved, took = self.done - self._first, time.monotonic() - self._since
        if not self.total or moved <= 0 or took < SOON_S:
            return None
        if self.at_once and moved < FEW * (self.total - self._first):
            return None
        return took / moved * max(0, self.total - self.done)

    def __str__(self) -> str:
        """E.g. `42/84  loss 3.426  5 s left`, or where nothing is counted `reading  12 s`."""
        left = self.left
        time_left = _elapsed(self.seconds) if left is None else f"{_time(left)} left"
        if self.total is None:
            count = f"{self.done:,}" if self.done else ""
            return "  ".join(filter(None, [" ".join(filter(None, [count, self.text])), time_left]))
        size = f"{self.done / 1e6:,.1f}/{self.total / 1e6:,.1f} MB" if self.bytes else f"{self.done:,}/{self.total:,}"
        return "  ".join(filter(None, [size, self.text, time_left]))


at_work: list[Work] = []  # the innermost last; whoever shows work puts it here


def phase(text: str) -> None:
    """Say what the stage at work does now."""
    if work := _free():
        work.text = text


def at_bytes(done: int, total: int) -> None:
    """Say how many bytes of a download have come."""
    if at_work and (at_work[-1].total is None or at_work[-1].bytes):
        work = at_work[-1]
        if work.total is None:
            work.from_here(total, done, work.text, bytes=True)
        work.done, work.total = done, total
        if done >= total:
            work.from_here(None, 0, work.text)


def _free() -> Work | None:
    """The stage at work, where nothing of it is counted already."""
    return at_work[-1] if at_work and at_work[-1].total is None else None


def counted(rows: Iterable[T], total: int | None, text: str = "") -> Iterator[T]:
    """Rows as they come, each counted by the stage at work, if there is one that counts nothing yet."""
    with counting(total, text) as add:
        for row in rows:
            yield row
            add(1)


@contextmanager
def counting(total: int | None, text: str = "", *, bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """The same, for what comes several at a time: `add(8)`."""
    if (work := _free()) is None:
        yield lambda number: None
        return
    before = work.text
    work.from_here(total, 0, text, bytes=bytes)

    def add(number: int) -> None:
        work.done += number

    try:
        yield add
    finally:
        work.from_here(None, 0, before)


def _elapsed(seconds: float) -> str:
    """E.g. `45 s` or `2 min 5 s`: another text every second, or a stage that lasts would look as if it had stopped."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds // 60:.0f} min {int(seconds % 60)} s"


def _time(seconds: float) -> str:
    """E.g. `45 s`, `12 min` or `1.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
