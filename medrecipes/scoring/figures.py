"""Predictions to figures: what is summed over what, for questions and for lists, and the report of a predictions file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medrecipes.data.grouping import FEW
from medrecipes.scoring.bootstrap import Average, Figure, Floats, Ratio, draw_weights, estimate
from medrecipes.scoring.claims import Kept, compare_doses, compare_negations
from medrecipes.scoring.entities import NORMALISATION, TASKS, Counts, count
from medrecipes.scoring.predictions import QA, SPANS, Prediction, as_taggings, groups
from medrecipes.scoring.span_report import span_report
from medrecipes.scoring.text_overlap import repeated_items, repeated_ngrams, rouge, same_text

COUNTED = ("tp", "predicted", "gold", "parse_failures", "hallucinated", "duplicates")
FILTER = "predicted items that the text does not contain, and lines that are no item, are left out; gold is not touched"


def answer_figures(rows: Sequence[Prediction]) -> dict[str, Figure]:
    """What can be said of any answer: likelihood, how it ends, length, repetition, nearness to the reference."""
    scores = rouge([p.gold for p in rows], [p.prediction for p in rows])
    figures: dict[str, Figure] = {}
    if all(p.bits is not None and p.bytes is not None for p in rows):
        figures["bits_per_byte"] = Ratio(_floats(p.bits for p in rows), _floats(p.bytes for p in rows))
    figures |= {name: Ratio.mean(values) for name, values in scores.items()}
    if all(p.stopped is not None for p in rows):
        figures["stops"] = Ratio.mean([float(bool(p.stopped)) for p in rows])
    if all(p.tokens is not None and p.limit is not None for p in rows):
        cut = [not p.stopped and ((p.tokens or 0) >= (p.limit or 0) or p.reasoning_tokens is not None) for p in rows]
        figures["limit"] = Ratio.mean([float(each) for each in cut])
    spoken = [(len(p.prediction.split()), len(p.gold.split())) for p in rows]
    figures["length_ratio"] = _ratio(spoken)
    figures["repeated_ngrams"] = _ratio([repeated_ngrams(p.prediction) for p in rows], whole=True)
    figures["repeated_items"] = _ratio([repeated_items(p.prediction) for p in rows], whole=True)
    figures["exact_match"] = Ratio.mean([float(exact(p)) for p in rows])
    return figures


def reasoning_figures(rows: Sequence[Prediction]) -> dict[str, Any]:
    """How many answers had reasoning before them, how long it was, and how often it never ended within its budget."""
    thoughts = [p for p in rows if p.reasoning_tokens is not None]
    mean = sum(p.reasoning_tokens or 0 for p in thoughts) / len(thoughts) if thoughts else None
    unfinished = sum(not p.reasoning_finished for p in thoughts)
    return {"rows": len(thoughts), "of_rows": len(rows), "mean_tokens": mean, "unfinished": unfinished}


def claim_figures(rows: Sequence[Prediction]) -> dict[str, Figure]:
    """What answers do with the doses, units and negations of their references; lists (no questions) have none."""
    nothing = Kept(0, 0, 0)
    doses = [compare_doses(p.gold, p.prediction) if p.task == QA else nothing for p in rows]
    denials = [compare_negations(p.gold, p.prediction) if p.task == QA else nothing for p in rows]
    return {
        "doses_kept": _ratio([(d.kept, d.claims) for d in doses]),
        "doses_contradicted": _ratio([(d.contradicted, d.claims) for d in doses]),
        "units_contradicted": _ratio([(d.units, d.claims) for d in doses]),
        "negations_kept": _ratio([(d.kept, d.claims) for d in denials]),
        "negations_contradicted": _ratio([(d.contradicted, d.claims) for d in denials]),
    }


def exact(p: Prediction) -> bool:
    """Whether an answer is its gold: the same text, or the same list."""
    if p.task in (QA, SPANS):
        return same_text(p.gold, p.prediction)
    return count(p.task, p.prompt, p.gold, p.prediction).exact


def list_figures(counts: Sequence[Counts | None]) -> dict[str, Figure]:
    """Precision, recall and the rest over the rows that have counts; the others weigh nothing."""

    def column(name: str) -> Floats:
        return _floats(getattr(c, name) if c else 0 for c in counts)

    tp, predicted, gold = column("tp"), column("predicted"), column("gold")
    return {
        # a model that says nothing where there was something to say has a precision of 0, not none
        "precision": Ratio(tp, predicted, gold),
        "recall": Ratio(tp, gold, predicted),
        "f1": Ratio(2 * tp, predicted + gold),
        "hallucination_rate": Ratio(column("hallucinated"), predicted),
        "recall_ceiling": Ratio(column("reachable"), gold),
        "exact_match": Ratio(column("exact"), _floats(c is not None for c in counts)),
    }


def listed(rows: Sequence[Prediction]) -> list[Prediction]:
    """The rows that are answered with a list."""
    return [p for p in rows if p.task in TASKS]


def task_counts(rows: Sequence[Prediction], *, in_text: bool = False) -> dict[str, list[Counts | None]]:
    """For each task that occurs, the counts of its rows, None in the places of the others."""
    counted = [count(p.task, p.prompt, p.gold, p.prediction, in_text=in_text) for p in rows]
    present = [task for task in TASKS if any(p.task == task for p in rows)]
    return {task: [c if p.task == task else None for p, c in zip(rows, counted, strict=True)] for task in present}


def extraction_figures(per_task: Mapping[str, Sequence[Counts | None]]) -> dict[str, dict[str, Figure]]:
    """Each task's figures, and two averages that are never taken for one another.

    Micro: all items of all tasks together. Macro: the plain mean over tasks, each weighing the same.
    """
    figures = {task: list_figures(counts) for task, counts in per_task.items()}
    together = [next(c for c in row if c) for row in zip(*per_task.values(), strict=True)]
    macro: dict[str, Figure] = {
        name: Average(tuple(f for each in figures.values() if isinstance(f := each[name], Ratio)))
        for name in ("precision", "recall", "f1")
    }
    return {**figures, "micro": list_figures(together), "macro": macro}


def extraction_report(rows: Sequence[Prediction], draws: int, seed: int, *, in_text: bool = False) -> dict[str, Any]:
    """`{"tasks": {"chemicals": {"precision": {value, low, high}, …, "tp": 3, …}}, "micro": …, "macro": …}`."""
    if not rows:
        return {"tasks": {}, "micro": None, "macro": None}
    weights, of_row = draw_weights(groups(rows), draws, seed)
    per_task = task_counts(rows, in_text=in_text)
    every: dict[str, Any] = {
        part: {name: estimate(figure, weights, of_row).as_dict() for name, figure in figures.items()}
        for part, figures in extraction_figures(per_task).items()
    }
    for task, counts in per_task.items():
        every[task] |= _totals(counts)
    every["micro"] |= _totals([c for counts in per_task.values() for c in counts])
    return {"tasks": {task: every[task] for task in per_task}, "micro": every["micro"], "macro": every["macro"]}


def score(rows: Sequence[Prediction], draws: int, seed: int, *, in_text: bool = False) -> dict[str, Any]:
    """The report of one model's predictions; `in_text`: with a second, filtered one beside the raw one."""
    asked = [p for p in rows if p.task == QA]
    report = extraction_report(listed(rows), draws, seed)
    if asked:
        weights, of_row = draw_weights(groups(asked), draws, seed)
        figures = {**answer_figures(asked), **claim_figures(asked)}
        answers = {name: estimate(figure, weights, of_row).as_dict() for name, figure in figures.items()}
        report["tasks"] = {QA: {**answers, "rows": len(asked)}, **report["tasks"]}
    if tagged := [p for p in rows if p.task == SPANS]:
        report["spans"] = {"rows": len(tagged), **span_report(as_taggings(tagged), draws, seed)}
    if in_text:
        report["filtered"] = {"filter": FILTER, **extraction_report(listed(rows), draws, seed, in_text=True)}
    return {
        **report,
        "rows": len(rows),
        "groups": len(set(groups(rows))),
        "normalisation": NORMALISATION,
        "intervals": intervals(draws, seed, len(set(groups(rows)))),
    }


def intervals(draws: int, seed: int, count: int) -> str:
    """How the intervals came about, in words, and whether there are groups enough for them to mean anything."""
    few = f" (TOO FEW: {count} of them cannot show how groups differ)" if count < FEW else ""
    return f"95%, bootstrap over groups{few}, {draws} draws, seed {seed}"


def _totals(counts: Sequence[Counts | None]) -> dict[str, int]:
    known = [c for c in counts if c]
    sums = {name: sum(getattr(c, name) for c in known) for name in COUNTED}
    return {**sums, "true_negatives": sum(c.true_negative for c in known), "rows": len(known)}


def _floats(values: Any) -> Floats:
    return np.fromiter((float(value) for value in values), float)


def _ratio(pairs: Sequence[tuple[float, float]], *, whole: bool = False) -> Ratio:
    """Sums of parts over sums of wholes; `whole`: no whole at all counts as a share of 0, not as unknown."""
    over = _floats(whole for _, whole in pairs)
    return Ratio(_floats(part for part, _ in pairs), over, np.ones(len(pairs)) if whole else None)
