"""`medrecipes check my.csv`: the findings of a bare data file, the greatest first, and a first recipe; no library of training is loaded."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medrecipes.commands.check import DATA
from medrecipes.data.sources._files import EXCEL, TABLES
from tests.conftest import ROOT
from tests.test_house import HEAVY
from tests.test_init import medrecipes

ANSWER = "Number {} is a fine one, of which there is more to say than fits a line, but this will do for today."


def table(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "topic"), *rows])
    return path


def rows(count: int = 60) -> list[tuple[str, str, str]]:
    return [(f"What is number {n}?", ANSWER.format(n), f"topic {n % 20}") for n in range(count)]


def said(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    assert (done.returncode, done.stderr) == (0, "")
    return [(line[:16].strip(), line[17:]) for line in done.stdout.splitlines()]


def test_the_finding_leads_and_a_recipe_is_written_once(tmp_path: Path) -> None:
    table(tmp_path / "my.csv", rows())
    lines = said(medrecipes(tmp_path, "check", "my.csv"))
    assert lines[0] == ("leakage", "a naive random split would leak 9 of 12 test rows; this split leaks none")
    assert dict(lines) | {
        "columns": "question = question, answer = answer, document = topic (of question, answer, topic)",
        "duplicates": "none: no row repeats another", "personal": "none found in 60 rows",
        "endings": "all 60 answers end as a sentence does", "written": "my.toml",
    } == dict(lines)  # fmt: skip
    assert lines[-1][1].endswith("medrecipes check my.toml")
    assert medrecipes(tmp_path, "check", "my.toml", "--schema-only").returncode == 0
    (tmp_path / "my.toml").write_text("mine")
    again = said(medrecipes(tmp_path, "check", "my.csv"))
    assert ("note", "my.toml is there already and is left as it is") in again
    assert (tmp_path / "my.toml").read_text() == "mine"


def test_a_folder_is_looked_at_as_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    table(tmp_path / "own" / "train.csv", rows(48))
    table(tmp_path / "own" / "test.csv", [(f"Which one is {n}?", f"It is {n}, of all {n + 100}.", f"leaflet {n % 6}") for n in range(12)])  # fmt: skip
    lines = said(medrecipes(tmp_path, "check", "own"))
    assert lines[0][0] == "leakage"
    assert "12 test (official)" in dict(lines)["data"]
    assert ("written", "own.toml") in lines
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own.toml").write_bytes((tmp_path / "own.toml").read_bytes())
    done = medrecipes(tmp_path, "check", "recipes")
    assert (done.returncode, done.stderr) == (2, "recipes: is a folder; a recipe is a TOML file, name one\n")
    (tmp_path / "none").mkdir()
    done = medrecipes(tmp_path, "check", "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("none: ")


def test_planted_flaws_are_found(tmp_path: Path) -> None:
    found = rows()
    found += [(f"Who asks {n}?", found[n][1], f"topic {n}") for n in range(4)]  # repeated answers
    found += [(f"Where is {n}?", f"It is at {n}, which is far, and then", "topic 3") for n in range(5)]  # end nowhere
    found += [("Whom to ask?", "Write to jane.doe@mail.example or call 030 1234567 at any time.", "topic 4")]
    found += [(f"Why {n}?", (f"{n} because " * 40)[:200], f"topic {n}") for n in range(3)]  # cut at 200
    table(tmp_path / "my.csv", found)
    lines = dict(said(medrecipes(tmp_path, "check", "my.csv")))
    assert lines["duplicates"].startswith("4 of 73 rows repeat others and would be dropped (repeated answer: 4)")
    assert lines["personal"].startswith("1 of 69 rows hold what looks like personal data: e-mail 1 (row my:")
    assert "jane.doe" not in lines["personal"]
    assert re.match(
        r"3 answers have the length of the longest, 1\d\d characters, and 3 of them end within a sentence",
        lines["cut off"],
    )
    assert lines["endings"].startswith("8 of 69 answers end without a full stop, as what is cut off does (row my:")


def test_whole_answers_of_one_length_are_not_called_cut(tmp_path: Path) -> None:
    told = [
        (f"What of {n:02}?", f"{n:02} is " + "as long as all the others, " * 4 + "and ends.", f"topic {n % 20}")
        for n in range(60)
    ]
    table(tmp_path / "my.csv", told)
    lines = dict(said(medrecipes(tmp_path, "check", "my.csv")))
    assert "cut off" not in lines
    assert lines["endings"] == "all 60 answers end as a sentence does"


def test_answers_that_are_labels_are_called_so(tmp_path: Path) -> None:
    table(tmp_path / "my.csv", [(f"Is it {n}?", "yes" if n % 2 else f"no {n}", f"t{n % 20}") for n in range(60)])
    lines = dict(said(medrecipes(tmp_path, "check", "my.csv")))
    assert "answers end without a full stop, as labels and lists do" in lines["endings"]


def test_nothing_that_trains_is_loaded_and_it_takes_seconds(tmp_path: Path) -> None:
    table(tmp_path / "my.csv", rows(3000))
    code = (
        "import sys\nfrom medrecipes.commands import main\n"
        "assert main(['check', 'my.csv']) == 0\n"
        f"sys.exit(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=30)  # fmt: skip
    assert done.stderr.strip() == ""
    assert "a naive random split would leak" in done.stdout


@pytest.mark.parametrize("words", [("my.csv", "--set", "seed=1"), ("my.csv", "x.toml"), ("my.csv", "--schema-only")])
def test_data_files_are_checked_by_themselves(words: tuple[str, ...], tmp_path: Path) -> None:
    table(tmp_path / "my.csv", rows())
    done = medrecipes(tmp_path, "check", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("check: data files are checked by themselves")
    assert not (tmp_path / "my.toml").exists()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    done = medrecipes(tmp_path, "check", "gone.csv")
    assert (done.returncode, done.stderr) == (2, "gone.csv: no such file or folder, and no OWNER/NAME of the Hub; correct it\n")  # fmt: skip
    (tmp_path / "empty.csv").write_text("")
    done = medrecipes(tmp_path, "check", "empty.csv")
    assert (done.returncode, done.stderr) == (2, "empty.csv: is empty; name a file that has rows\n")


def test_the_endings_that_check_knows_are_those_that_are_read() -> None:
    assert (*TABLES, *EXCEL) == DATA
