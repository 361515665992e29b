"""HealthCareMagic-100k: patients' messages and doctors' replies from a consultation site."""

from __future__ import annotations

import re
from collections.abc import Iterator

from medrecipes.data.records import Conversation
from medrecipes.data.sources import Defect, Files, Ledger, Source
from medrecipes.data.sources._tables import Pair, pairs

NAME = r"chat ?doctor"
ARTEFACT = re.compile(NAME, re.IGNORECASE)
# where the publisher's find-and-replace put the name for the site, for the doctor, or for a signature, the sentence can
# be mended; everywhere else it stands on words that are lost ("static qua Chat Doctor.", "Blood Chat Doctor testing")
SITE = re.compile(
    rf"(\bwelcome(?: back)?(?: to| at| in)?(?: the| our)?"
    rf"|\b(?:thanks?|thank you|consult\w*|questions?|query|queries|concerns?|contact\w*|post\w*|ask\w*|using|choos\w*|"
    rf"trust\w*|writ\w*|visit\w*|seek\w* \w+|available|help|opinion|advice|doubts?|problems?|discussion)"
    rf"(?: \w+){{0,3}}? (?:for|from|in|on|at|to|with|of|by|through|via)(?: the)?"
    rf"|\b(?:using|choosing|consulting|contacting|trusting|visiting|asking|posting|joining)(?: the)?) {NAME}(?: forum\b)?",
    re.IGNORECASE,
)
DOCTOR = re.compile(rf"\b(i am|i'm|this is|myself) (?:dr\.? )?{NAME}\b", re.IGNORECASE)
# a run of blanks is tried from its beginning alone, or a long one would take for ever
LINK = re.compile(rf"(?<!\s)\s*(?:\b(?:at|on|by|via|through|to|in|from)\s+)?\bbit\.ly/\s*{NAME}", re.IGNORECASE)
CLOSING = (
    r"regards?|wishes|care|thanks|thank you|sincerely|luck|health|healthy|soon|recovery|day|ahead|query|further|"
    r"you|helps?|helped|helpful|jay in|life|welcome|cheers|bless|god|faithfully|future"
)
# at a sentence's start and followed by nothing but a full stop, or right after a closing word at the very end
SIGNATURE = re.compile(
    rf"(?:(?<=[.!?])\s*|\b(?P<close>{CLOSING})[\s,.!]*)(?:dr\.? )?{NAME}[\s.,]*(?:MD\b[\s.]*)?$", re.IGNORECASE
)

SIGNATURES = 10  # at most so many, one after the other; a text with more of them is no answer


def mend(answer: str) -> str:
    """An answer with the artefact taken out wherever no word was lost, e.g. `Welcome to our service.`"""
    answer = LINK.sub("", answer)
    answer = SITE.sub(lambda m: _service(m[1]) + _apart(answer, m.end()), answer)
    answer = DOCTOR.sub(r"\1 a doctor", answer)
    for _ in range(SIGNATURES):
        shorter = SIGNATURE.sub(lambda m: f"{m['close']}." if m["close"] else "", answer).rstrip()
        if shorter == answer.rstrip():
            break
        answer = shorter
    return answer


def _service(before: str) -> str:
    """The words before the name, and what stands for it."""
    before = re.sub(r" (?:the|our)$", "", before, flags=re.IGNORECASE)
    return f"{before}{' to' if re.search(r'(?:welcome|back)$', before, re.IGNORECASE) else ''} our service"


def _apart(answer: str, at: int) -> str:
    """The full stop that the replacement swallowed where the next sentence follows without a blank."""
    return ". " if answer[at : at + 1].isalpha() else ""


def read(files: Files, ledger: Ledger) -> Iterator[Conversation]:
    """Every row with an answer that no lost word spoils."""
    for id, question, answer, instruction in replies(pairs(files, ledger, "input", "output", "instruction"), ledger):
        yield Conversation.of(id, "", question, answer, instruction=instruction)


def replies(found: Iterator[Pair], ledger: Ledger) -> Iterator[Pair]:
    """The rows of ChatDoctor's data with their answers mended, where no lost word spoils them."""
    for pair in found:
        mended = mend(pair.answer) if ARTEFACT.search(pair.answer) else pair.answer
        if ARTEFACT.search(mended):
            ledger.drop('"Chat Doctor" over lost words', pair.id)
            continue
        if mended != pair.answer:
            ledger.repair('"Chat Doctor" taken out', pair.id)
        yield pair._replace(answer=mended)


SOURCE = Source(
    name="healthcaremagic",
    title="HealthCareMagic-100k",
    homepage="https://github.com/Kent0n-Li/ChatDoctor",
    repo="lavita/ChatDoctor-HealthCareMagic-100k",
    hub_files=("*.parquet", "*.json", "*.jsonl"),
    licence="unknown",
    redistributable="unknown",
    citation="Y. Li et al., ChatDoctor: A Medical Chat Model Fine-Tuned on a Large Language Model Meta-AI (LLaMA) "
    "Using Medical Domain Knowledge, Cureus 15(6):e40895, 2023",
    read=read,
    defects=(
        Defect('"Chat Doctor" stands in about 60% of answers: a find-and-replace that also overwrote real words'),
        Defect("real people's messages: names, e-mail addresses and telephone numbers occur"),
        Defect("replies were corrected by machine, which changed drug names"),
    ),
)
