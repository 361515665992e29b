"""The examples of `--help`: every one is a command that there is, and those that need no run are run as they are printed."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from medrecipes.commands import COMMANDS, _parser
from tests.conftest import ROOT
from tests.test_init import medrecipes

EXAMPLES = [
    (name, re.split(r"\s{3,}", line.strip())[0])
    for name in COMMANDS
    for line in getattr(import_module(f"medrecipes.commands.{name}"), "EXAMPLE", "").splitlines()
    if line.startswith("  medrecipes ")
]
# what stands for a file of the reader's, or serves until it is ended
THEIRS = ("runs/demo-12345678", "answers.xlsx", "--web")


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_is_a_command_that_there_is(name: str, line: str) -> None:
    words = shlex.split(line)
    assert words[:2] == ["medrecipes", name]
    _parser().parse_args(words[1:])


@pytest.mark.parametrize("line", [line for _, line in EXAMPLES if not any(word in line for word in THEIRS)])
def test_an_example_works_as_printed(line: str, tmp_path: Path) -> None:
    for folder in ("recipes", "data", "templates"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = medrecipes(tmp_path, *shlex.split(line)[1:])
    assert done.returncode == 0 or line.startswith("medrecipes doctor"), done.stderr
    assert done.stdout


def test_the_new_commands_have_examples() -> None:
    assert {"init", "check", "list", "runs", "doctor", "completion"} <= {name for name, _ in EXAMPLES}
