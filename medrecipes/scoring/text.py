"""How near an answer comes to its reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

NAMES = ("rouge1", "rouge2", "rougeL")


@lru_cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(NAMES), use_stemmer=True)


def rouge(references: Sequence[str], answers: Sequence[str]) -> dict[str, list[float]]:
    """ROUGE F-measures of each answer, e.g. `{"rouge1": [0.4, …], …}`; stemmed, as the literature reports them."""
    scores = [_scorer().score(reference, answer) for reference, answer in zip(references, answers, strict=True)]
    return {name: [float(score[name].fmeasure) for score in scores] for name in NAMES}


def bits(nats: float) -> float:
    """Natural units of information as bits."""
    return nats / math.log(2)
