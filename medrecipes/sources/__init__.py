"""The datasets: one file each, with where it lives, its licence, and how a row becomes a record."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medrecipes.records import Record


@dataclass(frozen=True)
class Source:
    """What is known of a dataset, and `read(path, counts)`, which yields its records and counts what it leaves out."""

    name: str
    title: str
    repo: str | None
    licence: str
    citation: str
    read: Callable[[Path, Counter[str]], Iterator[Record]]
    defects: tuple[str, ...] = ()


def open_source(name: str) -> Source:
    """The source of that name: `SOURCE` in the file of that name in this folder."""
    source: Source = importlib.import_module(f"medrecipes.sources.{name}").SOURCE
    return source
