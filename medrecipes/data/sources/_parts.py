"""The official split of a dataset by the names of its files: train.tsv, validation-00000-of-00001.parquet, NCBItestset_corpus.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from medrecipes.data.sources._files import Blob

PART = re.compile(r"(?<![a-z])(?i:(train|trng)|(dev|valid)|(test))")
NAMES = ("train", "dev", "test")


def part_of(path: PurePosixPath) -> str:
    """The official part that a file is by its name: train, dev or test; empty where it says none."""
    match = PART.search(path.name)
    return next((name for name, group in zip(NAMES, match.groups(), strict=True) if group), "") if match else ""


def held_out(blobs: Sequence[Blob], parts: Sequence[str]) -> set[str]:
    """The names of the files whose rows are the official test set; none where nothing to train on lies beside them."""
    by_name = {blob.name: part_of(blob.inside) for blob in blobs}
    tests = {name for name, part in by_name.items() if part in parts}
    return tests if len(tests) < len(by_name) else set()
