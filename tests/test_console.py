"""What a person sees and what goes to the log, on a terminal and without one."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from tests.conftest import ROOT

SCRIPT = """
import logging, os, sys
from pathlib import Path
from medrecipes.core.console import Console
from medrecipes.core.notes import note

class Wrapped:  # as a library does that hides lines of its own
    def __init__(self, stream): self._stream = stream
    def __getattr__(self, name): return getattr(self._stream, name)

sys.stderr = Wrapped(sys.stderr)
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


def test_marks_and_escape_sequences_of_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.text import Text

    console = Console()
    with console.stage("base") as stage:
        stage.says("q[final], n[/x], [bold]b[/bold], \x1b[31mred\x9b0m, \u202eback, 5\u00a0mg")
    with console.stage("[x]"):
        pass
    console.line("\x1b]0;title\x07 [red]r[/red] \udcff\ttab\r\nnext")
    console.rich.print(Text("a\x1bb", "green"))
    stage_line, empty, line, following, text = capsys.readouterr().out.splitlines()
    assert (
        stage_line
        == "base             q[final], n[/x], [bold]b[/bold], \\u001b[31mred\\u009b0m, \\u202eback, 5\u00a0mg  0.0 s"
    )
    assert empty == "[x]              0.0 s"
    assert (line, following) == ("\\u001b]0;title [red]r[/red] \\udcff tab", "next")
    assert text == "a\\u001bb"


def test_a_bar_shows_its_text_as_it_is() -> None:
    """On a terminal, where rich draws it."""
    code = (
        "import time\nfrom medrecipes.core.console import Console\nc = Console()\n"
        "with c.bar('train', 2) as bar:\n    bar.at(1, 'n[/x] \\x1b[31m')\n    time.sleep(0.6)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(ours, 4096):
            shown += piece
    assert process.wait() == 0, shown
    assert b"n[/x] \\u00" in shown
    assert b"\x1b[31m" not in shown
