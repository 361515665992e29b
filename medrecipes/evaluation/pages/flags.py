"""What is wrong with one answer, in words: what a reader searches a list of answers for."""

from __future__ import annotations

from medrecipes.scoring.claims import compare_doses
from medrecipes.scoring.entities import TASKS, count
from medrecipes.scoring.figures import exact
from medrecipes.scoring.predictions import QA, SPANS, Prediction, read_spans_text

# the only flag that is none of a mistake
RIGHT = "exact match"


def flags(p: Prediction) -> list[str]:
    """The flags of an answer, e.g. `["never stopped", "dose contradicted"]`; of one that is the reference, `exact match`."""
    if p.task == SPANS:
        gold, found = set(read_spans_text(p.gold)), set(read_spans_text(p.prediction))
        return _told({"missed spans": bool(gold - found), "wrong spans": bool(found - gold), RIGHT: gold == found})
    listed, empty = p.task in TASKS, not p.prediction.strip()
    counted = count(p.task, p.prompt, p.gold, p.prediction) if listed else None
    return _told(
        {
            "empty": empty,
            "reasoning never ended": p.reasoning_finished is False,
            "list hit the limit": listed and p.stopped is False,
            "never stopped": not listed and p.stopped is False,
            "lines that are no item": bool(counted and counted.parse_failures),
            "items not in the text": bool(counted and counted.hallucinated),
            "dose contradicted": p.task == QA and compare_doses(p.gold, p.prediction).contradicted > 0,
            RIGHT: counted.exact if counted else exact(p),
        }
    )


def _told(found: dict[str, bool]) -> list[str]:
    return [name for name, holds in found.items() if holds]
