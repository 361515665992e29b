"""Benchmarks need a GPU to run; what they set in recipes, and their options, need none."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from types import ModuleType

import pytest

from medrecipes.recipe.load import load
from tests.conftest import ROOT

FOLDER = ROOT / "scripts" / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def module(name: str) -> ModuleType:
    """A benchmark as a module."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    try:
        spec.loader.exec_module(found)
    finally:
        sys.path[:] = before
    return found


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_a_benchmark_takes(name: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "bench"), name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("recipe", ["mistral_bio_ner", "smollm2_135m_bio_ner", "smollm2_135m_ncbi_disease"])
def test_a_tagging_recipe_takes_what_its_benchmark_sets(recipe: str) -> None:
    usual = module("tag_steps").USUAL
    found = load(ROOT / "recipes" / f"{recipe}.toml", [*usual, f"data.path={ROOT}", "train.max_steps=300"]).recipe
    assert (found.train.max_steps, found.train.logging_steps, found.sweep.grid) == (300, 1, {})


def test_a_recipe_takes_every_way_of_the_rivals() -> None:
    rivals = module("rivals")
    for way, settings in rivals.WAYS.items():
        assert re.search(rf"^  {way} ", rivals.__doc__, re.MULTILINE), way
        for rows in rivals.ROWS.values():
            load(ROOT / "recipes" / "tiny_mistral.toml", [*settings, *rows])
