"""A claim and what came of checking it: right, different, or not checked for a stated reason, and never right unseen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from medrecipes.core.errors import MedRecipesError, SpoiledError, TrustError, printable, reason

OK, DIFFERS, UNKNOWN = "ok", "differs", "not checked"
SHOWN = 3  # differences that a claim names; the rest are counted
CLOSE = 1e-9  # of figures that are worked out by the same sums on another processor


@dataclass(frozen=True)
class Claim:
    """Something that is claimed, and what came of checking it."""

    what: str
    verdict: str
    found: str


@dataclass(frozen=True)
class Found:
    """What a check saw: `told` where all is right, `wrong` line by line, or why it could see nothing."""

    told: str = ""
    wrong: Sequence[str] = ()
    unknown: str = ""


def settle(what: str, look: Callable[[], Found]) -> Claim:
    """The verdict on a claim; a file that cannot be what a run writes differs, what is not at hand is not checked.

    Code that may not run is no verdict: the whole command refuses.
    """
    claim = _verdict(what, look)
    return Claim(what, claim.verdict, printable(" ".join(claim.found.split())))


def _verdict(what: str, look: Callable[[], Found]) -> Claim:
    try:
        found = look()
    except SpoiledError as error:
        return Claim(what, DIFFERS, reason(error))
    except TrustError:
        raise
    except MedRecipesError as error:
        return Claim(what, UNKNOWN, reason(error))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError) as error:
        # the files are anybody's: a key that is gone, a text where a number stood
        return Claim(what, DIFFERS, f"is not as a run writes it ({type(error).__name__}: {reason(error)})")
    if found.wrong:
        more = f"; and {len(found.wrong) - SHOWN} more" if len(found.wrong) > SHOWN else ""
        return Claim(what, DIFFERS, f"{'; '.join(found.wrong[:SHOWN])}{more}")
    return Claim(what, UNKNOWN, found.unknown) if found.unknown else Claim(what, OK, found.told)


def unlike(made: Any, said: Any, at: str = "") -> Iterator[str]:
    """Where a value of JSON differs from the one that was worked out, by the path to it."""
    if isinstance(made, dict) and isinstance(said, dict):
        for key in dict.fromkeys((*made, *said)):
            where = f"{at}.{key}" if at else str(key)
            if key not in said or key not in made:
                yield f"{where} is {'missing' if key in made else 'one too many'}"
            else:
                yield from unlike(made[key], said[key], where)
    elif isinstance(made, list) and isinstance(said, list) and len(made) == len(said):
        for number, (one, other) in enumerate(zip(made, said, strict=True)):
            yield from unlike(one, other, f"{at}.{number}")
    elif _number(made) and _number(said):
        if not math.isclose(made, said, rel_tol=CLOSE, abs_tol=CLOSE):
            yield f"{at} is {said}, worked out as {made}"
    elif type(made) is not type(said) or made != said:
        yield f"{at} is {_short(said)}, worked out as {_short(made)}"


def as_json(value: Any) -> Any:
    """A value as it is read back from a file."""
    return json.loads(json.dumps(value, ensure_ascii=False, default=str))


def unlike_text(made: str, said: str) -> list[str]:
    """The first line in which a text differs from the one that was worked out."""
    if made == said:
        return []
    lines, theirs = made.splitlines(), said.splitlines()
    for number, (one, other) in enumerate(zip(lines, theirs, strict=False), 1):
        if one != other:
            return [f"line {number} is {_short(other)}, worked out as {_short(one)}"]
    return [f"it has {len(theirs)} lines, worked out as {len(lines)}"]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any, longest: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else f"{text[:longest]}…"
