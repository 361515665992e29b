"""What every attack shares: a command run in this process within a time limit, and fingerprints of what it must not touch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

LIMIT_S = 20
BARS = ("Loading weights",)
BUSY = 4  # times as long a command may take on a machine that gives it less than all of a processor


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> list[str]:
        """The lines of stderr without the bars that libraries draw there, which overwrite themselves."""
        lines = [line.rpartition("\r")[2] for line in self.err.strip().split("\n")] if self.err.strip() else []
        return [line for line in lines if not line.startswith(BARS)]


def attack(*arguments: object, cwd: Path) -> Outcome:
    """Run `medrecipes …` in this process from a folder; longer than `LIMIT_S` is a hang, and an exception is a traceback."""
    from medrecipes.commands import main

    _open_logs()
    out, err, began = io.StringIO(), io.StringIO(), time.monotonic()
    with limited(), contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as ended:  # argparse
            code = ended.code if isinstance(ended.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue(), time.monotonic() - began)


def _open_logs() -> None:
    """A library that was imported by another test logs to what stderr was there, which is closed now, and would say so here."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for handler in {handler for logger in loggers for handler in getattr(logger, "handlers", ())}:
        if isinstance(handler, logging.StreamHandler) and getattr(handler.stream, "closed", False):
            handler.stream = sys.__stderr__  # setStream would flush what is closed
            vars(handler).pop("flush", None)  # transformers gives its handler the flush of that stream


@contextlib.contextmanager
def limited(seconds: float = LIMIT_S) -> Iterator[None]:
    """Fail what takes longer, of the processor or, where others use that too, by some times as much of the clock."""
    began, spent = time.monotonic(), time.process_time()

    def late(_: int, __: FrameType | None) -> None:
        if time.process_time() - spent < seconds and time.monotonic() - began < BUSY * seconds:
            signal.setitimer(signal.ITIMER_REAL, min(seconds, 1))
            return
        raise AssertionError(f"hangs: longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(outcome: Outcome, *words: str) -> None:
    """Hold that a command ended with exit code 2 and printable lines that name the problem, and no traceback."""
    said = "\n".join(outcome.said)
    assert outcome.code == 2, outcome
    assert said, outcome
    assert "Traceback" not in said + outcome.out, said
    assert "internal error" not in said, said  # the last net is for what nobody foresaw, and none of these is that
    assert all(c.isprintable() or c in "\n\t" for c in said), repr(said)
    for word in words:
        assert word in said, said


def fingerprint(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Every path below a folder with its kind, mode and content: equal before and after where nothing was touched."""
    found: dict[str, tuple[Any, ...]] = {}
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where) / name
            mode = path.lstat().st_mode
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else None
            found[path.relative_to(folder).as_posix()] = (mode, content)
    return found
