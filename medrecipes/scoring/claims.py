"""Doses, units and negations of a reference that an answer keeps or contradicts: found by words, so no clinical verdict."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from medrecipes.scoring.text import words

# dimension -> how many of the smallest unit, as written: 1 g is 1000 mg, and 1 mg is not 1 mcg
SCALES: dict[str, dict[int, str]] = {
    "mass": {
        1: "ng nanogram nanograms",
        10**3: "mcg µg μg ug microgram micrograms",
        10**6: "mg mgs milligram milligrams",
        10**9: "g gm gms gram grams",
        10**12: "kg kilogram kilograms",
    },
    "volume": {
        1: "µl μl ul mcl microliter microliters microlitre microlitres",
        10**3: "ml mls cc milliliter milliliters millilitre millilitres",
        10**5: "dl deciliter deciliters decilitre decilitres",
        10**6: "l liter liters litre litres",
    },
    "amount": {1: "µmol μmol umol mcmol", 10**3: "mmol millimole millimoles", 10**6: "mol mole moles"},
    "units": {1: "iu unit units"},
    "charge": {1: "meq milliequivalent milliequivalents"},
    "pressure": {1: "mmhg"},
    "share": {1: "% percent"},
    "time": {1: "min minute", 60: "h hr hour", 1440: "d day", 10080: "week"},  # below a line only
}
UNITS = {
    word: (dimension, factor)
    for dimension, scale in SCALES.items()
    for factor, spellings in scale.items()
    for word in spellings.split()
}
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
_ABOVE = "|".join(sorted((re.escape(w) for w, (d, _) in UNITS.items() if d != "time"), key=len, reverse=True))
_BELOW = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
DOSE = re.compile(
    rf"(?<![\w.,])(?P<low>{_NUMBER})(?:\s*(?:-|–|to)\s*(?P<high>{_NUMBER}))?[\s-]*(?P<unit>{_ABOVE})(?![a-zµμ])"
    rf"(?P<per>(?:\s*(?:/|\bper\b)\s*(?:{_BELOW})(?![a-zµμ]))*)",
    re.I,
)
DIGIT = re.compile(r"\d")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
CLAUSE = re.compile(r"(?<=[.!?])\s+|\n+|[;:,]\s|\b(?:but|however|although|though|except|unless)\b", re.I)
CUE = re.compile(
    r"\b(?:no|not|never|without|cannot|neither|nor|none|avoid|avoids|avoided|avoiding|\w+n['’]t)\b"
    r"(?!\s+(?:only|just|more|less|later|fewer|longer\s+than)\b)",
    re.I,
)
# words that say nothing of what a dose or a negation is about
_EMPTY = (
    "a about after all also always an and any are as at be been before being by can could daily day days did do does dose "
    "doses each enough every for from had has have having hour hours how if in into is it its known less many may might more "
    "most much must necessarily need of often on once one or other per should since so some such tablet tablets take taken "
    "than that the their them there these they this those three time times to twice two under up usual usually very was week "
    "weeks were what when where which while who will with would you your"
)
EMPTY = frozenset(_EMPTY.split())
WORD = re.compile(r"[a-z0-9][a-z0-9'’-]*")
NEAR = 4  # words on either side of a dose that say what it is a dose of
SCOPE = 3  # words after a negation that it denies


@dataclass(frozen=True)
class Dose:
    """An amount, e.g. `500 mg`, with the words around it; `size` is in the smallest unit, so that 0.5 g equals it."""

    numbers: tuple[Decimal, ...]
    size: tuple[Decimal, ...]
    dimension: str
    about: frozenset[str]


@dataclass(frozen=True)
class Kept:
    """How many claims of a reference an answer keeps and how many it contradicts; it is silent about the others."""

    claims: int
    kept: int
    contradicted: int
    units: int = 0  # contradicted by the unit alone: the same number, mg for mcg


def doses(text: str) -> list[Dose]:
    """All amounts with a unit in a text."""
    found = []
    for sentence in SENTENCE.split(text):
        if not DIGIT.search(sentence):
            continue  # most sentences; the long pattern below is slow
        for match in DOSE.finditer(sentence):
            dimension, scale = UNITS[match["unit"].lower()]
            factor = Decimal(scale)
            for word in re.findall(rf"(?:/|\bper\b)\s*({_BELOW})(?![a-zµμ])", match["per"], re.I):
                below, scale = UNITS[word.lower()]
                dimension, factor = f"{dimension}/{below}", factor / scale
            numbers = tuple(Decimal(match[name].replace(",", "")) for name in ("low", "high") if match[name])
            around = _content(sentence[: match.start()])[-NEAR:] + _content(sentence[match.end() :])[:NEAR]
            found.append(Dose(numbers, tuple(n * factor for n in numbers), dimension, frozenset(around)))
    return found


def compare_doses(reference: str, answer: str) -> Kept:
    """Each dose of the reference: stated by the answer too, or contradicted by another one in its place."""
    wanted = list({(dose.size, dose.dimension): dose for dose in doses(reference)}.values())
    given = doses(answer) if wanted else []
    kept = contradicted = units = 0
    for dose in wanted:
        rivals = [other for other in given if other.dimension == dose.dimension]
        if any(other.size == dose.size for other in rivals):
            kept += 1
            continue
        same_number = any(other.numbers == dose.numbers for other in rivals)
        units += same_number
        contradicted += same_number or any(other.about & dose.about for other in rivals)
    return Kept(len(wanted), kept, contradicted, units)


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
            if scope := _content(clause[cue.end() :])[:SCOPE]:
                yield frozenset(scope)


def _content(text: str) -> list[str]:
    """The words of a text that carry meaning, stemmed."""
    plain = [word for word in WORD.findall(text.lower()) if word not in EMPTY and len(word) > 2 and not word.isdigit()]
    return [stem for word in plain for stem in _stems(word)]


@lru_cache(maxsize=1 << 16)
def _stems(word: str) -> tuple[str, ...]:
    return tuple(words(word))
