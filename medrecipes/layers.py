"""TOML files laid over each other, as `extends` and `--set` say; for every value, the file and line that set it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrecipes.errors import RecipeError, did_you_mean

MAX_EXTENDS = 8
SET = "--set"


@dataclass(frozen=True)
class Origin:
    """Where a value was set, e.g. `recipes/demo.toml:12`, or `--set`."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass
class Layers:
    """Values as one table; `disputes`: keys that two extended files set to different values, and nobody above them."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    disputes: dict[str, tuple[Origin, Origin]] = field(default_factory=dict)

    def lay(self, table: Mapping[str, Any], file: str, lines: Mapping[str, int]) -> None:
        """Lay a file's table over what is there, key by key; what it sets is no longer disputed."""
        self._lay(self.values, table, file, lines, "")

    def _lay(
        self, into: dict[str, Any], table: Mapping[str, Any], file: str, lines: Mapping[str, int], prefix: str
    ) -> None:
        for name, value in table.items():
            key = f"{prefix}{name}"
            origin = Origin(file, _line(key, lines))
            if isinstance(value, dict):
                if not isinstance(into.get(name), dict):
                    into[name] = {}
                self.origins.setdefault(key, origin)
                self._lay(into[name], value, file, lines, f"{key}.")
            else:
                into[name], self.origins[key] = _with_paths(key, value, file), origin
                self.disputes.pop(key, None)

    def join(self, other: Layers) -> None:
        """Take in what another extended file says; where the two differ, neither has the last word."""
        self._join(self.values, other.values, other.origins, "")
        self.disputes |= other.disputes

    def _join(self, into: dict[str, Any], table: Mapping[str, Any], origins: Mapping[str, Origin], prefix: str) -> None:
        for name, value in table.items():
            key = f"{prefix}{name}"
            if isinstance(value, dict) and isinstance(into.get(name, {}), dict):
                self.origins.setdefault(key, origins[key])
                self._join(into.setdefault(name, {}), value, origins, f"{key}.")
                continue
            if name in into and into[name] != value:
                self.disputes[key] = (self.origins[key], origins[key])
            into[name], self.origins[key] = value, origins[key]

    def drop(self, *path: str) -> None:
        """Forget a value."""
        node: Any = self.values
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(path[-1], None)
            self.origins.pop(".".join(path), None)


def read_layers(path: Path, seen: tuple[Path, ...] = ()) -> Layers:
    """A recipe's file laid over all that it extends."""
    if path.resolve() in [file.resolve() for file in seen]:
        raise RecipeError(f"{seen[-1]}: extends {path}, which extends it in turn; break the circle")
    if len(seen) > MAX_EXTENDS:
        raise RecipeError(f"{seen[0]}: extends files more than {MAX_EXTENDS} deep, down to {path}; flatten the chain")
    text = _read(path, f"{seen[-1]}: extends " if seen else "")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise RecipeError(f"{path}{f':{line[1]}' if line else ''}: broken TOML ({error}); correct this line") from None
    lines = key_lines(text)
    parents = table.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        raise RecipeError(f"{path}:{lines['extends']}: extends = {parents!r}: must be a file, or a list of files")
    layers = Layers()
    for parent in parents:
        layers.join(read_layers(path.parent / parent, (*seen, path)))
    layers.lay(table, str(path), lines)
    return layers


def _read(path: Path, by: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.stem, [p.stem for p in path.parent.glob("*.toml")])
        raise RecipeError(f"{by}{path}: no such recipe{near or '; correct the path'}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{by}{path}: cannot be read ({error}); a recipe is a TOML file in UTF-8") from None


def key_lines(text: str) -> dict[str, int]:
    """The line that sets each key, e.g. `{"lora": 3, "lora.rank": 4}`; tomllib keeps no positions."""
    lines: dict[str, int] = {}
    prefix, inside = "", ""
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            prefix = _plain_key(header[2])
            if header[1] == "[[":
                counts[prefix] = counts.get(prefix, -1) + 1
                lines.setdefault(prefix, number)
                prefix = f"{prefix}.{counts[prefix]}"
            lines.setdefault(prefix, number)
        elif setting := re.match(
            r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=(.*)""", line
        ):
            key = f"{prefix}.{_plain_key(setting[1])}" if prefix else _plain_key(setting[1])
            lines.setdefault(key, number)
            for quote in ('"""', "'''"):
                if setting[2].count(quote) % 2:
                    inside = quote
    return lines


def _plain_key(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _line(key: str, lines: Mapping[str, int]) -> int | None:
    """The line of a key, or of the inline table around it."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _with_paths(key: str, value: Any, file: str) -> Any:
    """A relative path belongs to the file that states it, so that a recipe works from any folder."""
    if key in ("data.path", "eval.cases") and isinstance(value, str):
        return _beside(value, file)
    if key == "data.mix" and isinstance(value, list):
        return [
            {**entry, "path": _beside(entry["path"], file)}
            if isinstance(entry, dict) and isinstance(entry.get("path"), str)
            else entry
            for entry in value
        ]
    return value


def _beside(path: str, file: str) -> str:
    """A path as the file that states it means it; `--set` means the current folder."""
    given = Path(path).expanduser()
    return str((given if file == SET else Path(file).parent / given).resolve())


def parse_override(text: str) -> dict[str, Any]:
    """`lora.rank=8` as a nested table; a value that is no TOML is taken as a bare word."""
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
        raise RecipeError(f"--set {text}: write it as KEY=VALUE, such as --set train.max_steps=100")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if not re.fullmatch(r"[^\s\"'\[\]{}=,]+", value):
            raise RecipeError(
                f"--set {text}: {value!r} is not a TOML value; quote it, such as {key}='\"text\"'"
            ) from None
        parsed = value
    return nested(key, parsed)


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as a table of tables, e.g. `{"lora": {"rank": 8}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result
