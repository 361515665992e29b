"""TOML files laid over each other, as `extends` and `--set` say; for every value, the file and line that set it."""

from __future__ import annotations

import io
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrecipes.core.bounded_reading import BoundsError, Whole, why
from medrecipes.core.errors import RecipeError, nearest, short, shown
from medrecipes.core.resources import shipped
from medrecipes.recipe.benchmark_names import benchmark_entry
from medrecipes.recipe.local_bases import means_path

SET = "--set"
MOST_BYTES = 256_000  # of a recipe, which a person writes
MOST_DEEP = 16  # tables and lists in one another
MOST_PROBLEMS = 40
MAX_EXTENDS = 8
VAST = "is a whole number of more than 64 bits; write a smaller one"
MOST_FILES = 64  # that one recipe is laid together from
# what takes the place of another: whoever is nearer says how long a run is, in steps or in epochs
EXCLUDES = {
    "max_steps": "epochs", "epochs": "max_steps",
    "warmup_steps": "warmup_fraction", "warmup_fraction": "warmup_steps",
}  # fmt: skip


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
        train = table.get("train")
        if isinstance(train, dict):
            for key in (other for key, other in EXCLUDES.items() if key in train and other not in train):
                self.drop(f"train.{key}")
        self._lay(self.values, table, file, lines, "")

    def _lay(
        self, into: dict[str, Any], table: Mapping[str, Any], file: str, lines: Mapping[str, int], prefix: str
    ) -> None:
        for name, value in table.items():
            key = f"{prefix}{name}"
            origin = Origin(file, _line(key, lines))
            if isinstance(value, dict):
                if not isinstance(into.get(name), dict):
                    self._forget(key, into.get(name))
                    into[name] = {}
                self.origins.setdefault(key, origin)
                self._lay(into[name], value, file, lines, f"{key}.")
                continue
            self._forget(key, into.get(name))
            into[name], self.origins[key] = _with_paths(key, value, file), origin
            for inner in _entries(key, value):
                self.origins[inner] = Origin(file, _line(inner, lines))

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
            two = (self.origins[key], origins[key]) if name in into and into[name] != value else None
            self._forget(key, into.get(name))
            if two:
                self.disputes[key] = two
            into[name] = value
            self.origins |= {inner: origins[inner] for inner in (key, *_keys(key, value)) if inner in origins}

    def drop(self, key: str) -> None:
        """Forget a value."""
        node, name = self._around(key)
        self._forget(key, node.pop(name, None))

    def clear(self, key: str) -> None:
        """Forget what stands in a table, which keeps its place among the others."""
        node, name = self._around(key)
        for inner in _keys(key, node.get(name)):
            self.origins.pop(inner, None)
            self.disputes.pop(inner, None)
        if name in node:
            node[name] = {}

    def _around(self, key: str) -> tuple[dict[str, Any], str]:
        """The table that a key stands in, or an empty one, and its own name."""
        *above, name = key.split(".")
        node: Any = self.values
        for part in above:
            node = node.get(part) if isinstance(node, dict) else None
        return (node, name) if isinstance(node, dict) else ({}, name)

    def _forget(self, key: str, value: Any) -> None:
        """Where a value that goes, and all within it, came from."""
        for gone in (key, *_keys(key, value)):
            self.origins.pop(gone, None)
            self.disputes.pop(gone, None)


def _keys(prefix: str, value: Any) -> Iterator[str]:
    """The keys within a table, however deep, and within the tables of a list."""
    if not isinstance(value, dict):
        yield from _entries(prefix, value)
        return
    for name, inner in value.items():
        yield f"{prefix}.{name}"
        yield from _keys(f"{prefix}.{name}", inner)


def _entries(prefix: str, value: Any) -> Iterator[str]:
    """The tables that a list is made of and their keys, e.g. `data.mix.0` and `data.mix.0.source`."""
    for position, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            yield from (f"{prefix}.{position}", *(f"{prefix}.{position}.{name}" for name in entry))


def read_layers(path: Path) -> Layers:
    """A recipe's file laid over all that it extends."""
    return _read_layers(path, (), [])


def _read_layers(path: Path, by: tuple[Path, ...], read: list[Path]) -> Layers:
    """The same, for a file that others extend; `read`: all files so far, each as often as it was read."""
    said = f"{by[-1]}: extends " if by else ""
    if _real(path) in map(_real, by):
        raise RecipeError(f"{said}{path}, which extends it in turn; break the circle")
    if len(by) > MAX_EXTENDS:
        raise RecipeError(f"{by[0]}: extends files more than {MAX_EXTENDS} deep, down to {path}; flatten the chain")
    read.append(path)
    if len(read) > MOST_FILES:
        raise RecipeError(f"{read[0]}: extends more than {MOST_FILES} files, the last of them {path}; name fewer")
    table, lines = read_table(path, "a recipe", MOST_BYTES, said)
    parents = table.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(parent, str) for parent in parents):
        where = Origin(str(path), _line("extends", lines))
        raise RecipeError(f"{where}: extends = {shown(parents)}: must be a file, or a list of files")
    layers = Layers()
    for parent in parents:
        layers.join(_read_layers(path.parent / parent, (*by, path), read))
    layers.lay(table, str(path), lines)
    return layers


def read_table(path: Path, kind: str, most: int, by: str = "") -> tuple[dict[str, Any], dict[str, int]]:
    """A TOML file that a person writes, and the line of each of its keys; `kind`: what it is, as `a recipe`."""
    text = _read(path, kind, most, by)
    try:
        table, lines = _parsed(text)
    except _BrokenError as error:
        raise RecipeError(f"{Origin(str(path), error.line)}: broken TOML ({error.why}); correct this line") from None
    if vast := [f"{Origin(str(path), _line(key, lines))}: {key} {VAST}" for key in _vast(table)]:
        raise RecipeError(listed(vast, path))
    return table, lines


def listed(problems: Sequence[str], path: Path) -> list[str]:
    """As many problems as anybody reads at once, and how many more there are."""
    left = len(problems) - MOST_PROBLEMS
    rest = [f"{path}: at least {left:,} more problems are not listed; mend these first"] if left > 0 else []
    return [*problems[:MOST_PROBLEMS], *rest]


def _read(path: Path, kind: str, most: int, by: str) -> str:
    try:
        with io.BufferedReader(Whole(path)) as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise BoundsError(f"is larger than {most // 1000:,} kB, and {kind} is written by hand; name another file")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"{by}{path}: no such {kind.split()[-1]}{_near(path) or '; correct the path'}") from None
    except IsADirectoryError:
        raise RecipeError(f"{by}{path}: is a folder; {kind} is a TOML file, name one") from None
    except BoundsError as error:
        raise RecipeError(f"{by}{path}: {error}") from None
    except (OSError, ValueError) as error:  # of characters: in the text, or in the name
        raise RecipeError(f"{by}{path}: cannot be read ({why(error)}); {kind} is a TOML file in UTF-8") from None


def _near(path: Path) -> str:
    """The recipe that an absent path may mean, in its folder or in `recipes`, as it must be typed."""
    with suppress(OSError):
        for folder in (path.parent, path.parent / "recipes"):
            known = {found.stem: found for found in sorted(folder.glob("*.toml"))[:1000]}
            if near := nearest(path.name.removesuffix(".toml"), known):
                return f"; did you mean {known[near]}?"
    ours = [found.stem for found in shipped("recipes").glob("*.toml")]
    near = nearest(str(path), ours)
    return f"; did you mean {near}?" if near else ""


class _BrokenError(Exception):
    """What is no TOML that a recipe may hold, and in which line."""

    def __init__(self, why: str, line: int | None = None) -> None:
        self.why, self.line = why, line


def _parsed(text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """A text as a table, and the line of each key."""
    lines = key_lines(text)  # which refuses keys that tomllib takes for ever to follow
    try:
        return tomllib.loads(text), lines
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+), column \d+\)$", str(error))
        # what is never closed is noticed at the end, and stands where the last key does
        raise _BrokenError(
            short(str(error), 200), int(line[1]) if line else max(lines.values(), default=None)
        ) from None
    except ValueError:  # int() of thousands of digits
        number = next((n for n, line in enumerate(text.split("\n"), 1) if re.search(r"[\d_]{4300}", line)), None)
        raise _BrokenError("a number of thousands of digits", number) from None


def _vast(value: Any, key: str = "") -> Iterator[str]:
    """The keys of whole numbers beyond TOML's own, which Python neither bounds nor always prints."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _vast(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from _vast(entry, f"{key}.{position}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield key


TOKENS = re.compile(
    r"""(?P<word>\"{3}(?:[^\\]|\\.)*?\"{3,5}|'{3}.*?'{3,5}|"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')[^'\n]*'|[^\s\[\]{}=,."'#]+)"""
    r"""|(?P<comment>\#[^\n]*)|(?P<end>\n)|(?P<mark>[\[\]{}=,.])|(?P<stray>["'])""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[str, int]:
    """The line that sets each key, e.g. `{"lora": 3, "lora.rank": 4}`; tomllib keeps no positions."""
    lines: dict[str, int] = {}
    entries: dict[str, int] = {}  # of each [[table]], how many there are
    frames: list[tuple[str, tuple[str, ...], int]] = []  # brackets that are open: which, what for, and at which entry
    table: tuple[str, ...] = ()  # what the keys of a line belong to
    parts: list[str] = []  # of the key that is being read
    at: tuple[str, ...] = ()  # what a value is for
    header, naming, number = 0, True, 1

    def found(key: tuple[str, ...]) -> tuple[str, ...]:
        if len(key) > MOST_DEEP:
            raise _BrokenError(f"a key of more than {MOST_DEEP} parts", number)
        for length in range(1, len(key) + 1):  # a table that only its own tables name stands where they do
            lines.setdefault(".".join(key[:length]), number)
        return key

    for token in TOKENS.finditer(text):
        word = token[0]
        if token.lastgroup == "stray":  # the text is broken here, as tomllib will say
            break
        if token.lastgroup == "word":
            if naming:
                parts.append(_plain(word))
            number += word.count("\n")
        elif token.lastgroup == "end":
            number += 1
            if not frames:
                header, naming, parts = 0, True, []
        elif word == "=" and naming:
            at, naming, parts = found(((*frames[-1][1],) if frames else table) + tuple(parts)), False, []
        elif word == "[" and naming and not parts and not frames:
            header += 1
        elif word == "]" and header and not frames:
            if parts:
                found(tuple(parts))
                table = found(_through(tuple(parts), entries))
                if header == 2:
                    entries[".".join(table)] = entries.get(".".join(table), -1) + 1
                    table = found((*table, str(entries[".".join(table)])))
            parts, naming = [], False
        elif word in "[{":
            if len(frames) == MOST_DEEP:
                raise _BrokenError(f"tables and lists more than {MOST_DEEP} deep in one another", number)
            frames.append((word, at, 0))
            naming, parts = word == "{", []
            at = (*at, "0") if word == "[" else at
            if word == "{":
                found(at)
        elif word in "]}" and frames:
            at, naming = frames.pop()[1], False
        elif word == "," and frames:
            kind, of, entry = frames[-1]
            frames[-1] = kind, of, entry + 1
            naming, parts = kind == "{", []
            at = (*of, str(entry + 1)) if kind == "[" else of
    return lines


def _through(parts: tuple[str, ...], entries: Mapping[str, int]) -> tuple[str, ...]:
    """A header's key, where it names a table within the last entry of a list of tables."""
    key: tuple[str, ...] = ()
    for position, part in enumerate(parts):
        key = (*key, part)
        if position < len(parts) - 1 and ".".join(key) in entries:
            key = (*key, str(entries[".".join(key)]))
    return key


def _plain(word: str) -> str:
    """A key without its quotes."""
    if word[0] == '"':
        with suppress(ValueError):
            return str(json.loads(word))
    return word.strip("\"'") if word[0] in "\"'" else word


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
    if key == "model.base":
        return _base(value, file)
    if key == "sweep.model.base" and isinstance(value, list):
        return [_base(each, file) for each in value]
    if key == "data.exclude" and isinstance(value, list):
        return [_excluded(each, file) if isinstance(each, str) else each for each in value]
    if key == "data.mix" and isinstance(value, list):
        return [
            {**entry, "path": _beside(entry["path"], file)}
            if isinstance(entry, dict) and isinstance(entry.get("path"), str)
            else entry
            for entry in value
        ]
    return value


def _excluded(entry: str, file: str) -> str:
    """A benchmark by its name, and the path of a file of questions or of a benchmark's copy as the recipe's file means it."""
    name, path = benchmark_entry(entry)
    if path is None:
        return entry
    return f"{name}={_beside(str(path), file)}" if name else _beside(entry, file)


def _base(value: Any, file: str) -> Any:
    """A base by its path, where that is what the file that states it means."""
    folder = Path() if file == SET else Path(file).parent
    return _beside(value, file) if isinstance(value, str) and means_path(value, folder) else value


def _beside(path: str, file: str) -> str:
    """A path as the file that states it means it; `--set` means the current folder."""
    given = os.path.expanduser(path)
    # not Path.resolve, which raises where links go round: that such a path does not exist is said with all else
    return _real(given if file == SET else Path(file).parent / given)


def _real(path: str | Path) -> str:
    """A path without links; one that can be none is left to those who look for it."""
    try:
        return os.path.realpath(path)
    except ValueError:  # it holds the character that ends names
        return str(path)


def parse_override(text: str) -> tuple[str, Any]:
    """`lora.rank=8` as key and value; a value that is no TOML is taken as a bare word."""
    key, equals, value = text.partition("=")
    key, value, said = key.strip(), value.strip(), short(text, 200)
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+){0,15}", key):
        raise RecipeError(f"--set {said}: write it as KEY=VALUE, such as --set train.max_steps=100")
    if key.partition(".")[0] == "extends":
        raise RecipeError(
            f"--set {said}: extends belongs into a file; write one that extends what you want, and run that"
        )
    try:
        table, _ = _parsed(f"value = {value}")
        if len(table) > 1:
            raise _BrokenError("several values")
        parsed = table["value"]
    except _BrokenError as error:
        if not re.fullmatch(r"[^\s\"'\[\]{}=,]+", value):
            raise RecipeError(
                f"--set {said}: {shown(value)} is not a TOML value ({error.why}); quote it, such as {key}='\"text\"'"
            ) from None
        parsed = value
    if list(_vast(parsed)):
        raise RecipeError(f"--set {said}: {key} {VAST}")
    return key, parsed


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as a table of tables, e.g. `{"lora": {"rank": 8}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result
