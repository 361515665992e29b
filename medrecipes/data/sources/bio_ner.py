"""Tagged words: `{text, labels: [{word, entity}]}` rows, two-column files of IOB1, IOB2 or BIOES tags, PubTator files."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, malformed, read_spans, scheme, split_tag, write_tags
from medrecipes.data.records import Tagged
from medrecipes.data.segment import Place, covering, sentences, words
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import Blob, blobs, lines
from medrecipes.data.sources._parts import part_of
from medrecipes.data.sources._pubtator import Article, Mention, articles
from medrecipes.data.sources._tables import Row, rows, text

TABLES = (".json", ".jsonl", ".parquet")
COLUMNS = (".tsv", ".conll", ".iob", ".bio", ".txt")
PUBTATOR = re.compile(r"\w+\|t\|")
DOCUMENT = "-DOCSTART-"  # how CoNLL files part documents
BLOCK = 10  # sentences bound together where a file names no documents: about an abstract


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """A sentence or document a record; a published test and dev file stays what it is."""
    found = {
        "rows of {text, labels}": blobs(files.path, TABLES),
        "two-column files": [b for b in blobs(files.path, COLUMNS) if not _is_pubtator(b)],
        "PubTator files": [b for b in blobs(files.path, (".txt",)) if _is_pubtator(b)],
    }
    kinds = [kind for kind, those in found.items() if those]
    if len(kinds) != 1:
        held = " and ".join(f"{kind} ({found[kind][0].inside}, …)" for kind in kinds) or "no tagged words"
        raise DataError(f"{files.path}: holds {held}; set data.path to files of one kind: {', '.join(found)}")
    readers = dict(zip(found, (_rows, _columns, _pubtator), strict=True))
    parts = {blob.name: part_of(blob.inside) for blob in found[kinds[0]]}
    # names mean something only where they part the files into what is learned and what is held out
    official = {"train", "test"} <= set(parts.values())
    for blob in found[kinds[0]]:
        part = parts[blob.name]
        meta = {"official": part} if official and part != "train" else {}
        yield from readers[kinds[0]](blob, files.unit, meta, ledger)


def _is_pubtator(blob: Blob) -> bool:
    if blob.suffix != ".txt":
        return False
    with blob.open() as file:
        return any(PUBTATOR.match(line) for line in chain(lines(blob, file), [""]) if line.strip())


def _record(
    id: str, group: str, tagged: tuple[Sequence[str], Sequence[str]], kind: str, meta: dict[str, str], ledger: Ledger
) -> Tagged:
    """A record of words and their tags, these as IOB2, what had to be mended counted."""
    tokens, tags = tagged
    ledger.seen += 1
    for what, count in malformed(tags, kind).items():
        for _ in range(count):
            ledger.repair(what, id)
    return Tagged(id, group, tuple(tokens), write_tags(len(tags), read_spans(tags)), meta)


def _tag(where: str, tag: str) -> str:
    try:
        if split_tag(tag)[1].split() not in ([], [tag[2:]]):
            raise ValueError(tag)
    except ValueError:
        raise DataError(
            f"{where}: {tag[:60]!r} is no tag; write O, or B- or I- and a type, such as B-Disease"
        ) from None
    return tag


# --- {text, labels} ----------------------------------------------------------------------------------------------------


def _rows(blob: Blob, unit: str, meta: dict[str, str], ledger: Ledger) -> Iterator[Tagged]:
    """A row is a unit as it stands; `id` names it and `document` what it was taken from, where the row says so."""
    kept: list[tuple[int, Row, list[str], list[str]]] = []
    for number, row in rows(blob, ("text", "labels")):
        kept.append((number, row, *_labels(blob, number, row)))
    kind = scheme(tags for *_, tags in kept)
    for number, row, tokens, tags in kept:
        id, at = text(blob, number, row, "id") if "id" in row else f"{blob.stem}:{number}", 0
        written = text(blob, number, row, "text")
        if not tokens:
            ledger.seen += 1
            ledger.drop("no words", id)
            continue
        for token in tokens:
            at = written.find(token, at) if at >= 0 else -1
            at = at + len(token) if at >= 0 else -1
        if at < 0:
            ledger.repair("the text does not hold the words in their order; the words count", id)
        document = text(blob, number, row, "document") if "document" in row else ""
        more = {"document": document} if document else {}
        held = {"text": written} if at >= 0 else {}
        yield _record(id, document or id, (tokens, tags), kind, {**meta, **more, **held}, ledger)


def _labels(blob: Blob, number: int, row: Row) -> tuple[list[str], list[str]]:
    where = f"{blob.name}: row {number}"
    labels = row["labels"]
    if not isinstance(labels, list) or not all(isinstance(one, dict) and {"word", "entity"} <= set(one) for one in labels):  # fmt: skip
        raise DataError(f'{where}: labels is no list of {{"word": …, "entity": …}}; write one a word')
    words_of = [text(blob, number, one, "word") for one in labels]
    if not all(word.strip() for word in words_of):
        raise DataError(f"{where}: a word is blank; leave it out")
    if any("\n" in word or "\t" in word for word in words_of):
        raise DataError(f"{where}: a word holds a line end or a tab; part it there")
    return words_of, [_tag(where, text(blob, number, one, "entity")) for one in labels]


# --- two columns -------------------------------------------------------------------------------------------------------


def _columns(blob: Blob, unit: str, meta: dict[str, str], ledger: Ledger) -> Iterator[Tagged]:
    """Sentences parted by blank lines, documents by -DOCSTART- lines; without those, blocks of sentences stay together."""
    found = list(_sentences(blob))
    if not found:
        raise DataError(f"{blob.name}: is empty; name a file of lines such as 'aspirin B-Chemical'")
    kind = scheme(tags for _, _, tags in found)
    named = any(document for document, _, _ in found)
    if unit == "document" and not named:
        raise DataError(
            f"{blob.name}: names no documents (no {DOCUMENT} lines); set tag.unit = 'sentence', or read PubTator files"
        )
    if unit == "document":
        found = _joined(found)
    for number, (document, tokens, tags) in enumerate(found, 1):
        group = f"{blob.stem}:{document}" if named else f"{blob.stem}:block {(number - 1) // BLOCK + 1}"
        more = {"document": group} if named else {}
        yield _record(f"{blob.stem}:{number}", group, (tokens, tags), kind, {**meta, **more}, ledger)


def _sentences(blob: Blob) -> Iterator[tuple[str, list[str], list[str]]]:
    """Every sentence with the number of its document, empty where there are none."""
    document = 0
    tokens: list[str] = []
    tags: list[str] = []
    with blob.open() as file:
        for number, line in enumerate(chain(lines(blob, file), [""]), 1):
            # a tab parts the columns before all else: a word may hold an odd blank
            cells = [cell.strip() for cell in line.split("\t")] if "\t" in line.strip() else line.split()
            if not cells or cells[0] == DOCUMENT:
                if tokens:
                    yield str(document or ""), tokens, tags
                    tokens, tags = [], []
                document += bool(cells)
                continue
            if len(cells) != 2 or not cells[0]:
                raise DataError(
                    f"{blob.name}: line {number}: {len(cells)} cells where a word and its tag belong; write two columns"
                )
            tokens.append(cells[0])
            tags.append(_tag(f"{blob.name}: line {number}", cells[1]))


def _joined(found: Sequence[tuple[str, list[str], list[str]]]) -> list[tuple[str, list[str], list[str]]]:
    documents: dict[str, tuple[str, list[str], list[str]]] = {}
    for document, tokens, tags in found:
        _, all_tokens, all_tags = documents.setdefault(document, (document, [], []))
        all_tokens += tokens
        all_tags += tags
    return list(documents.values())


# --- PubTator ----------------------------------------------------------------------------------------------------------


def _pubtator(blob: Blob, unit: str, meta: dict[str, str], ledger: Ledger) -> Iterator[Tagged]:
    """The articles of a file."""
    for article in articles(blob):
        yield from of_article(article, unit, meta, ledger)


def of_article(article: Article, unit: str, meta: dict[str, str], ledger: Ledger) -> Iterator[Tagged]:
    """An article, whole or cut into sentences; what of its mentions the words cannot say is counted."""
    whole = f"{article.title} {article.abstract}"
    cut = len(article.title)
    places = [(0, len(whole))]
    if unit == "sentence":
        places = sentences(article.title)
        places += [(start + cut + 1, end + cut + 1) for start, end in sentences(article.abstract)]
    mentions = _outermost(article, ledger)
    at = [m.start for m in mentions]
    for number, (start, end) in enumerate(places, 1):
        inside = mentions[bisect_left(at, start) : bisect_left(at, end)]
        yield _cut(replace(article, mentions=inside), whole, (start, end), number, meta, ledger)


def _outermost(article: Article, ledger: Ledger) -> list[Mention]:
    """The mentions without those that overlap a longer one, in their order: a word bears one tag."""
    kept: list[Mention] = []
    for mention in sorted(article.mentions, key=lambda m: (m.start - m.end, m.start)):
        at = bisect_left(kept, mention.start, key=lambda m: m.start)
        if any(mention.start < other.end and other.start < mention.end for other in kept[max(0, at - 1) : at + 1]):
            ledger.repair("a mention within another is left out", article.id)
        else:
            kept.insert(at, mention)
    return kept


def _cut(article: Article, whole: str, place: Place, number: int, meta: dict[str, str], ledger: Ledger) -> Tagged:
    """One stretch of an article, with the mentions in it, as words and tags."""
    at = words(whole, *place)
    spans: list[Span] = []
    taken = [False] * len(at)
    for mention in sorted(article.mentions, key=lambda m: (m.start - m.end, m.start)):  # the longest first
        touched = covering(at, mention.start, mention.end)
        if touched is None or mention.end > place[1]:
            ledger.repair("a mention that no one sentence holds is left out", article.id)
            continue
        first, last, exact = touched
        if any(taken[first:last]):
            ledger.repair("a mention that shares a word with another is left out", article.id)
            continue
        if not exact:
            ledger.repair("a mention that ends within a word takes all of it", article.id)
        taken[first:last] = [True] * (last - first)
        spans.append(Span(first, last, mention.type))
    tokens = [whole[a:b] for a, b in at]
    more = {"document": article.id, "text": whole[slice(*place)]}
    tags = write_tags(len(tokens), spans)
    return _record(f"{article.id}:{number}", article.id, (tokens, tags), "IOB2", {**meta, **more}, ledger)


SOURCE = Source(
    name="bio_ner",
    title="Tagged entities (BIO)",
    homepage="https://github.com/cambridgeltl/MTL-Bioinformatics-2016",
    repo=None,
    licence="unknown",
    redistributable="unknown",
    citation="G. Crichton et al., A neural network multi-task learning approach to biomedical named entity recognition, "
    "BMC Bioinformatics 18:368, 2017",
    read=read,
    defects=(
        Defect("the two-column files name no documents, so sentences of one abstract cannot be told from others"),
        Defect("37 sentences outside BC5CDR's official test set stand in it word for word, such as 'A case report.'"),
        Defect("words such as None, NA, null and a lone quotation mark, which table readers take for something else"),
    ),
)
