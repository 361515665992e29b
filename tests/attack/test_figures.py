"""Figures that are none: in runs and CSVs that are compared, and in predictions that are scored."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.evaluation.compare import read_runs
from medrecipes.evaluation.compare.histories import read_history
from tests.attack.harness import attack, limited, refused
from tests.test_compare import make_run

Recording = Callable[[str, object], None]
DEEP = "[" * 100_000
HUGE = "9" * 5000

CSVS = [
    "", "\n", "\0", "Step\n1\n", "Loss\n1\n", "Step,Loss\n", "Step,Loss\n1,nan\n", "Step,Loss\n1,inf\n", "Step,Loss\n1,-inf\n",
    "Step,Loss\n1,1e400\n", "Step,Loss\n1,1e300\n", "Step,Loss\nnan,1\n", "Step,Loss\ninf,1\n", "Step,Loss\n1e300,1\n",
    "Step,Loss\n-1,1\n", "Step,Loss\n,1\n", "Step,Loss\nx,1\n", "Step,Loss\n1,x\n", f"Step,Loss\n{HUGE},1\n", f"Step,Loss\n1,{HUGE}\n",
    "Step,Loss\n1,1\n2\n3,nan\n", "Step,Loss\n1,1\0\n", f'Step,Loss\n1,"{"x" * 200_000}"\n',
    "Step,Loss,Validation Loss\n1,1,nan\n", "Step,Training Loss\n1,NaN\n", "Step,Loss\n1,None\n", "Step,Loss\n1,1,1,1\n1,x\n",
]  # fmt: skip


def test_a_csv_of_no_losses_is_one_line(tmp_path: Path, record_property: Recording) -> None:
    path, good = tmp_path / "x_loss.csv", tmp_path / "good_loss.csv"
    good.write_text("Step,Loss\n1,2\n2,1\n")
    for text in CSVS:
        path.write_text(text)
        refused(attack("compare", path, good, "--out", tmp_path / "out", cwd=tmp_path), str(path))
        assert not (tmp_path / "out").exists()
    path.write_text("Step,Loss\n0,2\n")
    for value in ('"x"', "NaN", "Infinity", "-1", "1e300", "[]", "true", HUGE, "{}"):
        (tmp_path / "trainer_stats_x.json").write_text(f'{{"train_runtime": {value}}}')
        refused(attack("compare", path, good, "--out", tmp_path / "out", cwd=tmp_path), "trainer_stats_x.json")
    for text in (DEEP, "[]", "1", '"x"', "{", "\0"):
        (tmp_path / "trainer_stats_x.json").write_text(text)
        refused(attack("compare", path, good, "--out", tmp_path / "out", cwd=tmp_path), "trainer_stats_x.json")
    record_property("attacks", ("bad figures", len(CSVS) + 15))


def edited(path: Path, *keys: str | int, to: Any) -> None:
    """Set a value deep in a JSON file."""
    value = whole = json.loads(path.read_text())
    for key in keys[:-1]:
        value = value[key]
    value[keys[-1]] = to
    path.write_text(json.dumps(whole))


VALUES = (math.nan, math.inf, -math.inf, "x", [], {}, True)
EDITS: list[tuple[str, tuple[str | int, ...], tuple[Any, ...]]] = [
    ("trainer_stats.json", ("train_loss",), (*VALUES, -1, 1e300)),
    ("trainer_stats.json", ("train_runtime",), (*VALUES, -1, 1e300)),
    ("run.json", ("peak_gb",), (*VALUES, -1, 1e300)),
    ("run.json", ("proofs",), (1, "x", [], None, {"train": 1})),
    ("data.json", ("tokens",), (1, "x", [1], {"train": 1}, {"train": {}})),
    ("data.json", ("tokens", "train", "supervised"), (math.nan, math.inf, "x", None, [])),
    ("data.json", ("tokens", "dev", "answer_bytes"), (math.nan, "x", [1])),
    ("eval/report.json", ("tuned",), (1, "x", [], None)),
    ("eval/report.json", ("tuned", "rouge1"), (1, "x", [], None, {})),
    ("eval/report.json", ("tuned", "rouge1", "value"), (math.nan, math.inf, -math.inf, "x", [], {})),
    ("eval/report.json", ("tuned", "bits_per_byte", "low"), (math.nan, math.inf, "x", [])),
    ("eval/report.json", ("difference", "rougeL", "high"), (math.nan, math.inf)),
    ("eval/report.json", ("rows",), ("x", math.nan, [], None, {})),
    ("eval/report.json", ("decoding",), (1, "x", [], {}, {"method": "m", "max_new_tokens": 1, "repetition_penalty": "x"})),
]  # fmt: skip
TEXTS = {
    "run.json": ("", "1", "[]", '"x"', "{", DEEP, f'{{"state": {HUGE}}}'),
    "data.json": ("", "1", "[]", "{", DEEP),
    "trainer_stats.json": ("", "1", "[1]", "{", DEEP),
    "eval/report.json": ("", "1", "[1]", "{", DEEP),
    "eval/predictions.jsonl": ("{\n", "1\n", "[]\n", f"{DEEP}\n", "\0\n", '{"id": 1}\n'),
    "recipe.toml": ("[", "a = " + "[" * 5000, f"seed = {HUGE}", "\0", "a." * 5000 + "a = 1", "train = 1"),
}
LOSSES = [
    ("train", "tarin"), (",8000", ",0"), (",8000", ",nan"), (",8000", ",x"),
    (",8000", ",1e-300"), ("\n1,", "\nx,"), ("\n1,", "\n-1,"), ("\n1,", "\n1e300,"),
    ("\n2,", f"\n{HUGE},"), ("train,", "train,nan"), ("train,", "train,inf"),
    ("dev,", "dev,nan"), ("train,", "train,x"), ("train,", "train,\0"), ("step,", "stop,"),
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder, written by the tests of comparisons."""
    return make_run(tmp_path / "one", steps=8, questions=6)


def refuses(run: Path, other: Path) -> None:
    """Hold that a run is refused in one line that names it."""
    with limited(), pytest.raises(MedRecipesError) as error:
        read_runs([run, other])
    assert str(error.value).startswith(str(run))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_a_run_whose_figures_are_none_is_one_line(run: Path, tmp_path: Path, record_property: Recording) -> None:
    other, count = make_run(tmp_path / "two", steps=8, questions=6), 0
    read_runs([run, other])
    for name, keys, values in EDITS:
        whole = (run / name).read_text()
        for value in values:
            edited(run / name, *keys, to=value)
            refuses(run, other)
            count += 1
        (run / name).write_text(whole)
    for name, texts in TEXTS.items():
        whole = (run / name).read_text()
        for text in texts:
            (run / name).write_text(text)
            refuses(run, other)
            count += 1
        (run / name).write_text(whole)
    whole = (run / "loss.csv").read_text()
    for old, new in LOSSES:
        assert old in whole
        (run / "loss.csv").write_text(whole.replace(old, new))
        refuses(run, other)
        count += 1
    (run / "loss.csv").write_text(whole)
    read_runs([run, other])
    record_property("attacks", ("bad figures", count))


def test_a_csv_that_begins_before_the_first_step_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x_loss.csv"
    path.write_text("Step,Loss\n0,2\n")
    (tmp_path / "trainer_stats_x.json").write_text('{"train_runtime": 5}')
    run = read_history(path)
    assert (run.train[0].step, run.train[0].loss, run.train[0].seconds) == (0, 2.0, None)


ROW = {
    "id": "a",
    "group": "g",
    "task": "spans",
    "prompt": "a b c d",
    "gold": "D\t0\t1\ta b",
    "prediction": "D\t0\t1\ta b",
}
SPANS = (
    "D\t0\t1\ta b\nD\t1\t2\tb c", "D\t0\t3\tx\nC\t1\t1\tb", "D\t0\t1\ta b\nD\t0\t1\ta b", "D\t1\t0\t", "D\t-1\t0\t", "D\t0\t4\t",
    "D", "D\t0", "D\tx\ty\t", "\t0\t1\t", f"D\t0\t{HUGE}\t", f"D\t{'9' * 4000}\t{'9' * 4000}\t", "D\t0.5\t1\t", "D\tnan\tnan\t",
)  # fmt: skip
QA = {"id": "a", "group": "g", "task": "qa", "prompt": "p", "gold": "g", "prediction": "x"}
WRONG: list[dict[str, Any]] = [
    {"bits": math.nan}, {"bits": math.inf}, {"bits": -1.0}, {"bits": "x"}, {"bits": True}, {"bits": [1]}, {"bits": 10**400, "bytes": 1},
    {"bytes": -1}, {"bytes": 1.5}, {"bytes": math.nan}, {"tokens": -1}, {"tokens": 1.5}, {"tokens": math.inf}, {"limit": -1},
    {"stopped": 1}, {"stopped": "no"}, {"model": 1}, {"model": []}, {"task": "x"}, {"task": 1}, {"task": []}, {"task": {}},
    {"id": 1.5}, {"id": []}, {"id": None}, {"group": {}}, {"group": True}, {"prompt": 1}, {"gold": []}, {"gold": ""},
    {"gold": "\ud800"}, {"prediction": "\udfff"}, {"prediction": None}, {"prediction": [["a", "b", "c"]]},
]  # fmt: skip


def test_predictions_that_cannot_be_scored_are_one_line(tmp_path: Path, record_property: Recording) -> None:
    path, count = tmp_path / "p.jsonl", 0
    rows = [{**ROW, name: spans} for name in ("gold", "prediction") for spans in SPANS] + [
        {**QA, **one} for one in WRONG
    ]
    lines = [json.dumps(row) for row in rows]
    lines += ["{", "1", "[]", "null", "\0", DEEP, f'{{"id": {HUGE}}}', '{"id": 1, "id": 2}', "{} {}"]
    for line in lines:
        path.write_text(f"{line}\n")
        refused(attack("score", path, cwd=tmp_path), f"{path}:1: ")
        count += 1
    for text in ("", "\n\n", "\ufeff"):
        path.write_text(text)
        refused(attack("score", path, cwd=tmp_path), "holds no prediction")
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/zero", "/dev/null", tmp_path / "pipe", tmp_path, tmp_path / "absent", "a" * 5000):
        refused(attack("score", place, cwd=tmp_path), str(place)[:100])
    record_property("attacks", ("bad figures", count + 9))
