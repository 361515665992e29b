"""Near-duplicates are those that brute force finds, in clusters too, and a cluster costs what it holds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from medrecipes.data import clusters
from medrecipes.data.clusters import similar_sets
from medrecipes.data.deduplicate import Kept
from medrecipes.data.grouping import bind
from medrecipes.data.leakage import alike, chained
from medrecipes.data.near_duplicates import near, near_pairs
from medrecipes.data.token_pairs import Near
from tests.attack.harness import limited

Pairs = set[tuple[int, int]]


def compared(sets: list[set[Any]]) -> list[tuple[int, int, int, int]]:
    """Every two sets, with how much they have in common and in all."""
    both = ((i, j, len(a & b), len(a) + len(b)) for (i, a), (j, b) in combinations(enumerate(sets), 2))
    return [(i, j, common, total - common) for i, j, common, total in both]


def brute(every_two: list[tuple[int, int, int, int]], threshold: float) -> Pairs:
    return {(i, j) for i, j, common, total in every_two if common >= threshold * total - 1e-9}


def all_of(found: Near) -> Pairs:
    return {(i, j) for i, j in found.every().tolist()}


def triples(text: str) -> set[Any]:
    words = text.split()
    words += [""] * (3 - len(words))
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


# --- sets, with everything that is tuned turned down, so that each way is gone


def some_sets(chance: random.Random) -> list[set[int]]:
    """Copies of a few sets with edits, slots with few values, subsets of each other, or sheer noise."""
    kind = chance.choice(("noise", "edits", "slots", "subsets", "stairs", "same"))
    bases = [range(1000 * k, 1000 * k + chance.randint(1, 40)) for k in range(chance.randint(1, 3))]
    found: list[set[int]] = []
    for row in range(chance.randint(2, 60)):
        one = set(chance.choice(bases))
        if kind == "noise":
            words = chance.choice((5, 10, 30, 200))
            one = set(chance.sample(range(words), chance.randint(1, words)))
        elif kind == "slots":
            for slot in range(chance.randint(1, 5)):
                value = 10_000 + 100 * slot + 3 * chance.randrange(3)
                one |= {value, value + 1, value + 2}
        elif kind == "subsets":
            one = set(chance.sample(sorted(one), chance.randint(1, len(one))))
        elif kind == "stairs":
            one = set(range(row, row + len(bases[0])))
        if kind in ("edits", "slots"):
            for _ in range(chance.randrange(4)):
                one.discard(chance.choice(sorted(one)) if one else 0)
                one.add(chance.choice((chance.randrange(10**6, 10**7), 5000 + chance.randrange(4))))
        found.append(one)
    return found


def turn_down(chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, values in (
        ("FEW", (1, 2, 8, 32)),
        ("APART", (0, 1, 60_000)),
        ("ENTRY", (0, 12)),
        ("PENDING", (7, 1 << 22)),
    ):
        monkeypatch.setattr(clusters, name, chance.choice(values))


def joined(sets: list[set[int]], threshold: float) -> Near:
    _, token = np.unique([token for one in sets for token in one], return_inverse=True)
    return similar_sets(np.repeat(np.arange(len(sets)), [len(one) for one in sets]), token, threshold)


@pytest.mark.parametrize(
    "seeds", [range(120), pytest.param(range(120, 4000), marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_sets_are_joined_as_brute_force_joins_them(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = clustered = 0
    for seed in seeds:
        chance = random.Random(seed)
        turn_down(chance, monkeypatch)
        sets = some_sets(chance)
        threshold = chance.choice(
            (0.3, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 0.02 + 0.98 * chance.random())
        )
        found = joined(sets, threshold)
        assert all_of(found) == brute(compared(sets), threshold), (seed, threshold)
        pairs, clustered = pairs + len(found.pairs), clustered + len(found.texts)
    assert pairs > 1000
    assert clustered > 1000


# --- what is asked of the pairs, which nobody has one by one


@pytest.mark.parametrize("seed", range(30))
def test_what_is_asked_of_clusters_is_what_their_pairs_say(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    turn_down(chance, monkeypatch)
    sets = some_sets(chance)
    found = joined(sets, chance.choice((0.3, 0.6, 0.8)))
    pairs = found.every()
    beside: dict[int, set[int]] = {text: set() for text in range(len(sets))}
    for a, b in pairs.tolist():
        beside[a].add(b)
        beside[b].add(a)
    codes = np.array(
        [chance.randrange(-1, len(sets)) for _ in range(2 * len(sets))]
    )  # several rows of a text, and none
    chosen = np.array([chance.random() < 0.3 for _ in codes])
    near_chosen = set(codes[chosen].tolist()) | {o for c in codes[chosen].tolist() if c >= 0 for o in beside[c]}
    assert alike("near_duplicate", codes, found, chosen).tolist() == [
        c >= 0 and c in near_chosen for c in codes.tolist()
    ]
    relations = {"question": np.full(len(codes), -1), "near_duplicate": codes}
    assert bind(relations, found).tolist() == bind(relations, pairs).tolist()
    rows, documents = np.flatnonzero(chosen).tolist(), np.array([chance.randrange(3) for _ in codes])
    assert chained(relations, found, rows, documents) == chained(relations, pairs, rows, documents)
    kept, texts = Kept(found), set[tuple[int, int]]()
    for text in codes[codes >= 0].tolist():
        task = chance.randrange(2)
        assert kept.has(text, task) == ((text, task) in texts)
        if (text, task) not in texts:
            assert kept.has_near(text, task) == any((other, task) in texts for other in beside[text])
        if chance.random() < 0.5:
            kept.add(text, task)
            texts.add((text, task))


# --- texts of one shape


def texts_of(shape: str, count: int) -> Iterator[str]:
    chance = random.Random(shape)
    words = [f"w{n}" for n in range(3000)]
    bases = [[chance.choice(words) for _ in range(60)] for _ in range(3)]
    for row in range(count):
        text = list(bases[row % 3 if shape == "three templates" else 0])
        if shape in ("one slot", "three templates"):
            text[30] = f"name{row}"
        elif shape == "five slots":
            for slot in range(5):
                text[5 + 11 * slot] = f"slot{slot}value{chance.randrange(8)}"
        elif shape == "misspelt":
            for _ in range(chance.randrange(4)):
                text[chance.randrange(60)] = f"error{chance.randrange(10**9)}"
        elif shape == "cut":
            text = [*text[: chance.randrange(3, 60)], f"end{row}"]
        elif shape == "sentences":
            text = [word for at in sorted(chance.sample(range(20), 14)) for word in bases[0][3 * at : 3 * at + 3]]
        elif shape == "doses":
            text = f"take {chance.randrange(9)} tablets of drug{chance.randrange(50)} every {chance.randrange(24)} hours with water".split()
        yield " ".join(text)


SHAPES = ("one slot", "three templates", "five slots", "misspelt", "cut", "sentences", "doses")


@pytest.mark.parametrize("shape", SHAPES)
def test_templated_texts_have_the_pairs_that_brute_force_finds(shape: str) -> None:
    texts = list(dict.fromkeys(texts_of(shape, 200)))
    every_two = compared([triples(text) for text in texts])
    total = 0
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        pairs = brute(every_two, threshold)
        assert {(i, j) for i, j in near_pairs([text.encode() for text in texts], threshold).tolist()} == pairs
        total += len(pairs)
    assert total > 50


@pytest.mark.parametrize("shape", ["one slot", "five slots", "misspelt", "three templates"])
@pytest.mark.parametrize("count", [5_000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_a_cluster_costs_what_it_holds(shape: str, count: int) -> None:
    texts = [text.encode() for text in dict.fromkeys(texts_of(shape, count))]
    for threshold in (0.7, 0.9):
        with limited(20 if count == 5_000 else 120):
            found = near(texts, threshold)
        assert len(found.pairs) + len(found.texts) < 250 * len(texts)  # and not the square of them
        assert len(np.unique(found.links(np.arange(len(texts))))) > 0.9 * len(texts) or threshold == 0.9
