"""Doses, units and negations of a reference that an answer keeps or contradicts: found by words, so no clinical verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from medrecipes.scoring.doses import GENERAL, UNITS, Dose, content, doses, substances_in
from medrecipes.scoring.text_overlap import words

CLAUSE = re.compile(r"(?<=[.!?])\s+|\n+|[;:,]\s|\b(?:but|however|although|though|except|unless)\b", re.I)
CUE = re.compile(
    r"\b(?:no|not|never|without|cannot|neither|nor|none|avoid|avoids|avoided|avoiding|\w+n['’]t)\b"
    r"(?!\s+(?:only|just|more|less|later|fewer|longer\s+than)\b)",
    re.I,
)
SCOPE = 3  # words after a negation that it denies
# shares, pressures and what bodies weigh are said of many things: only the same words make them one
LOOSE = ("share", "pressure")
BODY = Decimal(UNITS["kg"][1])


@lru_cache
def _general() -> frozenset[str]:
    """The stems of these words; worked out when first asked, for the stemmer takes a second to import."""
    return frozenset(stem for word in GENERAL for stem in content(word))


@dataclass(frozen=True)
class Kept:
    """How many claims of a reference an answer keeps and how many it contradicts; it is silent about the others."""

    claims: int
    kept: int
    contradicted: int
    units: int = 0  # contradicted by the unit alone: the same number, mg for mcg


def compare_doses(reference: str, answer: str) -> Kept:
    """Each dose of the reference: stated by the answer too, or contradicted by another one in its place."""
    wanted = list({(dose.size, dose.dimension): dose for dose in doses(reference)}.values())
    given = doses(answer) if wanted else []
    kept = [any(dose.equals(other) for other in given) for dose in wanted]
    open_ = [dose for dose, stated in zip(wanted, kept, strict=True) if not stated]
    rivals = [other for other in given if not any(other.equals(dose) for dose in wanted)]
    known = substances_in(reference)
    hit: set[int] = set()
    for other in rivals:
        scores = [_likeness(dose, other, known) for dose in open_]
        best = max(scores, default=-1)
        hit |= {number for number, score in enumerate(scores) if score == best >= 0}
    units = [any(_same_number(dose, other) for other in given) for dose in open_]
    hit |= {number for number, same in enumerate(units) if same}
    return Kept(len(wanted), sum(kept), len(hit), sum(units))


def _same_number(dose: Dose, other: Dose) -> bool:
    return other.dimension == dose.dimension and other.numbers == dose.numbers and other.size != dose.size


def _likeness(dose: Dose, other: Dose, known: frozenset[str]) -> int:
    """How surely another dose stands in the place of one: -1 if it does not, above that by what both share."""
    if other.dimension != dose.dimension or other.overlaps(dose) or other.conflict(dose):
        return -1
    if other.strength and not dose.strength:
        return -1
    same = dose.substances & other.substances
    if not same and other.substances and known:
        return -1  # it is of something else, or of what the reference does not say a dose of
    shared = (dose.about & other.about) - _general()
    if not (same or shared) and (dose.dimension in LOOSE or min(dose.size[0], other.size[0]) >= BODY):
        return -1
    alike = sum(bool(mine & theirs) for mine, theirs in zip(dose.roles, other.roles, strict=True))
    return 3 * len(same) + len(shared) + 2 * alike


def compare_negations(reference: str, answer: str) -> Kept:
    """Each negation of the reference: denied by the answer too, or said of the same words without a negation."""
    wanted = set(negations(reference))
    if not wanted:
        return Kept(0, 0, 0)
    clauses = [(frozenset(words(clause)), bool(CUE.search(clause))) for clause in CLAUSE.split(answer) if clause]
    kept = contradicted = 0
    for denied in wanted:
        said = {negated for stems, negated in clauses if 3 * len(denied & stems) >= 2 * len(denied)}
        kept += True in said
        contradicted += said == {False}
    return Kept(len(wanted), kept, contradicted)


def negations(text: str) -> Iterable[frozenset[str]]:
    """What a text denies: the first words after each `no`, `not`, `without`, `avoid` …, within its clause, stemmed."""
    for clause in CLAUSE.split(text):
        for cue in CUE.finditer(clause or ""):
            if scope := content(clause[cue.end() :])[:SCOPE]:
                yield frozenset(scope)
