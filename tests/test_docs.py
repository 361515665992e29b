"""The guides, followed word for word: files are written as they stand there, commands are run, what is slow is parsed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medrecipes.commands import _parser
from tests.conftest import ROOT

GUIDES = ("quickstart", "splits", "publishing", "uses-and-limits")
# a file's name in a line by itself, then the block that it holds; or a block of commands
BLOCK = re.compile(r"(?:^`(?P<file>[^`\n]+)`\n\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
QUICK = ("check", "preview", "show", "build", "score")


def blocks(guide: str) -> list[re.Match[str]]:
    return list(BLOCK.finditer((ROOT / "docs" / f"{guide}.md").read_text(encoding="utf-8")))


def commands(guide: str) -> Iterator[list[str]]:
    for block in blocks(guide):
        if block["kind"] == "bash":
            yield from (shlex.split(line) for line in block["body"].splitlines())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the guides speak of, and room for what they write."""
    for name in ("recipes", "data", "templates", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def follow(guide: str, place: Path, chosen: tuple[str, ...], *more: str) -> str:
    """Write every file, run the chosen commands in order, and return all that was printed; `more` goes to `check`."""
    printed = ""
    for block in blocks(guide):
        if block["file"]:
            (place / block["file"]).write_text(block["body"], encoding="utf-8")
        elif block["kind"] == "bash":
            for words in map(shlex.split, block["body"].splitlines()):
                if words[0] == "medrecipes" and words[1] in chosen:
                    printed += run(
                        [*words, *more] if words[1] == "check" and words[2].endswith(".toml") else words, place
                    )
    return printed


def run(words: list[str], place: Path) -> str:
    shell = " ".join([shlex.quote(sys.executable), "-m medrecipes", *(w if "*" in w else shlex.quote(w) for w in words[1:])])  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["bash", "-c", shell], cwd=place, capture_output=True, text=True, timeout=400, env=environment)  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_the_guides_is_one_that_there_is(guide: str) -> None:
    found = list(commands(guide))
    assert len(found) >= 2
    for words in found:
        if words[0] == "hf":
            assert words == ["hf", "auth", "login"]
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file()
        elif words[0] == "hf":
            assert words[1:] == ["auth", "login"]
        else:
            assert words[0] == "medrecipes"
            _parser().parse_args(words[1:])  # an unknown command or option ends the test


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_the_recipes_of_the_quick_start_are_right(place: Path) -> None:
    printed = follow("quickstart", place, ("check", "show"), "--schema-only")
    assert printed.count("no problems found") == 2
    assert 'base = "unsloth/mistral-7b-instruct-v0.2-bnb-4bit"' in printed
    # what the text says of the file
    rows = (ROOT / "data" / "own_columns.tsv").read_text().splitlines()[1:]
    assert (len(rows), len({row.split("\t")[2] for row in rows})) == (77, 15)


def test_what_the_quick_start_shows_of_a_data_file_is_what_check_prints(place: Path) -> None:
    printed = follow("quickstart", place, ("init", "check"), "--schema-only").splitlines()
    shown = next(block["body"].splitlines() for block in blocks("quickstart") if "leakage   " in block["body"])
    assert len(shown) == 8
    assert [line for line in shown if line not in printed] == []
    assert (place / "own_columns.toml").exists()


def test_the_split_guide_shows_what_it_says(place: Path) -> None:
    printed = follow("splits", place, QUICK)
    assert printed.count(" -> built/") == 4
    leaks = re.findall(r"^grouped \(used\): (?:dev|test) +\d+ +(.*)$", printed, re.M)
    assert len(leaks) == 8
    assert {cell for line in leaks for cell in line.split()} <= {"0", "-"}


def test_the_guide_to_uses_builds_and_scores(place: Path) -> None:
    printed = follow("uses-and-limits", place, QUICK)
    assert (place / "built" / "tiny_mistral" / "data" / "train.parquet").exists()
    assert "2 predictions, 2 groups" in printed
    assert re.search(r"doses of the reference kept +0%", printed)


@pytest.mark.slow
def test_the_quick_start_checks_shows_trains_and_compares(place: Path) -> None:
    printed = follow("quickstart", place, (*QUICK, "run", "compare"))
    assert re.search(r"train +\d+ rows proved", printed)
    assert printed.count("evaluate (tuned)") == 2
    assert len(list((place / "runs").glob("mine-*"))) == 2
    assert (place / "comparison" / "comparison.html").exists()


def test_links_between_the_guides_lead_somewhere() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    found = [(path, link) for path, text in texts.items() for link in re.findall(r"\]\(([^)#]+)\)", text)]
    assert len(found) > 40
    assert [link for path, link in found if "://" not in link and not (path.parent / link).exists()] == []
    for guide in GUIDES:
        assert f"(docs/{guide}.md)" in texts[ROOT / "README.md"]


def test_no_guide_names_a_run_that_some_version_made() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    assert {name for text in texts for name in re.findall(r"runs/[\w-]+-[0-9a-f]{8}\b", text)} == {"runs/demo-12345678"}
    assert not [text for text in texts if "'medrecipes[" in text]
