"""What a rule says: which keys it is about, and where each was set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from medrecipes.core.errors import did_you_mean, shown
from medrecipes.recipe.overlay import Origin

# the keys that a problem is about, and the problem
Problem = tuple[tuple[str, ...], str]


class Where:
    """Names a key with the file and line that set it, e.g. `recipes/demo.toml:12: lora.rank`."""

    def __init__(self, origins: Mapping[str, Origin], path: Path) -> None:
        self._origins, self._path = origins, path

    def __call__(self, key: str) -> str:
        near = key
        while near and near not in self._origins:  # an entry of a list was set where the list was
            near = near.rpartition(".")[0]
        return f"{self._origins.get(near, Origin(str(self._path)))}: {key}"

    def said(self, key: str) -> bool:
        """Whether some file or `--set` gave the key, rather than the schema."""
        return key in self._origins


def unknown(at: Where, key: str, value: str, known: Iterable[str]) -> Problem:
    """A name that is none of those known, with the nearest."""
    return (key,), f"{at(key)} = {shown(value)} is unknown{did_you_mean(value, known)}"
