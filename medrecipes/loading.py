"""A recipe from its files: every mistake told at once, with file, line, key and the next move."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from medrecipes.errors import RecipeError, did_you_mean
from medrecipes.layers import SET, Layers, Origin, parse_override, read_layers
from medrecipes.recipe import Recipe, fields
from medrecipes.rules import broken
from medrecipes.rules.where import Where

# what is said last, by hand, holds: `--set train.max_steps=…` takes the place of the epochs that a file sets
EXCLUDES = {
    "max_steps": "epochs", "epochs": "max_steps",
    "warmup_steps": "warmup_fraction", "warmup_fraction": "warmup_steps",
}  # fmt: skip
# what TOML calls pydantic's kinds
KINDS = {"model_type": "table", "dict_type": "table", "tuple_type": "list", "list_type": "list"}


@dataclass(frozen=True)
class Loaded:
    """A recipe and, for every key that some file or `--set` gave, where it came from."""

    recipe: Recipe
    origins: Mapping[str, Origin]


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe, everything it extends and the `--set KEY=VALUE` overrides; raise RecipeError with all problems."""
    path = Path(path)
    layers = read_layers(path)
    layers.values.setdefault("name", path.stem)
    problems = []
    for override in overrides:
        try:
            table = parse_override(override)
        except RecipeError as error:
            problems += error.problems
            continue
        for said in table["train"] if isinstance(table.get("train"), dict) else ():
            if said in EXCLUDES:
                layers.drop("train", EXCLUDES[said])
        layers.lay(table, SET, {})
    for key, (one, other) in layers.disputes.items():
        problems.append(f"{other}: {key} contradicts {one}: {key}; say in {path} which of them holds")
    recipe, wrong, told = _validated(layers, path)
    problems += told
    for keys, problem in broken(recipe, Where(layers.origins, path)):
        # a rule about a key that was not understood says nothing new, and may be wrong
        if not any(_touches(key, bad) for key in keys for bad in wrong):
            problems.append(problem)
    if problems:
        raise RecipeError(problems)
    return Loaded(recipe, layers.origins)


def _validated(layers: Layers, path: Path) -> tuple[Recipe, set[str], list[str]]:
    """The recipe without the keys that are wrong, those keys, and what is wrong with them."""
    wrong: set[str] = set()
    told: list[str] = []
    values = layers.values
    while True:
        try:
            return Recipe.model_validate(values), wrong, told
        except ValidationError as error:
            # one for each kind of value that a key may have
            told += dict.fromkeys(_describe(e, path, layers.origins) for e in error.errors())
            for e in error.errors():
                values, key = _without(values, e["loc"])
                wrong.add(key)


def _without(values: dict[str, Any], loc: Sequence[int | str]) -> tuple[dict[str, Any], str]:
    """The values without the key at fault (a list as a whole), and the key."""
    name, *rest = loc
    assert isinstance(name, str)
    inner = values.get(name)
    if rest and isinstance(inner, dict) and rest[0] in inner:
        inner, key = _without(inner, rest)
        return {**values, name: inner}, f"{name}.{key}"
    return {key: value for key, value in values.items() if key != name}, name


def _touches(key: str, bad: str) -> bool:
    """Whether one key is the other, or within it."""
    return key == bad or key.startswith(f"{bad}.") or bad.startswith(f"{key}.")


def _describe(error: Any, path: Path, origins: Mapping[str, Origin]) -> str:
    """One problem that pydantic found, as one line for a person."""
    known = dict(fields())
    parts = [str(part) for part in error["loc"]]
    while (
        len(parts) > 1
        and parts[0] != "sweep"
        and ".".join(parts) not in known
        and ".".join(parts[:-1]) in known
        and error["type"] != "extra_forbidden"
    ):
        parts.pop()  # the name of a union's branch, or a position in a list
    key = ".".join(parts)
    near = key if key in origins else next((k for k in origins if k.startswith(f"{key}.")), key)
    while near and near not in origins:  # an entry of a list was set where the list was
        near = near.rpartition(".")[0]
    origin = origins.get(near, Origin(str(path)))
    value = error.get("input")
    name = ".".join(part for part in parts if not part.isdigit())
    if error["type"] == "extra_forbidden":
        return f"{origin}: {key} is unknown{did_you_mean(name, [k for k in known if k.count('.') == name.count('.')])}"
    if error["type"] == "missing":
        return f"{origin}: {key} is missing; set it"
    words = [w for w in _words(known[name].annotation) if isinstance(w, str)] if name in known else []
    if words and isinstance(value, str):
        others = [said for kind, said in OTHERS.items() if kind in _kinds(known[name].annotation)]
        return f"{origin}: {key} = {value!r} is not one of {', '.join([*words, *others])}{_suggest(value, words)}"
    if error["type"] in KINDS:
        return f"{origin}: {key} = {value!r}: must be a {KINDS[error['type']]}"
    reason = re.sub("a valid ([aeiou])", r"an \1", error["msg"].replace("Input should be", "must be")).replace(
        "a valid ", "a "
    )
    if words or "literal" in error["type"]:
        reason = f"must be one of {', '.join(map(str, _words(known[name].annotation)))}"
    return f"{origin}: {key} = {value!r}: {reason}"


def _suggest(value: str, words: Sequence[str]) -> str:
    """A did-you-mean without the list, which the message bears already."""
    hint = did_you_mean(value, words)
    return hint if hint.startswith("; did") else ""


# what a key may be that otherwise takes words, as its message says
OTHERS = {bool: "true, false", int: "a whole number", float: "a number"}


def _kinds(annotation: Any) -> list[Any]:
    """The plain types that an annotation allows."""
    parts = get_args(annotation)
    return [kind for part in parts for kind in _kinds(part)] if parts else [annotation]


def _words(annotation: Any) -> list[Any]:
    """The literal values that an annotation allows."""
    found: list[Any] = []
    for part in get_args(annotation):
        found += (
            _words(part)
            if get_args(part)
            else [part]
            if isinstance(part, str | int) and not isinstance(part, type)
            else []
        )
    return found
