"""A second opinion on numbers by Microsoft Presidio, where it is installed (`pii` among the extras): its patterns and its context words.

Its names of people are left out: they are a spaCy model's, and the small English one takes words such as `Myopathy` for
names in almost every second row of MedQuAD. So no model is needed, and none is fetched.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

from medrecipes.release.personal_data import Finding, find
from medrecipes.release.personal_data.numbers import is_toll_free, zones

PACKAGE = "presidio-analyzer"
CONTEXT = 100, 60  # how much before and behind digits it is shown
SURE = 0.5  # a shape alone has less; with a check digit or a word of its kind beside it, more
KINDS = {
    "PHONE_NUMBER": "telephone", "CREDIT_CARD": "record number", "IBAN_CODE": "record number", "US_SSN": "record number",
    "US_ITIN": "record number", "US_PASSPORT": "record number", "US_BANK_NUMBER": "record number", "UK_NHS": "record number",
    "US_DRIVER_LICENSE": "licence number", "MEDICAL_LICENSE": "licence number",
    "UK_NINO": "record number", "ES_NIF": "record number", "ES_NIE": "record number", "IT_FISCAL_CODE": "record number", "IT_PASSPORT": "record number",
    "IT_IDENTITY_CARD": "record number", "IN_PAN": "record number", "IN_AADHAAR": "record number", "IN_VEHICLE_REGISTRATION": "vehicle",
    "IN_PASSPORT": "record number", "IN_VOTER": "record number",
}  # fmt: skip
ABROAD = (
    "UkNinoRecognizer", "EsNifRecognizer", "EsNieRecognizer", "ItFiscalCodeRecognizer", "ItPassportRecognizer", "ItIdentityCardRecognizer",
    "InPanRecognizer", "InAadhaarRecognizer", "InVehicleRegistrationRecognizer", "InPassportRecognizer", "InVoterRecognizer",
)  # fmt: skip


def detectors() -> str:
    """Who looks, in words, e.g. `looked: medrecipes' rules and Presidio 2.2.366 (patterns)`."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        return f"looked: medrecipes' rules; {PACKAGE} is not installed, so there is no second opinion"
    return f"looked: medrecipes' rules and Presidio {importlib.metadata.version(PACKAGE)} (patterns)"


def look(text: str) -> Iterator[Finding]:
    """What the rules find, and behind it what Presidio finds elsewhere."""
    told: set[int] = set()
    for finding in find(text):
        told.update(range(finding.start, finding.start + len(finding.text)))
        yield finding
    if importlib.util.find_spec("presidio_analyzer") is None:
        return
    for start, end in zones(text, CONTEXT):  # it is slow, and most texts have few digits
        for result in _analyzer().analyze(text[start:end], language="en", entities=list(KINDS), score_threshold=SURE):
            place = range(start + result.start, start + result.end)
            piece = text[place.start : place.stop]
            if told.isdisjoint(place) and not is_toll_free(piece):
                told.update(place)
                yield Finding(KINDS[result.entity_type], piece, place.start)


@cache
def _analyzer() -> Any:
    """Presidio with its patterns, over words that a blank spaCy pipeline cuts."""
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry, predefined_recognizers
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it tells of every recognizer that it leaves out
    words = spacy.blank("en")
    spacy.Language.component("written_as_lemma", func=_written_as_lemma)
    words.add_pipe("written_as_lemma")
    engine = SpacyNlpEngine()
    engine.nlp = {"en": words}
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"])
    for name in ("EmailRecognizer", "UrlRecognizer"):  # both ask the net for a list of domains
        registry.remove_recognizer(name)
    for name in ABROAD:
        if recognizer := getattr(predefined_recognizers, name, None):
            registry.add_recognizer(recognizer(supported_language="en"))
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def _written_as_lemma(doc: Any) -> Any:
    """Every word is its own lemma: context words are compared by lemmas, and without a model there are none."""
    for token in doc:
        token.lemma_ = token.lower_
    return doc
