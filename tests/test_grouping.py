"""Whole groups to parts: as near to what was asked as they allow, the same every time, few of them moved by more rows."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from medrecipes.data import tally
from medrecipes.data.grouping import FEW, PARTS, assign
from medrecipes.data.split import Split, prepare
from medrecipes.recipe.schema import Columns, Data, Recipe, SplitRatios

SHARES = {
    "80/10/10": SplitRatios(),
    "60/20/20": SplitRatios(train=0.6, dev=0.2, test=0.2),
    "70/15/15": SplitRatios(train=0.7, dev=0.15, test=0.15),
    "90/5/5": SplitRatios(train=0.9, dev=0.05, test=0.05),
    "90/0/10": SplitRatios(train=0.9, dev=0.0, test=0.1),
}
SIZES: dict[str, Callable[[random.Random], int]] = {
    "single rows": lambda chance: 1,
    "documents of one size": lambda chance: 7,
    "documents of two sizes": lambda chance: chance.choice((2, 9)),
    "few long, many short": lambda chance: min(60, 1 + int(chance.expovariate(0.2))),
    "one of them very long": lambda chance: min(400, int(chance.paretovariate(1.1))),
}


def documents(count: int, kind: str, chance: random.Random) -> dict[str, int]:
    return {f"leaflet {n}": SIZES[kind](chance) for n in range(count)}


def place(sizes: Mapping[str, int], shares: SplitRatios, seed: int) -> tuple[dict[str, int], Counter[str]]:
    """The part of every document, and the rows of every part."""
    names = [name for name, size in sizes.items() for _ in range(size)]
    group = np.array([number for number, size in enumerate(sizes.values()) for _ in range(size)], np.int64)
    part = assign(group, names, [None] * len(names), shares, seed).tolist()
    return dict(zip(names, part, strict=True)), Counter(PARTS[number] for number in part)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("asked", SHARES)
def test_every_part_is_within_one_group_of_what_was_asked(asked: str, kind: str) -> None:
    chance = random.Random(f"{asked} {kind}")
    shares = SHARES[asked]
    for seed in range(40):
        sizes = documents(chance.choice((20, 60, 150)), kind, chance)
        _, rows = place(sizes, shares, seed)
        total, largest = sum(sizes.values()), max(sizes.values())
        for name in PARTS:
            assert abs(rows[name] - getattr(shares, name) * total) <= largest + 1e-6, (sizes, rows)


def test_short_documents_fill_a_part_that_a_long_one_would_overfill() -> None:
    sizes = {"encyclopedia": 600, **{f"leaflet {n}": 1 for n in range(400)}}
    for seed in range(20):
        assert place(sizes, SHARES["70/15/15"], seed)[1] == {"train": 700, "dev": 150, "test": 150}


def test_documents_of_one_size_make_the_shares_that_were_asked_for_at_every_seed() -> None:
    sizes = {f"leaflet {n}": 5 + (n < 2) for n in range(15)}  # 77 rows
    found = {tuple(place(sizes, SHARES["60/20/20"], seed)[1][name] for name in PARTS) for seed in range(20)}
    assert found <= {(47, 15, 15), (46, 16, 15), (46, 15, 16), (45, 16, 16)}
    assert len({tuple(place(sizes, SHARES["60/20/20"], seed)[0].values()) for seed in range(20)}) == 20


def test_more_rows_move_few_groups() -> None:
    """A twentieth more rows, half in new documents and half in old ones, moves 3% of the groups on average, 10% at most."""
    chance = random.Random(4)
    moved = []
    for seed in range(150):
        sizes = documents(300, chance.choice(list(SIZES)), chance)
        shares = SHARES[chance.choice(list(SHARES))]
        more = dict(sizes)
        for n in range(max(1, sum(sizes.values()) // 20)):
            name = f"new {n // 5}" if n % 2 else chance.choice(list(sizes))
            more[name] = more.get(name, 0) + 1
        before, after = (place(those, shares, seed)[0] for those in (sizes, more))
        moved.append(sum(after[name] != part for name, part in before.items()) / len(sizes))
    assert np.mean(moved) < 0.03
    assert np.quantile(moved, 0.95) < 0.06
    assert max(moved) <= 0.1


def test_every_part_that_is_asked_for_has_a_group_where_there_are_enough() -> None:
    for sizes in ({"a": 90, "b": 5, "c": 5}, {"a": 1, "b": 1, "c": 1}, {"a": 300, "b": 200, "c": 100}):
        rows = place(sizes, SplitRatios(), 42)[1]
        assert sorted(rows) == ["dev", "test", "train"]
        assert rows["train"] == max(sizes.values())


def test_official_rows_stay_and_the_others_share_what_is_left() -> None:
    group = np.arange(100)
    official = ["test"] * 30 + [None] * 70
    part = assign(group, [f"row {n}" for n in range(100)], official, SplitRatios(train=0.6, dev=0.2, test=0.2), 7)
    assert Counter(part.tolist()) == {2: 30, 1: 18, 0: 52}  # a quarter of 70, and the rest
    assert part[:30].tolist() == [2] * 30


# what is said of it


def own(folder: Path, documents: Mapping[str, int], shares: SplitRatios, question: Callable[[int], str] = lambda n: f"What is {n}?") -> Split:  # fmt: skip
    rows = ((name, n) for name, size in documents.items() for n in range(size))
    lines = [
        json.dumps({"q": question(at), "a": f"It is {name}, {n}.", "d": name}) for at, (name, n) in enumerate(rows)
    ]
    (folder / "own.jsonl").write_text("\n".join(lines))
    columns = Columns(question="q", answer="a", document="d")
    return prepare(
        Recipe(data=Data(source="jsonl", path=folder / "own.jsonl", columns=columns, split=shares, answers="all"))
    )


def test_asked_and_got_stand_side_by_side(tmp_path: Path) -> None:
    made = own(tmp_path, {f"leaflet {n}": 5 for n in range(40)}, SHARES["80/10/10"])
    assert made.report["asked"] == {"train": 0.8, "dev": 0.1, "test": 0.1}
    assert made.report["got"] == {"train": 0.8, "dev": 0.1, "test": 0.1}
    assert tally.parts(made.report) == "160 rows to train on (80.0%, asked 80%), 20 dev (10.0%, asked 10%), 20 test (10.0%, asked 10%)"  # fmt: skip
    groups, few = tally.told(made.report)
    assert groups == ("groups", "32 train, 4 dev, 4 test; the largest has 5 rows")
    assert few == ("warning", f"test has 4 groups, fewer than {FEW}: its intervals cannot show how groups differ; use more documents, or a larger data.split.test")  # fmt: skip


def test_a_share_that_chained_documents_do_not_allow_is_told_with_its_reason(tmp_path: Path) -> None:

    def question(n: int) -> str:
        """Every leaflet but the last six ends with what the next one begins with."""
        return f"What is {n}?" if n >= 180 else f"What is the {(n + 1) // 3}th?"

    made = own(tmp_path, {f"leaflet {n}": 3 for n in range(66)}, SHARES["70/15/15"], question)
    assert made.report["groups"]["largest"] == 180
    assert made.report["groups"]["bound_by"] == {"question": 177}
    warnings = [text for kind, text in tally.told(made.report) if kind == "warning"]
    assert [text.partition(":")[0] for text in warnings] == [
        "data.split.train asks for 70% of the rows and gets 90.9%",
        "data.split.dev asks for 15% of the rows and gets 4.5%",
        "data.split.test asks for 15% of the rows and gets 4.5%",
        "test has 3 groups, fewer than 6",
    ]
    assert "the largest of 180 rows, which shared question (177 rows) bind into one; use more documents" in warnings[1]


def test_what_is_left_out_has_its_share_and_its_reasons(tmp_path: Path) -> None:
    report = own(tmp_path, {f"leaflet {n}": 5 for n in range(40)}, SHARES["80/10/10"]).report
    some = {**report, "seen": 200, "dropped": {"exact duplicate": 6, "empty answer": 4}}
    assert ("dropped", "10 of 200 rows (5.0%) are left out: exact duplicate: 6, empty answer: 4") in tally.told(some)
    many = {**report, "seen": 200, "dropped": {"exact duplicate": 11}}
    assert ("warning", "11 of 200 rows (5.5%) are left out: exact duplicate: 11") in tally.told(many)
    wanted = {**report, "seen": 200, "dropped": {"over data.limit": 150}}
    assert ("dropped", "150 of 200 rows (75.0%) are left out: over data.limit: 150") in tally.told(wanted)
