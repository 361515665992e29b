"""The resolved recipe, each value with the file and line that set it; the text form is itself a recipe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from medrecipes.core.errors import printable
from medrecipes.recipe.load import Loaded
from medrecipes.recipe.schema import UNREAD

DEFAULT = "default"


def values(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """Every key with its value (None where it is left open) and where that comes from, sections last."""
    yield from _values(loaded, loaded.recipe.model_dump(mode="json"), "")


def _values(loaded: Loaded, table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, value in sorted(table.items(), key=lambda item: isinstance(item[1], dict)):
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _values(loaded, value, f"{key}.")
        else:
            yield key, value, str(loaded.origins.get(key, DEFAULT))


def show(loaded: Loaded) -> Iterator[str]:
    """Lines of TOML, where each value comes from as a comment behind it."""
    unsaid = {f"train.{key}" for key in loaded.recipe.unsaid}
    unread = UNREAD[loaded.recipe.task]
    written: list[tuple[str, str]] = []
    section = ""
    for key, value, origin in values(loaded):
        inside, _, name = _parts(key)
        if inside != section:
            section = inside
            written += [("", ""), (f"[{section}]", "")]
        if value is None or key in unsaid or any(f"{key}.".startswith(f"{name}.") for name in unread):
            written.append((f"# {name} is {'not set' if value is None else 'not used'}", origin))
        else:
            written.append((f"{_bare(name)} = {to_toml(value)}", origin))
    # a long value does not push all origins to the right
    width = max(len(text) for text, _ in written if len(text) <= 60)
    for text, origin in written:
        yield f"{text:<{width}}  # {origin}" if origin else text


def as_json(loaded: Loaded) -> dict[str, Any]:
    """The same for programs: `{"lora.rank": {"value": 16, "file": "recipes/base/instruct.toml", "line": 12}}`."""
    found = {}
    for key, value, _ in values(loaded):
        origin = loaded.origins.get(key)
        found[key] = {"value": value, "file": origin.file if origin else None, "line": origin.line if origin else None}
    return found


def _parts(key: str) -> tuple[str, str, str]:
    """Section and name; a swept key is a name with dots of its own."""
    if key.startswith("sweep."):
        return key.partition(".")
    return key.rpartition(".")


def _bare(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else to_toml(name)


def to_toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{_bare(k)} = {to_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        return printable(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)
