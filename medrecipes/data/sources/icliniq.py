"""iCliniq: patients' messages and doctors' replies from a consultation site, with two machines' replies beside them.

Columns by the dataset on the Hub (lavita/ChatDoctor-iCliniq, 7,321 rows): input, answer_icliniq, answer_chatgpt,
answer_chatdoctor. Its card states no licence; the authors of ChatDoctor ask for academic use alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._tables import pairs
from medrecipes.data.sources.healthcaremagic import replies


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with a doctor's reply that no lost word spoils."""
    for id, question, answer, _ in replies(pairs(files, ledger, "input", "answer_icliniq"), ledger):
        yield Conversation.of(id, "", question, answer)


SOURCE = Source(
    name="icliniq",
    title="ChatDoctor-iCliniq",
    homepage="https://github.com/Kent0n-Li/ChatDoctor",
    repo="lavita/ChatDoctor-iCliniq",
    hub_files=("*.parquet", "*.json", "*.jsonl"),
    licence="unknown",
    redistributable="unknown",
    citation="Y. Li et al., ChatDoctor: A Medical Chat Model Fine-Tuned on a Large Language Model Meta-AI (LLaMA) "
    "Using Medical Domain Knowledge, Cureus 15(6):e40895, 2023",
    read=read,
    defects=(
        Defect('"Chat Doctor" stands in greetings: a find-and-replace that may have overwritten other words'),
        Defect("real people's messages: names, e-mail addresses and telephone numbers may occur"),
        Defect("many replies end with 'consult a … online', the remnant of a link"),
    ),
)
