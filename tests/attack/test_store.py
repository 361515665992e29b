"""The store under attack: whatever is altered in a stage is found, told of and made anew, and never read."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import DataError
from medrecipes.core.files import MANIFEST, digest, intact, scratch, stage, thorough
from medrecipes.data.split import prepare
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.evaluation.finished_run import Run
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Data, Model, Recipe, SplitRatios
from medrecipes.runs.folder import RunDir
from tests.attack.harness import limited
from tests.attack.test_kills import killed
from tests.conftest import ROOT

ROWS = "rows.jsonl"
TICK_S = 0.01  # the clock of file times moves every few milliseconds
Harm = Callable[[Path], object]


def flip(name: str, at: int = -40) -> Harm:
    """One bit of a file."""

    def do(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1
        (folder / name).write_bytes(content)

    return do


def zero(name: str, start: int, end: int | None = None) -> Harm:
    """Bytes that a disk lost: the size stays, what was there is zeros."""

    def do(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[start:end] = bytes(len(content[start:end]))
        (folder / name).write_bytes(content)

    return do


def cut(name: str, size: int) -> Harm:
    """What a full disk or a crash leaves of a file."""
    return lambda folder: os.truncate(folder / name, size)


def say(old: str, new: str, name: str = ROWS) -> Harm:
    """Other words in a file; where they are as long as the old ones, size and modification time stay as they were."""

    def do(folder: Path) -> None:
        path, before = folder / name, (folder / name).stat()
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return do


def lines(change: Callable[[list[str]], list[str]], name: str = ROWS) -> Harm:
    """Other lines in a file."""

    def do(folder: Path) -> None:
        path = folder / name
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return do


def to_train(found: list[str]) -> list[str]:
    """A test row among those to train on."""
    at = next(i for i, line in enumerate(found) if line.startswith('["test"'))
    return [*found[:at], found[at].replace('["test"', '["train"', 1), *found[at + 1 :]]


def manifest(change: Callable[[dict[str, Any]], object], *, signed: bool = False) -> Harm:
    """Another manifest; `signed`: with the hash that belongs to it, as somebody makes it who knows how."""

    def do(folder: Path) -> None:
        value = json.loads((folder / MANIFEST).read_text())
        own = value.pop("sha256")
        change(value)
        (folder / MANIFEST).write_text(json.dumps({**value, "sha256": digest(value) if signed else own}))

    return do


def instead(name: str, make: Callable[[Path], object]) -> Harm:
    """Something else in the place of a file."""

    def do(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return do


def linked(path: Path) -> None:
    """A link to the same bytes elsewhere."""
    other = path.parent.parent / "elsewhere"
    other.write_text("the same")
    path.symlink_to(other)


def swapped(one: str, other: str) -> Harm:
    """Two files under each other's name."""

    def do(folder: Path) -> None:
        (folder / one).rename(folder / "between")
        (folder / other).rename(folder / one)
        (folder / "between").rename(folder / other)

    return do


def put(name: str, content: str) -> Harm:
    """A file that nobody wrote there."""
    return lambda folder: (folder / name).write_text(content)


ANY: dict[str, Harm] = {
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "empty manifest": lambda folder: (folder / MANIFEST).write_text(""),
    "torn manifest": cut(MANIFEST, 90),
    "manifest of zeros": zero(MANIFEST, 0),
    "manifest a list": lambda folder: (folder / MANIFEST).write_text("[1, 2]"),
    "manifest nested": lambda folder: (folder / MANIFEST).write_text("[" * 100_000),
    "manifest not UTF-8": lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe{}"),
    "manifest a folder": instead(MANIFEST, Path.mkdir),
    "manifest a pipe": instead(MANIFEST, os.mkfifo),
    "manifest a device": instead(MANIFEST, lambda path: path.symlink_to("/dev/zero")),
    "manifest edited": manifest(lambda value: value.update(rows=7)),
    "a file struck out": manifest(lambda value: value["files"].popitem()),
    "a hash edited": manifest(lambda value: next(iter(value["files"].values())).update(sha256="0" * 64)),
    "of another stage": manifest(lambda value: value.update(stage="other"), signed=True),
    "of another key": manifest(lambda value: value.update(key="0" * 64), signed=True),
    "of an earlier version": lambda folder: (folder / MANIFEST).write_text('{"stage": "split", "rows": 4}'),
    "a file put there": put("modeling.py", "import os"),
    "a file of an odd name": put("\x1b[2J\x07more", ""),
    "a link put there": lambda folder: (folder / "more").symlink_to("/etc"),
    "everything gone": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no folder but a file": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
}  # fmt: skip
SPLIT: dict[str, Harm] = {
    "an answer altered": say("treatment", "warfarin!"),
    "a longer answer": say("treatment", "Take 5 g of warfarin."),
    "a test row in train": lines(to_train),
    "a test row in train, size and time kept": say('["test"', '["dev" '),
    "rows swapped": lines(lambda found: [found[1], found[0], *found[2:]]),
    "a row lost": lines(lambda found: found[1:]),
    "a row twice": lines(lambda found: [*found, found[0]]),
    "no row left": cut(ROWS, 0),
    "a row torn": cut(ROWS, 5000),
    "a bit flipped": flip(ROWS),
    "zeros in the rows": zero(ROWS, 4096, 8192),
    "rows missing": lambda folder: (folder / ROWS).unlink(),
    "rows a pipe": instead(ROWS, os.mkfifo),
    "rows a link": instead(ROWS, linked),
    "the counts edited": say('"train": ', '"train": 9', "report.json"),
    "a licence edited": say('"redistributable": "', '"redistributable": "yes, all of ', "report.json"),
    "report torn": cut("report.json", 50),
    "report missing": lambda folder: (folder / "report.json").unlink(),
    "rows and report swapped": swapped(ROWS, "report.json"),
}  # fmt: skip
BASE: dict[str, Harm] = {
    "zeros in a tensor": zero("model.safetensors", 3000, 7000),
    "a bit of a tensor": flip("model.safetensors"),
    "weights cut short": cut("model.safetensors", 6000),
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "another config": say('"layers": 1', '"layers": 2', "config.json"),
    "another tokenizer": say("aspirin", "heparin", "tokenizer.json"),
    "tokenizer and config swapped": swapped("config.json", "tokenizer.json"),
    "pickled weights put there": put("pytorch_model.bin", "cos\nsystem\n"),
}


def build(folder: Path) -> dict[str, Any]:
    """A base as small as it can be: a tensor of a thousand numbers, a config, a tokenizer."""
    header = json.dumps({"w": {"dtype": "F64", "shape": [1000], "data_offsets": [0, 8000]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\x3f" * 8000)
    (folder / "config.json").write_text('{"layers": 1}')
    (folder / "tokenizer.json").write_text('{"vocab": ["aspirin"]}')
    return {"parameters": 1000}


@dataclass(frozen=True)
class Kept:
    """A stage: how it is read, and what of it counts."""

    read: Callable[[], Any]
    harms: dict[str, Harm]


HALVES = SplitRatios(train=0.5, dev=0.25, test=0.25)
KEPT = {
    "split": Kept(lambda: prepare(Recipe(data=Data(path=ROOT / "data" / "medquad.csv", split=HALVES))), SPLIT | ANY),
    "tagged": Kept(lambda: prepare_tagged(load(ROOT / "recipes" / "tiny_bio_ner.toml").recipe), ANY | {
        "a tag edited": say("B-Chemical", "B-Disease "), "a row lost": lines(lambda found: found[:-1]),
        "a test row in train": lines(to_train), "zeros in the rows": zero(ROWS, 100, 3000),
    }),
    "base": Kept(
        lambda: sorted((p.name, p.read_bytes()) for p in stage("base", "f" * 64, build).iterdir() if p.name != MANIFEST),
        BASE | ANY,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_no_damage_goes_unnoticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path))
    kept = KEPT[name]
    honest = kept.read()
    [place] = tmp_path.iterdir()
    for what, harm in kept.harms.items():
        time.sleep(TICK_S)
        harm(place)
        capfd.readouterr()
        with limited():
            assert kept.read() == honest, what
        said = capfd.readouterr().err
        assert said.count("\n") == 1, (what, said)
        assert said.removesuffix("\n").isprintable(), (what, said)
        assert said.startswith(f"note             {place}: "), (what, said)
        assert said.endswith("; it is made anew\n"), (what, said)
        assert [p for p in tmp_path.iterdir() if p.name != "elsewhere"] == [place], what
        with thorough():
            assert kept.read() == honest
        assert capfd.readouterr().err == "", what  # what was made anew is whole
    record_property("attacks", ("damaged store entries", len(kept.harms)))


@pytest.mark.parametrize("name", KEPT)
def test_what_a_disk_lost_beneath_sizes_and_times_is_found_when_every_byte_is_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path))
    kept, found = KEPT[name], 0
    honest = kept.read()
    [place] = tmp_path.iterdir()
    for path in sorted(place.iterdir()):
        if path.name == MANIFEST:
            continue
        flip(path.name, 2)(place)
        now = path.stat()
        times = {"bytes": now.st_size, "mtime_ns": now.st_mtime_ns, "ctime_ns": now.st_ctime_ns}

        def as_if_nobody_wrote(value: dict[str, Any], name: str = path.name, times: dict[str, int] = times) -> None:
            value["files"][name].update(times)

        manifest(as_if_nobody_wrote, signed=True)(place)
        with thorough():
            assert kept.read() == honest
        assert f"{path.name} is not as it was written; it is made anew" in capfd.readouterr().err
        found += 1
    record_property("attacks", ("damaged store entries", found))


def test_a_store_that_was_copied_is_read_and_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "one"))
    first = stage("base", "f" * 64, build)
    shutil.copytree(tmp_path / "one", tmp_path / "other", copy_function=shutil.copy)  # which keeps no times
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "other"))

    def never(_: Path) -> dict[str, Any]:
        raise AssertionError

    copied = stage("base", "f" * 64, never)
    assert (copied / "config.json").read_bytes() == (first / "config.json").read_bytes()
    known = json.loads((copied / MANIFEST).read_text())["files"]["config.json"]
    assert known["ctime_ns"] == (copied / "config.json").stat().st_ctime_ns  # and not hashed at the next reading
    assert intact(copied)
    assert capfd.readouterr().err == ""


def test_a_base_that_a_run_names_by_its_folder_is_used_only_whole(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], record_property: Any
) -> None:
    for number, (what, harm) in enumerate(BASE.items()):
        place = stage("base", f"{number:064}"[::-1], build, tmp_path)
        assert intact(place)
        time.sleep(TICK_S)
        harm(place)
        assert not intact(place), what
        assert "; it is not used\n" in capfd.readouterr().err
    assert not intact(tmp_path / "gone")
    assert capfd.readouterr().err == ""  # it is absent, and no harm in that
    record_property("attacks", ("damaged store entries", len(BASE)))


def test_a_run_opens_no_damaged_base(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = stage("base", "f" * 64, build, tmp_path)
    recipe = Recipe(data=Data(source="synthetic_qa", path=tmp_path / "gone.jsonl"), model=Model(base="tiny:mistral"))
    rundir = RunDir(tmp_path / "run")
    rundir.state["base"] = str(place)
    assert Run(rundir).base(recipe).folder == place
    zero("model.safetensors", 3000, 7000)(place)
    with pytest.raises(DataError):  # it would be built again, from rows that are not there
        Run(rundir).base(recipe)
    assert f"{place}: model.safetensors is not as it was written; it is not used" in capfd.readouterr().err


def test_a_damaged_stage_is_made_anew_by_whoever_is_not_killed(tmp_path: Path, record_property: Any) -> None:
    step, kills = 1, 0
    while True:
        place = stage("base", "f" * 64, build, tmp_path)
        (place / "config.json").write_text("{}")
        if not killed(lambda: stage("base", "f" * 64, build, tmp_path), step):
            break
        assert stage("base", "f" * 64, build, tmp_path) == place
        assert (place / "config.json").read_text() == '{"layers": 1}'
        with scratch("next", tmp_path):  # whatever is made next there clears what was left
            pass
        assert list(tmp_path.iterdir()) == [place]
        step, kills = step + 3, kills + 1
    assert kills >= 10
    record_property("attacks", ("kills", kills))


def test_others_cannot_read_what_lies_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    before = os.umask(0o002)
    try:
        place = stage("base", "f" * 64, build)
    finally:
        os.umask(before)
    for folder in (tmp_path / "store", place):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (
        stat.S_IMODE((place / MANIFEST).stat().st_mode) == 0o664
    )  # as the user's umask says, once the folder is opened
