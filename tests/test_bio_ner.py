"""Tagged words read from every form, and their split: official parts, documents, repeats, leaks."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, read_spans
from medrecipes.data.leakage import table
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Files, Ledger
from medrecipes.data.sources.bio_ner import SOURCE
from medrecipes.data.tagged_split import TaggedSplit, prepare_tagged
from medrecipes.recipe.load import load
from tests.conftest import ROOT

DATA = ROOT / "data"


def read(path: Path, unit: str = "sentence") -> tuple[list[Tagged], Ledger]:
    ledger = Ledger()
    return list(SOURCE.read(Files(path, unit=unit), ledger)), ledger  # type: ignore[arg-type]


def split(path: Path, *overrides: str) -> TaggedSplit:
    settings = [f"data.path='{path}'", *overrides]
    return prepare_tagged(load(ROOT / "recipes" / "tiny_bio_ner.toml", settings).recipe)


def test_two_columns_in_official_parts() -> None:
    rows, ledger = read(DATA / "bio")
    assert (ledger.seen, dict(ledger.repaired)) == (90, {})
    assert [row.id for row in rows[:2]] == ["devel:1", "devel:2"]  # files in their natural order
    first = next(row for row in rows if row.id == "train:1")
    assert first.tokens == (
        "Aspirin",
        "reduced",
        "the",
        "risk",
        "of",
        "myocardial",
        "infarction",
        "in",
        "men",
        "over",
        "50",
        ".",
    )
    assert read_spans(first.tags) == [Span(0, 1, "Chemical"), Span(5, 7, "Disease")]
    assert (first.group, dict(first.meta)) == ("train:block 1", {})
    assert {row.meta.get("official") for row in rows if row.id.startswith("test")} == {"test"}
    assert {row.meta.get("official") for row in rows if row.id.startswith("devel")} == {"dev"}


def test_a_fresh_split_is_made_from_the_source_whatever_the_store_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDRECIPES_CACHE", str(tmp_path / "store"))
    recipe = load(ROOT / "recipes" / "tiny_bio_ner.toml").recipe
    honest = prepare_tagged(recipe)
    [stored] = (tmp_path / "store").iterdir()
    rows = (stored / "rows.jsonl").read_text()
    assert "Aspirin" in rows
    (stored / "rows.jsonl").write_text(rows.replace("Aspirin", "Heparin"))
    assert prepare_tagged(recipe, fresh=True) == honest
    assert [path.name for path in (tmp_path / "store").iterdir()] == [stored.name]


def test_words_that_other_readers_lose() -> None:
    words = {word for row in read(DATA / "bio")[0] for word in row.tokens}
    assert {'"', "None", "NA", "null"} <= words


def test_rows_of_text_and_labels() -> None:
    rows, ledger = read(DATA / "bio_tagged.json")
    assert (len(rows), ledger.seen, dict(ledger.repaired)) == (30, 30, {})
    assert rows[0].tokens[:4] == ("The", "patient", "took", "Panadol")
    assert read_spans(rows[0].tags) == [Span(3, 4, "Medication"), Span(6, 7, "Symptom")]
    assert rows[0].meta["text"] == "The patient took Panadol for her headache, but it did not help."
    assert rows[0].group == rows[0].id == "bio_tagged:1"


ARTICLE = """1|t|Acute renal failure. A case.
1|a|Gentamicin-induced renal failure vs. sepsis. Five cases of nephrotoxicity.
1	0	19	Acute renal failure	Disease	D1
1	29	39	Gentamicin	Chemical	D2
1	48	61	renal failure	Disease	D1
1	66	72	sepsis	Disease	D3
1	88	97	nephrotox	Disease	D4

2|t|Lithium.
2|a|None.
2	0	7	Lithium	Chemical	D5
2	0	7	Lithium	Disease	D5
"""


def test_articles_by_sentence_and_whole(tmp_path: Path) -> None:
    (tmp_path / "a.PubTator.txt").write_text(ARTICLE)
    rows, ledger = read(tmp_path)
    said = [(row.id, " ".join(row.tokens), [(" ".join(row.tokens[s.start : s.end]), s.type) for s in read_spans(row.tags)]) for row in rows]  # fmt: skip
    assert said == [
        ("1:1", "Acute renal failure .", [("Acute renal failure", "Disease")]),
        ("1:2", "A case .", []),
        ("1:3", "Gentamicin - induced renal failure vs . sepsis .",
         [("Gentamicin", "Chemical"), ("renal failure", "Disease"), ("sepsis", "Disease")]),
        ("1:4", "Five cases of nephrotoxicity .", [("nephrotoxicity", "Disease")]),
        ("2:1", "Lithium .", [("Lithium", "Chemical")]),
        ("2:2", "None .", []),
    ]  # fmt: skip
    assert {(row.group, row.meta["document"]) for row in rows} == {("1", "1"), ("2", "2")}
    assert dict(ledger.repaired) == {
        "a mention that ends within a word takes all of it": 1, "a mention within another is left out": 1,
    }  # fmt: skip
    whole, _ = read(tmp_path, "document")
    assert [(row.id, len(row.tokens), len(read_spans(row.tags))) for row in whole] == [("1:1", 21, 5), ("2:1", 4, 1)]


def test_documents_of_a_two_column_file(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("-DOCSTART- O\n\na O\n\nb B-X\n\n-DOCSTART- O\nc O\n")
    rows, _ = read(tmp_path)
    assert [(row.id, row.group, row.tokens) for row in rows] == [("x:1", "x:1", ("a",)), ("x:2", "x:1", ("b",)), ("x:3", "x:2", ("c",))]  # fmt: skip
    assert [row.tokens for row in read(tmp_path, "document")[0]] == [("a", "b"), ("c",)]


def test_any_white_space_parts_columns_and_all_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes('a \t B-X\r\nb   I-X\r\n"  O\r\n  \r\nx\u00a0y\tO\nc O'.encode())
    rows, _ = read(tmp_path)
    assert [row.tokens for row in rows] == [("a", "b", '"'), ("x\u00a0y", "c")]
    assert rows[0].tags == ("B-X", "I-X", "O")


def test_every_scheme_becomes_iob2_and_what_was_mended_is_counted(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a\tS-X\nb\tB-X\nc\tE-X\n\nd\tI-X\ne\tO\n")
    rows, ledger = read(tmp_path)
    assert [row.tags for row in rows] == [("B-X", "B-X", "I-X"), ("B-X", "O")]
    assert dict(ledger.repaired) == {
        "a tag went on from nothing: a span begins there": 1,
        "a span had no end tag: it ends where the next tag cannot go on": 1,
    }
    assert ledger.examples["a tag went on from nothing: a span begins there"] == ["x:2"]


BAD = [
    ({"x.tsv": "aspirin\n"}, "x.tsv: line 1: 1 cells where a word and its tag belong; write two columns"),
    ({"x.tsv": "a O\nb B-X extra\n"}, "x.tsv: line 2: 3 cells where a word and its tag belong; write two columns"),
    ({"x.tsv": "a Drug\n"}, "x.tsv: line 1: 'Drug' is no tag; write O, or B- or I- and a type, such as B-Disease"),
    ({"x.tsv": "\n\n"}, "x.tsv: is empty; name a file of lines such as 'aspirin B-Chemical'"),
    ({"x.json": '[{"text": "a"}]'}, "x.json: row 1 has no column 'labels', only text; name the right file, or use source = \"jsonl\" with data.columns"),
    ({"x.json": '[{"text": "a", "labels": [{"word": "a"}]}]'}, 'x.json: row 1: labels is no list of {"word": …, "entity": …}; write one a word'),
    ({"x.json": '[{"text": "a", "labels": [{"word": "a", "entity": "Drug"}]}]'}, "x.json: row 1: 'Drug' is no tag; write O, or B- or I- and a type, such as B-Disease"),
    ({"x.json": '[{"text": " ", "labels": [{"word": " ", "entity": "O"}]}]'}, "x.json: row 1: a word is blank; leave it out"),
    ({"x.json": "[]", "y.tsv": "a O\n"}, "{folder}: holds rows of {text, labels} (x.json, …) and two-column files (y.tsv, …); set data.path to files of one kind: rows of {text, labels}, two-column files, PubTator files"),
    ({"x.md": ""}, "{folder}: holds no tagged words; set data.path to files of one kind: rows of {text, labels}, two-column files, PubTator files"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_a_damaged_file_is_one_line(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    path = tmp_path / next(iter(files)) if len(files) == 1 and "x.md" not in files else tmp_path
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).replace(str(tmp_path), "{folder}") == message


def test_documents_cannot_be_made_up(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a O\n")
    with pytest.raises(DataError) as error:
        read(tmp_path / "x.tsv", "document")
    assert str(error.value) == (
        "x.tsv: names no documents (no -DOCSTART- lines); set tag.unit = 'sentence', or read PubTator files"
    )


# --- the split


def test_official_parts_stay_and_what_they_hold_leaves_train(tmp_path: Path) -> None:
    parts = {
        "train.tsv": "a B-X\n\na B-X\n\nb B-X\n\nc B-X\n\nd O\n",
        "devel.tsv": "B O\n\ne O\n\ne O\n",
        "test.tsv": "C B-Y\n\nf O\n\nf O\n\ne O\n",
    }
    for name, content in parts.items():
        (tmp_path / name).write_text(content)
    made = split(tmp_path)
    assert [row.id for row in made.train] == ["train:1", "train:5"]
    assert [row.id for row in made.dev] == ["devel:1"]
    assert [row.id for row in made.test] == ["test:1", "test:2", "test:3", "test:4"]
    assert made.report["dropped"] == {
        "its words stand in the official test set": 3, "exact duplicate": 1, "its words stand in the official dev set": 1,
    }  # fmt: skip
    assert made.labels == ("O", "B-X", "I-X")  # Y is of the test set alone: it cannot be learned
    assert made.report["entities"] == {"train": {"X": 1}, "dev": {}, "test": {"Y": 1}}
    assert made.report["leakage"]["grouped"]["test"] == {
        "rows": 4,
        "document": None,
        "block": 0,
        "sentence": 0,
        "any": 0,
    }


def test_a_document_of_an_official_part_is_not_learned_from(tmp_path: Path) -> None:
    for name, documents in (("train", "abcd"), ("test", "dx")):
        rows = [
            {"id": f"{name} {d}", "document": d, "text": f"{name} {d}", "labels": [{"word": name, "entity": "B-X"}, {"word": d, "entity": "O"}]}
            for d in documents
        ]  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    made = split(tmp_path, "data.split={train=0.5,dev=0.5,test=0.0}")
    assert made.report["dropped"] == {"its document stands in an official part": 1}
    assert [row.id for row in made.test] == ["test d", "test x"]
    assert made.report["leakage"]["grouped"]["test"]["document"] == 0
    assert (made.report["asked"], made.report["got"]["test"]) == ({"train": 0.5, "dev": 0.5, "test": None}, None)


def test_without_official_parts_a_document_stays_together(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "all.PubTator.txt.gz", "wt") as file:
        for number in range(60):
            text = f"{number}|t|Title {number}.\n{number}|a|Drug {number} one. Two {number}. Same.\n"
            file.write(f"{text}{number}\t0\t5\tTitle\tX\tD\n\n")
    made = split(tmp_path, "data.split={train=0.6,dev=0.2,test=0.2}")
    documents = [{row.group for row in part} for part in (made.train, made.dev, made.test)]
    assert all(documents)
    assert not documents[0] & documents[1] | documents[0] & documents[2] | documents[1] & documents[2]
    assert made.report["dropped"] == {"exact duplicate": 59}  # the sentence that all share
    assert made.report["groups"]["are"] == "documents"
    assert made.report["leakage"]["by_row"]["test"]["document"] > 0
    assert made.report["leakage"]["grouped"]["test"]["document"] == 0


def test_the_leakage_table_names_what_tagged_rows_can_share() -> None:
    head, *lines = table(split(DATA / "bio").report["leakage"]).splitlines()
    assert head.split() == ["rows", "shared", "with", "train", "rows", "document", "block", "sentence"]
    assert lines[0].split() == ["grouped", "(used):", "dev", "15", "-", "0", "0"]


def test_a_limit_leaves_official_parts_whole() -> None:
    made = split(DATA / "bio", "data.limit=20")
    assert [len(part) for part in (made.train, made.dev, made.test)] == [20, 15, 15]
    assert made.report["dropped"] == {"over data.limit": 40}


def test_conversations_are_no_tagged_words() -> None:
    with pytest.raises(DataError) as error:
        split(DATA / "medquad", "data.source=medquad")
    assert (
        str(error.value) == "medquad: yields conversations, which a tag recipe cannot use; set data.source = 'bio_ner'"
    )


# --- the real files


def folder_of(tmp_path: Path, files: list[Path]) -> Path:
    for file in files:
        shutil.copy(file, tmp_path / file.name)
    return tmp_path


def test_real_bc5cdr_in_both_forms_holds_the_same_entities(real_data: Path, tmp_path: Path) -> None:
    counts = {}
    for form in ("*.tsv", "*.txt.gz"):
        (tmp_path / form[2:]).mkdir()
        made = split(folder_of(tmp_path / form[2:], sorted((real_data / "bc5cdr").glob(form))))
        counts[form] = made.report["entities"]
        assert made.report["official"] == ["dev", "test"]
        assert made.report["leakage"]["grouped"]["test"]["sentence"] == 0
        assert made.report["dropped"] == {"its words stand in the official test set": 37}
    assert counts["*.tsv"] == {
        "train": {"Chemical": 5203, "Disease": 4182}, "dev": {"Chemical": 5347, "Disease": 4246},
        "test": {"Chemical": 5385, "Disease": 4424},
    }  # fmt: skip
    # two mentions of the development set are marked in the TSV alone
    assert counts["*.txt.gz"] == {**counts["*.tsv"], "dev": {"Chemical": 5347, "Disease": 4244}}


def test_real_ncbi_disease(real_data: Path, tmp_path: Path) -> None:
    made = split(folder_of(tmp_path, sorted((real_data / "ncbi_disease").glob("*.tsv"))))
    assert [len(part) for part in (made.train, made.dev, made.test)] == [5395, 922, 940]
    assert made.labels == ("O", "B-Disease", "I-Disease")
    assert json.dumps(made.report["entities"]["test"]) == '{"Disease": 960}'
