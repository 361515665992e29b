"""Names behind a title: `Dr. Harold Whitfield`, `Frau Lindemann`, `MRS PRITCHARD`, `dr smith`; letters that are titles in one language only."""

from __future__ import annotations

import itertools
import re

from medrecipes.release.personal_data.given import GIVEN, SURNAMES
from medrecipes.release.personal_data.notnames import FUNCTION, INSTITUTION, NO_NAME
from medrecipes.release.personal_data.person import FULL, LOWER, SHOUTED, is_history, known, name_words, plausible
from medrecipes.release.personal_data.rule import Rule, around, bag

STRONG_TITLE = (
    r"[Dd]r|DR|[Dd]ra|DRA|Drs|[Pp]rof|PROF|[Pp]rofessor|Profª|[Mm]r|[Mm]rs|MRS|[Mm]s|Miss|Mister|Mx|Doctor|Herrn?|Frau|HERR|FRAU|Hr|Mme|MME|Mlle|Monsieur|Madame|Mademoiselle|"
    r"[Dd]octeure?|[Dd]octora?|[Ss]eñora?|[Ss]eñorita|Sra|SRA|Srta|[Dd]oña|Dña|[Ss]ignora?|[Ss]ig|[Ss]ig\.ra|[Ss]ig\.na|[Dd]ott|[Dd]ott\.ssa|[Dd]ottor|[Dd]ottoressa|[Dd]ottore|"
    r"[Dd]outora?|[Ss]enhora?|[Dd]ona|Shri|SHRI|Smt|SMT|Sri|Kumari|Pt|Adv|Mgr|Dame|Sir|PD Dr|Priv\.-Doz|Univ\.-Prof|Dipl\.-Ing"
)
WEAK_TITLE = r"Sr|SR|Sister|Nurse|Baby|Granny|Grandma|Grandpa|Cousin|Fr|Father|Brother|Don|Seu|M|D|Me|Master|Rev|Reverend|Pastor|Captain|Officer|Sergeant|Judge|Uncle|Aunt|Auntie|Midwife|MR|MISS|MS|Km|Lady|Lord|Therapist|Coach"
TITLED = re.compile(
    rf"(?<![\w&.-])(?<!Your )(?<!your )(?<!My )(?<!the )(?<!Chat )(?P<title>{STRONG_TITLE}|{WEAK_TITLE})(?P<dot>\.?)(?: (?:med|rer\. nat|h\.c|phil|Dr|Dra|ssa)\.?){{0,3}}"
    rf"(?: |\n|(?<=\.))(?P<name>{FULL}|{SHOUTED})(?![\w])"
)
LOWER_TITLED = re.compile(
    rf"\b(?i:dr|mr|mrs|ms|prof|miss|herr|frau|mme|señora?|sig|dott)\.? (?P<name>[{LOWER}]{{3,20}}(?: [{LOWER}]{{3,20}})?)\b"
)
TITLES = """ dr dra drs prof professor mr mrs ms miss mister mx doctor herr herrn frau hr mme mlle monsieur madame mademoiselle docteur docteure doctora señor señora
    señorita sra srta doña dña signor signora sig ra dott ssa dottor dottoressa dottore doutor doutora senhor senhora dona shri smt sri kumari pt adv dame sir doz ing sr sister nurse baby granny grandma grandpa cousin fr father brother don seu m d me master rev reverend pastor captain officer sergeant evaluate uncle aunt auntie km midwife lady lord therapist coach"""
STRONG_TITLES = bag(TITLES.partition(" sr ")[0]) - {"pt", "adv", "doz", "ing"} | {"sig.ra", "sig.na", "dott.ssa"}
STATIONS = bag(
    "lady lord rev reverend pastor captain officer sergeant evaluate uncle aunt auntie midwife therapist coach"
)  # titles before two names
LOCAL_TITLES = bag("m d me seu don")  # letters and words that are titles where others of their language stand by
LOCAL = re.compile(r"\b(?:el|los|las|fue|con|por|una|que|le|les|des|est|une|et|pour|du|la|em|foi)\b")


NURSING = re.compile(
    r"(?:pract|midw|ana?esth|special|care|line|staff|educ|call|manag|coord|assist|aide|tech|clin|train|chromat|study|site|group|compan)",
    re.IGNORECASE,
)
IMAGED = re.compile(r"\w*(?:graph|scop|imag|enter|scan|signal|contrast|exam|find|guid)", re.IGNORECASE)


def _is_titled(match: re.Match[str]) -> bool:
    title, name = match["title"].lower(), match["name"]
    shown = _leading(name) if name.isupper() else name
    two = len(name_words(name)) > 1 and not name.isupper() and name_words(name)[0] not in FUNCTION  # Frau Else Ehlert
    if INSTITUTION.search(name) or is_history(match) or not (plausible(shown) or two):
        return False
    if title == "mr" and IMAGED.match(name):
        return False  # magnetic resonance
    if match["dot"] and (len(title) > 5 or (match["title"] == "MS" and not name.isupper())):
        return False  # "see a doctor. Chest pain", "have MS. Vitamin D"
    if title in LOCAL_TITLES and not known(name):
        return LOCAL.search(" ".join(around(match, 60, 60))) is not None
    if title in STATIONS and len(name_words(name)) > 1:
        return True
    if title in ("nurse", "sister") and not name.isupper():
        return not NURSING.match(name)
    return title in STRONG_TITLES or title.rstrip("n") in STRONG_TITLES or known(name)


def _leading(name: str) -> str:
    """The name that words in capitals begin with: MR PALMER HAS REFUSED is of Palmer."""
    words = re.split(r"[ ,]+", name)
    return " ".join(itertools.takewhile(lambda word: word.lower() not in NO_NAME, words))


def _lowered(match: re.Match[str]) -> bool:
    return plausible(match["name"]) and name_words(match["name"])[0] in GIVEN | SURNAMES and not is_history(match)


RULES = (
    Rule("name", TITLES, TITLED, _is_titled, left=12),
    Rule(
        "name", "dr mr mrs ms prof miss herr frau mme señor señora sig dott", LOWER_TITLED, _lowered, left=2, right=60
    ),
)
