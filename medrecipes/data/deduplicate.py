"""Rows left out because others say the same, because a test set holds them, or because fewer were asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.data.grouping import sample, shares
from medrecipes.data.leakage import alike
from medrecipes.data.reading import Rows
from medrecipes.data.token_pairs import Floats, Ints, Near, starts
from medrecipes.recipe.schema import Data


def keep_official_apart(rows: Rows) -> None:
    """Drop what shares anything with an official test row: such rows never enter train, and stay out of dev too."""
    official = np.array([rows.official(row) for row in range(len(rows.records))], bool)
    if not official.any():
        return
    for name, codes in rows.relations.items():
        same = alike(name, codes, rows.pairs, official) & ~official & rows.kept
        for row in np.flatnonzero(same).tolist():
            rows.drop(row, f"shares its {name.replace('_', '-')} with the official test set")


def drop_repeats(rows: Rows, data: Data) -> None:
    """Keep the first of rows that say the same; official test rows stay as they are."""
    question, answer = rows.relations["question"].tolist(), rows.relations["answer"].tolist()
    text = rows.relations["near_duplicate"].tolist() if data.near_duplicate else None
    texts = Kept(rows.pairs)
    whole: set[Any] = set()
    questions: set[Any] = set()
    for row in rows.alive():
        if rows.official(row):
            continue
        task = rows.task(row)
        side = rows.places[rows.place[row]].source.compared
        if (question[row], answer[row], task) in whole:
            rows.drop(row, "exact duplicate")
        elif text and texts.has(text[row], task):
            rows.drop(row, f"repeated {side}")
        elif text and texts.has_near(text[row], task):
            rows.drop(row, f"near-duplicate {side}")
        elif data.answers == "one" and (question[row], task) in questions:
            rows.drop(row, "another answer to the same question")
        else:
            whole.add((question[row], answer[row], task))
            questions.add((question[row], task))
            if text:
                texts.add(text[row], task)


class Kept:
    """The texts that were kept, each under its task."""

    def __init__(self, near: Near) -> None:
        self._partners = _by_text(np.concatenate((near.pairs, near.pairs[:, ::-1])))
        self._clusters = _by_text(np.column_stack((near.texts, near.cluster)), near.weights)
        self._texts: set[tuple[int, Any]] = set()
        self._lightest: dict[tuple[int, Any], float] = {}  # of each cluster

    def add(self, text: int, task: Any) -> None:
        """Keep a text."""
        self._texts.add((text, task))
        for cluster, weight in self._clusters(text):
            self._lightest[cluster, task] = min(weight, self._lightest.get((cluster, task), weight))

    def has(self, text: int, task: Any) -> bool:
        """Whether this very text was kept."""
        return (text, task) in self._texts

    def has_near(self, text: int, task: Any) -> bool:
        """Whether one that is nearly the same was kept, where the text itself was not."""
        return any((other, task) in self._texts for (other,) in self._partners(text)) or any(
            weight + self._lightest.get((cluster, task), math.inf) <= 0 for cluster, weight in self._clusters(text)
        )


def _by_text(pairs: Ints, *more: Floats) -> Callable[[int], Iterable[tuple[Any, ...]]]:
    """What stands beside a text in pairs, and more of each, as tuples."""
    order = np.argsort(pairs[:, 0], kind="stable")
    known, *columns = (column[order] for column in (*pairs.T, *more))
    begin = starts(known)
    ends = np.append(begin[1:], len(known))
    spans = dict(zip(known[begin].tolist(), zip(begin.tolist(), ends.tolist(), strict=False), strict=False))

    def of(text: int) -> Iterable[tuple[Any, ...]]:
        first, last = spans.get(text, (0, 0))
        return zip(*(column[first:last].tolist() for column in columns), strict=True) if last else ()

    return of


def draw(rows: Rows, data: Data, seed: int) -> None:
    """Cut down to the limits and weights of the recipe, evenly over collections and question types."""
    levels = [
        [rows.places[place].label for place in rows.place],
        rows.column("collection"),
        rows.column("qtype", "task"),
    ]
    # by content, so that neither a row's line nor the rows around it decide
    ranks = _Ranks(rows, seed)

    def cut(among: list[int], count: int, reason: str, depth: int) -> None:
        chosen = set(sample(among, count, levels[depth:], ranks))
        for row in among:
            if row not in chosen:
                rows.drop(row, reason)

    for number, place in enumerate(rows.places):
        if place.entry.limit:
            mine = [row for row in rows.alive() if rows.place[row] == number]
            cut(mine, place.entry.limit, "over the limit of its dataset", 1)
    weights = [entry.weight for entry in data.mix if entry.weight] if data.mix_by == "split" else []
    if weights:
        mine_all = [[row for row in rows.alive() if rows.place[row] == number] for number in range(len(rows.places))]
        for number, mine in enumerate(mine_all):
            if not mine:
                raise DataError(f"data.mix: {rows.places[number].label} has no usable row, so its weight cannot be met")
        for mine, share in zip(mine_all, shares([len(m) for m in mine_all], weights, data.limit), strict=True):
            cut(mine, share, "over its weight in the mixture", 1)
    elif data.limit:
        cut(rows.alive(), data.limit, "over data.limit", 0)


class _Ranks(Sequence[bytes]):
    """What rows are drawn by, by the seed and their content."""

    def __init__(self, rows: Rows, seed: int) -> None:
        self._rows, self._seed = rows, f"{seed}:".encode()

    def __len__(self) -> int:
        return len(self._rows.records)

    def __getitem__(self, row: Any) -> Any:
        return self._seed + self._rows.hash(row)
