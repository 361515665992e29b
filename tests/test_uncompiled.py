"""Kernels that torch cannot compile on this machine: one line that says so, and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medrecipes.core.errors import reason
from tests.conftest import ROOT

# as if a GPU's engine met it: the real compiler, without the compiler that it needs in turn
SCRIPT = """
import sys, torch, torch._inductor.config
from medrecipes import commands
from medrecipes.commands import run

def compile(_):
    torch._inductor.config.cpp.cxx = ("no-such-compiler",)
    torch.compile(lambda x: x.sin() + 1)(torch.ones(5))

def fail(_):
    raise RuntimeError("another error")

run.do = fail if sys.argv[1] == "another" else compile
sys.exit(commands.main(["run", "recipes/tiny_mistral.toml", *sys.argv[2:]]))
"""


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)


def test_it_is_one_line_that_names_the_next_move() -> None:
    done = ran("compile")
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "torch cannot compile this engine's kernels here (InvalidCxxCompiler: No working C++ compiler found"
    )
    assert line.endswith(
        "install a C compiler where that is what is missing, else set model.engine to the other one, trl or unsloth, or "
        "TORCHDYNAMO_DISABLE=1 in the environment to go without (--debug shows the whole error)"
    )


def test_asked_for_it_shows_the_whole_error() -> None:
    for arguments in (("compile", "--debug"), ("another", "--debug")):
        done = ran(*arguments)
        assert done.returncode == 1
        assert "Traceback" in done.stderr


def test_another_error_is_one_line_and_its_traceback_lies_in_a_log() -> None:
    done = ran("another")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    [log] = re.findall(r"the full log is at (\S+);", line)
    assert "Traceback" in Path(log).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(""), "ValueError"),
        (OSError("\n  it broke\nand more"), "it broke"),
        (RuntimeError("CUDA error\r\nsee"), "CUDA error"),
    ],
)
def test_an_error_of_somebody_elses_is_one_line(error: Exception, said: str) -> None:
    assert reason(error) == said
