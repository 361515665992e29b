"""Personal data in text: the identifiers that HIPAA's Safe Harbor lists, in the forms of ten countries.

What points at one person is told apart from what points at an institution, whose own lines stay: toll-free numbers, and
mailboxes that bear a task rather than a name. A number or an address that nothing marks as an institution's counts as a
person's, even where a reader would know better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from medrecipes.release.personal_data import dates, links, names, numbers, places, vehicles
from medrecipes.release.personal_data.rule import Seen


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, e.g. `Finding("e-mail", "jane.doe@mail.example", 17)`."""

    kind: str
    text: str
    start: int

    def __str__(self) -> str:
        return f"{self.kind} {masked(self.text)}"


def masked(text: str) -> str:
    """Enough of a text to find it again, and no more: a report of personal data must not spread it."""
    text = " ".join(text.split())
    return text[:2] + re.sub(r"\w", "*", text[2:24]) + ("…" if len(text) > 24 else "")


def find(text: str) -> Iterator[Finding]:
    """All that looks like personal data, kind by kind; a place that two rules find is told once."""
    seen, told = Seen.of(text), set[int]()
    looks = (links.RULES.places, vehicles.RULES.places, dates.find, places.RULES.places, numbers.find, names.find)
    for kind, start, end in chain.from_iterable(look(seen) for look in looks):
        place = range(start, end)
        if told.isdisjoint(place):
            told.update(place)
            yield Finding(kind, text[start:end].strip(), start)
