"""A bare data file looked at: what a naive split would leak, duplicates, personal data, answers that are cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.console import called
from medrecipes.data import leakage, tally
from medrecipes.data.guess import guess
from medrecipes.data.records import Conversation
from medrecipes.data.split import prepare
from medrecipes.engines.plan.nvidia_smi import first_gpu
from medrecipes.pipeline.first_recipe import Draft, find, propose, taken
from medrecipes.release.personal_data.survey import survey, told

LOOKED = 4000  # rows that personal data is looked for in, spread evenly: a few seconds
CUT = 100  # characters; what is as long as the longest and ends within a sentence was cut by whatever wrote the file
ALIKE = 3  # of them
EXAMPLES = 3
OPEN = (",", ";", ":", "-", "–", "—", "(", "[", "/", "&")  # what nothing ends with
Said = tuple[str, str]


def first_look(path: Path) -> Iterator[Said]:
    """The findings, the greatest first, and a first recipe, which is written where none stands; a label and a text each."""
    own = find(str(path))
    found = guess(own.path, {})
    device = first_gpu()
    draft = Draft(own, found, propose(found, device.gpu if device else None), None, Path(f"{own.name}.toml"))
    recipe = draft.recipe()
    split = prepare(recipe.model_copy(update={"data": recipe.data.model_copy(update={"limit": None})}))
    if line := leakage.headline(split.report["leakage"]):
        yield "leakage", line
    yield "columns", taken(found)
    yield "data", tally.parts(split.report)
    yield from tally.told(split.report)
    yield _repeated(split.report)
    rows = split.rows
    step = -(-len(rows) // LOOKED)
    held = {**survey(rows[::step]), "rows": len(rows)}
    yield from told(held) if held["personal"] or held["markup"]["rows"] else [("personal", f"none found in {held['looked']:,} rows")]  # fmt: skip
    yield from _endings(rows)
    if os.path.lexists(draft.out):
        yield "note", f"{draft.out} is there already and is left as it is"
    else:
        draft.write()
        yield "written", str(draft.out)
    yield "next", f"{called()} check {draft.out}"


def _repeated(report: Mapping[str, Any]) -> Said:
    """The rows that say what others say."""
    reasons = {
        why: count for why, count in report["dropped"].items() if "duplicate" in why or why.startswith("repeated")
    }
    if not reasons:
        return "duplicates", "none: no row repeats another"
    why = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.items())
    return (
        "duplicates",
        f"{sum(reasons.values()):,} of {report['seen']:,} rows repeat others and would be dropped ({why})",
    )


def _endings(rows: Sequence[Conversation]) -> Iterator[Said]:
    """Answers that end nowhere: most of those as long as the longest, or any without what ends a sentence."""
    nowhere = [row for row in rows if row.answer[-1].isalnum() or row.answer.endswith(OPEN)]
    longest = max(len(row.answer) for row in rows)
    whole, cut = ([row for row in some if len(row.answer) == longest] for some in (rows, nowhere))
    if longest >= CUT and len(whole) >= ALIKE and 2 * len(cut) >= len(whole):
        yield "cut off", f"{len(whole):,} answers have the length of the longest, {longest:,} characters, and {len(cut):,} of them end within a sentence: whatever wrote the file cut them; export it anew ({_some(cut)})"  # fmt: skip
    if not nowhere:
        yield "endings", f"all {len(rows):,} answers end as a sentence does"
    elif 2 * len(nowhere) > len(rows):
        yield (
            "endings",
            f"{len(nowhere):,} of {len(rows):,} answers end without a full stop, as labels and lists do; a model learns to end so",
        )
    else:
        yield "endings", f"{len(nowhere):,} of {len(rows):,} answers end without a full stop, as what is cut off does ({_some(nowhere)}); a model learns to end so"  # fmt: skip


def _some(rows: Sequence[Conversation]) -> str:
    more = len(rows) - EXAMPLES
    return f"row {', '.join(row.id for row in rows[:EXAMPLES])}" + (f" and {more:,} more" if more > 0 else "")
