"""Tables of `tokens` and numbered `ner_tags`, as the Hub ships tagged sentences; other files of tagged words by bio_ner's reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medrecipes.core.errors import DataError
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Files, Ledger, bio_ner
from medrecipes.data.sources._files import Blob, blobs
from medrecipes.data.sources._parts import part_of
from medrecipes.data.sources._tables import Row, rows

KINDS = (".parquet", ".jsonl", ".json")


def tagged(files: Files, ledger: Ledger, tags: Sequence[str]) -> Iterator[Tagged]:
    """Every sentence, its tags by their numbers in `tags`; official parts stay what they are where train and test lie together."""
    found = blobs(files.path, KINDS)
    if not found:
        yield from bio_ner.read(files, ledger)
        return
    if files.unit == "document":
        raise DataError(f"{files.path}: names no documents; set tag.unit = 'sentence'")
    parts = {blob.name: part_of(blob.inside) for blob in found}
    official = {"train", "test"} <= set(parts.values())
    for blob in found:
        meta = {"official": parts[blob.name]} if official and parts[blob.name] != "train" else {}
        for position, (number, row) in enumerate(rows(blob, ("tokens", "ner_tags"))):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            words, names = _words(blob, number, row, tags)
            if not words:
                ledger.drop("no words", id)
                continue
            # sentences of one abstract follow each other, and nothing says where the next one begins
            yield Tagged(id, f"{blob.stem}:block {position // bio_ner.BLOCK + 1}", words, names, meta)


def _words(blob: Blob, number: int, row: Row, tags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    where, words, numbers = f"{blob.name}: row {number}", row["tokens"], row["ner_tags"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise DataError(f"{where}: tokens is no list of words; fetch the file again")
    known = isinstance(numbers, list) and all(isinstance(one, int) and 0 <= one < len(tags) for one in numbers)
    if not known or len(numbers) != len(words):
        raise DataError(
            f"{where}: ner_tags is no list of a number from 0 to {len(tags) - 1} for each word; fetch the file again"
        )
    return tuple(words), tuple(tags[one] for one in numbers)
