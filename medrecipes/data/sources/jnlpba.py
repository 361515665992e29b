"""JNLPBA: sentences of GENIA abstracts with proteins, DNA, RNA, cell lines and cell types; two columns, or tokens with numbered tags.

The order of the tags is that of the datasets library's jnlpba. Its training set is 2,000 abstracts of GENIA 3.02, its test set 404 more.
No licence is known. What is on the Hub by that name is a loading script, so data.path is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Tagged
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._token_tags import tagged

TYPES = ("DNA", "RNA", "cell_line", "cell_type", "protein")


def read(files: Files, ledger: Ledger) -> Iterator[Tagged]:
    """Every sentence with its entities."""
    yield from tagged(files, ledger, ("O", *(f"{letter}-{type}" for type in TYPES for letter in "BI")))


SOURCE = Source(
    name="jnlpba",
    title="JNLPBA",
    homepage="http://www.geniaproject.org/shared-tasks/bionlp-jnlpba-shared-task-2004",
    repo=None,
    licence="unknown",
    redistributable="unknown",
    citation="N. Collier et al., Introduction to the Bio-entity Recognition Task at JNLPBA, NLPBA/BioNLP 2004:73-78",
    read=read,
    defects=(
        Defect("abstracts on human blood cells and transcription factors alone"),
        Defect("boundaries of mentions are not the same from annotator to annotator; a revised edition exists"),
        Defect("what the datasets library calls validation is the shared task's test set"),
    ),
)
