"""The schema says all that is wrong at once, each with file, line, key and the next move."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field

from medrecipes.core.errors import RecipeError
from medrecipes.core.files import cache_root, digest, digest_files, thorough
from medrecipes.recipe.load import load
from medrecipes.recipe.overlay import key_lines
from medrecipes.recipe.schema import DEFAULTS, Columns, Recipe, Train, leaves
from tests.conftest import ROOT

DEMO = ROOT / "recipes" / "tiny_mistral.toml"


def problems(text: str, folder: Path, *overrides: str) -> list[str]:
    path = folder / "x.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load(path, overrides)
    return [problem.replace(f"{folder}/", "") for problem in error.value.problems]


WRONG = [
    ("[lora]\nrnak = 8\n", "x.toml:2: lora.rnak is unknown; did you mean lora.rank?"),
    ("[lroa]\nrank = 8\n", "x.toml:1: lroa is unknown; did you mean lora?"),
    ("task = 'chta'\n", "x.toml:1: task = 'chta' is not one of chat, tag; did you mean chat?"),
    ('[model]\n\nengine = "unslot"\n', "x.toml:3: model.engine = 'unslot' is not one of auto, unsloth, trl; did you mean unsloth?"),
    ("[model]\nbits = 5\n", "x.toml:2: model.bits = 5: must be one of 4, 8, 16"),
    ('[train]\nbatch = "8"\n', "x.toml:2: train.batch = '8': must be an integer"),
    ("[train]\nbatch = 0\n", "x.toml:2: train.batch = 0: must be greater than or equal to 1"),
    ("[train]\nlearning_rate = -1.0\n", "x.toml:2: train.learning_rate = -1.0: must be greater than 0"),
    ('[data]\nsource = "medqaud"\n', "x.toml:2: data.source = 'medqaud' is unknown; did you mean medquad?"),
    ('[template]\nname = "mistral-v11"\n', "x.toml:2: template.name = 'mistral-v11' is unknown; did you mean mistral-v1?"),
    ('[data]\npath = "nowhere.csv"\n', "x.toml:2: data.path = 'nowhere.csv' does not exist; correct it, or leave it out"),
    ("[data]\nsplit = { train = 0.5, dev = 0.1, test = 0.1 }\n", "x.toml:2: data.split: train, dev and test must sum to 1, train above 0"),
    ("[train]\ncompute = 'fp8'\n[lora]\ndropout = 0.1\n", "x.toml:2: train.compute = 'fp8' does not go with x.toml:4: lora.dropout = 0.1; leave one out"),
    ("[train]\ncompute = 'fp8'\nprecision = 'fp16'\n", "x.toml:2: train.compute = 'fp8' does not go with x.toml:3: train.precision = 'fp16'; leave one out"),
    ("[train]\nepochs = 1\nmax_steps = 5\n", "x.toml:3: train.max_steps contradicts x.toml:2: train.epochs; set one of them"),
    ("[train]\nbatch = 8\nmicro_batch = 3\n", "x.toml:3: train.micro_batch = 3 does not divide train.batch = 8; choose a divisor"),
    ("[train\n", "x.toml:1: broken TOML (Expected ']' at the end of a table declaration (at line 1, column 7)); correct this line"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_mistake_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    assert problems(text, tmp_path) == [message]


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    found = problems("[lora]\nrnak = 8\n[train]\nbatch = 'x'\n", tmp_path, "train.epohcs=2")
    assert found == [
        "x.toml:2: lora.rnak is unknown; did you mean lora.rank?",
        "x.toml:4: train.batch = 'x': must be an integer",
        "--set: train.epohcs is unknown; did you mean train.epochs?",
    ]


def test_a_wrong_path_suggests_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipes/dmeo\.toml: no such recipe; did you mean .*/recipes/demo\.toml\?"):
        load(ROOT / "recipes" / "dmeo.toml")


def test_set_takes_toml_values_and_bare_words() -> None:
    recipe = load(
        DEMO, ["train.max_steps=7", "lora.targets=['q_proj']", "model.engine=trl", "train.learning_rate=1e-5"]
    ).recipe
    assert (recipe.train.max_steps, recipe.lora.targets) == (7, ("q_proj",))
    assert (recipe.model.engine, recipe.train.learning_rate) == ("trl", 1e-5)


def test_set_is_told_how_to_be_written(tmp_path: Path) -> None:
    assert problems("", tmp_path, "train.max_steps") == [
        "--set train.max_steps: write it as KEY=VALUE, such as --set train.max_steps=100"
    ]


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(DEMO).recipe.train.batch = 3  # type: ignore[misc]


def test_origins_name_file_and_line() -> None:
    origins = load(DEMO, ["seed=1"]).origins
    assert str(origins["seed"]) == "--set"
    origin = origins["train.learning_rate"]
    assert origin.line
    assert origin.file.endswith("recipes/base/tiny.toml")
    assert Path(origin.file).read_text().splitlines()[origin.line - 1] == "learning_rate = 2e-3"


def test_extends_lays_files_over_each_other(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "b.toml").write_text("[lora]\nrank = 4\nalpha = 8\n")
    (tmp_path / "x.toml").write_text('extends = "base/b.toml"\n[lora]\nrank = 32\n')
    loaded = load(tmp_path / "x.toml")
    assert (loaded.recipe.lora.rank, loaded.recipe.lora.alpha, loaded.recipe.name) == (32, 8, "x")
    assert str(loaded.origins["lora.alpha"]).endswith("base/b.toml:3")


def test_a_circle_of_extends_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    with pytest.raises(RecipeError, match="which extends it in turn; break the circle"):
        load(tmp_path / "a.toml")


def test_key_lines_know_tables_arrays_and_long_strings() -> None:
    text = '''a = """
b = 1
"""
[t]
"x y" = 1
[[m]]
k.z = 2
[[m]]
k = 3
'''
    assert key_lines(text) == {
        "a": 1,
        "t": 4,
        "t.x y": 5,
        "m": 6,
        "m.0": 6,
        "m.0.k": 7,
        "m.0.k.z": 7,
        "m.1": 8,
        "m.1.k": 9,
    }


def test_key_lines_are_right_behind_nested_arrays_and_within_them() -> None:
    text = '''grid = [
  [1, 2],
  ["x", "[section]", """
k = 1
"""],
]
seed = 7
[t]
  entries = [
    { a = 1, b = { c = 2 } },
    { a = "}", # ] = 3
      },
  ]
after = 1
[[m]]
[m.inner]
x = 1
[[m]]
[m.inner]
x = 1
'''
    assert key_lines(text) == {
        "grid": 1, "seed": 7, "t": 8, "t.entries": 9, "t.entries.0": 10, "t.entries.0.a": 10, "t.entries.0.b": 10,
        "t.entries.0.b.c": 10, "t.entries.1": 11, "t.entries.1.a": 11, "t.after": 14, "m": 15, "m.0": 15, "m.inner": 16,
        "m.0.inner": 16, "m.0.inner.x": 17, "m.1": 18, "m.1.inner": 19, "m.1.inner.x": 20,
    }  # fmt: skip


def test_a_mistake_behind_nested_arrays_has_its_own_line(tmp_path: Path) -> None:
    text = "[sweep]\n'lora.targets' = [\n  ['q_proj'],\n  ['k_proj'],\n]\nsamples = 0\n[lora]\nrank = 0\n"
    assert problems(text, tmp_path) == [
        "x.toml:8: lora.rank = 0: must be greater than or equal to 1",
        "x.toml:6: sweep.samples = 0: must be greater than or equal to 1",
    ]


def test_a_child_says_steps_where_its_parent_says_epochs_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "epochs.toml").write_text("[train]\nepochs = 3\nwarmup_steps = 7\n")
    (tmp_path / "steps.toml").write_text("extends = 'epochs.toml'\n[train]\nmax_steps = 5\nwarmup_fraction = 0.5\n")
    (tmp_path / "again.toml").write_text("extends = 'steps.toml'\n[train]\nepochs = 2\n")
    steps, again = (load(tmp_path / f"{name}.toml").recipe.train for name in ("steps", "again"))
    assert (steps.max_steps, steps.warmup_fraction) == (5, 0.5)
    assert (again.max_steps, again.epochs, again.warmup_fraction) == (None, 2, 0.5)
    assert problems("extends = 'epochs.toml'\n[train]\nmax_steps = 50\nepochs = 4\n", tmp_path) == [
        "x.toml:3: train.max_steps contradicts x.toml:4: train.epochs; set one of them"
    ]


def test_a_table_that_is_typed_takes_the_place_of_the_files_own(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "x.toml").write_text(
        "[data]\nsource = 'jsonl'\npath = 'rows.jsonl'\ncolumns = { question = 'q', answer = 'a', document = 'd' }\n"
    )
    whole = load(tmp_path / "x.toml", ["data.columns={question='ask',answer='reply'}"])
    assert whole.recipe.data.columns == Columns(question="ask", answer="reply")
    assert "data.columns.document" not in whole.origins
    one = load(tmp_path / "x.toml", ["data.columns.answer=reply"])
    assert one.recipe.data.columns == Columns(question="q", answer="reply", document="d")


def test_the_key_changes_with_what_changes_the_result(tmp_path: Path) -> None:
    key = load(DEMO).recipe.key
    assert load(DEMO, ["seed=43"]).recipe.key != key
    assert load(DEMO, ["train.learning_rate=1e-3"]).recipe.key != key
    assert load(DEMO, ["name=other"]).recipe.key == key


def test_a_copy_with_other_values_has_a_key_of_its_own() -> None:
    recipe = load(DEMO).recipe
    before = recipe.key
    assert recipe.model_copy(update={"seed": 43}).key == load(DEMO, ["seed=43"]).recipe.key != before
    assert recipe.key == before


def test_a_key_that_the_schema_gains_leaves_the_keys_of_runs_alone() -> None:
    class Later(Recipe):
        flavour: str = Field("plain", description="")

    recipe = load(DEMO, ["train.batch=4"]).recipe
    later = Later.model_validate(dict(recipe))
    assert later.key == recipe.key
    assert later.model_copy(update={"flavour": "new"}).key != recipe.key
    assert recipe.identity["settings"]["train"]["batch"] == 4
    assert "rank" not in recipe.identity["settings"]["lora"]


UNKEYED = {"name", "build", "publish", "sweep"}  # whatever they say, the run is the same


def test_a_default_does_not_change_unnoticed() -> None:
    """Keys hash what differs from the defaults, so a changed default would pass old runs off as new ones."""
    written = json.loads((ROOT / "tests" / "defaults.json").read_text())
    edition, now = written.pop("defaults"), dict(leaves(Recipe().model_dump(mode="json", exclude=UNKEYED)))
    changed = {key: value for key, value in leaves(written) if key not in now or now[key] != value}
    assert (edition, changed) == (DEFAULTS, {}), "write tests/defaults.json anew, and raise DEFAULTS in recipe.py"


def test_the_key_is_of_the_data_not_of_its_place(tmp_path: Path) -> None:
    keys = []
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.xml").write_text(text)
        keys.append(load(DEMO, [f"data.path='{tmp_path / name}'"]).recipe.key)
    assert keys[0] == keys[1] != keys[2]


def test_a_base_by_its_path_belongs_to_the_file_that_states_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "recipes" / "x.toml"

    def base(text: str) -> str:
        path.write_text(f"[model]\nbase = '{text}'\n")
        return load(path).recipe.model.base.replace(str(tmp_path), "{folder}")

    assert base("./mine") == base("mine") == base("../recipes/mine") == "{folder}/recipes/mine"
    assert base("./absent") == "{folder}/recipes/absent"
    assert base("weights/x.gguf") == "{folder}/recipes/weights/x.gguf"
    # a folder of that name where the command is typed is not what a recipe means
    assert base("owner/name") == "owner/name"
    assert base("tiny:llama3") == "tiny:llama3"
    assert base("package:mine") == "package:mine"
    typed = load(path, ["model.base=owner/name"]).recipe.model.base
    assert typed == str(tmp_path / "elsewhere" / "owner" / "name")
    path.write_text("[sweep]\n'model.base' = ['mine', 'owner/name']\n")
    assert load(path).recipe.sweep.grid["model.base"] == [str(tmp_path / "recipes" / "mine"), "owner/name"]


def test_the_key_is_of_what_a_local_base_holds_not_of_its_place(tmp_path: Path) -> None:
    def key(folder: str) -> str:
        return load(DEMO, [f"model.base={tmp_path / folder}"]).recipe.key

    for folder in ("a", "b"):
        (tmp_path / folder / "deeper").mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
        (tmp_path / folder / "model.safetensors").write_bytes(b"one")
    before = key("a")
    assert key("a") == key("b") == before != load(DEMO).recipe.key
    (tmp_path / "a" / ".cache").write_text("")
    assert key("a") == before
    (tmp_path / "a" / "model.safetensors").write_bytes(b"two")
    assert key("a") != before == key("b")
    (tmp_path / "a" / "model.safetensors").write_bytes(b"one")
    assert key("a") == before
    (tmp_path / "x.gguf").write_bytes(b"weights")
    alone = key("x.gguf")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert alone != key("x.gguf") != key("absent")


def test_the_files_of_a_base_are_read_once(tmp_path: Path) -> None:
    weights = tmp_path / "base" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"one")
    [first, again] = [digest_files(weights.parent, [weights]) for _ in range(2)]
    [store] = (cache_root() / "digests").glob(f"{digest(str(weights.parent))[:16]}.json")
    said = json.loads(store.read_text())
    assert said["model.safetensors"]["bytes"] == 3
    assert first == again
    # what the store says is believed for a file of the same size and times, until every byte is asked for
    store.write_text(json.dumps({"model.safetensors": {**said["model.safetensors"], "sha256": "0"}}))
    assert digest_files(weights.parent, [weights]) != first
    with thorough():
        assert digest_files(weights.parent, [weights]) == first
    store.write_text("[]")
    assert digest_files(weights.parent, [weights]) == first


def test_a_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load(DEMO, ["train.batch=4"]).recipe
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    again = load(tmp_path / "recipe.toml").recipe
    assert (again.key, again.name) == (recipe.key, "tiny_mistral")


def test_every_key_is_described() -> None:
    from medrecipes.recipe.schema import fields

    found = dict(fields(Recipe))
    assert len(found) >= 40
    assert [name for name, info in found.items() if not info.description] == []


def test_a_very_short_run_writes_a_recipe_that_loads_again(tmp_path: Path) -> None:
    recipe = Recipe(name="short", train=Train(max_steps=3))
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert load(tmp_path / "recipe.toml").recipe.train == recipe.train
