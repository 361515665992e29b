"""Killed at every step of the file system: the old or the new stands whole, and the next command leaves nothing over."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core import files as store
from medrecipes.core.files import LEFT, replacing, scratch, stage, write_text
from medrecipes.pipeline.build import build
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.release.export import building
from tests.attack.harness import fingerprint, limited
from tests.conftest import ROOT

STEPS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "ctypes.dlsym")
Record = Callable[[str, Any], None]


def killed(work: Callable[[], object], step: int) -> bool:
    """Whether a process that does the work is killed, right before its n-th change of files; False: it had fewer."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event: str, details: tuple[Any, ...]) -> None:
            nonlocal left
            written = event == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
            if written or event in STEPS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            signal.alarm(20)
            sys.dont_write_bytecode = True
            sys.addaudithook(watch)
            work()
        except BaseException as error:
            sys.__stderr__.write(repr(error))
            os._exit(1)
        os._exit(0)
    with limited():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def tell(folder: Path) -> dict[str, str]:
    """A folder's files and what they hold; none where there is no folder."""
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


OLD, NEW = {"a": "old", "b/c": "old"}, {"a": "new", "d": "new"}


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        write_text(folder / name, text)


@pytest.mark.parametrize("together", [True, False], ids=["exchanged", "set aside"])
@pytest.mark.parametrize("before", [True, False], ids=["over an old one", "the first"])
def test_a_killed_swap(
    together: bool, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    if not together:
        monkeypatch.setattr(store, "_exchanged", lambda one, other: False)
    place = tmp_path / "out" / "v1.0-a"

    def swap(files: dict[str, str] = NEW) -> None:
        with building(place, place.name) as work:
            put(work, files)

    step, seen = 0, set()
    while True:
        step += 1
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir()
        if before:
            swap(OLD)
        if not killed(swap, step):
            break
        standing = tell(place)
        seen.add(standing.get("a"))
        # set aside, there is a moment at which the place is empty; the next command ends it
        assert standing in ([OLD, NEW] if before else [{}, NEW]) or (not together and not standing)
        if step % 2:
            store.clear_left(place.parent)
            assert tell(place) in ([OLD, NEW] if before else [{}, NEW])
        else:
            swap()
            assert tell(place) == NEW
        assert {p.name for p in place.parent.iterdir()} <= {place.name}
    assert tell(place) == NEW
    assert seen >= ({"old", "new"} if before else {None, "new"})
    assert step >= 15
    record_property("attacks", ("kills", step - 1))


def test_a_killed_write_of_a_file(tmp_path: Path, record_property: Record) -> None:
    path = tmp_path / "run" / "run.json"
    step, seen = 0, set()
    while True:
        step += 1
        write_text(path, "old")
        if not killed(lambda: write_text(path, "new"), step):
            break
        seen.add(path.read_text())
        write_text(path.with_name("other.json"), "next")
        assert {p.name for p in path.parent.iterdir()} == {"run.json", "other.json"}
    assert path.read_text() == "new"
    assert seen == {"old", "new"}
    record_property("attacks", ("kills", step - 1))


def test_a_killed_stage(tmp_path: Path, record_property: Record) -> None:
    def make(folder: Path) -> dict[str, Any]:
        put(folder, NEW)
        return {"rows": 2}

    step, kills = 1, 0
    while killed(lambda: stage("data", "f" * 64, make, tmp_path / "store"), step):
        place = tmp_path / "store" / f"data-{'f' * 16}"
        assert not place.exists() or {"a", "d"} < set(tell(place))
        assert stage("data", "f" * 64, make, tmp_path / "store") == place
        stage("other", "e" * 64, make, tmp_path / "store")
        assert {p.name for p in place.parent.iterdir()} == {place.name, f"other-{'e' * 16}"}
        shutil.rmtree(tmp_path / "store")
        step, kills = step + 4, kills + 1
    assert kills >= 10
    record_property("attacks", ("kills", kills))


def small(rows: int) -> Recipe:
    """A dataset of so many rows."""
    return Recipe(name="mine", data=Data(path=ROOT / "data/medquad", limit=rows), seed=7)


def content(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What a dataset's folder holds, but for the random name that the library gives each writing of it."""
    return {name: value for name, value in fingerprint(folder).items() if not name.endswith("state.json")}


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_build(every: int, tmp_path: Path, record_property: Record) -> None:
    place = tmp_path / "out" / "mine"
    old, new = small(60), small(80)
    [*build(new, tmp_path / "out")]
    wanted = content(place)
    [*build(old, tmp_path / "out")]
    kept = content(place)
    assert kept != wanted
    kills, step, seen = 0, 1, set()
    while killed(lambda: [*build(new, tmp_path / "out")], step):
        found = content(place)
        assert found in (kept, wanted)
        seen.add(found == wanted)
        if found == wanted or kills % 6 == 0:
            [*build(new, tmp_path / "out")]
            assert content(place) == wanted
            assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine"]
            [*build(old, tmp_path / "out")]
        kills, step = kills + 1, step + every
    assert content(place) == wanted
    assert seen == {False, True} or every > 1
    assert kills >= 15
    record_property("attacks", ("kills", kills))


def test_what_a_live_process_works_on_is_left_to_it(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    begun, end = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        with replacing(place) as work:
            (work / "a").write_text("live")
            os.write(begun[1], b"x")
            os.read(end[0], 1)
        os._exit(0)
    with limited():
        os.read(begun[0], 1)
        before = fingerprint(tmp_path)
        assert len(list(tmp_path.glob(LEFT))) == 1
        with scratch("other", tmp_path):
            pass
        store.clear_left(tmp_path)
        assert fingerprint(tmp_path) == before
        os.write(end[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert tell(place) == {"a": "live"}


def test_what_only_looks_left_behind_is_not_touched(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "root"
    put(elsewhere, OLD)
    root.mkdir()
    (root / ".medrecipes-mine-abcdefgh").symlink_to(elsewhere / "a")
    (root / ".medrecipes-mine-abcdefgh.new").symlink_to(elsewhere)
    (root / ".medrecipes-mine-abcdefgh.old").symlink_to(elsewhere)
    (root / ".medrecipes-b-aaaaaaaa").mkdir()
    (root / ".mine-abcdefgh").mkdir()
    (root / ".medrecipes-notes").write_text("mine")
    os.mkfifo(root / ".medrecipes-c-aaaaaaaa")
    before = fingerprint(elsewhere)
    with limited(), scratch("mine", root):
        pass
    assert fingerprint(elsewhere) == before
    assert {".mine-abcdefgh", ".medrecipes-notes", ".medrecipes-b-aaaaaaaa"} <= {p.name for p in root.iterdir()}


def test_processes_that_write_one_file_at_once_all_come_through(tmp_path: Path) -> None:
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(60):
                    write_text(tmp_path / "x.json", str(number))
            except BaseException as error:
                sys.__stderr__.write(repr(error))
                os._exit(1)
            os._exit(0)
        children.append(child)
    with limited():
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_what_is_made_under_a_name_that_was_cleared_before_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process opens a lock; before it holds it, another clears that one, and the lock's own process makes it anew."""
    lock = tmp_path / ".medrecipes-x.json-0123abcd"
    work = lock.with_name(f"{lock.name}.new")
    lock.touch()
    hold = store.fcntl.flock

    def late(file: Any, how: int) -> None:
        lock.unlink()
        lock.touch()
        work.mkdir()
        hold(file, how)

    monkeypatch.setattr(store.fcntl, "flock", late)
    store.clear_left(tmp_path)
    assert sorted(tmp_path.iterdir()) == [lock, work]
