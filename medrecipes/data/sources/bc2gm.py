"""BC2GM: 20,000 sentences of MEDLINE with mentions of genes; tokens with numbered tags on the Hub, or two columns.

Columns, files and splits by the dataset's card on the Hub (spyysalo/bc2gm_corpus): bc2gm_corpus/train, validation and test with 12,500,
2,500 and 5,000 sentences; the card calls the licence unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Tagged
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._token_tags import tagged


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """Every sentence with its genes."""
    yield from tagged(files, ledger, ("O", "B-GENE", "I-GENE"))


SOURCE = Source(
    name="bc2gm",
    title="BC2GM",
    homepage="https://github.com/spyysalo/bc2gm-corpus",
    repo="spyysalo/bc2gm_corpus",
    hub_files=("bc2gm_corpus/*.parquet",),
    licence="unknown",
    redistributable="unknown",
    citation="L. Smith et al., Overview of BioCreative II gene mention recognition, Genome Biology 9(Suppl 2):S2, 2008",
    read=read,
    defects=(
        Defect("sentences stand alone: which are of one abstract is not known"),
        Defect("of mentions with several accepted boundaries one is kept"),
    ),
)
