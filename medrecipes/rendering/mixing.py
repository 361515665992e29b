"""Data mixing: each source's share of an epoch of training by its weight, in rows or in tokens; dev and test stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medrecipes.core.errors import DataError
from medrecipes.data.grouping import spot
from medrecipes.data.tally import Said
from medrecipes.data.token_pairs import Ints
from medrecipes.recipe.schema import Data, Recipe
from medrecipes.rendering.chat_template import Example
from medrecipes.rendering.stored_examples import View, lengths_of, stored

NEAR = 0.005  # by so much of the epoch a share may miss its weight unremarked


@dataclass(frozen=True)
class Mixture:
    """Which training rows an epoch holds, a row once for every time that it comes; `report` is what data.json holds of it."""

    rows: Ints
    report: Mapping[str, Any] = field(default_factory=dict)

    def of(self, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples of an epoch."""
        if not self.report.get("by"):
            return examples
        rows = stored(examples)
        return [examples[row] for row in self.rows.tolist()] if rows is None else View(rows, self.rows)


def mix(recipe: Recipe, examples: Sequence[Example], sources: Sequence[str]) -> Mixture:
    """The mixture that a recipe asks for, by the ids of its rows; every row once where it asks for none.

    `sources`: the labels of the datasets, each of which begins the ids of its rows.
    """
    every = np.arange(len(examples))
    if len(sources) < 2:
        return Mixture(every)
    data = recipe.data
    place = {label: number for number, label in enumerate(sources)}
    ids = [example.id for example in examples]
    source = np.array([place[id.partition("/")[0]] for id in ids], np.int64)
    tokens = lengths_of(examples)
    if data.mix_by == "split":
        return Mixture(every, _report(data, sources, source, tokens, every))
    for number, label in enumerate(sources):
        if not (source == number).any():
            raise DataError(
                f"data.mix: {label} has no row to train on, so its weight cannot be met; leave it out, or give it more rows"
            )
    amount = tokens if data.mix_by == "tokens" else np.ones_like(tokens)
    order = np.argsort([spot(recipe.seed, f"mix:{id}") for id in ids], kind="stable")
    chosen = [
        _passes(order[source[order] == number], amount, share * amount.sum(), data.max_repeats)
        for number, share in enumerate(_asked(data))
    ]
    rows = np.sort(np.concatenate(chosen))
    return Mixture(rows, _report(data, sources, source, tokens, rows))


def labels(report: Mapping[str, Any]) -> list[str]:
    """The labels of the datasets that a split was made of, in the order of data.mix."""
    return [source["label"] for source in report["sources"]]


def _asked(data: Data) -> list[float]:
    """The share that each weight asks for."""
    weights = [entry.weight or 0.0 for entry in data.mix]
    return [weight / sum(weights) for weight in weights]


def _passes(rows: Ints, amount: Ints, wanted: float, most: int) -> Ints:
    """These rows so often that they amount to what is wanted, as nearly as whole rows do, and none of them more than `most` times."""
    mine = amount[rows]
    whole, rest = divmod(min(wanted, float(most * mine.sum())), float(mine.sum()))
    # where one row more would miss by more than one row less
    some = int(np.searchsorted(np.cumsum(mine) - mine / 2, rest, side="left"))
    return np.concatenate((np.repeat(rows, int(whole)), rows[:some]))


def _report(data: Data, sources: Sequence[str], source: Ints, tokens: Ints, rows: Ints) -> dict[str, Any]:
    """Rows and tokens of each source before and after mixing, with the share that its weight asked for."""
    mixes = data.mix_by != "split"
    times = np.bincount(rows, minlength=len(source))
    found = {}
    for number, label in enumerate(sources):
        mine = source == number
        found[label] = {
            "asked": round(_asked(data)[number], 6) if mixes else None,
            "before": _share(mine, tokens, np.ones_like(times)),
            "after": _share(mine, tokens, times),
            "repeats": round(float(times[mine].mean()), 4) if mine.any() else 0.0,
        }
    return {
        "by": data.mix_by if mixes else None,
        "max_repeats": data.max_repeats if mixes else None,
        "rows": len(rows),
        "tokens": int(tokens[rows].sum()),
        "sources": found,
    }


def _share(mine: Any, tokens: Ints, times: Ints) -> dict[str, float]:
    """Rows and tokens of some rows, each so many times, and their share of all."""
    rows, size = int(times[mine].sum()), int((tokens * times)[mine].sum())
    return {
        "rows": rows,
        "tokens": size,
        "share_of_rows": round(rows / max(1, int(times.sum())), 6),
        "share_of_tokens": round(size / max(1, int((tokens * times).sum())), 6),
    }


def told(report: Mapping[str, Any]) -> list[Said]:
    """The shares of each source before and after mixing, and where the cap on repeats changes them; nothing of a single source."""
    said: list[Said] = []
    by = report.get("by")
    for label, found in report.get("sources", {}).items():
        before, after = found["before"], found["after"]
        text = f"{label}: {before['rows']:,} training rows ({before['share_of_rows']:.1%}), {before['tokens']:,} tokens ({before['share_of_tokens']:.1%})"  # fmt: skip
        if by:
            text += f"; in an epoch {after['rows']:,} rows ({after['share_of_rows']:.1%}), {after['tokens']:,} tokens ({after['share_of_tokens']:.1%}), a row {found['repeats']:.2f} times"  # fmt: skip
        said.append(("mixture", text))
    capped = [
        f"{label} is {found['after'][f'share_of_{by}']:.1%} of the {by} and not {found['asked']:.1%}"
        for label, found in report.get("sources", {}).items()
        if by and found["asked"] - found["after"][f"share_of_{by}"] > NEAR and found["repeats"] >= report["max_repeats"]
    ]
    if capped:
        said.append(("note", f"data.max_repeats = {report['max_repeats']} caps what the weights ask for: {', '.join(capped)}; raise it, or lower the weight"))  # fmt: skip
    return said
