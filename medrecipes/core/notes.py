"""A line that a person must see, from code that has no console: on standard error, also while libraries print to a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

LABEL = 16  # columns for what a line is about, before what it says

_kept: TextIO | None = None  # the real standard error, while a log has its descriptor


def labelled(label: str, text: str) -> str:
    """A line of the screen: what it is about, and what it says of that."""
    return f"{label:<{LABEL}} {text}"


def note(text: str) -> None:
    """Print what was not as it should be, and what is done about it; file names may hold what a terminal takes for a command."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    print(labelled("note", shown), file=_kept or sys.stderr, flush=True)


@contextmanager
def heard_on(descriptor: int) -> Iterator[None]:
    """Inside, notes go to this descriptor, for standard error's own is turned to a log; the outermost one holds."""
    global _kept
    if _kept is not None or not _goes_there():
        yield
        return
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as _kept:
        try:
            yield
        finally:
            _kept = None


def _goes_there() -> bool:
    """Whether standard error is written to its own descriptor, and not put somewhere by whoever runs this; a library may wrap it."""
    try:
        return sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False
