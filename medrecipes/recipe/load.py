"""A recipe from its files: every mistake told at once, with file, line, key and the next move."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from medrecipes.core.errors import RecipeError, did_you_mean, nearest, shown
from medrecipes.core.resources import shipped
from medrecipes.recipe.overlay import MOST_PROBLEMS, SET, Origin, listed, nested, parse_override, read_layers
from medrecipes.recipe.rules import broken
from medrecipes.recipe.rules.where import Where
from medrecipes.recipe.schema import Recipe, Why, fields

# what TOML calls pydantic's kinds
KINDS = {"model_type": "table", "dict_type": "table", "tuple_type": "list", "list_type": "list"}
# values that bear another name since some version
RENAMED = {("model.engine", "trl"): "trl"}
# the kinds of what a key could hold as well, but for this
BOUNDS = ("greater", "less", "finite", "too_long")


@dataclass(frozen=True)
class Loaded:
    """A recipe and, for every key that some file or `--set` gave, where it came from."""

    recipe: Recipe
    origins: Mapping[str, Origin]
    at: Where  # names a key with its origin


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read a recipe, everything it extends and the `--set KEY=VALUE` overrides; raise RecipeError with all problems."""
    path = located(Path(path))
    layers = read_layers(path)
    layers.values.setdefault("name", path.stem)
    problems = []
    for override in overrides:
        try:
            key, value = parse_override(override)
        except RecipeError as error:
            problems += error.problems
            continue
        if isinstance(value, dict):
            layers.clear(key)  # a table that is typed takes the place of the files' own, as any value does
        layers.lay(nested(key, value), SET, {})
    for key, (one, other) in layers.disputes.items():
        problems.append(f"{other}: {key} contradicts {one}: {key}; say in {path} which of them holds")
    at = Where(layers.origins, path)
    recipe, wrong, told = _validated(layers.values, at, path)
    problems += told
    # a rule about a key that was not understood says nothing new, and may be wrong
    rules = (
        problem for keys, problem in broken(recipe, at) if not any(_touches(key, bad) for key in keys for bad in wrong)
    )
    problems += islice(rules, 5 * MOST_PROBLEMS)  # each looks for what was meant, which takes its time
    if problems:
        raise RecipeError(listed(problems, path))
    if asked := layers.origins.get("model.trust_remote_code"):
        recipe.model._asked_at = str(asked)
    return Loaded(recipe, layers.origins, at)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, or of a bare name that ships such as `demo`; `overrides`: `KEY=VALUE`, as `--set` takes them."""
    return load(path, overrides).recipe


def located(path: Path) -> Path:
    """The file of a recipe; a bare name without one, such as `demo`, stands in recipes/ here or is a recipe that ships."""
    if path.name != str(path) or path.suffix or len(path.name) > 100 or path.exists():
        return path
    places = (folder / f"{path.name}.toml" for folder in (Path("recipes"), shipped("recipes")))
    return next((place for place in places if place.is_file()), path)


def _validated(values: dict[str, Any], at: Where, path: Path) -> tuple[Recipe, set[str], list[str]]:
    """The recipe without the keys that are wrong, those keys, and what is wrong with them."""
    wrong: set[str] = set()
    told: list[str] = []
    known = dict(fields())
    while True:
        try:
            return Recipe.model_validate(values), wrong, told
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
            found: dict[str, Any] = {}
            for each in errors:
                # one for each kind of value that a key may have: that which comes nearest to what was meant is told
                key = _key(each, known)
                if key not in found or each["type"].startswith(BOUNDS):
                    found[key] = each
            for key, each in found.items():  # what nobody will read need not be worked out
                told.append(_describe(key, each, known, at) if len(told) < MOST_PROBLEMS else key)
            values, gone = _without(values, [each["loc"] for each in errors])
            if not gone:
                raise RecipeError(listed(told, path)) from None
            wrong |= gone


def _without(values: dict[str, Any], places: Sequence[Sequence[int | str]]) -> tuple[dict[str, Any], set[str]]:
    """The values without the keys at fault (a list as a whole), and those keys."""
    inner: dict[int | str, list[Sequence[int | str]]] = {}
    for name, *rest in places:
        inner.setdefault(name, []).append(rest)
    left, gone = {}, set()
    for name, value in values.items():
        if name not in inner:
            left[name] = value
        elif isinstance(value, dict) and all(rest and rest[0] in value for rest in inner[name]):
            left[name], keys = _without(value, inner[name])
            gone |= {f"{name}.{key}" for key in keys}
        else:
            gone.add(name)
    return left, gone


def _touches(key: str, bad: str) -> bool:
    """Whether one key is the other, or within it."""
    return key == bad or key.startswith(f"{bad}.") or bad.startswith(f"{key}.")


def _key(error: Any, known: Mapping[str, Any]) -> str:
    """The key that pydantic found something wrong with."""
    parts = [str(part) for part in error["loc"]]
    while (
        len(parts) > 1
        and parts[0] != "sweep"
        and ".".join(parts) not in known
        and ".".join(parts[:-1]) in known
        and error["type"] != "extra_forbidden"
    ):
        parts.pop()  # the name of a union's branch, or a position in a list
    return ".".join(parts)


def _describe(key: str, error: Any, known: Mapping[str, Any], at: Where) -> str:
    """One problem that pydantic found, as one line for a person."""
    value = error.get("input")
    name = ".".join(part for part in key.split(".") if not part.isdigit())
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(name, [k for k in known if k.count(".") == name.count(".")])
        return f"{at(key)} is unknown{hint}"
    if error["type"] == "missing":
        return f"{at(key)} is missing; set it"
    said = f"{at(key)} = {shown(value)}"
    if isinstance(value, str) and (name, value) in RENAMED:
        return f"{said} is called {RENAMED[name, value]!r} now; write that"
    if error["type"] in KINDS:
        return f"{said}: must be a {KINDS[error['type']]}"
    if name in known and not error["type"].startswith(BOUNDS):
        words = _words(known[name].annotation)
        kinds = _kinds(known[name].annotation)
        listed = ", ".join([*map(str, words), *(other for kind, other in OTHERS.items() if kind in kinds)])
        if words and isinstance(value, str):
            near = nearest(value, map(str, words))
            return f"{said} is not one of {listed}{f'; did you mean {near}?' if near else ''}"
        if words:
            return f"{said}: must be one of {listed}"
    above = error["type"].startswith("less") and name in known
    reasons = [f" ({why.reason})" for why in _whys(known[name])] if above else []
    return f"{said}: {_plainly(error['msg'])}{''.join(reasons[:1])}"


def _plainly(message: str) -> str:
    """pydantic's sentence as ours."""
    message = message.replace("Input should be", "must be")
    return re.sub("a valid ([aeiou])", r"an \1", message).replace("a valid ", "a ")


def _whys(field: Any) -> list[Why]:
    """The reasons of a key's bounds."""
    found = [one for one in getattr(field, "metadata", ()) if isinstance(one, Why)]
    for part in get_args(getattr(field, "annotation", field)):
        found += [part] if isinstance(part, Why) else _whys(part)
    return found


# what a key may be that otherwise takes words, as its message says
OTHERS = {bool: "true, false", int: "a whole number", float: "a number", str: "a list of texts"}


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
