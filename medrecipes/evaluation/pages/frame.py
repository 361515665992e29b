"""The frame of all pages and its parts: head, sections, tables, lists. Every text is escaped here, whoever wrote it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from medrecipes.core.markup import UNSEEN
from medrecipes.evaluation.pages.style import STYLE

DISCLAIMER = (
    "For research and education. Not a medical device: it gives no diagnosis, its answers can be wrong or harmful, "
    "and no decision about anybody's health may rest on them."
)
NUMBER = re.compile(
    r"[-+−]?[\d,.]+%?( GB)?( \[.*\])?( ± [\d.]+)?|-|"
)  # what a column of numbers holds, `-` and nothing among it
LONG = 48  # characters of a cell that may break


class Html(str):
    """HTML that we wrote ourselves; any other text is escaped."""


def document(title: str, body: str, *, more_style: str = "", script: str = "", data: Any = None) -> str:
    """A whole page. `data` lies in it as JSON for its script; nothing else may run, and nothing is fetched from anywhere."""
    held = f'<script type="application/json" id="embedded">{as_json(data)}</script>\n' if data is not None else ""
    runs = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="content-security-policy" content="{policy(script)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}{more_style}</style>\n</head>\n<body>\n{body}\n{held}{runs}</body>\n</html>\n"
    )


def policy(script: str) -> str:
    """What the page's browser is told to allow: its own style, this script, and fetching from where it came itself."""
    allowed = f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" if script else "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"


def as_json(value: Any) -> str:
    """A value as JSON that ends no element of a page, whatever texts are in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # in JSON these stand within texts alone, where an escape means the same
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def text(value: object) -> str:
    """A text as HTML, without what is not seen or turns the reading direction; what is HTML already stays."""
    return value if isinstance(value, Html) else escape(UNSEEN.sub(" ", str(value)))


def paragraph(value: object, kind: str = "") -> str:
    """A paragraph, or nothing for no text."""
    return f"<p{f' class={kind!r}' if kind else ''}>{text(value)}</p>" if value else ""


def bullets(values: Iterable[object]) -> str:
    """A list, or nothing for no entries."""
    items = "".join(f"<li>{text(value)}</li>" for value in values)
    return f'<ul class="plain">{items}</ul>' if items else ""


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values side by side; what has no value is left out."""
    return f'<dl class="facts">{"".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs if value)}</dl>'


def section(id: str, title: str, *parts: str) -> str:
    """A part of a page that its table of contents leads to."""
    return (
        f'<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{text(title)}</h2>\n'
        + "\n".join(filter(None, parts))
        + "</section>"
    )


def folded(title: str, *parts: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{text(title)}</summary>{''.join(parts)}</details>"


def table(rows: Sequence[Sequence[object]], name: str) -> str:
    """A table, its first row the head and its first column names; columns of numbers stand right. Nothing for no rows.

    `name`: what it is of, for readers who hear it; it scrolls sideways where it is wider than the page.
    """
    head, *body = rows
    if not body:
        return ""
    numbers = [all(NUMBER.fullmatch(str(row[column])) for row in body) for column in range(len(head))]
    heads = "".join(f'<th scope="col"{_kind(numbers[n], "")}>{text(cell)}</th>' for n, cell in enumerate(head))
    lines = []
    for first, *rest in body:
        cells = "".join(f"<td{_kind(numbers[n], str(cell))}>{_figure(cell)}</td>" for n, cell in enumerate(rest, 1))
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    return (
        f'<div class="scroll fit" tabindex="0" role="region" aria-label="{text(name)}"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _kind(number: bool, cell: str) -> str:
    return ' class="n"' if number else ' class="wide"' if len(cell) > LONG else ""


def _figure(cell: object) -> str:
    """A cell; the interval of a figure is quieter than the figure."""
    value, bracket, interval = str(cell).partition(" [")
    if isinstance(cell, Html) or not bracket or not NUMBER.fullmatch(str(cell)):
        return text(cell)
    return f'{text(value)} <span class="soft">[{text(interval)}</span>'
