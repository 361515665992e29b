"""Nothing crosses a split: checked on every source by code that knows nothing of the splitter's."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from medrecipes.data.leakage import leaks
from medrecipes.data.near_duplicates import near_pairs
from medrecipes.data.records import Conversation
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.split import Split, prepare
from medrecipes.recipe.schema import Columns, Data, Mix, Recipe, SplitRatios
from tests.conftest import ROOT

THRESHOLD = 0.9
SAMPLES = {
    "medquad": "medquad",
    "wikidoc": "wikidoc.json",
    "wikidoc_patient_information": "wikidoc_patient_information.json",
    "healthcaremagic": "healthcaremagic.json",
    "synthetic_qa": "synthetic_qa.jsonl",
    "ner_instruct": "ner_instruct/instruct.jsonl",
    "jsonl": "own_columns.tsv",
}
REAL = {
    "medquad": "medquad/MedQuAD-xml.zip",
    "wikidoc": "wikidoc/medical_meadow_wikidoc.json.gz",
    "wikidoc_patient_information": "wikidoc/medical_meadow_wikidoc_patient_information.json.gz",
    "healthcaremagic": "healthcaremagic/HealthCareMagic-sample-500.json.gz",
    "healthcaremagic synthetic": "healthcaremagic/GenMedGPT-5k.json.gz",
    "ner_instruct": "ner_instruct/both_rel_instruct_all.jsonl.gz",
    "ner_instruct second dialect": "ner_instruct/both_rel_instruct_all.splits_20251111.jsonl.gz",
}


@lru_cache(maxsize=1 << 16)
def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


@lru_cache(maxsize=1 << 15)
def triples(text: str) -> frozenset[tuple[str, ...]]:
    found = words(text)
    return frozenset(zip(found, found[1:], found[2:], strict=False)) or frozenset([tuple(found)])


def alike(held: Iterable[str], train: Iterable[str], threshold: float) -> list[tuple[str, str]]:
    """All held texts with a train text that is as similar as that, by sets of Python strings."""
    index: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    known = [(text, triples(text)) for text in set(train)]
    asked = [(text, triples(text)) for text in set(held)]
    wanted = frozenset().union(*(members for _, members in asked))
    for number, (_, members) in enumerate(known):
        for member in members & wanted:
            index[member].append(number)
    found = []
    for text, mine in asked:
        # a text that shares fewer than this many of its members cannot be alike, so the rarest others will show it
        needed = math.ceil(threshold * len(mine) - 1e-9)
        rarest = sorted(mine, key=lambda member: len(index.get(member, ())))[: len(mine) - needed + 1]
        for number in {n for member in rarest for n in index.get(member, ())}:
            other, theirs = known[number]
            if len(mine & theirs) >= threshold * len(mine | theirs) - 1e-9:
                found.append((text, other))
    return found


def check(made: Split, compared: str) -> None:
    """Nothing that train holds stands in dev or test, dev and test share nothing, nor is anything nearly the same."""
    relations: dict[str, Callable[[Conversation], object]] = {
        "document": lambda row: row.meta.get("document"),
        "article": lambda row: row.meta.get("article"),
        "question": lambda row: tuple(words(row.question)),
        "answer": lambda row: tuple(words(row.answer)),
        "group": lambda row: row.group,
        "id": lambda row: row.id,
    }
    pairs = ((made.dev, made.train), (made.test, made.train), (made.test, made.dev))
    assert made.dev
    assert made.test
    for held, train in pairs:
        for name, value in relations.items():
            shared = {value(row) for row in held} & {value(row) for row in train} - {None}
            assert not shared, (name, list(shared)[:3])
    for held, train in (((*made.dev, *made.test), made.train), (made.test, made.dev)):
        texts = [[getattr(row, compared) for row in rows] for rows in (held, train)]
        assert alike(*texts, THRESHOLD) == []
    for part, counts in made.report["leakage"]["grouped"].items():
        assert counts["rows"] == len(getattr(made, part))
        assert not any(counts[name] for name in ("document", "article", "question", "answer", "near_duplicate"))


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_crosses_the_split_of_a_sample(name: str) -> None:
    columns = Columns(question="frage", answer="antwort", document="leaflet") if name == "jsonl" else Columns()
    data = Data(
        source=name, path=ROOT / "data" / SAMPLES[name], columns=columns, near_duplicate=THRESHOLD,
        split=SplitRatios(train=0.5, dev=0.25, test=0.25),
    )  # fmt: skip
    check(prepare(Recipe(seed=3, data=data)), open_source(name).compared)


@pytest.mark.parametrize("name", REAL)
def test_nothing_crosses_the_split_of_real_data(name: str, real_data: Path, shared: Path) -> None:
    source = name.split()[0]
    with FileLock(shared / f"{source}.lock"):  # one worker splits MedQuAD, for the other test, too
        made = prepare(Recipe(data=Data(source=source, path=real_data / REAL[name], near_duplicate=THRESHOLD)))
    check(made, open_source(source).compared)
    shares = {part: count / sum(made.report["rows"].values()) for part, count in made.report["rows"].items()}
    assert 0.78 <= shares["train"] <= 0.88
    assert shares["dev"] >= 0.05 <= shares["test"]


def test_what_a_split_by_row_leaks_in_medquad(real_data: Path, shared: Path) -> None:
    with FileLock(shared / "medquad.lock"):
        made = prepare(Recipe(data=Data(path=real_data / REAL["medquad"], near_duplicate=THRESHOLD)))
    leak = made.report["leakage"]["by_row"]["test"]
    assert leak["rows"] == 1_640
    assert 0.82 < leak["document"] / leak["rows"] < 0.87
    assert 0.17 < leak["question"] / leak["rows"] < 0.21
    assert 0.04 < leak["answer"] / leak["rows"] < 0.06
    assert leak["near_duplicate"] > leak["answer"]
    assert made.report["groups"]["largest"] < 60
    kept = prepare(Recipe(data=Data(path=real_data / REAL["medquad"])))
    assert kept.report["groups"]["large"] == [2_103]  # repeated answers bind them


def test_the_public_split_of_ner_instruct_leaks_and_ours_does_not(real_data: Path) -> None:
    path = real_data / REAL["ner_instruct second dialect"]
    rows = list(open_source("ner_instruct").read(Files(path), Ledger()))
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(row.group, len(known)) for row in rows], np.int64)
    public = np.array([0] * 2400 + [1] * 300 + [2] * 300, np.int64)  # train, validation and test, as published
    leak = leaks({"article": codes}, np.empty((0, 2), np.int64), public)
    assert (leak["test"]["rows"], leak["test"]["article"]) == (300, 294)
    assert (leak["dev"]["rows"], leak["dev"]["article"]) == (300, 294)
    ours = prepare(Recipe(data=Data(source="ner_instruct", path=path)))
    assert len(known) == 1_000
    assert ours.report["leakage"]["grouped"]["test"]["article"] == 0


def test_bc5cdr_test_articles_stay_test_and_out_of_train(real_data: Path) -> None:
    mix = (
        Mix(source="ner_instruct", path=real_data / REAL["ner_instruct"]),
        Mix(source="ner_instruct", path=real_data / "bc5cdr/CDR_TestSet.PubTator.txt.gz"),
    )
    made = prepare(Recipe(data=Data(mix=mix, near_duplicate=THRESHOLD, split=SplitRatios(train=0.9, dev=0.1, test=0))))
    check(made, "question")
    assert len(made.test) == 1_500
    assert {row.meta["official"] for row in made.test} == {"test"}
    assert made.report["dropped"] == {"shares its answer with the official test set": 178}


def brute(texts: Sequence[str], threshold: float) -> set[tuple[int, int]]:
    sets = [triples(text) for text in texts]
    return {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9
    }


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_near_pairs_are_exactly_those_that_brute_force_finds(threshold: float) -> None:
    chance = np.random.default_rng(7)
    vocabulary = [f"w{n}" for n in range(40)]
    texts = []
    for _ in range(60):
        base = list(chance.choice(vocabulary, int(chance.integers(1, 120))))
        texts.append(" ".join(base))
        for changes in range(1, 5):  # and copies of it with a few words changed
            copy = list(base)
            for at in chance.integers(0, len(copy), changes):
                copy[at] = str(chance.choice(vocabulary))
            texts.append(" ".join(copy))
    texts = list(dict.fromkeys(texts))
    found = {tuple(pair) for pair in near_pairs([text.encode() for text in texts], threshold).tolist()}
    assert found == brute(texts, threshold)
    assert len(found) >= (0 if threshold == 1.0 else 20)
