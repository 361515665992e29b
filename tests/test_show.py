"""The resolved recipe says where each value comes from, and is a recipe itself."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from medrecipes.recipe.load import load
from medrecipes.recipe.show import as_json, show, to_toml
from tests.conftest import ROOT, Cli

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


def test_every_value_names_the_file_and_line_that_set_it(cli: Cli) -> None:
    done = cli("show", "recipes/gemma_medical_short.toml", "--set", "lora.rank=8")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.partition("  #")[0].rstrip(): line.partition("# ")[2] for line in done.stdout.splitlines()}
    assert lines['base = "unsloth/gemma-1.1-7b-it-bnb-4bit"'] == "recipes/base/gemma.toml:4"
    assert lines["limit = 2000"] == "recipes/base/medical_short.toml:7"
    assert lines["rank = 8"] == "--set"
    assert lines["epochs = 1.0"] == "default"
    assert lines["train = 0.8"] == lines["dev = 0.1"] == "recipes/base/instruct.toml:16"
    for text, origin in lines.items():
        if match := re.fullmatch(r"(recipes/.+):(\d+)", origin):
            assert text.partition(" =")[0] in (ROOT / match[1]).read_text().splitlines()[int(match[2]) - 1]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_is_shown_is_the_same_recipe_again(path: Path, tmp_path: Path) -> None:
    loaded = load(path)
    (tmp_path / "again.toml").write_text("\n".join(show(loaded)))
    again = load(tmp_path / "again.toml").recipe
    assert again == loaded.recipe
    assert again.key == loaded.recipe.key


def test_json_holds_every_key_once() -> None:
    found = as_json(load(ROOT / "recipes" / "tiny_sweep.toml", ["seed=1"]))
    assert len(found) >= 70
    assert found["seed"] == {"value": 1, "file": "--set", "line": None}
    assert found["train.packing"] == {"value": False, "file": None, "line": None}
    assert found["sweep.lora.rank"]["value"] == [4, 16]
    rate = found["train.learning_rate"]
    assert (rate["value"], rate["file"].endswith("recipes/base/tiny.toml")) == (2e-3, True)


def test_what_another_key_takes_the_place_of_is_not_shown_as_set(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[train]\nmax_steps = 5\n")
    lines = [line.partition("  #")[0].rstrip() for line in show(load(tmp_path / "x.toml"))]
    assert "# epochs is not used" in lines
    assert "max_steps = 5" in lines


@pytest.mark.parametrize("value", ['a "b" \\n\n\t', "é\x7f\u2028", [1, 2.5, True], {"a b": 1, "c.d": ["x"]}, {}, []])
def test_a_value_is_written_as_toml_reads_it(value: object) -> None:
    assert tomllib.loads(f"v = {to_toml(value)}")["v"] == value


def test_a_wrong_recipe_is_not_shown(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("sed = 1\n")
    done = cli("show", tmp_path / "x.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path}/x.toml:1: sed is unknown; did you mean seed?\n"


def weighted(medquad: int, wikidoc: int) -> str:
    """The shipped samples by weight."""
    rows = [("medquad", "data/medquad", medquad), ("wikidoc", "data/wikidoc.json", wikidoc)]
    return "data.mix=[" + ", ".join(f'{{ source = "{s}", path = "{p}", weight = {w} }}' for s, p, w in rows) + "]"


def test_of_a_mixture_the_share_of_each_dataset_in_the_tokens_is_shown(cli: Cli) -> None:
    mix = ("show", "recipes/tiny_medical.toml", "--set", weighted(9, 1), "--set", 'data.mix_by="tokens"')
    done = cli(*mix)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.partition("# the mixture, in the base's own tokens\n")[2].splitlines()
    assert [line.partition(":")[0] for line in said] == ["# medquad", "# wikidoc"]
    found = json.loads(cli(*mix, "--json").stdout)["mixture"]
    assert found["sources"]["medquad"]["after"]["share_of_tokens"] == pytest.approx(0.9, abs=0.005)
    assert f"{found['sources']['medquad']['after']['tokens']:,} tokens (90." in said[0]
    # the lines are comments: what is shown is still a recipe
    assert tomllib.loads(done.stdout)["data"]["mix_by"] == "tokens"


def test_a_mixture_that_cannot_be_counted_is_shown_without_its_shares(cli: Cli) -> None:
    # the tests are offline, and its datasets are on the Hub
    done = cli("show", "recipes/gemma_medical_short.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "lavita/MedQuAD@main: cannot be had" in done.stdout.partition("# the shares were not counted: ")[2]
