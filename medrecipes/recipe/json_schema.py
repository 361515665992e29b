"""The schema for others: JSON Schema, so that editors complete and check recipes, and docs/recipe.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from medrecipes.recipe.rules.names import OPTIMISERS, SCHEDULERS, TINY
from medrecipes.recipe.rules.training import NOT_SWEPT
from medrecipes.recipe.schema import Recipe, source_names, template_names
from medrecipes.recipe.show import to_toml

DRAFT = "http://json-schema.org/draft-07/schema#"  # what the editors' TOML plugins know
EXTENDS = "A recipe that this one is laid over, or several; from the recipe's own folder."
# keys whose values are names that the schema itself leaves open
NAMES: dict[str, tuple[str, ...]] = {"train.optim": OPTIMISERS, "train.scheduler": SCHEDULERS}


def json_schema() -> dict[str, Any]:
    """The whole schema in one piece, without references, every key with its sentence."""
    schema = Recipe.model_json_schema()
    parts = schema.pop("$defs")
    made: dict[str, Any] = _plain(schema, parts)
    names = {**NAMES, "template.name": template_names(), "data.source": source_names()}
    for key, values in names.items():
        section, name = key.split(".")
        made["properties"][section]["properties"][name]["enum"] = list(values)
    data, build = made["properties"]["data"]["properties"], made["properties"]["build"]["properties"]
    data["mix"]["items"]["properties"]["source"]["enum"] = source_names()
    build["models"]["additionalProperties"]["enum"] = template_names()
    made["properties"]["model"]["properties"]["base"]["examples"] = list(TINY)
    sweep = made["properties"]["sweep"]
    sweep["properties"] |= {
        key: {"type": "array", "items": one, "minItems": 1, "description": f"Values to try. {one['description']}"}
        for key, one in _leaves(made)
        if not key.startswith(NOT_SWEPT)
    }
    sweep["additionalProperties"] = False
    either = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    made["properties"] = {"extends": {"description": EXTENDS, "anyOf": either}, **made["properties"]}
    return {"$schema": DRAFT, **made, "title": "A recipe of medrecipes"}


def _plain(value: Any, parts: dict[str, Any]) -> Any:
    """References resolved, titles dropped, and no null, which TOML does not have."""
    if isinstance(value, list):
        return [_plain(one, parts) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        part = parts[value["$ref"].rpartition("/")[2]]
        value = {**part, **{k: v for k, v in value.items() if k != "$ref"}}
    if "anyOf" in value:
        branches = [one for one in value["anyOf"] if one != {"type": "null"}]
        rest = {k: v for k, v in value.items() if k != "anyOf"}
        value = {**branches[0], **rest} if len(branches) == 1 else {**rest, "anyOf": branches}
    keep = {k: v for k, v in value.items() if not (k == "title" and isinstance(v, str)) and not (k == "default" and v is None)}  # fmt: skip
    return {k: _plain(v, parts) for k, v in keep.items()}


def _leaves(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that is no table, with its part of the schema."""
    for name, part in schema["properties"].items():
        if "properties" in part:
            yield from _leaves(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def markdown() -> str:
    """docs/recipe.md: every key with its type, its default and its sentence."""
    schema = json_schema()
    lines = [
        "<!-- written by scripts/readme from the schema; edit the descriptions there -->",
        "# The recipe",
        "",
        "A recipe is a TOML file. Every key has a default, so a recipe holds only what is its own; an unknown key is an",
        "error. `medrecipes show RECIPE` prints every value with the file and line that set it, `medrecipes check RECIPE`",
        "says all that is wrong with it. The first line `#:schema ../docs/recipe.schema.json` makes editors with a TOML",
        "plugin (Even Better TOML, Taplo) complete and check recipes while they are written.",
        "",
        "A recipe is laid over the files that it `extends`, key by key. `--set KEY=VALUE` takes the place of what the files say",
        "of a key, and of a whole table too: a single value of a table is set by its own key, `--set data.columns.answer=reply`.",
        "`train.max_steps` and `train.epochs`, `train.warmup_steps` and `train.warmup_fraction` take one another's place, in a",
        "recipe over what it extends and with `--set`.",
        "",
    ]
    lines += _table("the top level", [(k, v) for k, v in schema["properties"].items() if "properties" not in v])
    for name, part in schema["properties"].items():
        if "properties" in part:
            lines += _section(name, part)
    return "\n".join(lines)


def _section(name: str, part: dict[str, Any]) -> Iterator[str]:
    yield from (f"## [{name}]", "", part["description"], "")
    if name == "sweep":
        yield "Besides the key below, any key of the other sections, with a list of the values to try: "
        yield from ('`"lora.rank" = [4, 8, 16]`. Every combination becomes a run of its own.', "")
        part = {"properties": {"samples": part["properties"]["samples"]}}
    yield from _rows(part["properties"].items())
    for key, inner in part["properties"].items():
        nested = inner if "properties" in inner else inner.get("items", {})
        if "properties" in nested:
            yield from (f"### {name}.{key}", "", inner["description"], "")
            yield from _rows(nested["properties"].items())


def _table(title: str, keys: list[tuple[str, Any]]) -> Iterator[str]:
    yield from (f"## {title}", "")
    yield from _rows(keys)


def _rows(keys: Any) -> Iterator[str]:
    yield from ("| key | values | default | what it is |", "| --- | --- | --- | --- |")
    for name, part in keys:
        default = "" if "default" not in part or "properties" in part else f"`{to_toml(part['default'])}`"
        yield f"| `{name}` | {kind(part).replace('|', chr(92) + '|')} | {default} | {part['description']} |"
    yield ""


def kind(part: dict[str, Any]) -> str:
    """What values a key takes, in words."""
    if "anyOf" in part:
        return " or ".join(dict.fromkeys(kind(one) for one in part["anyOf"]))
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" for value in part["enum"])
    if part.get("type") == "array":
        return f"list of {'tables' if 'properties' in part['items'] else kind(part['items'])}"
    if "properties" in part or part.get("type") == "object":
        return "table"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{word} {_number(part[key])}" for key, word in bounds.items() if key in part]
    if "minimum" in part and "maximum" in part:
        said = [f"from {_number(part['minimum'])} to {_number(part['maximum'])}"]
    names = {"string": "text", "boolean": "true or false", "integer": "whole number", "number": "number"}
    return " ".join([names[part["type"]], *said])


def _number(value: float) -> str:
    return f"{round(value):,}" if value == round(value) else f"{value:g}"
