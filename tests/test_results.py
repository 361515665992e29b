"""scripts/results: the tables follow from the figures, what has changed since is marked, and finished runs are not run again."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import DEMO, ROOT, TAG

SCRIPT = ROOT / "scripts" / "results"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The script's own functions."""
    before = sys.path[:]
    try:
        return runpy.run_path(str(SCRIPT))
    finally:
        sys.path[:] = before


def test_the_tables_follow_from_the_figures() -> None:
    done = run("--tables", "--check")
    assert done.returncode == 0, done.stderr


def test_what_has_changed_since_a_row_was_measured_is_marked(script: dict[str, Any]) -> None:
    rows = [
        script["Row"](value) for value in script["tomllib"].loads((ROOT / "scripts/results.toml").read_text())["rows"]
    ]
    value = json.loads((ROOT / "docs" / "results.json").read_text())
    measured = next(row for row in rows if row.name in value["rows"])
    assert not script["stale"](measured, value["rows"][measured.name], None)
    for part in ("recipe", "code"):
        entry = {**value["rows"][measured.name], "basis": {**value["rows"][measured.name]["basis"], part: "another"}}
        page = "\n".join(script["page"](rows, {"rows": {**value["rows"], measured.name: entry}}, None))
        assert f"[{measured.name}](../recipes/{measured.recipe}.toml) (stale: {part})" in page


def settings(arguments: tuple[str, ...]) -> list[str]:
    return [value for option, value in pairwise(arguments) if option == "--set"]


def test_finished_runs_are_read_and_not_run_again(
    demo_run: tuple[Path, str], tag_run: tuple[Path, str], tmp_path: Path
) -> None:
    lines = []
    for (folder, _), arguments, data, kind in ((demo_run, DEMO, "medquad", "answers"), (tag_run, TAG, "bio", "tags")):
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
        recipe = Path(arguments[0]).stem
        lines += [
            "[[rows]]", f'recipe = "{recipe}"', f'data = "{data}"', f'figures = "{kind}"', 'test = "some"',
            f"set = {json.dumps([s for s in settings(tuple(map(str, arguments))) if not s.startswith('data.path')])}",
        ]  # fmt: skip
    (tmp_path / "matrix.toml").write_text("\n".join(lines))
    places = ["--matrix", tmp_path / "matrix.toml", "--json", tmp_path / "found.json", "--runs", tmp_path / "runs"]
    done = run("--data", ROOT / "data", "--seeds", "42", *places)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.suffix for path in (tmp_path / "runs").iterdir()) == ["", ""]  # no log of a run
    found = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert len(found) == 2
    for (folder, _), name in ((demo_run, "bits_per_byte"), (tag_run, "span_f1")):
        report = json.loads((folder / "eval" / "report.json").read_text())
        figures = next(e for e in found.values() if name in e["seeds"]["42"]["figures"])["seeds"]["42"]["figures"]
        assert figures[name]["tuned"] == report["tuned"][name]


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    for arguments, says in (
        ((), "--data None: is no folder; name the one that holds the datasets"),
        (("--data", tmp_path, "--only", "smollm3"), "--only smollm3: no such row in"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(says)
        assert len(done.stderr.splitlines()) == 1


def test_recipes_run_before_what_is_compared_with_them_and_long_runs_first(script: dict[str, Any]) -> None:
    given = {"data": "x", "figures": "answers", "test": "some"}
    rows = [script["Row"]({"recipe": name, **given, **more}) for name, more in (("a", {}), ("b", {}), ("c", {}), ("b", {"costs": "it", "mistake": "m"}))]  # fmt: skip
    value = {"rows": {"a": {"seeds": {"1": {"run_s": 5.0}}}, "b": {"seeds": {"1": {"run_s": 9.0}}}}}
    order = [(row.name, seed) for row, seed in script["in_turn"](rows, [42, 1], value)]
    assert order == [("c", 42), ("b", 42), ("a", 42), ("c", 1), ("b", 1), ("a", 1), ("b (m)", 42), ("b (m)", 1)]
    rows[3].seeds = [1]
    assert script["in_turn"](rows, [42, 1], value)[-2:] == [(rows[0], 1), (rows[3], 1)]


def test_no_more_run_at_once_than_fit(script: dict[str, Any]) -> None:
    given = {"data": "x", "figures": "answers", "test": "some"}
    large, small, new = (script["Row"]({"recipe": name, **given}) for name in ("large", "small", "new"))
    value = {"rows": {"large": {"seeds": {"1": {"peak_gb": 15.0}}}, "small": {"seeds": {"1": {"peak_gb": 4.0}}}}}
    jobs = script["Jobs"]([(large, 1), (large, 2), (new, 1), (small, 1), (small, 2)], value, 30.0)
    assert [jobs.take(None) for _ in range(2)] == [(large, 1), (small, 1)]
    taken: list[Any] = []
    waits = threading.Thread(target=lambda: taken.append(jobs.take(None)))
    waits.start()
    assert jobs.take("another GPU") == (large, 2)
    waits.join(0.2)
    assert waits.is_alive(), "the next did not wait for room"
    jobs.ended((large, 1), None)
    waits.join(10)
    assert taken == [(new, 1)]
    jobs.ended((small, 1), None)
    jobs.ended((new, 1), None)
    assert jobs.take(None) == (small, 2)
    assert jobs.take(None) is None


@pytest.mark.parametrize(
    ("words", "runs"), [((), ["a", "b"]), (("--mistakes",), ["a", "a (m)"]), (("--only", "a"), ["a", "a (m)"])]
)
def test_mistakes_are_run_when_they_are_asked_for(
    words: tuple[str, ...], runs: list[str], script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = tmp_path / "matrix.toml"
    row = '[[rows]]\nrecipe = "{}"\ndata = "x"\ntest = "some"\nfigures = "answers"\n'
    matrix.write_text(row.format("a") + row.format("b") + row.format("a") + 'costs = "it"\nmistake = "m"\n')
    ran: list[str] = []
    main = script["main"]
    monkeypatch.setitem(main.__globals__, "measure", lambda rows, *_: ran.extend(row.name for row in rows) or [])
    monkeypatch.setattr(sys, "argv", ["results", "--data", str(tmp_path), "--matrix", str(matrix), *words])
    assert main() == 0
    assert ran == runs


def test_a_mistake_is_held_against_what_was_finished_after_it(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"data": "x", "figures": "answers", "test": "some", "recipe": "smollm2_135m_medquad"}
    rows = [script["Row"](given), script["Row"]({**given, "costs": "it", "mistake": "m"})]
    measure, finished = script["measure"], []

    def one(row: Any, seed: int, *_: Any) -> dict[str, Any]:
        if not row.costs:  # the right one takes longer
            held.wait(10)
            finished.append(seed)
        else:
            held.set()
        return {"peak_gb": 1.0, "run_s": 1.0}

    held = threading.Event()
    changes = {"one": one, "said": lambda *_: "", "held": lambda *_: {"against": {"rougeL": 1}} if finished else {}}
    for name, value in changes.items():
        monkeypatch.setitem(measure.__globals__, name, value)
    monkeypatch.setitem(measure.__globals__, "gpus_here", list)
    monkeypatch.setitem(measure.__globals__, "first_gpu", lambda: None)
    asked = SimpleNamespace(json=tmp_path / "found.json", data=None, at_once=2)
    assert measure(rows, [42], asked) == []
    found = json.loads(asked.json.read_text())["rows"]
    assert found[rows[1].name]["seeds"]["42"]["against"] == {"rougeL": 1}
    assert "against" not in found[rows[0].name]["seeds"]["42"]


def test_a_commit_says_whether_the_checkout_differed(script: dict[str, Any]) -> None:
    assert script["short"]("9b874c424d7d5873aceb26418ca5070d26cdf0c5-dirty") == "9b874c424d7d-dirty"
    assert script["short"]("9b874c424d7d5873aceb26418ca5070d26cdf0c5") == "9b874c424d7d"
    assert script["short"](None) == ""
