"""Names that lead elsewhere, and folders that are somebody else's: refused in one line, and nothing of theirs is touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.recipe.repository_names import FOLDER, folder_name
from tests.attack.harness import attack, fingerprint, refused
from tests.conftest import ROOT

HOSTILE = (
    "", ".", "..", "...", "../precious", "precious/..", "../../precious", "./precious", "precious/", "precious/inner", "/",
    "//", "/tmp", "~", "~/precious", "-rf", "--out", ".git", ".hidden", " ", " precious", "precious ", "a b", "a\tb", "a\nb",
    "precious\n", "a\0b", "a\\b", "..\\precious", "C:\\x", "C:x", "*", "?", "$HOME", "`id`", "a;b", "a|b", "a&b", "a'b", 'a"b',
    "%2e%2e%2fprecious", "a:b", "a@b", "a#b", "a%b", "a,b", "a=b", "a+b", "a{b}", "{model}", "x" * 97, "x" * 300, "x" * 70_000,
    "\x1b[31mred", "\x7f", "\u202egnp.exe", "\u2025", "\uff0e\uff0e", "..\u2215precious", "..\uff0fprecious", "a\u200bb", "\ufeffa",
    "précis", "раypal", "数据", "\U0001f600", "a\u0301", "\u2028", "\x85",
)  # fmt: skip
FINE = ("demo", "a", "_a", "9", "A.b-c_d", "medical_llama3_instruct_dataset_short", "x" * 96, "a..b", "con", "v1.0")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A working directory beside a folder that is precious."""
    for folder in (tmp_path / "precious", tmp_path / "work" / "precious", tmp_path / "work" / "datasets" / "precious"):
        folder.mkdir(parents=True)
        (folder / "thesis.txt").write_text("years of work")
    return tmp_path / "work"


def recipe(house: Path, *lines: str, file: str = "mine.toml") -> Path:
    """A recipe in a folder beside the working directory."""
    path = house.parent / "recipes" / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*lines, "[data]", f"path = {json.dumps(str(ROOT / 'data/medquad'))}", ""]))
    return path


def toml(text: str) -> str:
    return (
        json.dumps(text, ensure_ascii=True).replace("\x7f", "\\u007f")
        if max(text, default="") < "\U00010000"
        else f'"{text}"'
    )


@pytest.mark.parametrize("command", ["build", "run", "check", "show", "plan", "sweep"])
def test_a_hostile_name_is_refused_by_every_command(
    command: str, house: Path, record_property: Callable[..., None]
) -> None:
    where = recipe(house)
    before = fingerprint(house.parent)
    tried = HOSTILE if command in ("build", "run") else HOSTILE[::7]
    for name in tried:
        where.write_text(f"\nname = {toml(name)}\n")
        refused(attack(command, where, cwd=house), f"{where}:2: name = ", "safe name of a folder", "rename it")
        recipe(house)
        assert fingerprint(house.parent) == before
    record_property("attacks", ("hostile names", len(tried)))


def test_a_hostile_name_of_a_set_is_refused(house: Path, record_property: Callable[..., None]) -> None:
    where = recipe(house)
    before = fingerprint(house.parent)
    tried = 0
    for name in set(HOSTILE) - {"{model}"}:
        for lines in (
            f"[[build.sets]]\nname = {toml(name)}\n",
            f"[build.models]\n{toml(name)} = 'llama2'\n[[build.sets]]\nname = '{{model}}'\n",
        ):
            where.write_text(lines)
            refused(attack("build", where, cwd=house), "build.sets.0.name = ", "safe name of a folder")
            recipe(house)
            assert fingerprint(house.parent) == before
            tried += 1
    record_property("attacks", ("hostile names", tried))


def test_a_file_name_that_becomes_a_hostile_name_is_refused(house: Path) -> None:
    for file in (" .toml", "my recipe.toml", "..toml", "-x.toml", "é.toml", ".hidden.toml"):
        where = recipe(house, file=file)
        refused(attack("show", where, cwd=house), f"{where}: name = ", "the file's own; set name")
    where = recipe(house, 'name = "mine"', file="my recipe.toml")
    assert attack("show", where, cwd=house).code == 0


def test_what_is_typed_and_what_is_extended_are_names_too(house: Path) -> None:
    where = recipe(house)
    refused(attack("build", where, "--set", "name=../precious", cwd=house), "--set: name = ")
    base = recipe(house, 'name = "../precious"', file="base.toml")
    above = recipe(house, f'extends = "{base}"', file="above.toml")
    refused(attack("build", above, cwd=house), f"{base}:1: name = ")


def test_two_sets_of_one_name_are_refused(house: Path) -> None:
    where = recipe(house)
    where.write_text("[[build.sets]]\nname = 'a'\n[[build.sets]]\nname = 'A'\n")
    refused(attack("check", "--schema-only", where, cwd=house), "build.sets.1.name: a second dataset is called 'A'")


def test_no_caller_gets_past_the_names() -> None:
    for name in HOSTILE:
        with pytest.raises(MedRecipesError, match="safe name"):
            folder_name(name)
    assert [folder_name(name) for name in FINE] == list(FINE)
    assert not FOLDER.fullmatch("a\n")


# --- folders that are somebody else's


def strangers(place: Path) -> dict[str, Callable[[], object]]:
    """Ways in which what stands in a dataset's place is not ours, or not all of it."""
    elsewhere = place.parent.parent / "elsewhere"

    def folder(files: dict[str, str]) -> None:
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)

    def link(made: bool) -> None:
        elsewhere.mkdir()
        (elsewhere / "thesis.txt").write_text("years of work")
        place.symlink_to(elsewhere if made else elsewhere / "nothing")

    return {
        "empty": place.mkdir,
        "notes": lambda: folder({"thesis.txt": "years of work"}),
        "its own data.json": lambda: folder({"data.json": "{}", "dataset_dict.json": "{}", "thesis.txt": "x"}),
        "broken data.json": lambda: folder({"data.json": "[" * 100_000, "dataset_dict.json": "{}"}),
        "a list": lambda: folder({"data.json": "[1]", "dataset_dict.json": "{}"}),
        "no UTF-8": lambda: (folder({"dataset_dict.json": "{}"}), (place / "data.json").write_bytes(b"\xff\xfe")),
        "somebody's dataset": lambda: folder({"dataset_dict.json": "{}", "train/state.json": "{}", "train/data-00000-of-00001.arrow": ""}),
        "a file": lambda: place.write_text("years of work"),
        "a link": lambda: link(True),
        "a link to nothing": lambda: link(False),
        "a pipe": lambda: os.mkfifo(place),
    }  # fmt: skip


def added(place: Path) -> dict[str, Callable[[], object]]:
    """What a user may have put into a dataset of ours."""
    elsewhere = place.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    return {
        "notes": lambda: (place / "thesis.txt").write_text("years of work"),
        "notes within": lambda: (place / "train" / "thesis.txt").write_text("years of work"),
        "a hidden file": lambda: (place / ".env").write_text("x"),
        "a folder": lambda: (place / "mine").mkdir(),
        "a repository": lambda: (place / ".git" / "objects").mkdir(parents=True),
        "a link": lambda: (place / "mine").symlink_to(elsewhere),
        "a link by a name of ours": lambda: (shutil.rmtree(place / "train"), (place / "train").symlink_to(elsewhere)),
        "a link to a file": lambda: (
            (place / "README.md").unlink(),
            (place / "README.md").symlink_to(elsewhere / "thesis.txt"),
        ),
    }


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize("task", ["chat", "tag"])
def test_a_folder_that_is_not_ours_is_left_as_it_is(
    task: str, house: Path, record_property: Callable[..., None]
) -> None:
    where = recipe(house, file="mine.toml") if task == "chat" else ROOT / "recipes/tiny_bio_ner.toml"
    out = house / "out"
    out.mkdir()
    place = out / where.stem
    kinds = strangers(place)
    for kind, make in kinds.items():
        make()
        before = fingerprint(house.parent)
        refused(attack("build", where, "--out", out, cwd=house), str(place), "move it away")
        assert fingerprint(house.parent) == before, kind
        clear(place)
        clear(house / "elsewhere")
    record_property("attacks", ("foreign folders", len(kinds)))


def test_what_a_user_put_into_a_dataset_is_left_there(house: Path, record_property: Callable[..., None]) -> None:
    where, place, kept = recipe(house), house / "out" / "mine", house.parent / "kept"
    assert attack("build", where, "--out", "out", "--format", "jsonl", cwd=house).code == 0
    assert attack("build", where, "--out", "out", cwd=house).code == 0  # with other formats over it
    shutil.copytree(place, kept)
    kinds = added(place)
    for kind, add in kinds.items():
        add()
        before = fingerprint(house.parent)
        refused(attack("build", where, "--out", "out", cwd=house), str(Path("out", "mine")), "move it away")
        assert fingerprint(house.parent) == before, kind
        clear(place)
        shutil.copytree(kept, place)
    record_property("attacks", ("foreign folders", len(kinds)))


def test_a_folder_of_the_working_directory_is_not_replaced(house: Path) -> None:
    (house / "mine").mkdir()
    (house / "mine" / "thesis.txt").write_text("years of work")
    where = recipe(house)
    before = fingerprint(house.parent)
    refused(attack("build", where, "--out", ".", cwd=house), "mine: stands in the way")
    assert fingerprint(house.parent) == before


def test_of_several_sets_none_is_made_where_one_place_is_taken(house: Path) -> None:
    where = recipe(house, "[[build.sets]]", 'name = "one"', "[[build.sets]]", 'name = "precious"')
    before = fingerprint(house.parent)
    refused(attack("build", where, cwd=house), "datasets/precious: stands in the way")
    assert fingerprint(house.parent) == before


def test_a_run_folder_that_is_not_ours_is_left_as_it_is(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.recipe.load import load

    where = recipe(house)
    key = load(where).recipe.key[:8]
    place = house / "runs" / f"mine-{key}"
    for kind, make in strangers(place).items():
        if kind in ("empty", "a link to nothing"):
            continue
        place.parent.mkdir(exist_ok=True)
        make()
        before = fingerprint(house.parent)
        refused(attack("run", where, cwd=house), str(Path("runs", place.name)))
        assert fingerprint(house.parent) == before, kind
        clear(place)
        clear(house / "elsewhere")


def test_a_comparison_replaces_no_file_of_the_user(house: Path, record_property: Callable[..., None]) -> None:
    for name, losses in (("a", (3, 2, 1)), ("b", (3, 1, 1))):
        rows = "".join(f"{step},{loss}\n" for step, loss in enumerate(losses, 1))
        (house / f"{name}.csv").write_text(f"Step,Loss\n{rows}")
    files = ("comparison.html", "comparison.md", "losses.png", "losses.csv", "table.csv")
    for name in files:
        (house / name).write_text("years of work")
        before = fingerprint(house.parent)
        refused(attack("compare", "a.csv", "b.csv", "--out", ".", cwd=house), f"{name}: stands in the way")
        assert fingerprint(house.parent) == before
        (house / name).rename(house.parent / name)
        (house / name).symlink_to(house.parent / name)
        before = fingerprint(house.parent)
        refused(attack("compare", "a.csv", "b.csv", "--out", ".", cwd=house), f"{name}: stands in the way")
        assert fingerprint(house.parent) == before
        (house / name).unlink()
    for _ in range(2):
        assert attack("compare", "a.csv", "b.csv", "--out", ".", cwd=house).code == 0
    assert set(files) < {p.name for p in house.iterdir()}
    assert all((house.parent / name).read_text() == "years of work" for name in files)
    record_property("attacks", ("foreign folders", 2 * len(files)))


def test_a_log_that_is_a_link_is_not_written_through(house: Path) -> None:
    from medrecipes.core.console import Console

    (house / "log.txt").symlink_to(house / "precious" / "thesis.txt")
    before = fingerprint(house.parent)
    with pytest.raises(MedRecipesError, match=r"log\.txt: cannot be written"), Console().quiet(house / "log.txt"):
        pass
    assert fingerprint(house.parent) == before
