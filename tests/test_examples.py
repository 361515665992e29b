"""The examples of `--help`: every command has some, and they work as they are printed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import pytest

from medrecipes.commands import COMMANDS, _parser
from tests.conftest import ROOT, SHORT, Cli, sets

EXAMPLES = [
    (name, re.split(r"\s{3,}", line.strip())[0])
    for name in COMMANDS
    for line in import_module(f"medrecipes.commands.{name}").EXAMPLE.splitlines()
    if re.match(r"  (echo .* \| )?medrecipes ", line)
]
# those that serve until they are ended, and those that train for longer than a moment or fetch a base
SERVE = [line for _, line in EXAMPLES if "--web" in line or " serve " in line]
TRAIN = [line for _, line in EXAMPLES if line.split()[1] in ("run", "sweep")]
WITH_RUN = [line for _, line in EXAMPLES if "runs/" in line and line not in SERVE]
ALONE = [line for _, line in EXAMPLES if line not in (*SERVE, *TRAIN, *WITH_RUN)]


def words_of(line: str) -> list[str]:
    """What the program is given, and no redirection."""
    return shlex.split(line.rpartition("| ")[2].partition(" > ")[0])


def test_every_command_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(COMMANDS)
    assert len(WITH_RUN) >= 8
    assert len(ALONE) >= 12


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_is_a_command_that_there_is_and_help_shows_it(name: str, line: str) -> None:
    words = words_of(line)
    assert words[:2] == ["medrecipes", name]
    _parser().parse_args(words[1:])
    [commands] = [action for action in _parser()._actions if action.dest == "command"]
    assert f"  {line}" in commands.choices[name].format_help()  # type: ignore[union-attr, index]


def test_who_types_no_command_is_shown_them_all_and_what_comes_first(cli: Cli) -> None:
    done, help = cli(), cli("--help")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", help.stdout)
    lines = [re.split(r"\s{3,}", line.strip())[0] for line in help.stdout.partition("first steps:\n")[2].splitlines()]
    assert len(lines) == 3
    assert set(lines[:2]) <= {line for _, line in EXAMPLES}


def laid_out(place: Path) -> Path:
    """A folder as a clone of the repository has it, and the program on the path."""
    for folder in ("recipes", "data", "templates"):
        (place / folder).symlink_to(ROOT / folder)
    program = place / "bin" / "medrecipes"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m medrecipes "$@"\n')
    program.chmod(0o755)
    return place


def shell(line: str, place: Path) -> subprocess.CompletedProcess[str]:
    """A line as a person types it."""
    return subprocess.run(["bash", "-c", line], cwd=place, env=environment(place), capture_output=True, text=True, timeout=1800)  # fmt: skip


def environment(place: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
    }


@pytest.mark.parametrize("line", ALONE)
def test_an_example_works_as_printed(line: str, tmp_path: Path) -> None:
    done = shell(line, laid_out(tmp_path))
    assert done.returncode == 0 or line.startswith("medrecipes doctor"), done.stderr
    assert done.stdout or (tmp_path / line.rpartition(" > ")[2]).stat().st_size > 1000


@pytest.fixture(scope="module")
def finished(tiny_run: Path, tag_run: tuple[Path, str], warm: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that examples name."""
    place = laid_out(tmp_path_factory.mktemp("place"))
    for run in (tiny_run, tag_run[0]):
        shutil.copytree(run, place / "runs" / run.name)
    # whose base stands ready already
    done = warm(
        "run", "tiny_mistral", "--runs", place / "runs", *sets(*SHORT, "name=tiny_llama3", "train.learning_rate=1e-3")
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.mark.parametrize("line", WITH_RUN)
def test_an_example_with_a_run_works(line: str, finished: Path, warm: Cli, tmp_path: Path) -> None:
    if " rm " in line:  # others still want it
        finished = Path(shutil.copytree(finished / "runs", tmp_path / "runs")).parent
    words: list[object] = []
    for word in words_of(line)[1:]:
        found = sorted(finished.glob(word)) if "*" in word else []
        assert len(found) <= 1
        words += found or [word]
    more = ["--out", finished / "comparison"] if words[0] == "compare" else []
    said = re.match(r'echo "(.*?)"', line)
    done = warm(*words, *more, input=f"{said[1]}\n" if said else "")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.slow
def test_all_examples_that_train_work_as_printed_and_those_with_their_runs(
    tag_run: tuple[Path, str], tmp_path: Path
) -> None:
    """But `medrecipes run demo`, which tests/test_demo.py does."""
    place = laid_out(tmp_path)
    assert TRAIN[0] == "medrecipes run demo"
    assert len(TRAIN) >= 3
    # an example trains the tiny Mistral; the other two runs that examples name no example makes
    shutil.copytree(tag_run[0], place / "runs" / tag_run[0].name)
    for line in (*TRAIN[1:], "medrecipes run tiny_llama3", *WITH_RUN):
        done = shell(line, place)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("line", SERVE)
def test_an_example_that_serves_answers(line: str, finished: Path) -> None:
    if "--web" in line and " chat " in line:
        pytest.importorskip("gradio", reason="the page of a conversation needs gradio: pip install 'gradio>=6.31,<7'")
    process = subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=finished, env=environment(finished), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    try:
        assert process.stdout
        began = time.monotonic()
        while time.monotonic() - began < 120:
            if found := re.search(r"http://127\.0\.0\.1:\d+\S*", process.stdout.readline()):
                break
        assert found
        address = found[0].removesuffix("/v1") + ("/v1/models" if " serve " in line else "")
        time.sleep(1)
        assert urllib.request.urlopen(address, timeout=20).status == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
