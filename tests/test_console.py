"""What a person sees and what goes to the log, on a terminal and without one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SCRIPT = """
import logging, os, sys
from pathlib import Path
from medrecipes.console import Console
from medrecipes.notes import note

console = Console()
with console.quiet(Path(sys.argv[1])):
    logging.getLogger("library").addHandler(logging.StreamHandler())
for _ in range(2):
    with console.stage("train") as stage, console.quiet(Path(sys.argv[1])), console.bar("train", 2) as bar:
        print("a print")
        os.write(2, b"a write from below Python\\n")
        logging.getLogger("library").warning("a warning")
        bar.at(1, "loss 1.0")
        console.line("for the user")
        note("something to know")
        stage.says("two steps")
"""


def on_a_terminal(log: Path) -> str:
    """What the script shows on a pseudo-terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(log)], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0
    return shown.decode()


def in_a_pipe(log: Path) -> str:
    """What the script prints where there is no terminal."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("show", [on_a_terminal, in_a_pipe])
def test_libraries_speak_to_the_log_and_we_to_the_user(show: object, tmp_path: Path) -> None:
    assert callable(show)
    shown = show(tmp_path / "log.txt")
    for word in ("for the user", "something to know", "two steps"):
        assert shown.count(word) == 2
    for word in ("a print", "a write", "a warning", "Logging error"):
        assert word not in shown
    logged = (tmp_path / "log.txt").read_text()
    for word in ("a print", "a write from below Python", "a warning"):
        assert logged.count(word) == 2
    assert ("\x1b" in shown) == (show is on_a_terminal)
