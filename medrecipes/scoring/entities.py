"""Lists of entities and relations: read from answers in any of their dialects, counted against gold, never guessed at."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from medrecipes.core.bounded_reading import thin

TASKS = ("chemicals", "diseases", "relations")
NORMALISATION = (
    "NFKC, case folded, white space collapsed, dashes alike, punctuation, quotes and asterisks at the ends dropped; "
    "only items that are then equal are the same"
)
DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
EDGES = " \t.,;:*_`'\"“”‘’"
BULLET = re.compile(r"(?:[-*•·▪◦‣–—]\s*|\(?\d{1,3}[.)]\s+)")
NOTHING = re.compile(
    r"(?:none|nothing|n/a|null|\[\]|no (?:\w+ )?(?:chemicals?|diseases?|influences?|relations?|entities|drugs?)(?:\s\w+){0,4})"
)
# what a sentence has and a name has not: a line without a bullet that holds one is no item
_PROSE = (
    "i i'm is are was were cannot can't could don't does do there here this that these it sorry article text contains "
    "include includes mentioned mentions following list based"
)
PROSE = frozenset(_PROSE.split())
LONGEST_NAME = 15  # words; no name in the published NER-instruct answers has more
INFLUENCES = re.compile(r"(?P<label>chemical:?\s+)?(?P<chemical>.+?)\s+influences?\s+(?P<disease>.+)", re.I)
PIPE = re.compile(r"(?P<chemical>.+?)\s*(?:\||->|→|=>)\s*(?P<disease>.+)")
LABELS = re.compile(r"(?:chemical|drug):?\s+(?P<chemical>.+?)\s*(?:\||->|→|=>)\s*disease:?\s+(?P<disease>.+)", re.I)
# the published prompt: an instruction, the article, the cue
PROMPT = re.compile(r".*?\bCreate a list\b.+?\n\n(?P<article>.+?)\n\nList of extracted \w+:\s*", re.DOTALL)

Item = tuple[str, ...]  # a name, or a chemical and a disease


@dataclass(frozen=True)
class Parsed:
    """What an answer lists, normalised and in its order, repeats included, and the lines that are no item of its task."""

    items: tuple[Item, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """One answer against its gold list, over distinct items; a line that cannot be read is predicted, and wrong."""

    tp: int
    predicted: int
    gold: int
    parse_failures: int
    hallucinated: int
    duplicates: int
    reachable: int

    @property
    def exact(self) -> bool:
        """Whether the answer lists the gold items and nothing else."""
        return self.tp == self.predicted == self.gold

    @property
    def true_negative(self) -> bool:
        """Nothing to list, and nothing listed."""
        return self.predicted == self.gold == 0


def normalise(text: str) -> str:
    """A name as it is compared, e.g. ` Beta–Carotene.` is `beta-carotene`."""
    folded = unicodedata.normalize("NFKC", thin(text)).casefold().translate(DASHES)
    return " ".join(folded.split()).strip(EDGES)


def parse(task: str, answer: str) -> Parsed:
    """Read a list: a line an item, with a bullet or number or, where it looks like a name, without; both dialects."""
    lines = [line.strip() for line in answer.splitlines()]
    lines = [line for line in lines if normalise(line.strip("-–—•* "))]
    if lines and lines[0].endswith(":") and not BULLET.match(lines[0]) and len(lines) > 1:
        lines = lines[1:]  # "Here are the chemicals:"
    if len(lines) == 1 and NOTHING.fullmatch(normalise(_body(lines[0]))):
        return Parsed()
    if len(lines) == 1 and task != "relations" and not BULLET.match(lines[0]):
        parts = re.split(r"[,;]\s+", lines[0])  # "aspirin, ibuprofen"; within a bullet a comma belongs to the name
        lines = parts if all(_item(task, part) for part in parts) else lines
    items: list[Item] = []
    failures: list[str] = []
    for line in lines:
        item = _item(task, line)
        if item is None:
            failures.append(line)
        else:
            items.append(item)
    return Parsed(tuple(items), tuple(failures))


def article(prompt: str) -> str:
    """The text that a prompt asks about: without the instruction, whose words are no findings, and the cue."""
    parts = PROMPT.fullmatch(prompt)
    return parts["article"] if parts else prompt


def contained(item: Item, text: str) -> bool:
    """Whether a normalised text holds every name of an item, character for character."""
    return all(name in text for name in item)


def count(task: str, prompt: str, gold: str, prediction: str, *, in_text: bool = False) -> Counts:
    """Count one answer; `in_text`: items that the text does not contain are filtered out of the prediction first."""
    text = normalise(article(prompt))
    parsed = parse(task, prediction)
    correct = parse(task, gold)
    wanted = set(correct.items)
    given = set(parsed.items)
    repeats = len(parsed.items) - len(given)
    known = {item for item in given | wanted if contained(item, text)}
    failures, unread = len(parsed.failures), len(set(map(normalise, parsed.failures)))
    if in_text:
        given, unread = given & known, 0
    return Counts(
        tp=len(given & wanted),
        predicted=len(given) + unread,
        gold=len(wanted) + len(correct.failures),  # a gold line that is no item can be found by nobody
        parse_failures=failures,
        hallucinated=len(given - known),
        duplicates=repeats,
        reachable=len(wanted & known),
    )


def as_text(value: str | Iterable[object]) -> str:
    """A list as an answer would write it: `["a", "b"]` or, of relations, `[["x", "y"]]`."""
    if isinstance(value, str):
        return value
    parts = (item if isinstance(item, str) else " | ".join(map(str, item)) for item in value)  # type: ignore[call-overload]
    return "\n".join(f"- {part}" for part in parts)


def _body(line: str) -> str:
    bullet = BULLET.match(line)
    return line[bullet.end() :] if bullet else line


def _item(task: str, line: str) -> Item | None:
    """The item that a line states, or None."""
    body = _body(line)
    if task == "relations":
        parts = LABELS.fullmatch(body) or PIPE.fullmatch(body)
        if parts:
            pair = parts["chemical"], parts["disease"]
        elif parts := INFLUENCES.fullmatch(body):
            disease = parts["disease"]
            pair = parts["chemical"], re.sub(r"(?i)^disease:?\s+", "", disease) if parts["label"] else disease
        else:
            return None
        names = tuple(map(normalise, pair))
        return names if all(names) else None
    spoken = normalise(body).split()
    if body == line and (len(spoken) > LONGEST_NAME or PROSE & set(spoken) or (len(spoken) > 3 and line[-1] in ".!?")):
        return None
    return (" ".join(spoken),) if spoken else None
