"""Tagged rows to a split: official parts kept, repeats dropped, grouped by document; every drop counted, every leak sought."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.core.files import digest, read_json, scratch, stage, write_json, write_text
from medrecipes.data.bio_tags import OUTSIDE, read_spans, split_tag
from medrecipes.data.grouping import PARTS, assign, bind, sample
from medrecipes.data.leakage import by_row, leaks
from medrecipes.data.reading import Place, locate
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Files, _hub
from medrecipes.data.split import Assigned, Parts, code_of, report_of, split_report
from medrecipes.data.token_pairs import Ints
from medrecipes.recipe.schema import Recipe

RELATIONS = ("document", "block", "sentence")
NO_PAIRS = np.empty((0, 2), np.int64)


class TaggedSplit(Parts[Tagged]):
    """A split of tagged words."""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What a word can be tagged with: O, then B and I of every type that training shows."""
        types = sorted({split_tag(tag)[1] for row in self.train for tag in row.tags} - {""})
        if not types:
            raise DataError(
                "no training row has an entity, so there is nothing to learn; check that data.path is right"
            )
        return (OUTSIDE, *(f"{letter}-{type}" for type in types for letter in "BI"))


def prepare_tagged(recipe: Recipe, *, fresh: bool = False) -> TaggedSplit:
    """The split of a tag recipe's data, made once for the same rows, settings and code.

    `fresh`: made from the source rows whatever the store holds, and kept nowhere.
    """
    places = locate(recipe.data)
    contents = [place.content for place in places]
    settings = {"split": recipe.data.split.model_dump(), "limit": recipe.data.limit, "unit": recipe.tag.unit}
    key = digest({"tagged": settings, "seed": recipe.seed, "contents": contents, "code": code_of("data/tagged_split", "data/bio_tags", "data/segment")})  # fmt: skip
    if fresh:
        with scratch("tagged") as folder:
            _build(recipe, places, contents, folder)
            return _load(folder)
    return _load(stage("tagged", key, lambda folder: _build(recipe, places, contents, folder)))


def _load(folder: Path) -> TaggedSplit:
    parts: dict[str, list[Tagged]] = {name: [] for name in PARTS}
    with (folder / "rows.jsonl").open(encoding="utf-8") as file:
        for line in file:
            part, id, group, tokens, tags, meta = json.loads(line)
            parts[part].append(Tagged(id, group, tuple(tokens), tuple(tags), meta))
    report = read_json(folder / "report.json")
    train, dev, test = (tuple(parts[name]) for name in PARTS)
    return TaggedSplit(train, dev, test, report["key"], report)


def _build(recipe: Recipe, places: Sequence[Place], contents: Sequence[str], folder: Path) -> dict[str, Any]:
    """The stage itself, top to bottom."""
    data, place = recipe.data, places[0]
    every = _read(place, recipe)
    rows = _without_repeats(every, place)
    rows = _limited(rows, place, data.limit, recipe.seed)
    relations = _relations(rows)
    group, atoms = bind(relations, NO_PAIRS), [_atom(row) for row in rows]
    official = [_official(row) for row in rows]
    part = assign(group, atoms, official, data.split, recipe.seed)
    about = split_report(Assigned(part, group, atoms, official), data.split, relations, NO_PAIRS)
    all_relations = _relations(every)
    leakage = {
        "threshold": None,
        "relations": list(RELATIONS),
        "grouped": leaks(relations, NO_PAIRS, part, RELATIONS),
        "by_row": leaks(all_relations, NO_PAIRS, by_row(len(every), data.split.model_dump(), recipe.seed), RELATIONS),
        "by_row_of": "the usable rows before repeats and limits, shuffled and cut by the same shares",
    }
    lines: dict[str, list[str]] = {name: [] for name in PARTS}
    entities: dict[str, Counter[str]] = {name: Counter() for name in PARTS}
    for row, number in zip(rows, part.tolist(), strict=True):
        name = PARTS[number]
        entities[name] += Counter(span.type for span in read_spans(row.tags))
        lines[name].append(json.dumps([name, row.id, row.group, row.tokens, row.tags, dict(row.meta)]))
    keys = {name: digest(those) for name, those in lines.items()}
    write_text(folder / "rows.jsonl", "".join(f"{line}\n" for those in lines.values() for line in those))
    about["groups"]["are"] = _groups_are(rows)
    report = report_of(places, contents, keys, leakage=leakage, **about)
    report["official"] = sorted(set(filter(None, official)))
    report["entities"] = {name: dict(found.most_common()) for name, found in entities.items()}
    write_json(folder / "report.json", report)
    return {"rows": len(rows)}


def _read(place: Place, recipe: Recipe) -> list[Tagged]:
    path = place.path or _hub.fetch(place.source, str(place.sha))
    rows: list[Tagged] = []
    ids: set[str] = set()
    for record in place.source.read(Files(path, unit=recipe.tag.unit), place.ledger):
        if not isinstance(record, Tagged):
            raise DataError(f"{place.source.name}: yields conversations, which a tag recipe cannot use; set data.source = 'bio_ner'")  # fmt: skip
        if record.id in ids:
            raise DataError(f"{path}: two rows have the id {record.id}; rename one of the files, or the documents")
        ids.add(record.id)
        if record.tokens:
            rows.append(record)
        else:
            place.ledger.drop("no words", record.id)
    return rows


def _without_repeats(rows: Sequence[Tagged], place: Place) -> list[Tagged]:
    """The rows without those that an official test or dev row says already, and without repeats; official rows stay."""
    held = {part: {_said(row) for row in rows if _official(row) == part} for part in ("test", "dev")}
    documents = {row.meta["document"] for row in rows if _official(row) and "document" in row.meta}
    kept: list[Tagged] = []
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        said, official = _said(row), _official(row)
        if official != "test" and said in held["test"]:
            place.ledger.drop("its words stand in the official test set", row.id)
        elif not official and said in held["dev"]:
            place.ledger.drop("its words stand in the official dev set", row.id)
        elif not official and row.meta.get("document") in documents:
            place.ledger.drop("its document stands in an official part", row.id)
        elif not official and (*said, "\n", *row.tags) in seen:
            place.ledger.drop("exact duplicate", row.id)
        else:
            kept.append(row)
            seen.add((*said, "\n", *row.tags))
    return kept


def _said(row: Tagged) -> tuple[str, ...]:
    """What makes two rows the same."""
    return tuple(token.casefold() for token in row.tokens)


def _limited(rows: list[Tagged], place: Place, limit: int | None, seed: int) -> list[Tagged]:
    """At most so many rows to train on and choose by; an official part stays whole."""
    free = [number for number, row in enumerate(rows) if "official" not in row.meta]
    if not limit or len(free) <= limit:
        return rows
    ranks = [digest(f"{seed}:{row.id}").encode() for row in rows]
    chosen = set(sample(free, limit, [], ranks))
    for number in set(free) - chosen:
        place.ledger.drop("over data.limit", rows[number].id)
    return [row for number, row in enumerate(rows) if number in chosen or "official" in row.meta]


def _relations(rows: Sequence[Tagged]) -> dict[str, Ints]:
    """What rows share: their document where it is known, else their block, and their words."""
    values: dict[str, list[Any]] = {
        "document": [row.meta.get("document") for row in rows],
        "block": [None if row.meta.get("document") or row.group == row.id else row.group for row in rows],
        "sentence": [_said(row) for row in rows],
    }
    codes: dict[str, Ints] = {}
    for name, column in values.items():
        known: dict[Any, int] = {}
        codes[name] = np.array([-1 if v is None else known.setdefault(v, len(known)) for v in column], np.int64)
    return codes


def _official(row: Tagged) -> str | None:
    """The part that the publisher put a row into."""
    return str(row.meta["official"]) if "official" in row.meta else None


def _atom(row: Tagged) -> str:
    """What is never cut: the document or block, else the row by its own words."""
    return row.group if row.group != row.id else digest(" ".join(_said(row)))


def _groups_are(rows: Sequence[Tagged]) -> str:
    """How rows are bound, in words."""
    if all(row.meta.get("document") for row in rows):
        return "documents"
    if all(row.group == row.id for row in rows):
        return "single rows: the data names no documents"
    return (
        "blocks of consecutive sentences: the data names no documents, so an abstract may reach over the border of two"
    )
