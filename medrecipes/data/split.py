"""Source rows to a split: read, cleaned, repeats dropped, sampled, grouped; every drop counted, every leak sought."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from medrecipes.core.bounded_reading import taken
from medrecipes.core.errors import DataError
from medrecipes.core.files import (
    SCRATCH,
    cache_root,
    digest,
    digest_path,
    locked,
    read_json,
    scratch,
    stage,
    write_json,
    writing,
)
from medrecipes.core.resources import PACKAGE
from medrecipes.data.benchmarks import Excluded, to_keep_out
from medrecipes.data.deduplicate import draw, drop_repeats, keep_official_apart
from medrecipes.data.exclusion import exclude
from medrecipes.data.grouping import PARTS, asked, assign, bind
from medrecipes.data.leakage import by_row, chained, leaks
from medrecipes.data.near_duplicates import near_among
from medrecipes.data.reading import LARGE, Making, Opened, Place, Rows, locate, read, size_of
from medrecipes.data.records import Conversation
from medrecipes.data.row_files import Joined, Lines, OnDisk
from medrecipes.data.sources import EXAMPLES, _hub
from medrecipes.data.token_pairs import NO_TEXTS, Ints, Near
from medrecipes.recipe.schema import Recipe, SplitRatios

# what decides the split; a change in any of it makes a new one
CODE = (
    "core/bounded_reading", "data/records", "data/reasoning", "data/cleaning", "data/token_pairs", "data/clusters", "data/near_duplicates",
    "data/grouping", "data/leakage", "data/reading", "data/benchmarks", "data/light_edits", "data/exclusion", "data/deduplicate", "data/split",
    "data/cleaned", "data/row_files",
)  # fmt: skip
Note = Callable[[str], None]
Done = Callable[[float], None]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Parts(Generic[Row]):
    """What a recipe trains on, chooses by and is evaluated on; `report` is what `data.json` holds."""

    train: Sequence[Row]
    dev: Sequence[Row]
    test: Sequence[Row]
    key: str
    report: Mapping[str, Any]
    stage_key: str = field(default="", compare=False)  # of all that it was made of, where the store has it

    @property
    def held_out(self) -> Sequence[Row]:
        """The rows that figures come from: test, or dev where the recipe declares no test; neither is an error."""
        if not (self.test or self.dev):
            raise DataError(
                "data.split leaves no rows to evaluate on: dev and test are 0; raise one of them, such as "
                "data.split = { train = 0.9, dev = 0.0, test = 0.1 }"
            )
        return self.test or self.dev

    @property
    def held_out_name(self) -> str:
        """What the figures are labelled with."""
        return "test" if self.test else "dev"

    def parts(self) -> dict[str, Sequence[Row]]:
        """What a run needs, by the names that data.json counts it under."""
        return {"train": self.train, "dev": self.dev, "held out": self.held_out}


class Split(Parts[Conversation]):
    """A split of conversations."""

    @property
    def rows(self) -> Sequence[Conversation]:
        """All of them."""
        return Joined(self.train, self.dev, self.test)


def prepare(
    recipe: Recipe, note: Note = lambda stage: None, done: Done = lambda share: None, *, fresh: bool = False
) -> Split:
    """The split of a recipe's data, made once for the same rows, settings and code; `note` hears of every stage, and `done` what
    share of the source files is read.

    Killed in the middle, it goes on from the shards of cleaned rows that were whole. `fresh`: made from the source rows whatever
    the store holds, and kept nowhere.
    """
    places = locate(recipe.data)
    settings = recipe.data.model_dump(
        mode="json",
        exclude={
            "path": True,
            # weights of an epoch act on training rows, behind the split
            "mix": {"__all__": {"path"} if recipe.data.mix_by == "split" else {"path", "weight"}},
            "mix_by": True,
            "max_repeats": True,
            "exclude": True,
            "max_tokens": True,
            "on_overflow": True,
            "reasoning": True,
        },
    )
    contents = [place.content for place in places]
    kept_out = to_keep_out(recipe.data, [place.source for place in places])
    settings["exclude"] = [[one.name, one.content] for one in kept_out]
    key = digest({"data": settings, "seed": recipe.seed, "contents": contents, "code": code_of()})

    def build(folder: Path) -> dict[str, Any]:
        paths = [place.path or _hub.fetch(place.source, str(place.sha)) for place in places]
        sources = [Opened(*each) for each in zip(places, paths, contents, strict=True)]
        with _shards(paths, None if fresh else key, folder) as root, _measured(paths, done) as progress:
            making = Making(root, code_of(), recipe.data.near_duplicate > 0, progress, folder)
            return _build(recipe, sources, kept_out, making, note)

    if fresh:
        with scratch("split") as folder:
            build(folder)
            return _load(folder)
    folder = stage("split", key, build)
    if (left := _kept_shards(key)).exists():
        with locked(_lock(key), wait=True):
            shutil.rmtree(left, ignore_errors=True)
    note("load")
    return replace(_load(folder), stage_key=key)


def _kept_shards(key: str) -> Path:
    """Where the shards of a large split are until it is made."""
    return cache_root() / f"cleaning-{key[:16]}"


def _lock(key: str) -> Path:
    return cache_root() / f"{SCRATCH}cleaning-{key[:8]}"


@contextmanager
def _shards(paths: Sequence[Path], key: str | None, folder: Path) -> Iterator[Path]:
    """The folder for shards of cleaned rows: of a large split in the store, for whoever goes on; else gone behind this."""
    if key is not None and size_of(paths) >= LARGE:
        with locked(_lock(key), wait=True):
            yield _kept_shards(key)
        return
    with scratch("cleaned", folder) as root:
        yield root


@contextmanager
def _measured(paths: Sequence[Path], done: Done) -> Iterator[Callable[[], None]]:
    """Tells what share of some files was read, whenever it is called inside."""
    whole, before = size_of(paths), taken()
    yield lambda: done(min(1.0, (taken() - before) / max(1, whole)))


@lru_cache
def code_of(*more: str) -> str:
    """The sha256 of the code that makes a split, with the modules that one kind of rows needs besides."""
    files = [*(PACKAGE / f"{name}.py" for name in (*CODE, *more)), *sorted((PACKAGE / "data/sources").glob("*.py"))]
    return digest([[p.name, digest_path(p)] for p in files])


def _build(
    recipe: Recipe, sources: Sequence[Opened], kept_out: Sequence[Excluded], making: Making, note: Note
) -> dict[str, Any]:
    """The stage itself, top to bottom."""
    data, folder = recipe.data, making.folder
    places, contents = [source.place for source in sources], [source.content for source in sources]
    note("read and clean")
    rows = read(sources, making)
    if kept_out:
        note("benchmarks")
    benchmarks = exclude(rows, kept_out) if kept_out else {}
    if rows.triples:
        note("near-duplicates")
        rows.pairs = near_among(rows.triples, data.near_duplicate, folder)
    note("repeats and limits")
    keep_official_apart(rows)
    drop_repeats(rows, data)
    draw(rows, data, recipe.seed)
    note("group and split")
    kept = rows.alive()
    if not kept:
        raise _nothing(places)
    relations = {name: codes[kept] for name, codes in rows.relations.items()}
    group = bind(relations, rows.pairs)
    official = ["test" if rows.official(row) else None for row in kept]
    atoms = [rows.atom(row) for row in kept]
    part = assign(group, atoms, official, data.split, recipe.seed)
    note("leakage")
    drawn = by_row(len(rows.records), data.split.model_dump(), recipe.seed)
    leakage = {
        "threshold": data.near_duplicate or None,
        "grouped": leaks(relations, rows.pairs, part),
        "by_row": leaks(rows.relations, rows.pairs, drawn),
        "by_row_of": "the usable rows before repeats and limits, shuffled and cut by the same shares",
    }
    note("write")
    keys = _write(folder, rows, kept, group, part)
    texts = rows.relations["near_duplicate"] if data.near_duplicate else NO_TEXTS
    alike = {"threshold": data.near_duplicate or None, "texts": len(np.unique(rows.pairs.links(texts)))}
    report = report_of(
        places, contents, keys, near_duplicate=alike, benchmarks=benchmarks, leakage=leakage,
        **split_report(Assigned(part, group, atoms, official), data.split, relations, rows.pairs),
    )  # fmt: skip
    write_json(folder / "report.json", report)
    return {"rows": len(kept)}


def report_of(places: Sequence[Place], contents: Sequence[str], keys: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """What every data.json holds, conversations or tagged words."""
    return {
        "key": digest(keys),
        "keys": keys,
        **_counts(places),
        **more,
        "sources": [_source(place, content) for place, content in zip(places, contents, strict=True)],
    }


@dataclass(frozen=True)
class Assigned:
    """The part and the group of every row, what it was taken from, and the part that its publisher put it in."""

    part: Ints
    group: Ints
    atoms: Sequence[str]
    official: Sequence[str | None]


def split_report(
    assigned: Assigned, shares: SplitRatios, relations: Mapping[str, Ints], pairs: Near | Ints
) -> dict[str, Any]:
    """What data.json says of the split: what was asked and got, and of how many groups; a part that is empty is an error.

    `asked` and `got` are shares of the rows that no publisher put anywhere; an official part has none.
    """
    part, group, atoms = assigned.part, assigned.group, assigned.atoms
    named = set(filter(None, assigned.official))
    wanted = asked(shares, named)
    rows = {name: int((part == number).sum()) for number, name in enumerate(PARTS)}
    sizes = Counter(group.tolist())
    for name in PARTS:
        if wanted[name] and not rows[name]:
            raise DataError(
                f"data.split.{name} = {getattr(shares, name):g} leaves no rows there: {len(part)} rows are {len(sizes)} groups; "
                "use more rows, or 0 for a part"
            )
    free = sum(rows[name] for name in PARTS if name not in named)
    largest, size = sizes.most_common(1)[0]
    joined = {number for number, those in _atoms(group, atoms).items() if len(those) > 1}
    least = min((share * free for name, share in wanted.items() if share and name != "train"), default=free)
    large = sorted((size for size in sizes.values() if size > least), reverse=True)
    members = np.flatnonzero(group == largest).tolist()
    return {
        "rows": rows,
        "shares": shares.model_dump(),
        "asked": {name: None if name in named else round(wanted[name], 4) for name in PARTS},
        "got": {name: None if name in named else round(rows[name] / free, 4) for name in PARTS},
        "groups": {
            "count": len(sizes),
            "in": {name: len(set(group[part == number].tolist())) for number, name in enumerate(PARTS)},
            "largest": size,
            "merged": {"groups": len(joined), "rows": sum(sizes[number] for number in joined)},
            "large": large,
            "bound_by": chained(relations, pairs, members, relations["document"]) if large else {},
        },
    }


def _atoms(group: Ints, atoms: Sequence[str]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for number, atom in zip(group.tolist(), atoms, strict=True):
        found.setdefault(number, set()).add(atom)
    return found


def _nothing(places: Sequence[Place]) -> DataError:
    counts = _counts(places)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts["dropped"].items()) or "none was found"
    where = ", ".join(str(place.path or place.source.repo) for place in places)
    return DataError(f"{where}: none of {counts['seen']} rows can be used ({reasons}); check that data.source is right")


def _counts(places: Sequence[Place]) -> dict[str, Any]:
    """What was seen, dropped and repaired, over all datasets, with a few row ids for each reason."""
    dropped, repaired = Counter[str](), Counter[str]()
    examples: dict[str, list[str]] = {}
    for place in places:
        dropped += place.ledger.dropped
        repaired += place.ledger.repaired
        for reason, ids in place.ledger.examples.items():
            mine = examples.setdefault(reason, [])
            mine += [_id(places, place, id) for id in ids][: EXAMPLES - len(mine)]
    return {
        "seen": sum(place.ledger.seen for place in places),
        "dropped": dict(dropped.most_common()),
        "repaired": dict(repaired.most_common()),
        "examples": examples,
    }


def _id(places: Sequence[Place], place: Place, id: str) -> str:
    return id if len(places) == 1 else f"{place.label}/{id}"


def _source(place: Place, content: str) -> dict[str, Any]:
    """What a card needs to say of a dataset."""
    source, ledger = place.source, place.ledger
    return {
        "name": source.name,
        "label": place.label,
        "title": source.title,
        "homepage": source.homepage,
        "licence": source.licence,
        "redistributable": source.redistributable,
        "citation": source.citation,
        "defects": [defect.text for defect in source.defects],
        "file": place.path.name if place.path else None,
        "repo": None if place.path else source.repo,
        "revision": None if place.path else place.entry.revision,
        "sha": place.sha,
        "content": content,
        "seen": ledger.seen,
        "kept": ledger.seen - sum(ledger.dropped.values()),
        "dropped": dict(ledger.dropped.most_common()),
        "repaired": dict(ledger.repaired.most_common()),
    }


def _write(folder: Path, rows: Rows, kept: Sequence[int], group: Ints, part: Ints) -> dict[str, str]:
    """The kept rows, a line each, under their groups' names; returned: a hash of each split's content."""
    hashes = [hashlib.sha256() for _ in PARTS]
    path, ends, at = folder / "rows.jsonl", [], 0
    wanted = iter(zip(kept, group.tolist(), part.tolist(), strict=True))
    with writing(path), path.open("wb") as file:
        row, root, number = next(wanted)
        for place, record in enumerate(rows.records):
            if place != row:
                continue
            at += file.write(_line(rows, row, record, rows.atom(kept[root]), hashes[number], PARTS[number]))
            ends.append(at)
            row, root, number = next(wanted, (-1, -1, -1))
    with writing(path):
        np.save(folder / "ends.npy", np.array(ends, np.int64))
        np.save(folder / "parts.npy", part.astype(np.int8))
    return {name: value.hexdigest() for name, value in zip(PARTS, hashes, strict=True)}


def _line(rows: Rows, row: int, record: Conversation, group: str, content: Any, part: str) -> bytes:
    """A row as the split's file holds it, added to the hash of its part's content."""
    place = rows.places[rows.place[row]]
    id = _id(rows.places, place, record.id)
    messages = [m.row() for m in record.messages]
    meta = {**record.meta, "source": place.source.name}
    if document := rows.named("document", row):
        meta["document"] = document
    content.update(digest([id, messages]).encode())
    return f"{json.dumps([part, id, group, messages, meta])}\n".encode()


def _load(folder: Path) -> Split:
    lines, part = Lines(folder / "rows.jsonl", np.load(folder / "ends.npy")), np.load(folder / "parts.npy")
    parts: list[Sequence[Conversation]] = [OnDisk([lines], _row, [np.flatnonzero(part == number)]) for number in range(len(PARTS))]  # fmt: skip
    if (folder / "rows.jsonl").stat().st_size < LARGE:
        parts = [tuple(rows) for rows in parts]
    train, dev, test = parts
    report = read_json(folder / "report.json")
    return Split(train, dev, test, report["key"], report)


def _row(line: Any) -> Conversation:
    return Conversation.of_row(line[1:])  # behind its part
