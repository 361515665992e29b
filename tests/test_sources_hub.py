"""Data from the Hub: real client, real HTTP on loopback, the commit pinned and recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medrecipes.data.reading import source_of
from medrecipes.recipe.schema import Mix
from tests.conftest import ROOT
from tests.hub import Hub

REPO = "lavita/MedQuAD"
FILES = {
    "data/train-00000-of-00001.parquet": (ROOT / "data/medquad_hub/train-00000-of-00001.parquet").read_bytes(),
    "README.md": b"---\nlicense: other\n---\n",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.store.create(REPO, "dataset").put(FILES)
        yield made


CODE = """
import json, sys
from medrecipes.core.errors import MedRecipesError
from medrecipes.data.split import prepare
from medrecipes.recipe.schema import Data, Recipe
try:
    split = prepare(Recipe(data=Data(**json.loads(sys.argv[1]))))
except MedRecipesError as error:
    sys.exit(str(error))
print(json.dumps([split.report["sources"][0], split.report["seen"], split.key]))
"""


def run(hub: Hub, folder: Path, *, store: str = "store", offline: str = "0", **data: Any) -> subprocess.CompletedProcess[str]:  # fmt: skip
    environment = hub.environment(folder / "hf", MEDRECIPES_CACHE=str(folder / store), HF_HUB_OFFLINE=offline)
    arguments = [sys.executable, "-c", CODE, json.dumps(data)]
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_branch_is_resolved_once_and_the_commit_is_recorded(hub: Hub, tmp_path: Path) -> None:
    repo = hub.store.repos["dataset", REPO]
    sha = repo.resolve("main").sha
    done = run(hub, tmp_path, source="medquad")
    assert done.returncode == 0, done.stderr
    source, seen, key = json.loads(done.stdout)
    assert (source["repo"], source["revision"], source["sha"], source["file"]) == (REPO, "main", sha, None)
    assert source["content"] == f"{REPO}@{sha}"
    assert seen == 80
    assert not [path for path in hub.requests if "README" in path]  # only the files that the source reads
    fetched = len(hub.requests)
    assert json.loads(run(hub, tmp_path, source="medquad").stdout)[2] == key
    # the split is known, nothing is read again
    assert hub.requests[fetched:] == [f"GET /api/datasets/{REPO}/revision/main"]
    # a commit is what it was, whatever comes after it
    repo.put({"data/train-00000-of-00001.parquet": b"damaged"})
    pinned = run(hub, tmp_path, source="medquad", revision=sha)
    assert json.loads(pinned.stdout)[2] == key


def test_any_dataset_with_columns_of_text_is_read_as_own_data(hub: Hub, tmp_path: Path) -> None:
    rows = "".join(f"Question {n},Answer {n} of its own\n" for n in range(20))
    files = {
        "data/train.csv": f"Q,A\n{rows}",
        "data/test.csv": "Q,A\nWhat is gout?,A disease.\n",
        "images/1.png": "",
        "dataset_infos.json": "{}",
    }
    hub.store.create("someone/anything", "dataset").put({name: text.encode() for name, text in files.items()})
    own = {"source": "jsonl", "repo": "someone/anything", "columns": {"question": "Q", "answer": "A"}}
    done = run(hub, tmp_path, **own, licence="CC-BY-4.0")
    assert done.returncode == 0, done.stderr
    source, seen, _ = json.loads(done.stdout)
    assert (source["title"], source["repo"], source["file"], seen) == ("someone/anything", "someone/anything", None, 21)
    assert source["sha"] == hub.store.repos["dataset", "someone/anything"].resolve("main").sha
    assert (source["licence"], source["redistributable"]) == ("CC-BY-4.0", "yes")
    assert not [path for path in hub.requests if "images" in path]
    absent = run(hub, tmp_path, **own | {"repo": "someone/else"})
    assert absent.stderr.startswith("someone/else@main: cannot be had from the Hub (")
    assert absent.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("licence", "passed"),
    [("CC0-1.0", "yes"), ("cc-by-nc-sa-4.0", "yes"), ("MIT", "yes"), ("CC-BY-ND-4.0", "no"), ("Our terms", "unknown")],
)
def test_own_data_may_be_passed_on_where_its_licence_says_so(licence: str, passed: str) -> None:
    source = source_of(Mix(source="jsonl", path=Path("x.csv"), licence=licence))
    assert (source.title, source.licence, source.redistributable) == ("own data", licence, passed)
    assert source_of(Mix(source="jsonl", path=Path("x.csv"))).redistributable == "unknown"


def test_what_the_hub_does_not_have_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = run(hub, tmp_path, source="medquad", revision="v9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{REPO}@v9: cannot be had from the Hub (" in done.stderr
    assert "set data.path to a local copy" in done.stderr
    none = run(hub, tmp_path, source="ner_instruct")
    assert "ner_instruct: has no repository on the Hub; set data.path (see https://github.com/" in none.stderr


@pytest.mark.parametrize("offline", ["1", "0"])
def test_what_was_fetched_before_is_read_without_the_hub(offline: str, tmp_path: Path) -> None:
    with Hub() as hub:
        hub.store.create(REPO, "dataset").put(FILES)
        fetched = json.loads(run(hub, tmp_path, source="medquad").stdout)
        asked = len(hub.requests)
        if offline == "0":
            hub.close()  # nobody listens there any more
        known, anew = (
            run(hub, tmp_path, store=store, offline=offline, source="medquad") for store in ("store", "other")
        )
        assert [json.loads(done.stdout)[2] for done in (known, anew)] == [fetched[2]] * 2, anew.stderr
        assert json.loads(anew.stdout)[0]["sha"] == fetched[0]["sha"]
        assert len(hub.requests) == asked


def test_without_the_hub_a_part_is_never_taken_for_the_whole(hub: Hub, tmp_path: Path) -> None:
    why = "cannot be had from the Hub (HF_HUB_OFFLINE is set) and was never fetched whole before; check the network, or set data.path to a local copy\n"
    never = run(hub, tmp_path, offline="1", source="medquad")
    assert (never.returncode, never.stderr) == (1, f"{REPO}@main: {why}")
    sha = json.loads(run(hub, tmp_path, source="medquad").stdout)[0]["sha"]
    # a download that was cut short, and one of a client that kept no list of the files
    [tree] = (tmp_path / "hf").rglob(f"trees/{sha}.json")
    [file] = (tmp_path / "hf").rglob("snapshots/*/data/*.parquet")
    for path in (file, tree):
        content = path.read_bytes()
        path.unlink()
        partly = run(hub, tmp_path, store="other", offline="1", source="medquad")
        assert (partly.returncode, partly.stderr) == (1, f"{REPO}@{sha}: {why}")
        path.write_bytes(content)
    assert run(hub, tmp_path, store="other", offline="1", source="medquad").returncode == 0


TAGGED = CODE.replace("data.split import prepare", "data.tagged_split import prepare_tagged as prepare").replace("Recipe(", 'Recipe(task="tag", ')  # fmt: skip


def test_tagged_words_are_read_from_the_hub_too(hub: Hub, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    files = {}
    for part in ("train", "validation", "test"):
        lines = (ROOT / f"data/bc2gm/{part}.jsonl").read_text().splitlines()
        path = tmp_path / f"{part}.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(map(json.loads, lines))), path)
        files[f"bc2gm_corpus/{part}-00000-of-00001.parquet"] = path.read_bytes()
    hub.store.create("spyysalo/bc2gm_corpus", "dataset").put({**files, "README.md": b"x"})
    environment = hub.environment(tmp_path / "hf", MEDRECIPES_CACHE=str(tmp_path / "store"))
    arguments = [sys.executable, "-c", TAGGED, json.dumps({"source": "bc2gm"})]
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source, seen, _ = json.loads(done.stdout)
    assert (source["repo"], seen) == ("spyysalo/bc2gm_corpus", 17)
    assert source["sha"] == hub.store.repos["dataset", "spyysalo/bc2gm_corpus"].resolve("main").sha


def test_a_file_that_is_not_what_the_hub_names_is_refused(hub: Hub, tmp_path: Path) -> None:
    assert run(hub, tmp_path, source="medquad").returncode == 0
    [file] = (tmp_path / "hf").rglob("train-*.parquet")
    blob = file.resolve()
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)  # as large as before
    done = run(hub, tmp_path, source="medquad", store="another")
    assert done.returncode != 0
    assert done.stderr.count("is not what the Hub names by its hash") == 1
    assert str(blob) in done.stderr
    blob.unlink()
    file.unlink()
    assert run(hub, tmp_path, source="medquad", store="another").returncode == 0
