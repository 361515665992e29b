"""MedMentions: 4,392 PubMed abstracts with their mentions of UMLS concepts, by semantic type; PubTator, parted by lists of articles.

Files by the authors' repository: corpus_pubtator.txt.gz with corpus_pubtator_pmids_trng.txt, _dev.txt and _test.txt, in full or as ST21pv
(21 semantic types). A type is the code that stands in the file, such as T103 for chemicals; of several the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from medrecipes.core.errors import DataError
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import Blob, blobs, lines
from medrecipes.data.sources._parts import part_of
from medrecipes.data.sources._pubtator import Article, articles
from medrecipes.data.sources.bio_ner import of_article

LISTS = "_pmids_"


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """Every article, whole or cut into sentences, in the part that the lists put it into."""
    found = blobs(files.path, (".txt",))
    corpora = [blob for blob in found if LISTS not in blob.inside.name]
    parts = {
        pmid: part for blob in found if blob not in corpora and (part := part_of(blob.inside)) for pmid in _listed(blob)
    }
    if not corpora:
        raise DataError(f"{files.path}: holds no corpus_pubtator.txt; set data.path to the folder of MedMentions")
    for blob in corpora:
        for article in articles(blob):
            part = parts.get(article.id, "")
            if parts and not part:
                raise DataError(f"{blob.name}: article {article.id} stands in none of the lists *{LISTS}*.txt; put all three beside it, or none")  # fmt: skip
            meta = {"official": part} if part in ("dev", "test") else {}
            yield from of_article(_with_one_type(article, ledger), files.unit, meta, ledger)


def _listed(blob: Blob) -> Iterator[str]:
    """The articles of a list."""
    with blob.open() as file:
        yield from (line.strip() for line in lines(blob, file) if line.strip())


def _with_one_type(article: Article, ledger: Ledger) -> Article:
    """The article with the first semantic type of each mention; mentions that have several are counted."""
    several = sum("," in mention.type for mention in article.mentions)
    for _ in range(several):
        ledger.repair("a mention of several semantic types has the first", article.id)
    mentions = [replace(mention, type=mention.type.partition(",")[0]) for mention in article.mentions]
    return replace(article, mentions=mentions)


SOURCE = Source(
    name="medmentions",
    title="MedMentions",
    homepage="https://github.com/chanzuckerberg/MedMentions",
    repo=None,
    licence="CC0-1.0",
    redistributable="yes",
    citation="S. Mohan and D. Li, MedMentions: A Large Biomedical Corpus Annotated with UMLS Concepts, AKBC 2019, arXiv:1902.09476",
    read=read,
    defects=(
        Defect("agreement between annotators was not measured for all of it; a sample of eight articles reached 97.3%"),
        Defect("abstracts are their publishers', whatever licence the annotations have"),
        Defect(
            "the full set has more than a hundred semantic types, many of them for words such as 'patients' and 'study'"
        ),
    ),
)
