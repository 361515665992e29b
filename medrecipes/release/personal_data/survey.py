"""What rows hold that a model should not learn: personal data and HTML, counted by kind, with example rows; never the text itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from medrecipes.core.files import digest, digest_path, read_json, stage, write_json
from medrecipes.data.records import Record, Tagged
from medrecipes.data.row_files import Joined
from medrecipes.release.personal_data import find, masked

AT_MOST = 20_000  # rows that are looked at, spread evenly: ten seconds
EXAMPLES = 3  # rows that are named of each kind
TAG = re.compile(
    r"</?(?:p|br|hr|div|span|a|b|i|u|em|strong|font|ul|ol|li|dl|dt|dd|table|tr|td|th|tbody|thead|h[1-6]|img|script|style|html|head|body|"
    r"meta|link|form|input|iframe|pre|code|blockquote|center|sup|sub)(?:\s[^<>\n]{0,300})?\s?/?>|&(?:nbsp|amp|lt|gt|quot|#\d{2,5}|#x[0-9a-fA-F]{2,4});",
    re.IGNORECASE,
)
APART = re.compile(r"(?<=\w) ([@./:'’_-]{1,2}) (?=\w)")
BEFORE_STOP = re.compile(r" (?=[.,;:!?)])")


def texts_of(record: Record) -> tuple[str, ...]:
    """The texts of a row; of tagged words the text as it was written, or one that is put together again."""
    if not isinstance(record, Tagged):
        return tuple(text for m in record.messages for text in (m.content, *filter(None, (m.reasoning, m.extra))))
    return (str(record.meta.get("text") or joined(record.tokens)),)


def joined(words: Sequence[str]) -> str:
    """Words as a text: `jane . doe @ mail . com` becomes what it was."""
    return BEFORE_STOP.sub("", APART.sub(r"\1", " ".join(words)))


class Rows(Protocol):
    """A split, of conversations or of tagged words."""

    @property
    def train(self) -> Sequence[Record]: ...
    @property
    def dev(self) -> Sequence[Record]: ...
    @property
    def test(self) -> Sequence[Record]: ...
    @property
    def key(self) -> str: ...


def held(split: Rows, *, pushes: bool = False) -> Iterator[tuple[str, str]]:
    """A line for personal data and one for HTML in the rows of a split, where there is any; they are looked at once."""
    records = Joined(split.train, split.dev, split.test)

    def build(folder: Path) -> dict[str, Any]:
        found = survey(records)
        write_json(folder / "found.json", found)
        return {"rows": found["looked"]}

    key = digest({"split": split.key, "code": _code(), "rows": len(records)})
    yield from told(read_json(stage("survey", key, build) / "found.json"), pushes=pushes)


@lru_cache
def _code() -> str:
    return digest_path(Path(__file__).parent)


def survey(records: Sequence[Record]) -> dict[str, Any]:
    """What rows hold: how many of each kind, a few of their ids, and enough of a text to find it again."""
    step = -(-len(records) // AT_MOST) or 1
    looked = records[::step]
    personal: dict[str, list[tuple[str, str]]] = defaultdict(list)
    markup: list[tuple[str, str]] = []
    rows: set[str] = set()
    for record in looked:
        texts = texts_of(record)
        kinds = {finding.kind: masked(finding.text) for text in texts for finding in find(text)}
        for kind, shown in kinds.items():
            personal[kind].append((record.id, shown))
        if kinds:
            rows.add(record.id)
        if tag := next((match for text in texts if (match := TAG.search(text))), None):
            markup.append((record.id, re.split(r"[\s>]", tag[0])[0].strip("</;").lower()))
    ordered = sorted(personal.items(), key=lambda item: -len(item[1]))
    return {
        "rows": len(records),
        "looked": len(looked),
        "personal": len(rows),
        "kinds": {kind: _examples(those) for kind, those in ordered},
        "markup": _examples(markup),
    }


def _examples(found: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "rows": len(found),
        "ids": [id for id, _ in found[:EXAMPLES]],
        "shown": list(dict.fromkeys(shown for _, shown in found))[:EXAMPLES],
    }


def told(found: Mapping[str, Any], *, pushes: bool = False) -> Iterator[tuple[str, str]]:
    """The lines of a survey; `pushes`: the run is to be released at its end."""
    of = f"{found['rows']:,} rows" if found["looked"] == found["rows"] else f"{found['looked']:,} of {found['rows']:,} rows looked at"  # fmt: skip
    if found["personal"]:
        kinds = ", ".join(
            f"{kind} {one['rows']:,} (row {_ids(one)}: {one['shown'][0]})" for kind, one in found["kinds"].items()
        )
        after = "; its release would stop at the gate personal-data" if pushes else ""
        yield "personal", f"{found['personal']:,} of {of} hold what looks like personal data: {kinds}{after}"
    if found["markup"]["rows"]:
        tags = " ".join(f"<{tag}>" if tag.isalnum() else f"{tag};" for tag in found["markup"]["shown"])
        yield (
            "markup",
            f"{found['markup']['rows']:,} of {of} hold HTML ({tags}; row {_ids(found['markup'])}), which would be learned as text",
        )


def _ids(one: Mapping[str, Any]) -> str:
    more = one["rows"] - len(one["ids"])
    return ", ".join(one["ids"]) + (f" and {more:,} more" if more else "")
