"""Signs of life: what a person sees of a run on a terminal, what a log file holds, and what a machine is given."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrecipes.core import progress
from medrecipes.core.console import Console
from medrecipes.core.progress import Work, counted, counting, phase
from medrecipes.release.publish import delivery
from tests.conftest import DEMO, ROOT, SHORT, Cli, sets
from tests.hub import Hub

SILENT_S = 5.0


@dataclass(frozen=True)
class Seen:
    """What came on a terminal, and the longest time in which nothing did."""

    code: int
    text: str
    gap: float


def on_a_terminal(command: list[str], **environment: str) -> Seen:
    """Run a command on a pseudo-terminal of 100 columns."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown, gap, last = b"", 0.0, None
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        now = time.monotonic()
        gap = max(gap, now - last) if last is not None else 0.0  # what comes before the first stage is Python's start
        last = now
        shown += piece
    return Seen(process.wait(), shown.decode(), gap)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The tiny recipe, on a terminal."""
    runs = tmp_path_factory.mktemp("runs")
    return on_a_terminal([sys.executable, "-m", "medrecipes", "run", "recipes/tiny_mistral.toml", "--runs", str(runs), *sets(*SHORT)])  # fmt: skip


def test_no_stage_is_silent_for_longer_than_five_seconds(seen: Seen) -> None:
    assert seen.code == 0, seen.text[-3000:]
    assert seen.gap < SILENT_S


def test_a_terminal_has_a_line_of_every_stage_in_colour_and_ends_with_the_next_command(seen: Seen) -> None:
    bold = re.findall(r"\x1b\[1m(\S[^\x1b]*?) *\x1b\[0m", seen.text)
    names = ["data", "base", "tokens", "proofs", "load", "evaluate (base)", "train", "evaluate (tuned)"]
    assert [name for name in dict.fromkeys(bold) if name in names] == names
    assert seen.text.count("\x1b[?25l") == seen.text.count("\x1b[?25h") >= 8  # the cursor comes back behind each
    assert re.search(r"\x1b\[32m━+", seen.text)
    assert re.search(r"\d+/12  loss \d", seen.text)
    assert re.match(r"talk to it +\S*medrecipes chat \S+/tiny_mistral-[0-9a-f]{8}", seen.text.splitlines()[-1])


STAGES = """
import sys, time
from pathlib import Path
from medrecipes.core.console import Console
from medrecipes.core.progress import counted, phase
console = Console()
with console.stage("short") as stage:
    stage.says("over at once")
with console.stage("long") as stage, console.quiet(Path(sys.argv[1])):
    phase("reading")
    time.sleep(1.6)
    stage.says("over")
"""


def test_a_file_is_given_whole_lines_and_no_carriage_return(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STAGES, str(tmp_path / "log.txt")], cwd=ROOT, capture_output=True, check=True)  # fmt: skip
    assert re.sub(rb"\d\.\d s", b"N s", done.stdout) == (
        b"short            over at once  N s\nlong             reading  1 s\nlong             over  N s\n"
    )
    assert done.stderr == (tmp_path / "log.txt").read_bytes() == b""


def test_colours_are_left_out_where_the_reader_says_so() -> None:
    code = "from medrecipes.core.console import Console\nwith Console().stage('data') as s:\n    s.says('done')"
    for environment, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        shown = on_a_terminal([sys.executable, "-c", code], **environment)
        assert ("\x1b[2m" in shown.text) is coloured or "NO_COLOR" in environment
        assert ("\x1b[3" not in shown.text) or coloured


def test_the_first_of_what_is_done_at_once_tells_nothing_of_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    work = Work("tuned", 10, 0, at_once=True)
    now, work.done = 108.0, 1
    assert str(work) == "1/10  8 s"
    work.done = 5
    assert str(work) == "5/10  8 s left"


def test_the_time_left_is_reckoned_from_what_was_done_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    work = Work("train", 100, 40)  # resumed from step 40
    now = 110.0
    assert str(work) == "40/100  10 s"
    work.done, work.text = 50, "loss 1.0"
    assert work.left == 50.0
    assert str(work) == "50/100  loss 1.0  50 s left"
    now = 710.0
    assert str(work) == "50/100  loss 1.0  51 min left"
    bytes_ = Work("load", 4_000_000_000, 0, bytes=True)
    now, bytes_.done = 730.0, 1_000_000_000
    assert str(bytes_) == "1,000.0/4,000.0 MB  60 s left"


def test_a_stage_that_lasts_has_another_sign_of_life_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    work = Work("base", text="importing torch and unsloth")
    said = []
    for now in (14.2, 134.0, 144.0):  # noqa: B007 - the clock reads it
        said.append(str(work))
    assert [text.removeprefix("importing torch and unsloth  ") for text in said] == ["14 s", "2 min 14 s", "2 min 24 s"]


def test_what_is_counted_deep_below_is_shown_by_the_stage_at_work_and_never_takes_a_bar() -> None:
    assert list(counted("abc", 3)) == ["a", "b", "c"]  # nobody shows anything
    with Console().stage("tokens"):
        work = progress.at_work[-1]
        phase("reading")
        for number, _ in enumerate(counted("abc", None, "rows read")):
            assert str(work) == (f"{number} rows read  0 s" if number else "rows read  0 s")
        for number, _ in enumerate(counted("abc", 3, "rows")):
            assert (work.done, work.total, work.text) == (number, 3, "rows")
        assert (work.total, work.text) == (None, "reading")
        with Console().bar("train", 5) as bar:
            bar.at(2, "loss 1")
            phase("something else")
            with counting(9) as add:
                add(4)
            assert (progress.at_work[-1].done, progress.at_work[-1].total, progress.at_work[-1].text) == (
                2,
                5,
                "loss 1",
            )
    assert progress.at_work == []


def test_a_stage_does_not_begin_once_more_when_what_was_at_work_within_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLAIN_FIRST_S", "PLAIN_EVERY_S", "TICK_S"):
        monkeypatch.setattr(f"medrecipes.core.console.{name}", 0.05)
    out = io.StringIO()
    console = Console(out)
    with console.stage("train"):
        with console.bar("train", 3) as bar:
            bar.at(1)
            time.sleep(0.3)
        time.sleep(0.3)
    assert "1/3" in out.getvalue()
    assert "begins" not in out.getvalue()


def test_a_stage_that_fails_gives_the_terminal_back() -> None:
    code = "from medrecipes.core.console import Console\nwith Console().stage('data'):\n    raise SystemExit('no')"
    shown = on_a_terminal([sys.executable, "-c", code])
    assert shown.text.rstrip().endswith("no")
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") == 1


FETCH = """
import json, sys
from pathlib import Path
from huggingface_hub import snapshot_download
from medrecipes.core import progress
from medrecipes.core.console import Console
from medrecipes.engines.bases import Base, fetch_weights
seen, usual = [], progress.at_bytes
progress.at_bytes = lambda done, total: (seen.append([done, total]), usual(done, total))
with Console().stage("load"):
    fetch_weights(Base("someone/base", Path("."), sys.argv[1]))
    assert progress.at_work[-1].total is None
here = Path(snapshot_download("someone/base", revision=sys.argv[1], allow_patterns=["model*"], local_files_only=True))
print(json.dumps([seen[-1], sorted(path.name for path in here.iterdir())]))
"""


@pytest.mark.parametrize("parts", [1, 2])
def test_the_weights_of_a_base_are_fetched_with_their_bytes_counted(parts: int, tmp_path: Path) -> None:
    names = ["model.safetensors"] if parts == 1 else [f"model-{n}.safetensors" for n in range(parts)]
    files = {name: os.urandom(3_000_000) for name in names} | {"consolidated.safetensors": os.urandom(1_000_000)}
    if parts > 1:
        files["model.safetensors.index.json"] = json.dumps({"weight_map": dict(enumerate(names))}).encode()
    with Hub() as hub:
        repo = hub.store.create("someone/base", "model")
        repo.put(files)
        done = subprocess.run([sys.executable, "-c", FETCH, repo.resolve("main").sha], cwd=ROOT, env=hub.environment(tmp_path / "hf"), capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    last, here = json.loads(done.stdout.splitlines()[-1])
    assert last == [3_000_000 * parts] * 2
    assert here == sorted({*names, *([] if parts == 1 else ["model.safetensors.index.json"])})  # and no other weights
    assert "\r" not in done.stderr  # the client draws nothing


def test_uploads_go_in_portions_whose_bytes_are_counted() -> None:
    sizes = [10, delivery.LARGE + 1, 20, delivery.LARGE]
    adds = [SimpleNamespace(upload_info=SimpleNamespace(size=size)) for size in sizes]
    assert [[add.upload_info.size for add in some] for some in delivery._portions(adds)] == [[10, 20], [delivery.LARGE + 1], [delivery.LARGE]]  # fmt: skip
    assert list(delivery._portions([])) == []


LONG = ("run", "build", "eval", "export", "publish", "verify", "sweep")


def test_every_long_command_speaks_to_machines_in_one_way(cli: Cli) -> None:
    from medrecipes.commands import _parser

    [commands] = [action for action in _parser()._actions if action.dest == "command"]
    for name in LONG:
        said = {
            action.option_strings[0]: action.help for action in commands.choices[name]._actions if action.option_strings
        }  # type: ignore[union-attr, index]
        assert said["--quiet"] == "print no progress and no summary, only notes and errors"
        assert said["--json"] == "print what came of it as one JSON object; progress goes to standard error"


@pytest.mark.parametrize("command", ["build", "eval", "export", "publish", "verify", "run"])
def test_a_machine_gets_one_object_and_the_progress_apart(
    command: str, tiny_run: Path, warm: Cli, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name))
    more = {
        "run": (*DEMO, "--runs", tmp_path), "build": ("recipes/tiny_mistral.toml", "--out", tmp_path / "built"),
        "export": (run, "--format", "adapter"), "publish": (run, "--waive", "reload"),
    }.get(command, (run,))  # fmt: skip
    done = warm(command, *more, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= KEYS[command]
    assert "\r" not in done.stderr
    assert len(done.stderr.splitlines()) >= 1
    quiet = warm(command, *more, "--quiet", *(("--fresh",) if command == "eval" else ()))
    assert (quiet.returncode, quiet.stdout) == (0, "")


KEYS = {
    "run": {"run", "state", "resumed_from_step", "report", "releases"}, "build": {"datasets", "releases"},
    "eval": {"run", "folder", "report"}, "export": {"folder", "format", "parity", "files"},
    "publish": {"releases"}, "verify": {"name", "holds", "claims"},
}  # fmt: skip


def test_the_kept_step_is_marked_in_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.runs import loss_plot

    figures: list[Any] = []
    monkeypatch.setattr(loss_plot, "_save", lambda figure, path: figures.append(figure))
    rows = [{"step": str(step), "split": split, "loss": "2.5"} for step in (1, 2, 3) for split in ("train", "dev")]
    for kept in (2, None):
        loss_plot.loss_png(tmp_path / "loss.png", "t", rows, "answers", kept)
    labels = [[line.get_label() for line in figure.axes[0].lines] for figure in figures]
    assert "kept: step 2" in labels[0]
    assert [line.get_xdata()[0] for line in figures[0].axes[0].lines if line.get_label() == "kept: step 2"] == [2]
    assert not [label for label in labels[1] if label.startswith("kept")]
