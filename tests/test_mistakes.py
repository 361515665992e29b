"""scripts/mistakes: each mistake is the one that it says, and what it makes is never taken for what is right."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "scripts" / "mistakes"


def build(*program: str, out: Path) -> dict[str, Any]:
    command = [*program, "build", str(ROOT / "recipes" / "tiny_mistral.toml"), "--out", str(out)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(next(out.rglob("data.json")).read_text())
    return found


def test_a_split_by_row_leaks_and_is_kept_apart_from_the_right_one(tmp_path: Path) -> None:
    wrong = build(str(SCRIPT), "split_by_row", out=tmp_path / "wrong")
    right = build("-m", "medrecipes", out=tmp_path / "right")
    leaks = {name: made["leakage"]["grouped"]["test"]["any"] for name, made in (("wrong", wrong), ("right", right))}
    assert leaks["right"] == 0
    assert leaks["wrong"] > 0


def test_stop_tokens_are_hidden_from_training_rows_alone(libraries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.engines.trainer import chat
    from medrecipes.rendering.chat_template import MASKED, Example

    seen: dict[str, Any] = {}
    monkeypatch.setattr(chat.TrlEngine, "train", lambda _self, train, dev, *_: seen.update(train=train, dev=dev) or {})
    runpy.run_path(str(SCRIPT))["stop_token"]()
    rows = [Example("a", "a", [5, 6, 2, 7, 2], [MASKED, 6, 2, 7, 2])]
    chat.TrlEngine.train(SimpleNamespace(template=SimpleNamespace(stop_ids=(2,))), rows, rows, None, None)  # type: ignore[arg-type]
    assert [row.labels for row in seen["train"]] == [[MASKED, 6, MASKED, 7, MASKED]]
    assert seen["dev"] is rows


def test_an_unknown_mistake_is_told_which_there_are() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "typo", "run"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 2
    assert "stop_token" in done.stderr
    assert "split_by_row" in done.stderr
