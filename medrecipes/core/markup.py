"""Texts of others in Markdown and CSV: what stands in a row, a name or a system message stays text."""

from __future__ import annotations

import math
import re

# control characters, and those that turn the reading direction
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# what begins a tag, an entity, code, emphasis, a strike-through, a formula, a heading, or a link by itself
SIGNS = str.maketrans({c: f"&#{ord(c)};" for c in "`*~$@#"} | {"&": "&amp;", "<": "&lt;", "\\": "\\\\"})
UNDERLINE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # at the edge of a word; within one it is no emphasis
LINKED = re.compile(r"\](?=[(:\[])")
ADDRESS = re.compile(r"(?i)(www)\.")  # a link by itself, as what begins with a scheme is
OPENING = re.compile(r"(?:[#>+=:-]|\d{1,9}[.)])")  # what makes a line a heading, a quotation, a list or a rule
FORMULA = tuple("=+-@\t\r\n＝＋－＠")


class Markup(str):
    """Markdown that we wrote ourselves: `plain` leaves it as it is."""


def plain(text: str) -> str:
    """A text as nothing but text within a line of Markdown."""
    if isinstance(text, Markup):
        return text
    text = _flat(text).translate(SIGNS)
    text = LINKED.sub(r"]\\", UNDERLINE.sub(r"\\_", text))
    return ADDRESS.sub(r"\1&#46;", text.replace("://", "&#58;//"))


def begun(text: str) -> str:
    """A text as nothing but text where a line of Markdown begins."""
    if isinstance(text, Markup):
        return text
    text = plain(text)
    if not (found := OPENING.match(text)):
        return text
    end = found.end()
    return f"{text[: end - 1]}&#{ord(text[end - 1])};{text[end:]}"


def code(text: str) -> Markup:
    """A text as a span of code."""
    text = _flat(text)
    fence = "`" * (_longest(text) + 1)
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return Markup(f"{fence}{room}{text}{room}{fence}")


def fenced(kind: str, text: str) -> str:
    """A text as a block of code, or nothing."""
    text = UNSEEN.sub(" ", text)
    fence = "`" * max(3, _longest(text) + 1)
    return f"{fence}{kind}\n{text.strip()}\n{fence}" if text.strip() else ""


def cell(value: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula; a number stays one."""
    if not value.startswith(FORMULA):
        return value
    try:
        return value if math.isfinite(float(value)) else f"'{value}"
    except ValueError:
        return f"'{value}"


def _flat(text: str) -> str:
    """A text as one line, without what is not seen."""
    return " ".join(UNSEEN.sub(" ", text).split())


def _longest(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
