"""What a split leaks: rows of dev and test that share something with train, counted one relation at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medrecipes.data.grouping import PARTS
from medrecipes.data.token_pairs import Flags, Ints, Near, as_near

RELATIONS = ("document", "article", "question", "answer", "near_duplicate")


def leaks(
    relations: Mapping[str, Ints], pairs: Near | Ints, part: Ints, names: Sequence[str] = RELATIONS
) -> dict[str, dict[str, int | None]]:
    """For dev and test: rows, how many share each relation with train (None where the data does not know it), and `any` of them."""
    report: dict[str, dict[str, int | None]] = {}
    seen = {name: alike(name, codes, pairs, part == 0) for name, codes in relations.items()}
    for number, name in enumerate(PARTS[1:], 1):
        held = part == number
        report[name] = {"rows": int(held.sum())}
        for relation in names:
            known = relation in seen and bool((relations[relation] >= 0).any())
            report[name][relation] = int((seen[relation] & held).sum()) if known else None
        every = [seen[relation] for relation in names if relation in seen]
        report[name]["any"] = int((np.any(every, axis=0) & held).sum()) if every else 0
    return report


def alike(relation: str, codes: Ints, pairs: Near | Ints, chosen: Flags) -> Flags:
    """Which rows share this relation with a chosen one; near-duplicates by their pairs of codes too."""
    mine = codes[chosen]
    if relation == "near_duplicate":
        mine = np.concatenate((mine, as_near(pairs).beside(mine)))
    return np.isin(codes, mine[mine >= 0])


def chained(relations: Mapping[str, Ints], pairs: Near | Ints, rows: Sequence[int], documents: Ints) -> dict[str, int]:
    """What makes one group of these rows: how many share each relation with a row of another document, most first."""
    found = {}
    for name, codes in relations.items():
        holders: defaultdict[int, set[int]] = defaultdict(set)
        mine = codes[rows].tolist()
        for code, row in zip(mine, rows, strict=True):
            holders[code].add(int(documents[row]) if documents[row] >= 0 else -2 - row)
        several = {code for code, those in holders.items() if code >= 0 and len(those) > 1}
        if name == "near_duplicate":
            several |= set(as_near(pairs).links(codes[rows]).ravel().tolist())
        found[name] = sum(code in several for code in mine)
    return {name: count for name, count in sorted(found.items(), key=lambda one: -one[1]) if count}


def by_row(rows: int, split: Mapping[str, float], seed: int) -> Ints:
    """The split that most scripts make: rows shuffled and cut, whatever they share."""
    order = np.random.default_rng(seed).permutation(rows)
    part = np.zeros(rows, np.int64)
    test = round(rows * split["test"])
    part[order[:test]] = 2
    part[order[test : test + round(rows * split["dev"])]] = 1
    return part


NAIVE = "naive random split"
TITLE, NEAR = "rows shared with train", "near-duplicate (>= {:g})"


def headline(leakage: Mapping[str, Any]) -> str:
    """What a naive random split would leak, and this one: of test, or of dev where there is no test."""
    naive, ours = leakage["by_row"], leakage["grouped"]
    part = "test" if ours.get("test", {}).get("rows") else "dev"
    if not naive.get(part, {}).get("rows"):
        return ""
    would, does = shared(naive[part]), shared(ours[part])
    of = f"of {naive[part]['rows']:,} {part} rows"
    if not would and not does:
        return f"a {NAIVE} would leak none {of}, and this split leaks none"
    return f"a {NAIVE} would leak {would:,} {of}; this split leaks {does or 'none'}"


def shared(counts: Mapping[str, int | None]) -> int:
    """The rows of a part that share anything with train; of reports that do not say, at least so many."""
    return (
        counts["any"] or 0 if "any" in counts else max(count or 0 for name, count in counts.items() if name != "rows")
    )


def table(leakage: Mapping[str, Any], width: float = math.inf) -> str:
    """The report as a few aligned lines, in shorter words and closer together where they would be wider than a terminal."""
    whole = _lines(leakage, TITLE, NEAR)
    if max(map(len, whole)) <= width:
        return "\n".join(whole)
    short = [_lines(leakage, "shared with train", "near >= {:g}", gap) for gap in ("  ", " ")]
    return "\n".join(next((lines for lines in short if max(map(len, lines)) <= width), short[-1]))


def rows(leakage: Mapping[str, Any], title: str = TITLE, near: str = NEAR) -> list[list[str]]:
    """The report as the rows of a table, its head first: how many rows of each part share what with train."""
    threshold, names = leakage["threshold"], leakage.get("relations", RELATIONS)
    near = near.format(threshold) if threshold else "near-duplicate"
    found = [[title, "rows", *(near if name == "near_duplicate" else name for name in names)]]
    for kind, key in (("grouped (used)", "grouped"), (NAIVE, "by_row")):
        for part, counts in leakage[key].items():
            if counts["rows"]:
                shown = ["-" if counts[name] is None else str(counts[name]) for name in names]
                found.append([f"{kind}: {part}", str(counts["rows"]), *shown])
    return found


def _lines(leakage: Mapping[str, Any], title: str, near: str, gap: str = "  ") -> list[str]:
    found = rows(leakage, title, near)
    widths = [max(len(row[column]) for row in found) for column in range(len(found[0]))]
    return [
        gap.join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in found
    ]
