"""Every source, in each form that its publisher ships: the samples in literals, the real files by their known counts."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.records import Conversation, Message, Tagged
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.sources._files import blobs
from medrecipes.data.sources._pubtator import articles
from medrecipes.data.sources.healthcaremagic import mend
from medrecipes.recipe.schema import Columns, source_names
from tests.conftest import ROOT

DATA = ROOT / "data"
SAMPLES = {
    "medquad": ("medquad", 327),
    "medquad:csv": ("medquad.csv", 327),
    "medquad:hub": ("medquad_hub", 77),
    "medquad:awkward": ("medquad_awkward", 29),
    "wikidoc": ("wikidoc.json", 38),
    "wikidoc_patient_information": ("wikidoc_patient_information.json", 30),
    "healthcaremagic": ("healthcaremagic.json", 50),
    "synthetic_qa": ("synthetic_qa.jsonl", 30),
    "ner_instruct": ("ner_instruct/instruct.jsonl", 36),
    "ner_instruct:second dialect": ("ner_instruct/instruct_dialect2.jsonl", 36),
    "ner_instruct:built": ("ner_instruct/articles.PubTator.txt", 36),
    "jsonl": ("own_conversations.jsonl", 30),
    "bio_ner": ("bio", 90),
    "bio_ner:text and labels": ("bio_tagged.json", 30),
}
# a new source needs no line here: the file or folder of data/ that bears its name is its sample
NEW = {name: [p.name for p in sorted(DATA.glob(f"{name}*"))] for name in source_names() if name not in SAMPLES}


def read(name: str, path: Path, columns: Columns | None = None) -> tuple[list[Conversation], Ledger]:
    ledger = Ledger()
    files = Files(path, columns or Columns())
    rows = list(open_source(name.partition(":")[0]).read(files, ledger))
    assert {type(row) for row in rows} in ({Tagged}, {Conversation})
    return rows, ledger  # type: ignore[return-value]


def test_every_source_has_a_sample_and_says_what_it_is() -> None:
    assert {name.partition(":")[0] for name in SAMPLES} | set(NEW) == set(source_names())
    for name in source_names():
        source = open_source(name)
        assert source.name == name
        assert all((source.title, source.homepage, source.licence))
        assert source.redistributable in ("yes", "no", "unknown")
        assert source.citation or name == "jsonl"
        assert source.defects or name == "jsonl"


@pytest.mark.parametrize("name", NEW)
def test_a_new_source_reads_the_sample_of_its_name(name: str) -> None:
    assert NEW[name], f"data/ holds no {name}.*"
    rows, ledger = read(name, DATA / NEW[name][0])
    assert len({row.id for row in rows}) == len(rows) >= 12
    assert ledger.seen == len(rows) + sum(ledger.dropped.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_yields_its_rows_and_accounts_for_the_others(name: str) -> None:
    path, count = SAMPLES[name]
    rows, ledger = read(name, DATA / path)
    assert len(rows) == count >= 24
    assert ledger.seen == count + sum(ledger.dropped.values())
    assert len({row.id for row in rows}) == count


def test_the_forms_of_medquad_agree() -> None:
    xml, csv, hub = (read(name, DATA / SAMPLES[name][0])[0] for name in ("medquad", "medquad:csv", "medquad:hub"))
    pairs = {(row.question.strip(), row.answer.strip()) for row in xml}
    assert pairs == {(row.question.strip(), row.answer.strip()) for row in csv}
    assert {(row.question, row.answer) for row in hub} <= pairs
    assert (xml[0].id, xml[0].group) == ("1_CancerGov_QA/0000001#1", "1_CancerGov_QA/0000001")
    assert xml[0].meta == {"qtype": "information", "collection": "CancerGov", "focus": "Breast Cancer"}
    assert (csv[0].id, csv[0].group) == ("medquad:2", "CancerGov/Breast Cancer")
    assert hub[0].group == "CancerGov/0000001"
    assert hub[0].meta["qtype"] == "information"
    assert len({row.group for row in xml}) == len({row.group for row in csv}) == 64


def test_medquads_odd_schemas_are_read_too() -> None:
    rows, ledger = read("medquad", DATA / "medquad_awkward")
    by_document = Counter(row.group for row in rows)
    assert by_document["6_NINDS_QA/0000001"] == 4  # <doc> with <pair>
    assert by_document["9_CDC_QA/0000001"] == 3  # <DiseaseFile>
    assert ledger.dropped == {"empty answer": 4}
    assert ledger.examples["empty answer"][0] == "2_GARD_QA/0000001#1"


def test_zip_gzip_and_folder_give_the_same_rows(tmp_path: Path) -> None:
    expected, _ = read("medquad", DATA / "medquad")
    with zipfile.ZipFile(tmp_path / "medquad.zip", "w") as archive:
        archive.writestr("readme.txt", "not data")
        for file in sorted((DATA / "medquad").rglob("*.xml")):
            archive.write(file, f"MedQuAD-master/{file.relative_to(DATA / 'medquad')}")
    assert read("medquad", tmp_path / "medquad.zip")[0] == expected
    (tmp_path / "synthetic_qa.jsonl.gz").write_bytes(gzip.compress((DATA / "synthetic_qa.jsonl").read_bytes()))
    assert read("synthetic_qa", tmp_path / "synthetic_qa.jsonl.gz")[0] == read(
        "synthetic_qa", DATA / "synthetic_qa.jsonl"
    )[0]  # fmt: skip


def test_files_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("10_ADAM/1.xml", "2_GARD/10.xml", "2_GARD/9.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("<Document/>")
    assert [str(blob.inside) for blob in blobs(tmp_path, (".xml",))] == [
        "2_GARD/9.xml",
        "2_GARD/10.xml",
        "10_ADAM/1.xml",
    ]


def test_two_forms_of_the_same_rows_in_one_folder_are_refused(tmp_path: Path) -> None:
    shutil.copytree(DATA / "medquad", tmp_path / "both")
    shutil.copy(DATA / "medquad.csv", tmp_path / "both")
    with pytest.raises(DataError, match=r"holds XML files and tables \(both/medquad.csv\) of the same rows"):
        read("medquad", tmp_path / "both")


@pytest.mark.parametrize(
    ("answer", "mended"),
    [
        ("Hello, Welcome to Chat Doctor. Drink more.", "Hello, Welcome to our service. Drink more."),
        ("Welcome to the ChatDoctorSince your son", "Welcome to our service. Since your son"),
        ("Thanks for your question on Chat Doctor. I see.", "Thanks for your question on our service. I see."),
        ("Hi. I am Chat Doctor answering you.", "Hi. I am a doctor answering you."),
        ("Rest well. Regards Chat Doctor.", "Rest well. Regards."),
        ("Get well soon. Chat Doctor.", "Get well soon."),
        ("Ask me at bit.ly/ Chat Doctor. Thank you.", "Ask me. Thank you."),
    ],
)
def test_the_chat_doctor_artefact_is_taken_out_where_no_word_is_lost(answer: str, mended: str) -> None:
    assert mend(answer) == mended


@pytest.mark.parametrize(
    "answer", ["Blood Chat Doctor testing can be done.", "It is known to cause Chat Doctor.  Rest."]
)
def test_the_chat_doctor_artefact_over_lost_words_stays_to_be_dropped(answer: str) -> None:
    assert "Chat Doctor" in mend(answer)


def test_no_artefact_is_left_in_healthcaremagic() -> None:
    rows, ledger = read("healthcaremagic", DATA / "healthcaremagic.json")
    assert not [
        row.id for row in rows if "doctor" in row.answer.lower().replace(" ", "") and "chat" in row.answer.lower()
    ]
    assert ledger.dropped == {'"Chat Doctor" over lost words': 10}
    assert ledger.repaired == {'"Chat Doctor" taken out': 20}


def test_ner_rows_know_their_article_and_task() -> None:
    first, _ = read("ner_instruct", DATA / "ner_instruct/instruct.jsonl")
    second, _ = read("ner_instruct", DATA / "ner_instruct/instruct_dialect2.jsonl")
    built, _ = read("ner_instruct", DATA / "ner_instruct/articles.PubTator.txt")
    assert Counter(row.meta["task"] for row in first) == {"chemicals": 12, "diseases": 12, "influences": 12}
    assert {row.group for row in first} == {row.group for row in second} == {row.group for row in built}
    assert {row.question for row in first} == {row.question for row in built}
    assert first[0].question.endswith("\n\nList of extracted chemicals:")
    dialects = [
        next(r.answer for r in rows if r.meta["task"] == "influences").splitlines()[0] for rows in (first, second)
    ]
    assert dialects[0].startswith("- Chemical ")
    assert " influences disease " in dialects[0]
    assert " | " in dialects[1]


def test_nothing_to_list_is_said_in_one_way() -> None:
    for path in ("instruct.jsonl", "instruct_dialect2.jsonl"):
        rows, ledger = read("ner_instruct", DATA / "ner_instruct" / path)
        assert [row.answer for row in rows].count("- none") == 2
        assert ledger.repaired == {"nothing to list, written as '- none'": 2}


def test_own_data_by_columns_and_as_conversations() -> None:
    columns = Columns(question="frage", answer="antwort", document="leaflet", type="kind")
    rows, _ = read("jsonl", DATA / "own_columns.tsv", columns)
    assert rows[0].id == "own_columns:2"
    assert (rows[0].group, rows[0].question, rows[0].meta) == ("Breast Cancer", "What is Breast Cancer?", {"qtype": "information"})  # fmt: skip
    talks, _ = read("jsonl", DATA / "own_conversations.jsonl")
    assert [m.role for m in talks[0].messages] == ["system", "user", "assistant", "user", "assistant"]
    assert talks[1].messages[0] == Message("user", "How does aspirin prevent heart attacks?")


def test_conversations_by_the_names_of_sharegpt_are_read(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "What is gout?"}, {"from": "gpt", "value": "A disease."}]  # fmt: skip
    (tmp_path / "own.jsonl").write_text(json.dumps({"conversations": turns}) + "\n")
    [row], _ = read("jsonl", tmp_path / "own.jsonl")
    assert row.messages == (Message("system", "Be brief."), Message("user", "What is gout?"), Message("assistant", "A disease."))  # fmt: skip


def test_a_file_called_test_is_the_test_set_where_it_lies_among_others(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001", "test-00000-of-00001", "testimony"):
        (tmp_path / f"{name}.csv").write_text("q,a\nWhat is gout?,A disease.\n")
    (tmp_path / "dataset_infos.json").write_text('{"default": {}}')
    columns = Columns(question="q", answer="a")
    rows, _ = read("jsonl", tmp_path, columns)
    assert {row.id: row.meta for row in rows} == {
        "train-00000-of-00001:2": {}, "test-00000-of-00001:2": {"official": "test"}, "testimony:2": {},
    }  # fmt: skip
    [alone], _ = read("jsonl", tmp_path / "test-00000-of-00001.csv", columns)
    assert alone.meta == {}


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "tsv", "parquet"])
def test_own_data_in_every_format(suffix: str, tmp_path: Path) -> None:
    import csv

    import pyarrow
    import pyarrow.parquet

    rows = [{"q": f"Question {n}, café?", "a": f'Line one\nline "two"\tof {n}'} for n in range(3)]
    path = tmp_path / f"own.{suffix}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif suffix in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["q", "a"], delimiter="," if suffix == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text(json.dumps(rows) if suffix == "json" else "\n\n".join(map(json.dumps, rows)))
    found, _ = read("jsonl", path, Columns(question="q", answer="a"))
    assert [(row.question, row.answer) for row in found] == [(row["q"], row["a"]) for row in rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("own.csv", 'q;a\n"What is gout; and why?";A, B\n'),
        ("own.tsv", '"q","a"\n"What is gout; and why?","A, B"\n'),
        ("own.csv", "q\ta\nWhat is gout; and why?\tA, B\n"),
        ("own.csv", '"q","a"\n"What is gout; and why?","A, B"\n'),
    ],
)
def test_columns_kept_apart_by_another_mark_than_the_ending_says_are_read(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    [row], _ = read("jsonl", tmp_path / name, Columns(question="q", answer="a"))
    assert (row.question, row.answer) == ("What is gout; and why?", "A, B")


def test_alpacas_input_goes_behind_the_question_where_there_is_one(tmp_path: Path) -> None:
    lines = [{"instruction": "Explain.", "input": "Gout", "output": "A disease.", "page": 7}, {"instruction": "Why?", "input": "", "output": "So.", "page": 7}]  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(lines))
    columns = Columns(question="instruction", answer="output", context="input", document="page")
    rows, _ = read("jsonl", tmp_path / "own.json", columns)
    assert [(row.question, row.answer, row.group) for row in rows] == [
        ("Explain.\n\nGout", "A disease.", "7"), ("Why?", "So.", "7"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"data\.columns\.context goes behind a question"):
        read("jsonl", tmp_path / "own.json", Columns(context="input"))


def test_an_excel_sheet_is_read_as_the_csv_of_it(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "own.xlsx"
    book = openpyxl.Workbook()
    book.create_sheet("empty")
    for row in (("q", "a", "page"), ("What is gout?", "A disease.", 5.0), (), ("How many bones?", 206, None)):
        book.worksheets[0].append(row)
    book.save(path)
    columns = Columns(question="q", answer="a", document="page")
    rows, _ = read("jsonl", path, columns)
    assert [(row.id, row.question, row.answer, row.group) for row in rows] == [
        ("own:2", "What is gout?", "A disease.", "5"), ("own:4", "How many bones?", "206", ""),
    ]  # fmt: skip
    book.worksheets[1].append(("q", "a"))
    book.save(path)
    with pytest.raises(DataError, match=r"own.xlsx: has rows on 2 sheets \(Sheet, empty\); keep the one that is meant"):
        read("jsonl", path, columns)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"own.xlsx: the archive is damaged"):
        read("jsonl", path, columns)


def test_without_openpyxl_an_excel_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "own.xlsx").write_bytes(b"PK")
    with pytest.raises(
        DataError, match=r"own.xlsx: is an Excel file, which openpyxl reads; pip install openpyxl, or save"
    ):
        read("jsonl", tmp_path / "own.xlsx", Columns(question="q", answer="a"))


# What follows is about the real files.


def test_real_medquad(real_data: Path) -> None:
    rows, ledger = read("medquad", real_data / "medquad/MedQuAD-xml.zip")
    assert ledger.seen == 47_457
    assert len(rows) == 16_423
    assert len({row.group for row in rows}) == 5_490
    assert ledger.dropped == {"empty answer": 31_034}
    csv, _ = read("medquad", real_data / "medquad/medquad.csv.gz")
    assert len(csv) == 16_423
    assert sorted((r.question, r.answer) for r in csv) == sorted((r.question, r.answer) for r in rows)


def test_real_wikidoc_and_healthcaremagic(real_data: Path) -> None:
    for name, path, count in (
        ("wikidoc", "wikidoc/medical_meadow_wikidoc.json.gz", 1_000),
        ("wikidoc_patient_information", "wikidoc/medical_meadow_wikidoc_patient_information.json.gz", 5_942),
        ("healthcaremagic", "healthcaremagic/GenMedGPT-5k.json.gz", 5_452),
        ("healthcaremagic", "healthcaremagic/HealthCareMagic-sample-500.json.gz", 500),
    ):
        rows, ledger = read(name, real_data / path)
        assert ledger.seen == count == len(rows) + sum(ledger.dropped.values())
    assert ledger.repaired['"Chat Doctor" taken out'] + ledger.dropped['"Chat Doctor" over lost words'] == 299


def test_real_ner_instruct(real_data: Path) -> None:
    for path in ("both_rel_instruct_all.jsonl.gz", "both_rel_instruct_all.splits_20251111.jsonl.gz"):
        rows, ledger = read("ner_instruct", real_data / "ner_instruct" / path)
        assert len(rows) == 3_000
        assert len({row.group for row in rows}) == 1_000
        assert ledger.repaired == {"nothing to list, written as '- none'": 6}


def test_real_bc5cdr(real_data: Path) -> None:
    counts = {}
    for part in ("Training", "Development", "Test"):
        found = blobs(real_data / f"bc5cdr/CDR_{part}Set.PubTator.txt.gz", (".txt",))
        parts = list(articles(found[0]))
        counts[part] = (len(parts), sum(len(article.relations) for article in parts))
    assert counts == {"Training": (500, 1_038), "Development": (500, 1_012), "Test": (500, 1_066)}


def test_rows_built_from_bc5cdr_are_the_published_ones(real_data: Path) -> None:
    published, _ = read("ner_instruct", real_data / "ner_instruct/both_rel_instruct_all.jsonl.gz")
    answers = {row.question: row.answer for row in published}
    built = [
        row
        for part in ("Training", "Development")
        for row in read("ner_instruct", real_data / f"bc5cdr/CDR_{part}Set.PubTator.txt.gz")[0]
    ]
    assert {row.question for row in built} == set(answers)
    same = Counter(row.meta["task"] for row in built if answers[row.question] == row.answer)
    # the others name the parts of composite mentions in full, where the published rows have fragments ("cancer of the")
    assert (same["chemicals"], same["diseases"]) == (996, 941)
    test, _ = read("ner_instruct", real_data / "bc5cdr/CDR_TestSet.PubTator.txt.gz")
    assert {row.meta["official"] for row in test} == {"test"}
    assert not {row.group for row in test} & {row.group for row in built}
