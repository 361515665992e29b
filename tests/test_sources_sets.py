"""The question sets, reasoning sets and entity sets: a file in each publisher's shape, its rows in literals, and its wrong shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pyarrow.parquet
import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.records import Message, Tagged
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.split import prepare
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.recipe.schema import Data, Recipe, SplitRatios, source_names
from tests.conftest import ROOT

DATA = ROOT / "data"


def read(name: str, path: Path, unit: Literal["sentence", "document"] = "sentence") -> tuple[list[Any], Ledger]:
    ledger = Ledger()
    return list(open_source(name).read(Files(path, unit=unit), ledger)), ledger


def parquet(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


# a row of each set in its publisher's columns, where its file lies, and what becomes of it
MEDMCQA = {
    "id": "0", "question": "Wrist drop follows injury of the:", "opa": "Ulnar nerve", "opb": "Radial nerve", "opc": "Median nerve",
    "opd": "Axillary nerve", "cop": 1, "choice_type": "single", "exp": None, "subject_name": "Anatomy", "topic_name": None,
}  # fmt: skip
MEDQA = {
    "question": "Which nerve?", "answer": "Radial", "options": {"A": "Ulnar", "B": "Radial", "C": "Median", "D": "Axillary"},
    "meta_info": "step1", "answer_idx": "B", "metamap_phrases": ["nerve"],
}  # fmt: skip
PUBMEDQA = {
    "pubid": 900000001, "question": "Does it help?", "context": {"contexts": ["It was tried.", "In 40 people."], "labels": ["BACKGROUND", "METHODS"], "meshes": ["Humans"]},
    "long_answer": "It helped a little.", "final_decision": "yes",
}  # fmt: skip
O1 = {"Question": "Why?", "Complex_CoT": "Let me see.", "Response": "Because."}
ICLINIQ = {"input": "Hello doctor, why?", "answer_icliniq": "Hello, Welcome to Chat Doctor forum. Rest.", "answer_chatgpt": "x", "answer_chatdoctor": "y"}  # fmt: skip
ULTRA = {"id": "MedQA,7", "type": "Exam", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}], "answer": "A", "score": "4.5"}  # fmt: skip
MEDREASON = {"dataset_name": "medqa", "id_in_dataset": 7, "question": "Why?", "answer": "Salt", "reasoning": "Paths.", "options": "A. Salt\nB. Sugar"}  # fmt: skip
M23K = {"prompt": "Why?\nA. Salt", "reasoning": "Okay.", "distilled_answer_string": "Salt.", "source": "train/medqa", "answer_idx": 0}  # fmt: skip
OPENMED = {
    "messages": [
        {"role": "system", "content": "Be brief.", "reasoning_content": None},
        {"role": "user", "content": "Why?", "reasoning_content": None},
        {"role": "assistant", "content": "Because.", "reasoning_content": "Let me see."},
    ]
}
MEDITRON = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}  # fmt: skip
THOUGHT = ("Let me see.", "Because.")  # before the answer, and the answer

CHAT: dict[str, tuple[dict[str, Any], str, str, tuple[tuple[str, str | tuple[str, str]], ...], str, dict[str, str]]] = {
    # source: row, file as published, id, turns, document, what else is known
    "medmcqa": (MEDMCQA, "data/validation-00000-of-00001.parquet", "data/validation-00000-of-00001:1", (
        ("user", "Wrist drop follows injury of the:\n\nA. Ulnar nerve\nB. Radial nerve\nC. Median nerve\nD. Axillary nerve"),
        ("assistant", "Answer: B. Radial nerve")), "", {"qtype": "Anatomy", "official": "test"}),
    "medqa": (MEDQA, "phrases_no_exclude_test.jsonl", "phrases_no_exclude_test:1", (
        ("user", "Which nerve?\n\nA. Ulnar\nB. Radial\nC. Median\nD. Axillary"), ("assistant", "Answer: B. Radial")), "", {"qtype": "step1", "official": "test"}),
    "pubmedqa": (PUBMEDQA, "pqa_artificial/train-00000-of-00001.parquet", "artificial:900000001", (
        ("user", "BACKGROUND: It was tried.\nMETHODS: In 40 people.\n\nQuestion: Does it help?\nAnswer yes, no or maybe."),
        ("assistant", "Answer: yes\n\nIt helped a little.")), "900000001", {"collection": "artificial", "article": "900000001"}),
    "medical_o1_reasoning": (O1, "medical_o1_sft.json", "medical_o1_sft:1", (("user", "Why?"), ("assistant", THOUGHT)), "", {}),
    "icliniq": (ICLINIQ, "data/train-00000-of-00001.parquet", "data/train-00000-of-00001:1", (
        ("user", "Hello doctor, why?"), ("assistant", "Hello, Welcome to our service. Rest.")), "", {}),
    "ultramedical": (ULTRA, "data/train-00000-of-00003.parquet", "data/train-00000-of-00003:1", (
        ("user", "Why?"), ("assistant", "Because.")), "MedQA,7", {"qtype": "Exam", "collection": "MedQA"}),
    "medreason": (MEDREASON, "medreason.jsonl", "medreason:1", (
        ("user", "Why?\n\nA. Salt\nB. Sugar"), ("assistant", ("Paths.", "Salt"))), "medqa/7", {"collection": "medqa"}),
    "m23k": (M23K, "data/train-00000-of-00001.parquet", "data/train-00000-of-00001:1", (
        ("user", "Why?\nA. Salt"), ("assistant", ("Okay.", "Salt."))), "", {"collection": "train/medqa"}),
    "openmed_reasoning": (OPENMED, "data/train-00000-of-00012.parquet", "data/train-00000-of-00012:1", (
        ("system", "Be brief."), ("user", "Why?"), ("assistant", THOUGHT)), "", {}),
    "fully_open_meditron": (MEDITRON, "data/guidelines_qa/train-00000-of-00001.parquet", "data/guidelines_qa/train-00000-of-00001:1", (
        ("system", "Be brief."), ("user", "Why?"), ("assistant", "Because.")), "", {"collection": "guidelines_qa"}),
}  # fmt: skip
# what lies beside the file, so that an official test set is one
BESIDE = {"medmcqa": ("data/train-00000-of-00001.parquet", {**MEDMCQA, "cop": 0}), "medqa": ("phrases_no_exclude_train.jsonl", MEDQA)}  # fmt: skip


def published(name: str, folder: Path) -> None:
    """A folder with one row of a set as its publisher ships it."""
    row, file, *_ = CHAT[name]
    # of MedMCQA a second row, as one alone does not tell what `cop` counts from
    files = {file: [row, {**row, "cop": 0}] if name == "medmcqa" else [row]}
    if name in BESIDE:
        files[BESIDE[name][0]] = [BESIDE[name][1]]
    for place, rows in files.items():
        (parquet if place.endswith("parquet") else jsonl)(folder / place, *rows)
    if file.endswith(".json"):
        (folder / file).write_text(json.dumps([row], indent=2))


@pytest.mark.parametrize("name", CHAT)
def test_a_row_in_the_publishers_shape(name: str, tmp_path: Path) -> None:
    _, _, id, turns, document, known = CHAT[name]
    published(name, tmp_path)
    rows, ledger = read(name, tmp_path)
    [row] = [row for row in rows if row.id == id]
    said = [(message.role, (message.reasoning, message.content) if message.reasoning else message.content) for message in row.messages]  # fmt: skip
    assert tuple(said) == turns
    assert (row.group, dict(row.meta)) == (document, known)
    assert ledger.dropped == {}


@pytest.mark.parametrize("name", CHAT)
def test_a_column_that_is_missing_is_one_line_with_file_row_and_next_move(name: str, tmp_path: Path) -> None:
    row = CHAT[name][0]
    needed = {"medmcqa": "opb", "medqa": "answer_idx", "pubmedqa": "final_decision", "medical_o1_reasoning": "Complex_CoT", "icliniq": "answer_icliniq", "ultramedical": "type", "medreason": "id_in_dataset", "m23k": "distilled_answer_string", "openmed_reasoning": "messages", "fully_open_meditron": "messages"}[name]  # fmt: skip
    row = {**row, "cop": 0} if name == "medmcqa" else row
    path = jsonl(tmp_path / "x.jsonl", {"other": "y", **without(row, needed)})
    with pytest.raises(DataError) as raised:
        read(name, path)
    assert f"x.jsonl: row 1 has no column '{needed}'" in str(raised.value)
    assert "; " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("medmcqa", {**MEDMCQA, "cop": 7}, "x.jsonl: row 2: cop is 7, which names none of four options; fetch the file again"),
        ("medmcqa", {**MEDMCQA, "cop": 4}, "x.jsonl: cop counts both from 0 and to 4; keep the Hub's rows"),
        ("medqa", {**MEDQA, "options": ["a", "b"]}, 'x.jsonl: row 2: options is no object such as {"A": …, "B": …} of texts'),
        ("medqa", {**MEDQA, "answer_idx": "F"}, "x.jsonl: row 2: answer_idx 'F' is none of the options A, B, C, D; correct it"),
        ("pubmedqa", {**PUBMEDQA, "final_decision": "perhaps"}, "x.jsonl: row 2: final_decision 'perhaps' is none of yes, no, maybe"),
        ("pubmedqa", {**PUBMEDQA, "context": "text"}, "x.jsonl: row 2: context is no object with a list of contexts"),
        ("medical_o1_reasoning", {**O1, "Complex_CoT": 5}, "x.jsonl: row 2: Complex_CoT is 5 where text belongs; quote it"),
        ("ultramedical", {**ULTRA, "conversations": [{"from": "robot", "value": "x"}]}, "x.jsonl: row 2: role 'robot' is none of"),
        ("ultramedical", {**ULTRA, "conversations": [{"from": "gpt", "value": "x"}]}, "row x.jsonl:2: turn 1 is 'assistant' where 'user' belongs"),
        ("openmed_reasoning", {"messages": "text"}, "x.jsonl: row 2: messages is no list of objects with role and content"),
    ],
)  # fmt: skip
def test_a_wrong_cell_is_one_line(name: str, row: dict[str, Any], said: str, tmp_path: Path) -> None:
    first = {**MEDMCQA, "cop": 0} if name == "medmcqa" else CHAT[name][0]
    with pytest.raises(DataError) as raised:
        read(name, jsonl(tmp_path / "x.jsonl", first, row))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_medmcqa_counts_from_0_on_the_hub_and_from_1_in_its_authors_files(tmp_path: Path) -> None:
    hub = jsonl(tmp_path / "train.jsonl", *({**MEDMCQA, "cop": n} for n in (0, 3)))
    own = jsonl(tmp_path / "dev.jsonl", *({**MEDMCQA, "cop": n} for n in (1, 4)))
    answers = [row.answer for path in (hub, own) for row in read("medmcqa", path)[0]]
    assert answers == ["Answer: A. Ulnar nerve", "Answer: D. Axillary nerve"] * 2
    with pytest.raises(
        DataError, match=r"middle\.jsonl: cop is never 0 and never 4, so what it counts from cannot be told"
    ):
        read("medmcqa", jsonl(tmp_path / "middle.jsonl", MEDMCQA))
    rows, ledger = read("medmcqa", jsonl(tmp_path / "test.jsonl", {**MEDMCQA, "cop": -1}, without(MEDMCQA, "cop")))
    assert (rows, ledger.dropped) == ([], {"no answer is published": 2})


def test_rows_that_say_nothing_are_counted(tmp_path: Path) -> None:
    for name, column in (("medical_o1_reasoning", "Response"), ("medreason", "answer"), ("m23k", "distilled_answer_string")):  # fmt: skip
        rows, ledger = read(name, jsonl(tmp_path / f"{name}.jsonl", {**CHAT[name][0], column: " "}))
        assert (rows, ledger.seen, ledger.dropped) == ([], 1, {"empty answer": 1})
    rows, ledger = read("icliniq", DATA / "icliniq.jsonl")
    assert (len(rows), ledger.seen) == (12, 14)
    assert ledger.dropped == {"empty answer": 1, '"Chat Doctor" over lost words': 1}
    assert ledger.repaired == {'"Chat Doctor" taken out': 3}


def test_a_turn_without_a_thought_is_the_answer_alone() -> None:
    rows, _ = read("openmed_reasoning", DATA / "openmed_reasoning.jsonl")
    thoughts = [[bool(message.reasoning) for message in row.messages if message.role == "assistant"] for row in rows]  # fmt: skip
    assert thoughts[5] == [False]
    assert thoughts[2] == [True, True]
    assert rows[5].messages[-1] == Message("assistant", rows[5].answer)


def test_pubmedqas_test_set_is_the_one_of_its_authors_list(tmp_path: Path) -> None:
    jsonl(tmp_path / "pqa_labeled/train.jsonl", PUBMEDQA, {**PUBMEDQA, "pubid": 900000002})
    (tmp_path / "test_ground_truth.json").write_text('{\n    "900000002": "yes"\n}')
    rows, _ = read("pubmedqa", tmp_path)
    assert [(row.id, row.meta.get("official")) for row in rows] == [("labelled:900000001", None), ("labelled:900000002", "test")]  # fmt: skip
    (tmp_path / "test_ground_truth.json").write_text("[1]")
    with pytest.raises(
        DataError, match=r"test_ground_truth\.json: is no object of articles and decisions; fetch it again"
    ):
        read("pubmedqa", tmp_path)


@pytest.mark.parametrize("name", ["medmcqa", "medqa"])
def test_equal_options_bind_no_questions_and_the_official_test_set_is_the_test_set(name: str) -> None:
    copy = (
        f"{name}={next((DATA / name).iterdir())}" if name == "medqa" else f"medmcqa={DATA / 'medmcqa/validation.jsonl'}"
    )
    split = prepare(Recipe(data=Data(source=name, path=DATA / name, exclude=(copy,), split=SplitRatios(train=0.8, dev=0.2, test=0))))  # fmt: skip
    assert split.report["rows"]["test"] == 6
    assert split.report["groups"]["largest"] == 1  # though several are answered by the same words
    assert split.report["dropped"] == {}


def test_what_was_made_of_benchmarks_says_so_and_licences_that_are_unclear_are_told() -> None:
    sources = {name: open_source(name) for name in source_names()}
    assert {name for name in CHAT if sources[name].seeds} == set(CHAT) - {"icliniq"}
    assert sources["m23k"].seeds == ("medqa", "medmcqa", "pubmedqa", "headqa")
    unclear = {name for name in CHAT if sources[name].redistributable != "yes"}
    assert unclear == {"medqa", "icliniq", "m23k"}
    assert sources["fully_open_meditron"].licence == "CC-BY-NC-4.0"


# --- entity sets

GENES = {"id": "0", "tokens": ["The", "HER2", "gene", "."], "ner_tags": [0, 1, 2, 0]}
PUBTATOR = "900000001|t|{title}\n900000001|a|{abstract}\n900000001\t{start}\t{end}\t{text}\t{type}\t{id}\n\n"
GOUT = {
    "title": "Gout in winter.",
    "abstract": "We saw gout in two men.",
    "start": 0,
    "end": 4,
    "text": "Gout",
    "id": "D006073",
}


def entity_set(name: str, folder: Path) -> Path:
    """One sentence or article of an entity set as its publisher ships it, and one of another part beside it."""
    if name == "bc2gm":
        for part in ("train", "test"):
            parquet(folder / f"bc2gm_corpus/{part}-00000-of-00001.parquet", GENES)
    elif name == "jnlpba":
        for part in ("train", "test"):
            jsonl(
                folder / f"{part}.jsonl", {"id": "0", "tokens": ["The", "HER2", "gene", "."], "ner_tags": [0, 1, 2, 0]}
            )
    elif name == "ncbi_disease":
        for part in ("train", "test"):
            (folder / f"NCBI{part}set_corpus.txt").write_text(PUBTATOR.format(**GOUT, type="SpecificDisease").replace("900000001", f"90000000{len(part)}"))  # fmt: skip
    elif name == "medmentions":
        both = [PUBTATOR.format(**GOUT, type="T038,T033"), PUBTATOR.format(**GOUT, type="T038").replace("900000001", "900000002")]  # fmt: skip
        (folder / "corpus_pubtator.txt").write_text("".join(both))
        for part, pmid in (("trng", "900000001"), ("dev", ""), ("test", "900000002")):
            (folder / f"corpus_pubtator_pmids_{part}.txt").write_text(f"{pmid}\n")
    else:
        for part, number in (("training", 1), ("development", 2)):
            (folder / part).mkdir()
            (folder / part / f"drugprot_{part}_abstracs.tsv").write_text(
                f'90000000{number}\tOn "aspirin".\tCOX-1 is blocked.\n'
            )
            (folder / part / f"drugprot_{part}_entities.tsv").write_text(f"90000000{number}\tT1\tCHEMICAL\t4\t11\taspirin\n90000000{number}\tT2\tGENE-Y\t14\t19\tCOX-1\n")  # fmt: skip
    return folder


ENTITIES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, set[str | None]]] = {
    "bc2gm": (("The", "HER2", "gene", "."), ("O", "B-GENE", "I-GENE", "O"), "bc2gm_corpus/train-00000-of-00001:block 1", {None, "test"}),
    "jnlpba": (("The", "HER2", "gene", "."), ("O", "B-DNA", "I-DNA", "O"), "train:block 1", {None, "test"}),
    "ncbi_disease": (("Gout", "in", "winter", "."), ("B-SpecificDisease", "O", "O", "O"), "900000005", {None, "test"}),
    "medmentions": (("Gout", "in", "winter", "."), ("B-T038", "O", "O", "O"), "900000001", {None, "test"}),
    "drugprot": (("On", '"', "aspirin", '"', "."), ("O", "O", "B-CHEMICAL", "O", "O"), "900000001", {None, "dev"}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTITIES)
def test_tagged_words_in_the_publishers_shape(name: str, tmp_path: Path) -> None:
    tokens, tags, group, parts = ENTITIES[name]
    rows, ledger = read(name, entity_set(name, tmp_path))
    first = next(row for row in rows if row.group == group)
    assert isinstance(first, Tagged)
    assert (first.tokens, first.tags) == (tokens, tags)
    assert {row.meta.get("official") for row in rows} == parts
    assert ledger.seen == len(rows)
    several = {"a mention of several semantic types has the first": 1}
    assert ledger.repaired == (several if name == "medmentions" else {})


@pytest.mark.parametrize(("name", "count"), [("bc2gm", 17), ("jnlpba", 16), ("ncbi_disease", 18), ("medmentions", 19), ("drugprot", 18)])  # fmt: skip
def test_a_sample_of_an_entity_set_becomes_a_split_with_its_official_parts(name: str, count: int) -> None:
    rows, _ = read(name, DATA / name)
    assert len(rows) == count
    shares = SplitRatios(train=0.6, dev=0.2, test=0.2)
    split = prepare_tagged(Recipe(task="tag", data=Data(source=name, path=DATA / name, split=shares)))
    official = {row.meta["official"] for row in rows if "official" in row.meta}
    assert set(split.report["official"]) == official
    held = {"test": split.test, "dev": split.dev}
    for part in official:
        assert {row.id for row in held[part]} == {row.id for row in rows if row.meta.get("official") == part}


@pytest.mark.parametrize(
    ("name", "file", "text", "said"),
    [
        ("bc2gm", "x.jsonl", json.dumps({**GENES, "ner_tags": [0, 1, 3, 0]}), "x.jsonl: row 1: ner_tags is no list of a number from 0 to 2 for each word"),
        ("bc2gm", "x.jsonl", json.dumps({**GENES, "ner_tags": [0, 1]}), "x.jsonl: row 1: ner_tags is no list of a number from 0 to 2 for each word"),
        ("jnlpba", "x.jsonl", json.dumps({**GENES, "tokens": "The gene"}), "x.jsonl: row 1: tokens is no list of words; fetch the file again"),
        ("jnlpba", "x.jsonl", json.dumps({"tokens": ["x"]}), "x.jsonl: row 1 has no column 'ner_tags'"),
        ("ncbi_disease", "x.txt", "900000001|t|Gout.\n900000001|a|\n900000001\t0\t4\tGaut\tSpecificDisease\tD1\n", "x.txt: line 3: the offsets 0 to 4 do not hold 'Gaut'"),
        ("medmentions", "corpus_pubtator_pmids_dev.txt", "1\n", "holds no corpus_pubtator.txt; set data.path to the folder of MedMentions"),
        ("drugprot", "drugprot_training_entities.tsv", "1\t2\n", "holds no drugprot_training_abstracs.tsv; set data.path"),
        ("drugprot", "drugprot_training_abstracs.tsv", "1\tTitle\tText\n", "0 tables of entities lie beside it where one belongs"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_tagged_words_is_one_line(name: str, file: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError) as raised:
        read(name, tmp_path)
    assert said in str(raised.value)
    assert "; " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("900000009\tT1\tCHEMICAL\t0\t2\tOn", "line 1: article '900000009' is not among the abstracts"),
        ("900000001\tT1\tCHEMICAL\t0\t3\tOn", "line 1: the offsets 0 to 3 do not hold 'On'"),
        ("900000001\tT1\tCHEMICAL\tx\t3\tOn", "line 1: the offsets x to 3 do not hold 'On'"),
        ("900000001\tT1\tCHEMICAL", "line 1: 3 cells where 6 belong"),
    ],
)
def test_a_mention_of_drugprot_that_its_abstract_does_not_hold(line: str, said: str, tmp_path: Path) -> None:
    entity_set("drugprot", tmp_path)
    (tmp_path / "training/drugprot_training_entities.tsv").write_text(f"{line}\n")
    with pytest.raises(DataError) as raised:
        read("drugprot", tmp_path)
    assert said in str(raised.value)


def test_an_article_of_medmentions_that_no_list_names(tmp_path: Path) -> None:
    entity_set("medmentions", tmp_path)
    (tmp_path / "corpus_pubtator_pmids_test.txt").write_text("")
    with pytest.raises(
        DataError, match=r"article 900000002 stands in none of the lists \*_pmids_\*\.txt; put all three"
    ):
        read("medmentions", tmp_path)


def test_real_ncbi_disease(real_data: Path) -> None:
    rows, ledger = read("ncbi_disease", real_data / "ncbi_disease")
    parts = {part: sum(row.meta.get("official") == part for row in rows) for part in (None, "dev", "test")}
    assert parts == {None: 5_424, "dev": 923, "test": 940}
    assert {tag for row in rows for tag in row.tags} == {"O", "B-Disease", "I-Disease"}
    assert ledger.dropped == {}
