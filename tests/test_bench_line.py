"""`scripts/bench line`: where the time of a run went, and that its parts are all of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

STATE = {
    "seconds": {
        "data": 1.0, "base": 10.0, "tokens": 2.0, "proofs": 1.0, "load": 6.0, "evaluate (base)": 20.0, "train": 50.0,
        "evaluate (tuned)": 10.0,
    }
}  # fmt: skip
STATS = {"train_runtime": 45.0, "evaluation_seconds": 4.0, "saving_seconds": 1.0, "all_dev_seconds": 2.0}


@pytest.fixture(scope="module")
def line() -> ModuleType:
    spec = importlib.util.spec_from_file_location("line", ROOT / "scripts" / "benchmarks" / "line.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_parts_of_a_training_are_its_whole(line: ModuleType) -> None:
    found = line.stages(STATE, STATS, 110.0)
    assert {name: seconds for name, seconds in found.items() if name.startswith("train")} == {
        "train: steps": 40.0, "train: dev evaluation": 6.0, "train: checkpoints": 1.0, "train: all else": 3.0,
    }  # fmt: skip
    assert sum(found.values()) == 110.0
    assert found["start and end"] == 10.0
    assert sum(line.stages(STATE, STATS).values()) == 100.0
    # a run of before this was counted has no such figures
    assert line.stages(STATE, {"train_runtime": 45.0})["train: steps"] == 45.0


def test_a_table_has_every_stage_and_the_whole(line: ModuleType) -> None:
    rows = line.table({"a": line.stages(STATE, STATS), "b": {"data": 1.0}})
    assert rows[0] == "| stage | a |  | b |  |"
    assert rows[2] == "| data | 1.0 s | 1% | 1.0 s | 100% |"
    assert rows[-1] == "| in all | 100.0 s | 100% | 1.0 s | 100% |"
    assert len(rows) == 2 + 11 + 1


def test_the_bars_are_a_picture(line: ModuleType, tmp_path: Path) -> None:
    line.draw(tmp_path / "line.png", {"a": line.stages(STATE, STATS, 110.0), "b": line.stages(STATE, STATS)})
    assert (tmp_path / "line.png").read_bytes()[:4] == b"\x89PNG"
