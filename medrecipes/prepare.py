"""Source rows to a split: cleaned, deduplicated, grouped, with every drop counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medrecipes.errors import DataError
from medrecipes.recipe import Recipe
from medrecipes.records import Conversation
from medrecipes.sources import open_source
from medrecipes.store import digest


@dataclass(frozen=True)
class Split:
    """What a recipe trains on, chooses by and is judged on; `report` is what `data.json` holds."""

    train: tuple[Conversation, ...]
    dev: tuple[Conversation, ...]
    test: tuple[Conversation, ...]
    key: str
    report: Mapping[str, Any]

    @property
    def held_out(self) -> tuple[Conversation, ...]:
        """The rows that figures come from: test, or dev where the recipe declares no test."""
        return self.test or self.dev

    @property
    def held_out_name(self) -> str:
        """What the figures are labelled with."""
        return "test" if self.test else "dev"


def prepare(recipe: Recipe) -> Split:
    """Read, split by document and count."""
    source = open_source(recipe.data.source)
    counts: Counter[str] = Counter()
    if recipe.data.path is None:
        raise DataError(f"{source.name}: data.path is not set; name a file or folder")
    parts: dict[str, list[Conversation]] = {"train": [], "dev": [], "test": []}
    ratios = recipe.data.split
    for record in source.read(recipe.data.path, counts):
        assert isinstance(record, Conversation)
        spot = int.from_bytes(hashlib.sha256(f"{recipe.seed}:{record.group}".encode()).digest()[:8], "big") / 2**64
        name = "test" if spot < ratios.test else "dev" if spot < ratios.test + ratios.dev else "train"
        parts[name].append(record)
    key = digest({name: [r.id for r in rows] for name, rows in parts.items()})
    report = {"rows": {name: len(rows) for name, rows in parts.items()}, "dropped": dict(counts), "key": key}
    return Split(tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]), key, report)
