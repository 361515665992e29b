"""The walk-throughs of CONTRIBUTING.md, done word for word in a copy of the repository."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# a file's name in a line by itself, then the block that it holds; or a block of commands
BLOCK = re.compile(r"(?:^`(?P<file>[^`\n]+)`\n\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
PROOFS = "tests/test_templates.py"


def part(title: str) -> list[re.Match[str]]:
    """The blocks of one walk-through, in order."""
    text = TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return list(BLOCK.finditer(text))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "medrecipes"
    anywhere = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "shared", "*.egg-info")

    def left_out(place: str, names: list[str]) -> set[str]:
        return anywhere(place, names) | ({"runs"} if Path(place) == ROOT else set())

    shutil.copytree(ROOT, folder, ignore=left_out, symlinks=True)
    shutil.copytree(folder, tmp_path / "before", symlinks=True)
    return folder


def follow(title: str, folder: Path) -> tuple[list[str], str]:
    """Write every file and run every command as they stand; the files that were written and all that was printed."""
    written, printed = [], ""
    for block in part(title):
        if block["kind"] == "bash":
            for command in block["body"].splitlines():
                printed += run(command, folder)
            continue
        path = folder / block["file"]
        if block["file"] == PROOFS:  # the one file that is there already: a line is added to its table
            before = path.read_text(encoding="utf-8")
            assert before.count("PROOFS = {\n") == 1
            path.write_text(before.replace("PROOFS = {\n", "PROOFS = {\n" + block["body"]), encoding="utf-8")
        else:
            assert not path.exists()
            path.write_text(block["body"], encoding="utf-8")
        written.append(block["file"])
    return written, printed


def run(command: str, folder: Path) -> str:
    words = shlex.split(command)
    words[:1] = {
        "medrecipes": [sys.executable, "-m", "medrecipes"],
        "python": [sys.executable],
        "scripts/readme": [sys.executable, "scripts/readme"],
    }[words[0]]
    # the copy's own package comes first
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=400, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def changed(folder: Path) -> set[str]:
    """Every file of the copy that was not there before, or is another now."""
    before = folder.parent / "before"
    made = re.compile(r"__pycache__|\.pytest_cache|\.hypothesis|unsloth_compiled_cache")  # by the commands themselves
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and not made.search(str(p))]
    same = [n for n in names if (before / n).exists() and (before / n).read_bytes() == (folder / n).read_bytes()]
    return {name.as_posix() for name in names if name not in same}


GENERATED = {"docs/recipes.md", "docs/data.md", "docs/recipe.md", "docs/recipe.schema.json"}


@pytest.mark.slow
def test_adding_a_dataset_takes_a_source_a_sample_and_a_recipe(copy: Path) -> None:
    written, printed = follow("Adding a dataset", copy)
    assert written == ["medrecipes/data/sources/first_aid.py", "data/first_aid.jsonl", "recipes/first_aid.toml"]
    assert changed(copy) == {*written, *GENERATED}
    assert len(re.findall(r"(train|dev|test) +\d rows proved", printed)) == 3
    assert "first_aid.toml" in (copy / "docs" / "recipes.md").read_text()
    assert '"first_aid"' in (copy / "docs" / "recipe.schema.json").read_text()


@pytest.mark.slow
def test_adding_a_model_family_takes_a_template_a_base_and_a_line_of_proof(copy: Path) -> None:
    written, printed = follow("Adding a model family", copy)
    assert written == ["templates/zephyr.jinja", "recipes/base/zephyr.toml", PROOFS]
    assert changed(copy) == {*written, *GENERATED} - {
        "docs/recipes.md",
        "docs/data.md",
    }  # a base is no row of the tables
    assert re.search(r"\d+ passed", printed)
    assert "no problems found" in printed


def test_the_template_of_the_walk_through_is_proved_as_the_others_are(copy: Path) -> None:
    follow_files = [block for block in part("Adding a model family") if block["kind"] != "bash"]
    for block in follow_files[:1]:
        (copy / block["file"]).write_text(block["body"])
    # without its line of proof, the suite says what is missing
    command = [sys.executable, "-m", "pytest", PROOFS, "-k", "every_template"]
    done = subprocess.run(
        command, cwd=copy, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(copy)}
    )
    assert done.returncode == 1
    assert "zephyr" in done.stdout
