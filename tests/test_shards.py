"""Rows in shards on disk: the split that one reading gives, kept for whoever goes on after a kill, by two processes too."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecipes.core.errors import DataError
from medrecipes.core.files import read_json
from medrecipes.data import cleaned, reading, split
from medrecipes.data.cleaned import Work, make_shards, open_shard, shards_of
from medrecipes.data.near_duplicates import near
from medrecipes.data.row_files import Joined, Lines, OnDisk
from medrecipes.data.sources import open_source
from medrecipes.data.split import prepare
from medrecipes.pipeline import build
from medrecipes.recipe.schema import Columns, Data, Recipe, Template
from tests.conftest import ROOT

RECIPE = Recipe(data=Data(path=ROOT / "data" / "medquad", near_duplicate=0.7))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset counts as a large one, and a shard is of fifty rows."""
    monkeypatch.setattr(split, "LARGE", 1)
    monkeypatch.setattr(reading, "LARGE", 1)
    monkeypatch.setattr(Work, "__init__", _small(Work.__init__))


def _small(make: Callable[..., None]) -> Callable[..., None]:
    def init(self: Work, *values: Any, **named: Any) -> None:
        make(self, *values, **{"rows": 50, **named} if len(values) < 7 else named)

    return init


def work(root: Path, **more: Any) -> Work:
    return Work(open_source("medquad"), ROOT / "data" / "medquad", Columns(), root, "k", True, **more)


def test_rows_on_disk_are_a_sequence(tmp_path: Path) -> None:
    lines = [json.dumps(number).encode() + b"\n" for number in range(1000)]
    (tmp_path / "a").write_bytes(b"".join(lines))
    file = Lines(tmp_path / "a", np.cumsum([len(line) for line in lines]))
    rows = OnDisk([file, file], int, [np.arange(0, 1000, 2), np.array([999])])
    (tmp_path / "a").unlink()
    assert len(rows) == 501
    assert (rows[0], rows[1], rows[-1], rows[499]) == (0, 2, 999, 998)
    assert rows[498:501] == [996, 998, 999]
    assert rows == [*range(0, 1000, 2), 999]
    assert rows != [*range(501)]
    with pytest.raises(IndexError):
        rows[501]
    both = Joined(rows, (7, 8))
    assert (len(both), both[500], both[501], both[-1], list(both)[-2:]) == (503, 999, 7, 8, [7, 8])


def test_a_large_split_is_that_of_one_reading(store: Path, request: pytest.FixtureRequest) -> None:
    whole = prepare(RECIPE)
    request.getfixturevalue("large")
    made = prepare(RECIPE, fresh=True)
    assert isinstance(made.train, OnDisk)
    assert (made.key, made.report) == (whole.key, whole.report)
    assert (made.train, made.dev, made.test) == (whole.train, whole.dev, whole.test)


def test_two_processes_make_the_shards_of_one(tmp_path: Path) -> None:
    def told(folders: list[Path]) -> list[Any]:
        shards = map(open_shard, folders)
        return [(list(s.lines), s.hashes["answer"].tolist(), s.names["document"], s.triples.tolist(), s.ledger) for s in shards]  # type: ignore[misc]  # fmt: skip

    alone = told(make_shards(work(tmp_path / "alone", rows=50)))
    assert len(alone) == 7
    together = shards_of(work(tmp_path / "two", rows=50), lambda: None, helped=True)
    assert [repr(each) for each in told(together)] == [repr(each) for each in alone]


def test_a_mistake_in_a_helpers_shard_is_told_by_the_first_process(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"question": f"What is {n}?", "answer": f"It is {n} more."}) for n in range(120)]
    path.write_text("\n".join([*lines[:70], "{broken", *lines[70:]]))
    columns = Columns(question="question", answer="answer")
    of = Work(open_source("jsonl"), path, columns, tmp_path / "store", "k", False, rows=50)
    with pytest.raises(DataError, match=r"rows\.jsonl: line 71: invalid JSON"):
        shards_of(of, lambda: None, helped=True)
    path.write_text("\n".join([*lines[:70], lines[3], *lines[70:]]))
    assert len(shards_of(of, lambda: None, helped=True)) == 3


def test_what_was_cleaned_before_a_stop_is_not_cleaned_again(
    store: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    rows = 0

    def clean(*arguments: Any) -> Any:
        nonlocal rows
        rows += 1
        if rows == 180:
            raise KeyboardInterrupt
        return before(*arguments)

    before = cleaned.clean
    monkeypatch.setattr(cleaned, "clean", clean)
    with pytest.raises(KeyboardInterrupt):
        prepare(RECIPE)
    [kept] = store.glob("cleaning-*")
    assert len(list(kept.glob("cleaned-*"))) == 3
    # one of the three is damaged, and is the only one that is made anew
    spoiled = sorted(kept.glob("cleaned-*"))[0] / "rows.jsonl"
    spoiled.write_bytes(spoiled.read_bytes()[:-1])
    rows = 1000
    made = prepare(RECIPE)
    assert rows - 1000 == 327 - 150 + 50
    assert made.report["rows"] == prepare(RECIPE, fresh=True).report["rows"]
    assert not list(store.glob("cleaning-*"))


def test_what_was_written_before_a_stop_is_not_rendered_again(
    store: Path, large: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"name": "set", "template": Template(name="mistral-v3")})
    monkeypatch.setattr(build, "ROWS", 20)
    monkeypatch.setattr(build, "SHARD", 50_000)
    rows = 0

    def row(*arguments: Any) -> Any:
        nonlocal rows
        rows += 1
        if rows == 130:
            raise KeyboardInterrupt
        return before(*arguments)

    before = build._row
    monkeypatch.setattr(build, "_row", row)
    with pytest.raises(KeyboardInterrupt):
        list(build.build(recipe, tmp_path / "out"))
    [kept] = store.glob("building-*")
    stopped = [read_json(path)["rows"] for path in sorted(kept.glob("*/manifest.json"))]
    assert len(stopped) >= 2
    assert not (tmp_path / "out" / "set").exists()
    rows = 1000
    [made] = build.build(recipe, tmp_path / "out")
    resumed = rows - 1000
    assert not list(store.glob("building-*"))
    rows = 1000
    [again] = build.build(recipe, tmp_path / "again")
    assert resumed == rows - 1000 - sum(stopped) - 20 * len(stopped)  # a batch behind each file is rendered twice
    files = [
        sorted((p.relative_to(b.folder), p.read_bytes()) for p in b.folder.rglob("*.arrow")) for b in (made, again)
    ]
    assert files[0] == files[1]
    assert len(files[0]) > 5


def test_near_duplicates_of_texts_in_parts_are_those_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    from medrecipes.data import near_duplicates

    chance = random.Random(5)
    base = [f"w{n}" for n in range(400)]
    texts = []
    for row in range(300):
        text = chance.sample(base, 40)
        texts += [" ".join(text).encode(), " ".join([*text[:-1], f"again{row}"]).encode()]
    whole = near(texts, 0.8)
    assert len(whole.pairs) >= 300
    monkeypatch.setattr(near_duplicates, "SORTED", 100)
    parted = near(texts, 0.8)
    assert parted.pairs.tolist() == whole.pairs.tolist()


def kill(command: list[str], when: Callable[[], bool]) -> None:
    """Start a command, and kill it when something has come about."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not when():
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9, 0.95, 1.0])
def test_what_is_ruled_out_beforehand_has_no_near_duplicate(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    from medrecipes.data import near_duplicates

    chance = random.Random(int(threshold * 100))
    base = [f"w{n}" for n in range(3000)]
    texts = []
    for row in range(1500):
        text = chance.sample(base, chance.randint(1, 90))
        texts.append(text)
        for edits in range(chance.randrange(3)):  # words changed, taken out and put in
            other = list(text)
            for _ in range(edits * 2):
                at = chance.randrange(len(other))
                other[at : at + chance.randrange(2)] = [f"other{row}"] * chance.randrange(2)
                other = other or ["none"]
            texts.append(other)
    plain = list(dict.fromkeys(" ".join(text).encode() for text in texts))
    whole = near(plain, threshold)
    monkeypatch.setattr(near_duplicates, "MANY", 0)
    compared: list[int] = []
    before = near_duplicates._near_among
    monkeypatch.setattr(
        near_duplicates, "_near_among", lambda some, *more: (compared.append(len(some.counts)), before(some, *more))[1]
    )
    for sorted_at_a_time in (1 << 22, 1000):
        monkeypatch.setattr(near_duplicates, "SORTED", sorted_at_a_time)
        assert near(plain, threshold).every().tolist() == whole.every().tolist()
    assert len(whole.every()) > (3 if threshold < 1 else -1)
    assert threshold < 0.9 or max(compared) < 0.8 * len(plain)


@pytest.mark.slow
def test_a_build_killed_while_it_reads_goes_on_from_its_shards(store: Path, tmp_path: Path) -> None:
    path, words = (
        tmp_path / "rows.jsonl",
        ["aspirin", "asthma", "pain", "fever", "cough", "sleep", "blood", "heart", "liver", "skin"],
    )
    with path.open("w") as file:
        for row in range(100_000):
            said = " ".join(words[(row * k + k) % 10] for k in range(1, 60))
            file.write(
                json.dumps({"question": f"What of case {row}?", "answer": f"Case {row}: {said} {row * 7}."}) + "\n"
            )
    assert path.stat().st_size > split.LARGE
    command = [
        sys.executable, "-m", "medrecipes", "build", "recipes/tiny_mistral.toml", "--set", "data.source=jsonl",
        "--set", f"data.path={path}", "--set", "data.columns={question='question',answer='answer'}", "--set", "data.near_duplicate=0.9", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    kill(command, lambda: len(list(store.glob("cleaning-*/cleaned-*/manifest.json"))) >= 3)
    kept = {p: p.stat().st_ino for p in store.glob("cleaning-*/cleaned-*/manifest.json")}
    kill(command, lambda: len(list(store.glob("cleaning-*/cleaned-*/manifest.json"))) >= 5)
    assert all(p.stat().st_ino == inode for p, inode in kept.items())
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MEDRECIPES_CACHE": str(tmp_path / "other")})  # fmt: skip
    said = [[re.sub(r" [0-9.]+ s$", "", line) for line in each.stdout.splitlines() if "/100 " not in line] for each in (done, again)]  # fmt: skip
    assert said[0] == said[1]
    assert len(said[0]) > 5
    assert not list(store.glob("cleaning-*"))
