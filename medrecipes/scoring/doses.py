"""Doses in a text: how much, how often, of what and for whom, as far as words tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from medrecipes.scoring.text_overlap import words

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
        5 * 10**3: "teaspoon teaspoons teaspoonful tsp",
        15 * 10**3: "tablespoon tablespoons tablespoonful tbsp",
        10**5: "dl deciliter deciliters decilitre decilitres",
        10**6: "l liter liters litre litres",
    },
    "amount": {1: "µmol μmol umol mcmol", 10**3: "mmol millimole millimoles", 10**6: "mol mole moles"},
    "units": {1: "iu u unit units"},
    "pieces": {1: "tablet tablets capsule capsules pill pills caplet caplets"},
    "drops": {1: "drop drops"},
    "puffs": {1: "puff puffs spray sprays inhalation inhalations"},
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
SPELLED = {
    "half a": "0.5", "half an": "0.5", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "twelve": "12", "fifteen": "15", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100",
}  # fmt: skip
MANY = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_NUMBER = rf"(?:(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+|{'|'.join(SPELLED)})"
_ABOVE = "|".join(sorted((re.escape(w) for w, (d, _) in UNITS.items() if d != "time"), key=len, reverse=True))
_ABOVE = _ABOVE.replace("|u|", "|u(?!-)|")  # 10 U, and no 1-877-44U-QUIT
_BELOW = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))
DOSE = re.compile(
    rf"(?<![\w.,])(?P<low>{_NUMBER})(?:\s*(?:-|–|to)\s*(?P<high>{_NUMBER}))?(?:\s(?P<many>{'|'.join(MANY)}))?(?:\sinternational)?[\s-]*(?P<unit>{_ABOVE})(?![a-zµμ])"
    rf"(?P<per>(?:\s*(?:/|\bper\b)\s*(?:{_BELOW}|kilogram)(?![a-zµμ]))*)",
    re.IGNORECASE,
)
PER = re.compile(rf"(?:/|\bper\b)\s*({_BELOW}|kilogram)(?![a-zµμ])", re.IGNORECASE)
# two 250 mg tablets, 2 x 325 mg
TIMES = re.compile(
    r"\b(?:(two|three|four|five|six|seven|eight|ten|twelve|[2-9]) (?:(?:glasses|cups|tablets|capsules|pills|doses|portions|pieces|cans) of )?|(\d{1,2})\s?[x×]\s?)$",
    re.IGNORECASE,
)
COUNTED = re.compile(rf"\d|\b(?:{'|'.join(SPELLED)})\b", re.IGNORECASE)
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
OFTEN = (
    (re.compile(r"\b(?:once|one time|1 time)\b(?! (?:a|per|each) week)", re.I), 1),
    (re.compile(r"\b(?:twice|two times|2 times|two doses|2 doses|every (?:12|twelve) hours)\b", re.I), 2),
    (re.compile(r"\b(?:three times|3 times|three doses|3 doses|every (?:8|eight) hours)\b", re.I), 3),
    (re.compile(r"\b(?:four times|4 times|four doses|4 doses|every (?:6|six) hours)\b", re.I), 4),
    (re.compile(r"\bevery (?:4|four) hours\b", re.I), 6),
)
DAILY = re.compile(r"\b(?:a day|daily|per day|each day|every day|in 24 hours|every 24 hours|/day)\b|/d\b", re.I)

# what excludes another: a dose of the one says nothing of the other
ROLES: tuple[dict[str, str], ...] = (
    {"men": "men man males?", "women": "women woman females? pregnan\\w*"},
    {"adult": "adults? grown-ups?", "child": "child(?:ren)? kids? pa?ediatric infants? bab(?:y|ies) newborns? toddlers?", "old": "elderly"},
    {"under": "under below younger", "over": "over older"},
    {"start": "start\\w* initial\\w* begin\\w* begun first loading", "most": "max\\w* exceed\\w* most limit", "then": "increased? followed then maintenance"},
    {"morning": "morning breakfast", "evening": "evening night bedtime", "noon": "noon lunch"},
    {"mouth": "oral(?:ly)? mouth swallow\\w*", "vein": "intravenous(?:ly)? iv veins? inject\\w* muscle intramuscular(?:ly)?", "skin": "cream ointment topical(?:ly)? skin"},
)  # fmt: skip
_ROLES = tuple(
    {role: re.compile(rf"\b(?:{'|'.join(forms.split())})\b", re.I) for role, forms in group.items()} for group in ROLES
)
# what one tablet, cup or organ holds is no dose of it
STRENGTH = re.compile(
    r"\b(?:contains?|has|holds?|comes? (?:as|in)|available|strengths?|weighs?)\b|\b(?:tablets?|capsules?|pills?) (?:of|is|are)\b|\bin (?:the|each|one|a|every) (?:tablet|capsule|pill|cup|glass|slice)\b",
    re.I,
)
PIECE = re.compile(r"^[\s-]?(?:tablets?|capsules?|pills?)\b", re.I)
ONE = re.compile(r"\b(?:a|an|one|1|each|your) $", re.I)
# endings of drugs' names, what is measured besides, and words that only end like a drug's name
DRUG = re.compile(
    r"(?:amide|amine|azole|azine|barbital|caine|cillin|cycline|grel|imibe|azid|ampin|ifene|dopa|tropium|terol|quine|thiazide|gabalin|pentin|racetam|xetine|pramine|peridol|apine|lukast|gatran|phrine|actone|dipine|dronate|fenac|floxacin|gliptin|glitazone|ine|in|ide|ol|pam|parin|phylline|phen|prazole|pril|profen|"
    r"sartan|semide|setron|statin|tidine|triptan|vir|zolam|zosin|mab|nib|xaban|micin|mycin|fen|xen|lam|mil|done|rone|lone|sone|exate|thyroxine|tonin|arin|ium)$"
)
SUBSTANCES = frozenset(
    ["iron", "zinc", "copper", "salt", "sugar", "fat", "fiber", "fibre", "fluid", "fluids", "water", "coffee", "carbonate", "citrate", "sulfate", "folic", "folate", "lactose", "carbohydrate", "carbohydrates", "b12", "magnesium", "cholesterol", "glucose", "bicarbonate", "nitrate", "phosphate", "gluconate", "succinate", "tartrate", "colchicine"]
)  # fmt: skip
NO_SUBSTANCE = frozenset(
    ["within", "begin", "again", "pain", "skin", "certain", "contain", "remain", "thin", "main", "margin", "origin", "medicine", "medicines", "machine", "routine", "line", "fine", "nine", "combine", "determine", "examine", "spine", "urine", "decline", "baseline", "guideline", "define", "intestine", "control", "protocol", "school", "side", "wide", "inside", "outside", "provide", "guide", "decide", "beside", "besides", "alongside", "aside", "divide", "condone", "done", "gone", "bone", "phone", "hormone", "alone", "vein", "brain", "gain", "explain", "obtain", "maintain", "sustain", "protein-free", "mine", "vaccine", "routine", "oxygen", "medium", "premium", "stadium", "calcium-free", "abstain", "refrain", "strain", "train", "plain", "clin", "admin", "bin", "sin", "win", "twin", "chin", "vitamin", "family", "similar", "ride", "tide", "pride", "stool", "pool", "tool", "cool", "wool", "symbol", "idol", "until"]
)  # fmt: skip
# words that say nothing of what a dose or a negation is about
_EMPTY = (
    "a about after all also always an and any are as at be been before being by can could daily day days did do does dose "
    "doses each enough every for from had has have having hour hours how if in into is it its known less many may might more "
    "most much must necessarily need of often on once one or other per should since so some such tablet tablets take taken "
    "than that the their them then there these they this those three time times to twice two under up usual usually very was week "
    "weeks were what when where which while who will with would you your"
)
EMPTY = frozenset(_EMPTY.split())
# and what is said of any dose
GENERAL = frozenset(
    ["people", "person", "patient", "patients", "recommended", "recommend", "amount", "given", "give", "gives", "get", "gets", "inject", "injected", "injection", "contain", "contains", "keep", "stay", "drink", "eat", "eaten", "apply", "applied", "use", "used", "using", "first", "second", "months", "years", "adults", "children", "women", "men", "pain", "food", "meal", "meals", "minute", "minutes", "least", "maximum", "minimum", "above", "below", "exceed", "limit", "start", "started", "starting", "initial", "allowance", "mouth", "level", "high", "low", "normal", "tablets", "capsule", "capsules", "total", "not", "never", "only", "both", "either", "four", "five", "six", "eight", "ten"]
)  # fmt: skip
# a word before a dose that is no name of what is taken
VERBS = frozenset(
    [
        "swallow",
        "chew",
        "take",
        "takes",
        "takes",
        "add",
        "adds",
        "begin",
        "begins",
        "receive",
        "receives",
        "prescribe",
        "prescribes",
        "sprinkle",
        "inhale",
        "inhales",
        "rub",
        "rubs",
        "try",
        "increase",
        "increases",
        "reduce",
        "reduces",
        "rinse",
        "prefer",
        "need",
        "needs",
        "require",
        "requires",
        "measure",
        "measures",
        "equal",
        "equals",
        "weigh",
        "weighs",
        "reach",
        "reaches",
        "filter",
        "filters",
        "pass",
        "passes",
        "lose",
        "loses",
        "gain",
        "gains",
        "drop",
        "drops",
        "raise",
        "raises",
        "lower",
        "lowers",
        "average",
        "around",
        "nearly",
        "almost",
        "approximately",
        "between",
        "through",
        "roughly",
        "until",
        "within",
        "every",
        "another",
        "further",
        "additional",
        "single",
        "double",
        "whole",
        "half",
        "initial",
        "final",
        "daily",
        "weekly",
        "syrup",
        "cream",
        "ointment",
        "lotion",
        "solution",
        "injection",
        "inhaler",
        "spray",
        "medicine",
        "medicines",
        "drug",
        "drugs",
        "tablet",
        "product",
        "dosage",
        "strength",
        "limit",
        "value",
        "values",
        "level",
        "levels",
        "night",
        "morning",
        "evening",
        "bedtime",
        "breakfast",
        "dinner",
        "lunch",
        "noon",
        "antidote",
        "bolus",
        "infusion",
        "course",
        "target",
        "volume",
        "weight",
        "number",
        "range",
        "result",
        "intake",
        "thing",
        "water",
    ]
)
ANY = EMPTY | GENERAL | VERBS
JUST_BEFORE = re.compile(r"\b([a-z][a-z-]+),? ?:? ?(?:at )?$")
JUST_AFTER = re.compile(r"^ (?:of )?([a-z][a-z-]+)\b")
WORD = re.compile(r"[a-z0-9][a-z0-9'’-]*")
NEAR = 4  # words on either side of a dose that say what it is a dose of
REACH = 7  # words as far as which a substance is sought


@dataclass(frozen=True)
class Dose:
    """An amount, e.g. `500 mg`, with the words around it; `size` is in the smallest unit, so that 0.5 g equals it."""

    numbers: tuple[Decimal, ...]
    size: tuple[Decimal, ...]
    dimension: str
    about: frozenset[str]
    totals: frozenset[Decimal] = frozenset()  # what it comes to: several at once, or in a day
    roles: tuple[frozenset[str], ...] = ()
    substances: frozenset[str] = frozenset()
    strength: bool = False  # of one tablet or cup

    def equals(self, other: Dose) -> bool:
        """Whether both are the same amount, at once or in a day."""
        if self.dimension != other.dimension:
            return False
        return (
            self.size == other.size
            or bool(self.totals & other.totals)
            or (len(self.size) == 1 and self.size[0] in other.totals)
            or (len(other.size) == 1 and other.size[0] in self.totals)
        )

    def overlaps(self, other: Dose) -> bool:
        """Whether one lies within the range that the other states."""
        return len(self.size) != len(other.size) and self.size[0] <= other.size[-1] and other.size[0] <= self.size[-1]

    def conflict(self, other: Dose) -> bool:
        """Whether both are for different people, times, ways or purposes."""
        return any(
            mine and theirs and mine.isdisjoint(theirs) for mine, theirs in zip(self.roles, other.roles, strict=True)
        )


def doses(text: str) -> list[Dose]:
    """All amounts with a unit in a text."""
    found = []
    for sentence in SENTENCE.split(text):
        if COUNTED.search(sentence):  # few sentences; the long pattern below is slow
            matches = list(DOSE.finditer(sentence))
            found += [_dose(sentence, match, matches) for match in matches]
    return found


def _dose(sentence: str, match: re.Match[str], matches: Sequence[re.Match[str]]) -> Dose:
    dimension, scale = UNITS[match["unit"].lower()]
    factor = Decimal(scale) * MANY.get((match["many"] or "").lower(), 1)
    in_a_day = False
    for word in PER.findall(match["per"]):
        below, scale = UNITS[{"kilogram": "kg"}.get(word.lower(), word.lower())]
        if below == "time" and scale >= 1440:
            in_a_day = scale == 1440  # as `a day` and `daily`, which are no part of the unit either
        else:
            dimension, factor = f"{dimension}/{below}", factor / scale
    numbers = tuple(_number(match[name]) for name in ("low", "high") if match[name])
    size = tuple(n * factor for n in numbers)
    before, after = sentence[: match.start()], sentence[match.end() :]
    about = frozenset(content(before)[-NEAR:] + content(after)[:NEAR])
    # as far as the next dose, or the last
    place = matches.index(match)
    own = sentence[
        matches[place - 1].end() if place else 0 : matches[place + 1].start()
        if place + 1 < len(matches)
        else len(sentence)
    ]
    roles = tuple(frozenset(role for role, form in group.items() if form.search(own)) for group in _ROLES)
    piece = PIECE.match(after) is not None and not (ONE.search(before) or TIMES.search(before))
    strength = piece or STRENGTH.search(own) is not None
    return Dose(
        numbers,
        size,
        dimension,
        about,
        _totals(size, before, own, in_a_day),
        roles,
        _substances(before, after, sentence),
        strength,
    )


def _number(text: str) -> Decimal:
    return Decimal(SPELLED.get(text.lower(), text.replace(",", "")))


def _totals(size: Sequence[Decimal], before: str, own: str, in_a_day: bool) -> frozenset[Decimal]:
    """What one amount comes to: two 250 mg tablets are 500 mg, and 5 mg twice a day are 10 mg a day."""
    if len(size) > 1:
        return frozenset()
    several = TIMES.search(before)
    at_once = size[0] * (_number(several[1] or several[2]) if several else 1)
    often = next((n for pattern, n in OFTEN if pattern.search(own)), 0)
    daily = {at_once * often} if often else {at_once} if in_a_day or DAILY.search(own) else set()
    return frozenset({at_once} if several else set()) | frozenset(daily)


def _substances(before: str, after: str, sentence: str) -> frozenset[str]:
    """The substance nearest to a dose, else all of its sentence."""
    left, right = _tokens(before)[::-1][:REACH], _tokens(after)[:REACH]
    beside = [match[1] for match in (JUST_BEFORE.search(before.lower()), JUST_AFTER.match(after.lower())) if match]
    if named := frozenset(
        word for word in beside if len(word) > 4 and word not in ANY and not word.endswith(("ly", "ed", "ing"))
    ):
        return named | frozenset(word for word in left[:2] + right[:3] if _is_substance(word))
    near = [(distance, word) for side in (left, right) for distance, word in enumerate(side) if _is_substance(word)]
    if near:
        least = min(near)[0]
        return frozenset(word for distance, word in near if distance <= least + 1)
    return frozenset(word for word in _tokens(sentence) if _is_substance(word))


def substances_in(text: str) -> frozenset[str]:
    """All substances that a text names."""
    return frozenset(word for word in _tokens(text) if _is_substance(word))


def _tokens(text: str) -> list[str]:
    """The words of a text; a vitamin is one word with its letter."""
    return re.findall(r"vitamin [a-ek]\d{0,2}\b|[a-z][a-z0-9-]*", text.lower())


def _is_substance(word: str) -> bool:
    if word in SUBSTANCES or word.startswith("vitamin "):
        return True
    return len(word) > 4 and word not in NO_SUBSTANCE and DRUG.search(word) is not None


def content(text: str) -> list[str]:
    """The words of a text that carry meaning, stemmed."""
    plain = [word for word in WORD.findall(text.lower()) if word not in EMPTY and len(word) > 2 and not word.isdigit()]
    return [stem for word in plain for stem in _stems(word)]


@lru_cache(maxsize=1 << 16)
def _stems(word: str) -> tuple[str, ...]:
    return tuple(words(word))
