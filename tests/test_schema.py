"""The JSON Schema that editors read: it takes every recipe, refuses what the loader refuses, and explains every key."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from medrecipes.recipe.json_schema import json_schema, markdown
from medrecipes.recipe.schema import fields, source_names, template_names
from tests.conftest import ROOT, Cli

FILES = [*sorted((ROOT / "recipes").glob("*.toml")), *sorted((ROOT / "recipes" / "base").glob("*.toml"))]


def test_it_is_a_valid_schema_in_one_piece() -> None:
    schema = json_schema()
    Draft7Validator.check_schema(schema)
    text = json.dumps(schema)
    assert "$ref" not in text
    assert '"null"' not in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_and_every_shared_half_passes_it(path: Path) -> None:
    assert len(FILES) >= 45
    errors = list(Draft7Validator(json_schema()).iter_errors(tomllib.loads(path.read_text())))
    assert [error.message for error in errors] == []


WRONG = [
    "[lora]\nrnak = 8", "[lroa]\nrank = 8", "[lora]\nrank = 0", "[model]\nbits = 7", "[model]\nengine = 'unslot'",
    "[train]\nbatch = '8'", "[train]\noptim = 'adam_8bit'", "[train]\nscheduler = 'cosin'", "[data]\nsource = 'medquda'",
    "[[data.mix]]\nlimit = 3", "[[data.mix]]\nsource = 'medquda'", "[template]\nname = 'lama2'", "extends = 3",
    "[build.models]\nx = 'lama2'", "[sweep]\n'lora.rnak' = [8]", "[sweep]\n'lora.rank' = 8", "[sweep]\n'lora.rank' = ['x']",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_an_editor_sees_the_mistake(text: str) -> None:
    assert list(Draft7Validator(json_schema()).iter_errors(tomllib.loads(text)))


def described(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, part in schema["properties"].items():
        yield f"{prefix}{name}", part.get("description", "")
        inner = part if "properties" in part else part.get("items", {})
        if isinstance(inner, dict) and "properties" in inner and name != "sweep":
            yield from described(inner, f"{prefix}{name}.")


def test_every_key_is_there_with_one_sentence_in_the_schema_and_in_the_docs() -> None:
    found = dict(described(json_schema()))
    assert set(dict(fields())) - {"sweep.samples"} == set(found) - {"extends"}
    text = markdown()
    for key, sentence in found.items():
        assert sentence.endswith("."), key
        assert f"| `{key.rpartition('.')[2]}` |" in text or f"## [{key}]" in text, key
        assert sentence in text, key


def test_names_that_only_files_know_are_offered() -> None:
    data, template = (json_schema()["properties"][name]["properties"] for name in ("data", "template"))
    assert data["source"]["enum"] == source_names()
    assert template["name"]["enum"] == template_names()


def test_the_committed_schema_is_what_the_command_prints(cli: Cli) -> None:
    printed = cli("schema").stdout
    assert json.loads(printed) == json.loads((ROOT / "docs" / "recipe.schema.json").read_text()) == json_schema()
