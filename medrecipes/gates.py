"""What a release must pass before it is pushed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrecipes.recipe import Recipe

NAMES = ("licence", "personal-data", "leakage", "secrets", "pickles", "reload", "stop-tokens", "base-terms")


@dataclass(frozen=True)
class Gate:
    """One check: what it found, and what to do about it."""

    name: str
    passed: bool
    waived: bool
    found: list[str]
    advice: str


def check_run(run: Path, files: Mapping[str, Path], recipe: Recipe, waived: Sequence[str]) -> list[Gate]:
    """The gates of a model."""
    pickles = [name for name in files if name.endswith((".bin", ".pt", ".pkl"))]
    return [Gate("pickles", not pickles, "pickles" in waived, pickles, "release safetensors")]


def check_dataset(folder: Path, waived: Sequence[str]) -> list[Gate]:
    """The gates of a dataset."""
    return []
