"""Two processes at once on one run folder, sweep, comparison or stage: one works, the other is told in a line who does."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import DataError, MedRecipesError
from medrecipes.core.files import digest
from medrecipes.evaluation.answers import Questions, predict
from medrecipes.evaluation.chat_report import BASE, TUNED
from medrecipes.pipeline.sweep import recipes
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Eval
from medrecipes.runs.folder import LOCK, holding, open_run, run_path
from medrecipes.scoring.predictions import read_predictions
from tests.attack.harness import attack, fingerprint, refused
from tests.conftest import DEMO as DEMO_RUN
from tests.conftest import ROOT, sets
from tests.test_evaluate import Listed, bound, rows

# holds the folders that it is told of, one after the other, each until the next line
HOLDER = """
import sys
from pathlib import Path
from medrecipes.runs.folder import holding
for line in sys.stdin:
    with holding(Path(line.strip())):
        print("held", flush=True)
        sys.stdin.readline()
    print("let go", flush=True)
"""
DEMO = ROOT / "recipes" / "tiny_mistral.toml"
SWEEP = ROOT / "recipes" / "tiny_sweep.toml"


class Holder:
    """A process that is at work in a folder, as far as others can tell."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", HOLDER]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hold(self, folder: Path) -> None:
        assert self._asked(str(folder)) == "held"

    def let_go(self) -> None:
        assert self._asked("") == "let go"

    def _asked(self, line: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def holder() -> Iterator[Holder]:
    made = Holder()
    yield made
    made.process.kill()
    made.process.wait()


def finished(folder: Path) -> Path:
    """What commands take for a finished run before they hold it."""
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "run.json").write_text('{"state": "finished", "split_key": "x"}')
    return folder


def of_run(runs: Path) -> Path:
    return run_path(load(DEMO).recipe, runs, fresh=False)


def of_sweep(runs: Path) -> Path:
    return runs / f"tiny_sweep-sweep-{digest([recipe.key for _, recipe in recipes(SWEEP, [])])[:8]}"


# the folder that the first process holds, and the command that the second one tries
PAIRS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "eval + eval": (lambda runs: finished(runs / "r"), ("eval", "runs/r")),
    "eval + eval --fresh": (lambda runs: finished(runs / "r"), ("eval", "runs/r", "--fresh")),
    "eval + eval of a checkpoint": (lambda runs: finished(runs / "r"), ("eval", "runs/r", "--checkpoint", "6")),
    "eval + export": (lambda runs: finished(runs / "r"), ("export", "runs/r", "--format", "adapter")),
    "export + publish": (lambda runs: finished(runs / "r"), ("publish", "runs/r")),
    "publish + publish, the second of two runs": (
        lambda runs: (finished(runs / "s"), finished(runs / "r"))[1], ("publish", "runs/s", "runs/r"),
    ),
    "eval + verify": (lambda runs: finished(runs / "r"), ("verify", "runs/r")),
    "run + run": (of_run, ("run", str(DEMO), "--runs", "runs")),
    "run + eval": (lambda runs: finished(of_run(runs)), ("eval", "RUN")),
    "run + export": (lambda runs: finished(of_run(runs)), ("export", "RUN", "--format", "adapter")),
    "run + publish": (lambda runs: finished(of_run(runs)), ("publish", "RUN")),
    "sweep + sweep": (of_sweep, ("sweep", str(SWEEP), "--runs", "runs")),
    "sweep + run": (
        lambda runs: run_path(recipes(SWEEP, [])[1][1], runs, fresh=False),
        ("run", str(DEMO), "--runs", "runs", "--set", "name=tiny_sweep", "--set", "lora.rank=4", "--set", "train.learning_rate=2e-3"),
    ),
    "compare + compare": (
        lambda runs: runs.parent / "comparison",
        ("compare", "losses.csv", "other.csv", "--out", "comparison"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_the_second_of_two_processes_is_told_who_is_at_work(
    pair: str, holder: Holder, tmp_path: Path, record_property: Any
) -> None:
    place, command = PAIRS[pair]
    for name in ("losses.csv", "other.csv"):
        (tmp_path / name).write_text("Step,Loss\n1,2.5\n2,2.25\n")
    folder = place(tmp_path / "runs")
    words = [str(folder) if word == "RUN" else word for word in command]
    holder.hold(folder)
    before = fingerprint(tmp_path)
    told = attack(*words, cwd=tmp_path)
    refused(told, f"process {holder.process.pid} on ", " is at work there; wait for it")
    assert told.err.count("\n") == 1, told.err
    assert fingerprint(tmp_path) == before
    holder.let_go()
    assert not (folder / LOCK).exists()
    record_property("attacks", ("pairs of processes", 1))


def test_a_killed_process_holds_nothing(tmp_path: Path, record_property: Any) -> None:
    killed = Holder()
    killed.hold(tmp_path / "run")
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert (tmp_path / "run" / LOCK).exists()  # it could not take it away
    with holding(tmp_path / "run"):
        pass
    assert not (tmp_path / "run" / LOCK).exists()
    record_property("attacks", ("pairs of processes", 1))


@pytest.mark.parametrize(("mask", "files"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_others_cannot_read_a_run_folder(mask: int, files: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with open_run(tmp_path / "runs" / "run", load(DEMO).recipe) as rundir:
            rundir.update(state="training")
    finally:
        os.umask(before)
    assert stat.S_IMODE(rundir.path.stat().st_mode) == 0o700
    for name in ("run.json", "recipe.toml"):  # as the user's umask says, once the folder is opened to others
        assert stat.S_IMODE((rundir.path / name).stat().st_mode) == files
    assert stat.S_IMODE(rundir.path.parent.stat().st_mode) == 0o777 & ~mask


def test_what_stands_in_the_place_of_a_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("years of work")
    for name, make in (("link", lambda p: p.symlink_to(tmp_path / "precious.txt")), ("pipe", os.mkfifo), ("folder", Path.mkdir)):  # fmt: skip
        finished(tmp_path / name)
        make(tmp_path / name / LOCK)
        before = fingerprint(tmp_path)
        refused(attack("eval", name, cwd=tmp_path), LOCK, "cannot be written")
        assert fingerprint(tmp_path) == before


COUNT = """
import sys, time
from pathlib import Path
from medrecipes.core.files import locked
place = Path(sys.argv[1])
for _ in range(40):
    with locked(place / "lock", wait=True):
        number = int((place / "number").read_text())
        time.sleep(0.001)
        (place / "number").write_text(str(number + 1))
"""


def test_a_lock_that_comes_and_goes_is_held_by_one_at_a_time(tmp_path: Path, record_property: Any) -> None:
    (tmp_path / "number").write_text("0")
    made = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in made] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "120"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["number"]
    record_property("attacks", ("pairs of processes", 3))


MAKE = """
import sys, time
from pathlib import Path
from medrecipes.core.files import stage
from medrecipes.recipe.schema import Eval
def build(folder):
    (folder / "a.txt").write_text("the same for all")
    time.sleep(0.3)  # the others have begun as well
    return {"rows": 1}
for _ in range(3):
    print(stage("data", "f" * 64, build, Path(sys.argv[1])) / "a.txt")
"""


def test_processes_that_make_the_same_stage_end_with_one_also_where_a_damaged_one_stands(
    tmp_path: Path, record_property: Any
) -> None:
    for attempt in range(2):
        made = [
            subprocess.Popen([sys.executable, "-c", MAKE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]  # fmt: skip
        said = [process.communicate(timeout=60) for process in made]
        assert [process.returncode for process in made] == [0, 0, 0], said
        for out, err in said:
            assert {Path(line).read_text() for line in out.splitlines()} == {"the same for all"}
            assert err == ("" if attempt == 0 else f"note             {tmp_path}/data-ffffffffffffffff: a.txt is not as it was written; it is made anew\n")  # fmt: skip
        assert [path.name for path in tmp_path.iterdir()] == ["data-ffffffffffffffff"]
        (tmp_path / "data-ffffffffffffffff" / "a.txt").write_text("something else")
    record_property("attacks", ("pairs of processes", 6))


SHORT = sets("train.max_steps=4", "train.save_steps=2", "train.eval_steps=2", "eval.rows=2", "eval.max_new_tokens=4")
EVAL, EXPORT = ("eval", "RUN"), ("export", "RUN", "--format", "adapter")
AGAIN = ("run", *DEMO_RUN, "--runs", "RUNS")
REAL = {
    "eval + eval": (EVAL, EVAL),
    "eval + eval --fresh": (EVAL, (*EVAL, "--fresh")),
    "eval + export": (EVAL, EXPORT),
    "export + export": (EXPORT, EXPORT),
    "eval + publish": (EVAL, ("publish", "RUN", "--waive", "reload")),
    "run + eval": (AGAIN, EVAL),
    "run + export": (AGAIN, EXPORT),
    "run + run": (("run", str(DEMO), *SHORT, "--runs", "RUNS"),) * 2,
    "sweep + sweep": (("sweep", str(SWEEP), *SHORT, "--set", "sweep.samples=2", "--runs", "RUNS"),) * 2,
    "build + build": (("build", str(DEMO), "--out", "RUNS/datasets"),) * 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("pair", REAL)
def test_two_real_commands_at_once_leave_what_one_would(
    pair: str, tiny_run: Path, tmp_path: Path, record_property: Any
) -> None:
    runs = tmp_path / "runs"
    run = Path(shutil.copytree(tiny_run, runs / tiny_run.name))
    predictions = run / "eval" / "predictions.jsonl"
    whole = predictions.read_bytes()
    lines = whole.splitlines(keepends=True)
    predictions.write_bytes(b"".join(lines[:2]))  # there is something to answer for both
    if pair.startswith("run + e"):  # it was killed before it was finished
        state = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**state, "state": "training"}))
    named = {"RUN": str(run), "RUNS": str(runs), "RUNS/datasets": str(runs / "datasets")}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "medrecipes", *(named.get(word, word) for word in words)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for words in REAL[pair]
    ]  # fmt: skip
    ended = [(*process.communicate(timeout=500), process.returncode) for process in started]
    assert 0 in [code for _, _, code in ended], ended
    for _, err, code in ended:
        assert code in (0, 2), ended
        assert "Traceback" not in err
        assert code == 0 or err.count("\n") == 1, err
    assert not list(runs.rglob(LOCK))
    if any(words in (EVAL, AGAIN) and code == 0 for words, (_, _, code) in zip(REAL[pair], ended, strict=True)):
        assert sorted(predictions.read_bytes().splitlines()) == sorted(whole.splitlines())
    for found in runs.rglob("predictions.jsonl"):
        assert len(read_predictions(found, own=True)) > 0  # none torn, none twice
    record_property("attacks", ("pairs of processes", 1))


# --- what two writers, or a crash, leave of predictions.jsonl

Spoil = Callable[[list[bytes]], bytes]
HALF = 40


def other(line: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


SPOILED: dict[str, Spoil] = {
    "a torn line": lambda lines: b"".join(lines)[:-HALF],
    "torn in the middle": lambda lines: b"".join([lines[0], lines[1][:HALF], *lines[2:]]),
    "a line twice": lambda lines: b"".join([*lines, lines[1]]),
    "all lines twice": lambda lines: b"".join(lines * 2),
    "two answers to a question": lambda lines: b"".join([*lines, other(lines[0], prediction="Take 5 g of warfarin.")]),
    "two writers within a line": lambda lines: b"".join([lines[0][:HALF], lines[1], lines[0][HALF:], *lines[2:]]),
    "two lines run together": lambda lines: b"".join([lines[0][:-1], *lines[1:]]),
    "zeros": lambda lines: b"".join([lines[0], bytes(len(lines[1])), *lines[2:]]),
    "zeros behind the end": lambda lines: b"".join(lines) + bytes(512),
    "not UTF-8": lambda lines: b"".join([lines[0].replace(b"prompt", b"pr\xffmpt"), *lines[1:]]),
    "another file's line": lambda lines: b"".join(lines) + b'{"step": 1, "loss": 2}\n',
    "an array": lambda lines: b"".join(lines) + b"[1, 2]\n",
    "nested": lambda lines: b"".join(lines) + b"[" * 100_000 + b"\n",
    "a figure that is none": lambda lines: b"".join([other(lines[0], bits=math.nan), *lines[1:]]),
    "no answer": lambda lines: b"".join([other(lines[0], prediction=None), *lines[1:]]),
    "another row's question": lambda lines: b"".join([other(lines[0], prompt="Is it contagious?"), *lines[1:]]),
    "another reference": lambda lines: b"".join([other(lines[0], gold="Take 5 g of warfarin."), *lines[1:]]),
    "another row's group": lambda lines: b"".join([other(lines[0], group="d9"), *lines[1:]]),
    "another task": lambda lines: b"".join([other(lines[0], task="diseases"), *lines[1:]]),
    "empty lines": lambda lines: b"\n".join(lines),
    "nothing": lambda lines: b"",
}
TORN = ("a torn line", "nothing", "zeros behind the end")  # as a killed process leaves it, which nobody need be told of
NOT_READ = (
    "another row's question",
    "another reference",
    "another row's group",
    "another task",
    "empty lines",
    "nothing",
)


@pytest.mark.parametrize("spoiled", SPOILED)
def test_spoiled_predictions_are_answered_again_and_never_scored(
    spoiled: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    template = bound("mistral-v1")
    asked = rows(template)
    answers = ["one", "two", "three", "four"]
    path = tmp_path / "predictions.jsonl"

    def answered(model: str, said: list[str]) -> Any:
        return predict(
            model,
            Listed(template, said),
            Questions(asked, template, Eval(max_new_tokens=64), tmp_path, Console.silent()),
        )

    whole = {model: answered(model, answers) for model in (BASE, TUNED)}
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(SPOILED[spoiled](lines))
    if spoiled not in NOT_READ:
        with pytest.raises(DataError, match=re.escape(str(path))):
            read_predictions(path, own=True)
    left = {
        model: [p.prediction for p in whole[model] if lines[[*whole[BASE], *whole[TUNED]].index(p)] not in path.read_bytes().splitlines(keepends=True)]
        for model in (BASE, TUNED)
    }  # fmt: skip
    if spoiled == "two answers to a question":
        left[BASE] = ["one"]
    capfd.readouterr()
    assert {model: answered(model, left[model]) for model in (BASE, TUNED)} == whole
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(lines)
    told = capfd.readouterr().err
    assert ("their questions are asked again" in told) == (spoiled not in TORN)
    assert told.count("\n") == (spoiled not in TORN)
    record_property("attacks", ("spoiled predictions", 1))


def test_answers_are_not_added_to_what_a_link_leads_to(tmp_path: Path) -> None:
    template = bound("mistral-v1")
    (tmp_path / "precious.txt").write_text("")
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "predictions.jsonl").symlink_to(tmp_path / "precious.txt")
    with pytest.raises(MedRecipesError, match="cannot be written"):
        predict(
            BASE,
            Listed(template, ["one"]),
            Questions(rows(template)[:1], template, Eval(max_new_tokens=64), tmp_path / "eval", Console.silent()),
        )
    assert (tmp_path / "precious.txt").read_text() == ""
