"""What a name of a person looks like, and whether a word that looks like one can be one."""

from __future__ import annotations

import re

from medrecipes.release.personal_data.given import GIVEN, SURNAMES
from medrecipes.release.personal_data.notnames import FOUND_OUT, FUNCTION, INSTITUTION, NO_NAME
from medrecipes.release.personal_data.rule import around, bag

UPPER, LOWER = "A-ZÀ-ÖØ-ÞŁŚŞČŠŽ", "a-zß-öø-ÿąćęłńóśźżšžčğışř"
WORD = rf"[{UPPER}](?:[{LOWER}]|['’-](?=[A-Za-z])|(?<=['’-])[{UPPER}]|(?<=Mc)[A-Z]|(?<=Mac)[A-Z]){{1,24}}"
CAPITALS = rf"[{UPPER}](?:[{UPPER}]|['’-](?=[A-Z])){{1,24}}"
INITIAL = rf"(?:[{UPPER}]\. ?)"
PARTICLE = r"(?:(?:de la|de los|de|del|della|di|da|dos|das|do|du|van der|van den|van|von der|von|der|den|zu|bin|ibn|binti|al|el|la|le|y|e|ter|ten) )"
FULL = rf"{INITIAL}{{0,3}}{PARTICLE}?{WORD}(?: (?:{INITIAL}{{1,2}})?{PARTICLE}?(?:{WORD}|{CAPITALS})){{0,3}}"
SHOUTED = rf"{CAPITALS}(?:[ ,]{{1,2}}{CAPITALS}){{0,3}}"
LOWERCASE = rf"[{LOWER}]{{3,20}}(?: [{LOWER}'’-]{{2,20}})?"

NAME_PART = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
ADDRESSED = bag(
    "dr dra drs prof professor mr mrs ms miss herr herrn frau mme mlle sr sra srta sig dott shri smt med nurse"
)


def name_words(name: str) -> list[str]:
    """The words of a name that are neither titles nor initials, in lower case."""
    return [word for word in NAME_PART.findall(name.lower()) if len(word) > 1 and word not in ADDRESSED]


def plausible(name: str) -> bool:
    parts = name_words(name)
    return bool(parts) and parts[0] not in NO_NAME and parts[-1] not in FUNCTION and len(set(parts[0])) > 1


def known(name: str) -> bool:
    """Whether a name has a known given name or surname in it."""
    parts = name_words(name)
    return plausible(name) and any(
        part in GIVEN or part in SURNAMES or part.partition("-")[0] in GIVEN for part in parts
    )


def is_history(match: re.Match[str]) -> bool:
    """Whether a name is of somebody who found something out, and whom books name."""
    before, after = around(match, 60, 60)
    return (
        FOUND_OUT.search(f"{before} {after}") is not None
        or re.match(r"['’]s? (?:disease|syndrome|sign)", after) is not None
    )


def cued(match: re.Match[str]) -> bool:
    return plausible(match["name"]) and not INSTITUTION.search(match["name"])
