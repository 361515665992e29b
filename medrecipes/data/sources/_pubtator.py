"""PubTator files: articles with marked mentions and the relations between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from medrecipes.core.errors import DataError
from medrecipes.data.sources._files import Blob, lines

LONGEST_NUMBER = 12  # digits of an offset


@dataclass(frozen=True)
class Mention:
    """Marked text; offsets count the title, a blank and the abstract; `parts` spell out what a composite one joins."""

    start: int
    end: int
    text: str
    type: str
    ids: tuple[str, ...]
    parts: tuple[str, ...] = ()

    def names(self) -> list[tuple[str, str]]:
        """Each identifier with the text that stands for it: a composite's own part, else the whole mention."""
        whole = len(self.parts) != len(self.ids)
        return [(id, self.text if whole else self.parts[i]) for i, id in enumerate(self.ids)]


@dataclass
class Article:
    """One abstract; a relation is (chemical's id, disease's id)."""

    id: str
    title: str = ""
    abstract: str = ""
    mentions: list[Mention] = field(default_factory=list)
    relations: list[tuple[str, str]] = field(default_factory=list)

    def within(self, mention: Mention) -> bool:
        """Whether a mention lies in the abstract rather than the title."""
        return mention.start > len(self.title)


def articles(blob: Blob) -> Iterator[Article]:
    """The articles of a file, one at a time."""
    article: Article | None = None
    abstracts = 0
    with blob.open() as file:
        for number, line in enumerate(lines(blob, file), 1):
            line = line.rstrip("\r\n")
            if match := re.fullmatch(r"(\w+)\|([ta])\|(.*)", line):
                if match[2] == "t":
                    if article:
                        yield article
                    article, abstracts = Article(match[1], title=match[3]), 0
                elif article is None or article.id != match[1]:
                    raise _broken(blob, number, "an abstract without its title")
                elif abstracts:
                    raise _broken(blob, number, f"a second abstract of {article.id}")
                else:
                    article.abstract, abstracts = match[3], 1
            elif line.strip():
                if article is None:
                    raise _broken(blob, number, "a mention before any title")
                _mark(blob, number, line.split("\t"), article)
    if article is None:
        raise DataError(f"{blob.name}: is empty, or no PubTator file; name one with lines such as 123|t|Title")
    yield article


def _mark(blob: Blob, number: int, cells: list[str], article: Article) -> None:
    if cells[0] != article.id:
        raise _broken(blob, number, f"a line of article {cells[0][:40]!r} among those of {article.id}")
    if len(cells) == 4 and not cells[1].isdecimal():
        article.relations.append((cells[2], cells[3]))
        return
    if len(cells) not in (6, 7) or not (cells[1].isdecimal() and cells[2].isdecimal()):
        raise _broken(blob, number, f"{len(cells)} cells that are neither a mention nor a relation")
    if max(len(cells[1]), len(cells[2])) > LONGEST_NUMBER or not cells[4].strip():
        raise _broken(blob, number, "a mention without a type, or with offsets beyond any text")
    start, end = int(cells[1]), int(cells[2])
    if start >= end or f"{article.title} {article.abstract}"[start:end] != cells[3]:
        raise _broken(blob, number, f"the offsets {start} to {end} do not hold {cells[3][:60]!r}")
    parts = tuple(cells[6].split("|")) if len(cells) == 7 else ()
    article.mentions.append(Mention(start, end, cells[3], cells[4], tuple(cells[5].split("|")), parts))


def _broken(blob: Blob, number: int, why: str) -> DataError:
    return DataError(f"{blob.name}: line {number}: {why}; fetch the file again, or correct the line")
