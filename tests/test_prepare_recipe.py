"""The data section of a recipe: mistakes in one line each, paths from the file that states them, a key of the content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medrecipes.core.errors import RecipeError
from medrecipes.data.split import prepare
from medrecipes.recipe.load import load
from tests.conftest import ROOT

MISTAKES = {
    'mix = [{ source = "medquad", limt = 3 }]': "r.toml:2: data.mix.0.limt is unknown; did you mean data.mix.limit?",
    'mix = [{ source = "medqad" }]': "r.toml:2: data.mix.0.source = 'medqad' is unknown; did you mean medquad?",
    'mix = [{ path = "." }]': "r.toml:2: data.mix.0.source is missing; set it",
    'mix = [{ source = "medquad", path = "no" }]': "no' does not exist; correct it, or leave it out",
    'mix = [{ source = "medquad", weight = -1 }]': "r.toml:2: data.mix.0.weight = -1: must be greater than 0",
    'mix = [{ source = "medquad" }, { source = "wikidoc", weight = 1.0 }]': "give all one, or none",
    'source = "wikidoc"\nmix = [{ source = "medquad" }]': "r.toml:2: data.source contradicts",
    'path = "no"\nmix = [{ source = "medquad" }]': "is no folder; with data.mix it must be one",
    'source = "jsonl"': "data.path is missing; source jsonl reads a file of your own, name it, or a dataset of the Hub as data.repo",
    'columns = { question = "q" }': "r.toml:2: data.columns is read by source jsonl only; leave it out",
    'columns = { qestion = "q" }': "data.columns.qestion is unknown; did you mean data.columns.question?",
    "near_duplicate = 1.2": "r.toml:2: data.near_duplicate = 1.2: must be less than or equal to 1",
    'answers = "first"': "r.toml:2: data.answers = 'first' is not one of one, all",
    "limit = 0": "r.toml:2: data.limit = 0: must be greater than or equal to 1",
    "split = { train = 0.8, dev = 0.1 }\nsplit.test = 0.3": "r.toml",
    'near_duplicate = 0.5\n[build]\nmodels = { x = "lama2" }': "build.models.x = 'lama2' is unknown; did you mean llama2?",
    '[[build.sets]]\nname = "a"\nsources = ["medqad"]': "'medqad' is none of the recipe's own data; did you mean medquad?",
    '[[build.sets]]\nname = "a_{model}"': "needs {model} if and only if build.models is set",
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_with_its_place(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(f"[data]\n{text}\n")
    with pytest.raises(RecipeError) as raised:
        load(tmp_path / "r.toml")
    assert [line for line in raised.value.problems if MISTAKES[text] in line], raised.value.problems


def test_paths_of_a_mixture_belong_to_the_file_that_states_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "data/wikidoc.json", tmp_path / "w.json")
    (tmp_path / "base.toml").write_text('[[data.mix]]\nsource = "wikidoc"\npath = "w.json"\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "r.toml").write_text('extends = "../base.toml"\n')
    assert load(tmp_path / "sub" / "r.toml").recipe.data.mix[0].path == tmp_path / "w.json"


def test_the_key_of_a_mixture_is_of_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / "data/wikidoc.json", tmp_path / name / "w.json")
        (tmp_path / name / "r.toml").write_text('[[data.mix]]\nsource = "wikidoc"\npath = "w.json"\n')
    keys = [load(tmp_path / name / "r.toml").recipe.key for name in ("a", "b")]
    assert keys[0] == keys[1]
    (tmp_path / "b" / "w.json").write_text((tmp_path / "b" / "w.json").read_text() + " ")
    assert load(tmp_path / "b" / "r.toml").recipe.key != keys[0]


def test_a_resolved_mixture_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = load(ROOT / "recipes/datasets.toml", [f"data.path={ROOT / 'data'}", "data.near_duplicate=0.8"]).recipe
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    again = load(tmp_path / "recipe.toml").recipe
    assert again.key == recipe.key
    assert prepare(again) == prepare(recipe)
    assert recipe.to_toml().count("[[build.sets]]") == 4
