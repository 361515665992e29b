"""NCBI-disease: 793 PubMed abstracts with their mentions of diseases; PubTator files, two columns, or tokens with numbered tags.

The corpus is published as NCBItrainset_corpus.txt, NCBIdevelopset_corpus.txt and NCBItestset_corpus.txt, and as two columns by
MTL-Bioinformatics-2016. The repository on the Hub (ncbi/ncbi_disease) holds a loading script and no data, so data.path is
needed; its card calls the licence unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Tagged
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._token_tags import tagged


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """Every sentence or document with its diseases."""
    yield from tagged(files, ledger, ("O", "B-Disease", "I-Disease"))


SOURCE = Source(
    name="ncbi_disease",
    title="NCBI-disease",
    homepage="https://www.ncbi.nlm.nih.gov/CBBresearch/Dogan/DISEASE/",
    repo=None,
    licence="unknown",
    redistributable="unknown",
    citation="R. I. Dogan, R. Leaman and Z. Lu, NCBI disease corpus: a resource for disease name recognition and concept "
    "normalization, Journal of Biomedical Informatics 47:1-10, 2014",
    read=read,
    defects=(
        Defect(
            "the PubTator files tell SpecificDisease, DiseaseClass, Modifier and CompositeMention apart, the others say Disease"
        ),
        Defect("one abstract stands twice in the training set"),
        Defect("the two-column files name no documents, so sentences of one abstract cannot be told from others"),
    ),
)
