"""`medrecipes build`: the published family by its names, each loading again, with a card that says what happened."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import DatasetDict, Features, List, Value, load_dataset, load_from_disk

from medrecipes.data.split import prepare
from medrecipes.pipeline import build as module
from medrecipes.pipeline.build import build, save, variants
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Data, Recipe
from tests.conftest import ROOT

COLUMNS = ["messages", "prompt", "instruction", "input", "output", "group", "source", "meta"]
SYSTEM = "Answer the question truthfully, you are a medical professional."
FAMILY = [
    f"medical_{model}_instruct_dataset{short}" for short in ("", "_short") for model in ("gemma", "llama", "llama3", "mistral")
] + [
    f"{model}_{kind}_instruct_dataset"
    for kind in ("medquad", "medical_meadow_wikidoc")
    for model in ("gemma", "llama", "llama3", "mistral")
]  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load(ROOT / "recipes/datasets.toml", [f"data.path={ROOT / 'data'}", *overrides]).recipe


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    built = list(build(recipe(), out, ["parquet", "jsonl"]))
    assert [made.name for made in built] == FAMILY
    return out


def test_the_family_has_its_sixteen_names_and_sources(family: Path) -> None:
    assert len(FAMILY) == 16
    assert sorted(path.name for path in family.iterdir()) == sorted(FAMILY)
    sources = {name: set(load_from_disk(str(family / name))["train"]["source"]) for name in FAMILY}
    assert sources["medical_gemma_instruct_dataset"] == {"medquad", "wikidoc"}
    assert sources["llama_medquad_instruct_dataset"] == {"medquad"}
    assert sources["mistral_medical_meadow_wikidoc_instruct_dataset"] == {"wikidoc"}
    assert dict(variants(recipe()))["medical_llama3_instruct_dataset_short"].data.limit == 2000


def test_a_dataset_loads_again_with_its_columns_and_rows(family: Path) -> None:
    name = "llama_medquad_instruct_dataset"
    data = load_from_disk(str(family / name))
    assert isinstance(data, DatasetDict)
    assert list(data) == ["train", "validation", "test"]
    split = prepare(dict(variants(recipe()))[name])
    for part, rows in (("train", split.train), ("validation", split.dev), ("test", split.test)):
        assert data[part].column_names == COLUMNS
        assert [meta["id"] for meta in data[part]["meta"]] == [row.id for row in rows]
        assert list(data[part]["output"]) == [row.answer for row in rows]
        assert list(data[part]["group"]) == [row.group for row in rows]
    first = data["train"][0]
    assert first["messages"][0] == {"role": "system", "content": SYSTEM}
    assert (first["instruction"], first["input"]) == (SYSTEM, split.train[0].question)


PROMPTS = {
    "gemma": f"<bos><start_of_turn>user\n{SYSTEM}\n\n{{q}}<end_of_turn>\n<start_of_turn>model\n{{a}}<end_of_turn>\n",
    "llama": f"<s>[INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\n{{q}} [/INST] {{a}} </s>",
    "llama3": f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|>"
    f"<|start_header_id|>user<|end_header_id|>\n\n{{q}}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{{a}}<|eot_id|>",
    "mistral": f"<s>[INST] {SYSTEM}\n\n{{q}} [/INST] {{a}}</s>",
}


@pytest.mark.parametrize("model", PROMPTS)
def test_the_prompt_is_written_as_the_family_writes_it(model: str, family: Path) -> None:
    row = load_from_disk(str(family / f"{model}_medquad_instruct_dataset"))["test"][0]
    assert row["prompt"] == PROMPTS[model].format(q=row["input"], a=row["output"])


def test_the_files_load_without_this_project(family: Path) -> None:
    folder = family / "medical_mistral_instruct_dataset"
    expected = load_from_disk(str(folder))
    for suffix, builder in (("parquet", "parquet"), ("jsonl", "json")):
        files = {part: str(folder / f"data/{part}.{suffix}") for part in expected}
        found = load_dataset(builder, data_files=files, cache_dir=str(family.parent / "cache"))
        for part in expected:
            assert found[part]["prompt"] == expected[part]["prompt"]
            assert found[part]["messages"] == expected[part]["messages"]
    line = (folder / "data/test.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert list(json.loads(line)) == COLUMNS


def test_the_card_says_where_the_rows_come_from_and_what_was_left_out(family: Path) -> None:
    from huggingface_hub import DatasetCard

    folder = family / "medical_gemma_instruct_dataset"
    report = json.loads((folder / "data.json").read_text())
    card = DatasetCard.load(folder / "README.md")
    assert card.data.license == "other"  # one of the two sources states none
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs[0]["data_files"][0] == {"split": "train", "path": "data/train.parquet"}
    text = card.text
    assert f"{report['seen']} rows were read, {sum(report['dropped'].values())} of them left out" in text
    for wanted in (
        "| language-model failure | 2 |", "| [MedQuAD](https://github.com/abachaa/MedQuAD) | CC-BY-4.0 | yes |",
        "Not medical advice", "A Question-Entailment Approach", "grouped (used): test", "612 of 4,746 subjects",
    ):  # fmt: skip
        assert wanted in text
    assert str(ROOT) not in text + json.dumps(report)
    alone = DatasetCard.load(family / "gemma_medquad_instruct_dataset/README.md")
    assert alone.data.license == "cc-by-4.0"


def test_a_recipe_without_a_matrix_is_one_dataset_by_its_own_name(tmp_path: Path) -> None:
    plain = Recipe(name="mine", data=Data(path=ROOT / "data/medquad"))
    for _ in range(2):  # made again over itself
        [made] = build(plain, tmp_path)
        assert made.folder == tmp_path / "mine"
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert load_from_disk(str(made.folder))["train"]["instruction"][0] == ""
    assert made.lines().startswith(f"mine: {len(load_from_disk(str(made.folder))['train'])} rows to train on (")
    assert not (made.folder / "data").exists()


def test_a_split_of_two_has_no_empty_third(tmp_path: Path) -> None:
    overrides = [
        "data.split={train=0.8,dev=0.2,test=0.0}",
        'build.sets=[{name="one_{model}"}]',
        "build.models.llama3=llama2",
    ]
    made = list(build(recipe(*overrides), tmp_path))
    assert [one.name for one in made] == ["one_gemma", "one_llama", "one_llama3", "one_mistral"]
    assert list(load_from_disk(str(made[0].folder))) == ["train", "validation"]


def test_conversations_of_several_turns_keep_them(tmp_path: Path) -> None:
    own = Recipe(name="own", data=Data(source="jsonl", path=ROOT / "data/own_conversations.jsonl"), seed=3)
    [made] = build(own, tmp_path)
    rows = [row for part in load_from_disk(str(made.folder)).values() for row in part]
    longest = max(rows, key=lambda row: len(row["messages"]))
    assert [m["role"] for m in longest["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert longest["instruction"] == "You answer patients in plain words."
    assert longest["input"].count("\n\n") == 2
    assert longest["output"] == longest["messages"][-1]["content"]


# --- a batch at a time

TURNS = {"role": Value("string"), "content": Value("string")}
SMALL = Features(
    {"messages": List(TURNS), "text": Value("string"), "meta": {"id": Value("string"), "of": Value("string")}}
)


def numbered(count: int, letters: int = 10) -> Iterator[dict[str, Any]]:
    """Rows of which the first half lacks what the second half knows."""
    for number in range(count):
        known = {"id": str(number), "of": None if number < count // 2 else f"page {number}"}
        yield {"messages": [{"role": "user", "content": "q" * (number % 3)}], "text": "x" * letters, "meta": known}


def arrow_files(part: Path) -> list[Path]:
    return sorted(part.glob("*.arrow"))


def batches_of(part: Path) -> list[int]:
    return [batch.num_rows for file in arrow_files(part) for batch in pa.ipc.open_stream(pa.OSFile(str(file)))]


def test_rows_are_asked_for_a_batch_at_a_time(tmp_path: Path) -> None:
    """No more than a batch of rows is taken before what was taken is in the file."""
    written: list[int] = []

    def watched() -> Iterator[dict[str, Any]]:
        for row in numbered(3500, letters=2000):
            written.append(sum(path.stat().st_size for path in tmp_path.rglob("*.arrow")))
            yield row

    save(tmp_path / "set", SMALL, {"train": watched()}, {}, [], {})
    # the last bytes may wait to be written; a row has 2,000
    assert written[999] < 1_000_000 <= written[2000]
    assert written[3001] > 4_000_000
    assert batches_of(tmp_path / "set/train") == [1000, 1000, 1000, 500]
    assert load_from_disk(str(tmp_path / "set"))["train"].to_list() == list(numbered(3500, letters=2000))


def test_long_rows_make_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LETTERS", 100_000)
    save(tmp_path / "set", SMALL, {"test": numbered(25, letters=30_000)}, {}, [], {})
    assert batches_of(tmp_path / "set/test") == [4, 4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize(("count", "files"), [(7990, 8), (8000, 8), (8001, 9), (1, 1), (1000, 1)])
def test_a_large_part_lies_in_several_files(
    count: int, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD", 600_000)
    save(
        tmp_path / "set",
        SMALL,
        {"train": numbered(count, letters=500), "test": numbered(3)},
        {},
        ["jsonl", "parquet"],
        {},
    )
    names = [path.name for path in arrow_files(tmp_path / "set/train")]
    assert names == [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    assert all(path.stat().st_size <= 600_000 for path in arrow_files(tmp_path / "set/train"))
    data = load_from_disk(str(tmp_path / "set"))
    assert data["train"].features == SMALL
    assert data["train"].to_list() == list(numbered(count, letters=500))
    assert data["test"].to_list() == list(numbered(3))
    lines = (tmp_path / "set/data/train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(numbered(count, letters=500))
    again = load_dataset(
        "parquet", data_files=str(tmp_path / "set/data/train.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert again["train"].to_list() == list(numbered(count, letters=500))


def test_what_the_library_knows_rows_by_tells_datasets_apart(tmp_path: Path) -> None:
    """The library keeps what it makes of rows under their fingerprint: equal rows share it, others never do."""
    for name, count in (("one", 5), ("same", 5), ("other", 6)):
        save(tmp_path / name, SMALL, {"train": numbered(count), "test": numbered(4)}, {}, [], {})
    data = {name: load_from_disk(str(tmp_path / name)) for name in ("one", "same", "other")}
    one, same, other = (data[name]["train"]._fingerprint for name in data)
    assert one == same
    assert len({one, other, data["one"]["test"]._fingerprint}) == 3
    assert data["one"]["test"]._fingerprint == data["other"]["test"]._fingerprint


def test_a_row_that_cannot_be_written_leaves_the_dataset_of_before(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from numbered(1500)
        raise ValueError("row 1500")

    report = {"name": "set", "keys": {}, "rows": {}, "sources": []}
    save(tmp_path / "set", SMALL, {"train": numbered(3)}, report, [], {})
    with pytest.raises(ValueError, match="row 1500"):
        save(tmp_path / "set", SMALL, {"train": broken()}, report, [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert load_from_disk(str(tmp_path / "set"))["train"].to_list() == list(numbered(3))


GROWTH = """
import resource, sys
from pathlib import Path
from medrecipes.pipeline import build
from medrecipes.data.split import Split
from medrecipes.recipe.schema import Recipe
from medrecipes.recipe.schema import Template
from medrecipes.data.records import Conversation
from medrecipes.data.records import Message

def rows(count):
    answer = "word " * 1000
    turns = (Message("user", "What is it?"), Message("assistant", answer))
    return tuple(Conversation(f"r{n}", f"g{n}", turns, {"source": "medquad", "document": f"d{n}"}) for n in range(count))

leak = {"threshold": None, "grouped": {}, "by_row": {}}
report = {"rows": {}, "seen": 0, "dropped": {}, "sources": [], "leakage": leak}
recipe = Recipe(name="set", template=Template(name="llama2"))
peaks = []
for count in (1000, 8000):
    build._one("set", recipe, Split(rows(count), (), (), "k", report), Path(sys.argv[1]) / str(count), ())
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) * (1 if sys.platform == "darwin" else 1024))
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """8,000 rows of 5,000 letters: 40 MB of text, of which no more than two batches are held, in any of its forms."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120_000_000
    assert load_from_disk(str(tmp_path / "8000"))["train"].num_rows == 8_000
