"""DrugProt: 4,250 PubMed abstracts with mentions of chemicals and genes, as tables of abstracts and of entities.

Files by the corpus on Zenodo (5119892): drugprot_training_abstracs.tsv (the publisher's own spelling) with article, title and abstract,
drugprot_training_entities.tsv with article, number, type, start, end and text, and the same for development; offsets count the title,
a blank and the abstract. The background set's mentions are a machine's, and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.core.errors import DataError
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import Blob, blobs, lines
from medrecipes.data.sources._parts import part_of
from medrecipes.data.sources._pubtator import Article, Mention
from medrecipes.data.sources.bio_ner import of_article

TEXTS, ENTITIES = ("abstracs", "abstracts"), "entities"


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """Every article of the training and development sets, whole or cut into sentences; development is the official dev set."""
    found = [blob for blob in blobs(files.path, (".tsv",)) if part_of(blob.inside) in ("train", "dev")]
    texts = [blob for blob in found if blob.inside.stem.endswith(TEXTS)]
    if not texts:
        raise DataError(
            f"{files.path}: holds no drugprot_training_abstracs.tsv; set data.path to the folder of DrugProt"
        )
    for blob in texts:
        part = part_of(blob.inside)
        beside = [other for other in found if other.inside.stem.endswith(ENTITIES) and part_of(other.inside) == part]
        if len(beside) != 1:
            raise DataError(f"{blob.name}: {len(beside)} tables of entities lie beside it where one belongs; put drugprot_…_entities.tsv there")  # fmt: skip
        known = {article.id: article for article in _articles(blob)}
        _mark(beside[0], known)
        for article in known.values():
            yield from of_article(article, files.unit, {"official": "dev"} if part == "dev" else {}, ledger)


def _cells(blob: Blob, count: int) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that has no header and no quotes."""
    with blob.open() as file:
        for number, line in enumerate(lines(blob, file), 1):
            cells = line.rstrip("\r\n").split("\t")
            if len(cells) != count:
                raise DataError(
                    f"{blob.name}: line {number}: {len(cells)} cells where {count} belong; fetch the file again"
                )
            yield number, cells


def _articles(blob: Blob) -> Iterator[Article]:
    for _, (id, title, abstract) in _cells(blob, 3):
        yield Article(id, title, abstract)


def _mark(blob: Blob, known: dict[str, Article]) -> None:
    """Put the mentions of a table into their articles."""
    for number, (id, _, type, start, end, text) in _cells(blob, 6):
        if id not in known:
            raise DataError(
                f"{blob.name}: line {number}: article {id[:40]!r} is not among the abstracts; fetch both files again"
            )
        article = known[id]
        at = (int(start), int(end)) if start.isdecimal() and end.isdecimal() and len(start + end) <= 24 else (0, 0)
        if f"{article.title} {article.abstract}"[slice(*at)] != text or not type.strip():
            raise DataError(f"{blob.name}: line {number}: the offsets {start[:12]} to {end[:12]} do not hold {text[:60]!r}; fetch both files again")  # fmt: skip
        article.mentions.append(Mention(*at, text, type, ()))


SOURCE = Source(
    name="drugprot",
    title="DrugProt",
    homepage="https://biocreative.bioinformatics.udel.edu/tasks/biocreative-vii/track-1/",
    repo=None,
    licence="CC-BY-4.0",
    redistributable="yes",
    citation="A. Miranda et al., Overview of DrugProt BioCreative VII track: quality evaluation and large scale text mining of "
    "drug-gene/protein relations, BioCreative VII 2021",
    read=read,
    defects=(
        Defect("there is no test set whose mentions are published: tests are drawn from the training set, by article"),
        Defect("genes are parted into GENE-Y and GENE-N, those that could be normalised and those that could not"),
        Defect("relations are not read"),
    ),
)
