"""NER-instruct: lists of chemicals, diseases and influences in an abstract; from prompts, or from PubTator files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.core.errors import DataError
from medrecipes.core.files import digest
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._files import TABLES, Blob, blobs
from medrecipes.data.sources._pubtator import Article, articles
from medrecipes.data.sources._tables import rows, text

ASK = (
    "The following article contains technical terms including diseases, drugs and chemicals. Create a list only of the "
)
WHAT = {
    "chemicals": "chemicals mentioned.",
    "diseases": "diseases mentioned.",
    "influences": "influences between the chemicals and diseases mentioned.",
}
GAP, CUE = "\n\n", "\n\nList of extracted "
TASK = re.compile(r"(\w+):\s*")
NOTHING = "- none"  # both dialects leave the list empty, which a model could not be taught to write


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """A row an article and task, whichever dialect its relations are written in."""
    tables, texts = blobs(files.path, TABLES), blobs(files.path, (".txt",))
    if bool(tables) == bool(texts):
        raise DataError(
            f"{files.path}: holds {'both' if tables else 'neither'} prompts (.jsonl) and PubTator articles (.txt); "
            "set data.path to one of them"
        )
    for blob in tables:
        for number, row in rows(blob, ("prompt", "completion")):
            yield _row(blob, number, text(blob, number, row, "prompt"), text(blob, number, row, "completion"), ledger)
    for blob in texts:
        for article in articles(blob):
            yield from built(article, "test" if "test" in blob.stem.lower() else "", ledger)


def _row(blob: Blob, number: int, prompt: str, completion: str, ledger: Ledger) -> Conversation:
    ask, _, rest = prompt.partition(GAP)
    article, _, end = rest.rpartition(CUE)
    task = TASK.fullmatch(end)
    if not (ask and article and task and task[1] in WHAT):
        raise DataError(
            f"{blob.name}: row {number}: the prompt is not an instruction, an article and 'List of extracted "
            f"{'|'.join(WHAT)}:', parted by blank lines; correct or delete the row"
        )
    return _record(f"{blob.stem}:{number}", task[1], prompt, article, completion, ledger)


def asked(task: str, text: str) -> str:
    """The published prompt for a text, but for the line end behind its cue."""
    return f"{ASK}{WHAT[task]}\n\n{text}\n\nList of extracted {task}:"


def built(article: Article, official: str, ledger: Ledger) -> Iterator[Conversation]:
    """The three rows of an article, in the published wording."""
    lists = {"chemicals": _named(article, "Chemical"), "diseases": _named(article, "Disease")}
    lists["influences"] = _influences(article, ledger)
    for task, items in lists.items():
        prompt = asked(task, article.abstract)
        answer = "\n".join(f"- {item}" for item in items)
        meta = {"pmid": article.id, **({"official": official} if official else {})}
        yield _record(f"{article.id}:{task}", task, prompt, article.abstract, answer, ledger, **meta)


def _record(id: str, task: str, prompt: str, article: str, answer: str, ledger: Ledger, **meta: str) -> Conversation:
    ledger.seen += 1
    if not answer.strip("- \r\n"):
        ledger.repair("nothing to list, written as '- none'", id)
        answer = NOTHING
    # by its text, not its number: prompts bear no number, and the same article comes from several files
    key = digest(" ".join(article.split()))[:16]
    return Conversation.of(id, key, prompt.rstrip(), answer, task=task, article=key, **meta)


def _named(article: Article, type: str) -> list[str]:
    """Every name of a type in the abstract in order of appearance, the parts of a composite one after it."""
    mentions = [m for m in article.mentions if m.type == type and article.within(m)]
    return list(dict.fromkeys(name for m in mentions for name in (m.text, *m.parts)))


def _influences(article: Article, ledger: Ledger) -> list[str]:
    """Relations by the first name of either side in the abstract: a name that the prompt lacks cannot be asked for."""
    names: dict[str, str] = {}
    for mention in article.mentions:
        if article.within(mention):
            for id, name in mention.names():
                names.setdefault(id, name)
    found = []
    for chemical, disease in article.relations:
        if chemical in names and disease in names:
            found.append(f"Chemical {names[chemical]} influences disease {names[disease]}")
        else:
            ledger.repair("relation left out: a side is named in the title only", f"{article.id}:influences")
    return list(dict.fromkeys(found))


SOURCE = Source(
    name="ner_instruct",
    title="NER-instruct (BC5CDR)",
    homepage="https://github.com/albertoclemente/medical-ner-fine-tuning",
    repo=None,
    licence="unknown",
    redistributable="unknown",
    citation="J. Li et al., BioCreative V CDR task corpus: a resource for chemical disease relation extraction, "
    "Database 2016:baw068, 2016",
    read=read,
    compared="question",
    keeps_layout=True,
    defects=(
        Defect("two dialects of relations: '- Chemical X influences disease Y' and '- X | Y'"),
        Defect("the published split is by row: 294 of 300 test rows have their article in train"),
        Defect("in 134 of 1,000 relation rows a name occurs in the title only, which the prompt lacks"),
        Defect("six rows have nothing to list"),
    ),
)
