"""Tags to questions and lists back to spans; what `build` writes of a tag recipe reads back the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.bio_tags import Span, read_spans
from medrecipes.data.records import Tagged
from medrecipes.data.sources import Files, Ledger
from medrecipes.data.sources.ner_instruct import SOURCE as INSTRUCT
from medrecipes.pipeline.tags_as_questions import as_spans, find_items, read_tagged, to_conversations
from medrecipes.scoring.predictions import Prediction, as_taggings
from medrecipes.scoring.spans import micro
from tests.conftest import ROOT, Cli

ROW = Tagged(
    "1:2", "1", ("Beta", "-", "blockers", "and", "aspirin", ":", "renal", "failure", ",", "ASPIRIN", "."),
    ("B-Chemical", "I-Chemical", "I-Chemical", "O", "B-Chemical", "O", "B-Disease", "I-Disease", "O", "B-Chemical", "O"),
    {"text": "Beta-blockers and aspirin: renal failure, ASPIRIN.", "document": "1"},
)  # fmt: skip


def test_a_row_becomes_a_question_for_each_type_in_the_published_words() -> None:
    chemicals, diseases = to_conversations([ROW])
    assert chemicals.question == (
        "The following article contains technical terms including diseases, drugs and chemicals. Create a list only of the "
        "chemicals mentioned.\n\nBeta-blockers and aspirin: renal failure, ASPIRIN.\n\nList of extracted chemicals:"
    )
    assert chemicals.answer == "- Beta-blockers\n- aspirin"  # as the text spells it, each once
    assert (diseases.id, diseases.group, diseases.answer) == ("1:2:diseases", "1", "- renal failure")
    nothing = to_conversations([Tagged("x", "x", ("No", "pain"), ("O", "O"))])
    assert [one.answer for one in nothing] == ["- none", "- none"]


FOUND = [
    ({"X": ["aspirin"]}, [Span(4, 5, "X"), Span(9, 10, "X")]),
    ({"X": ["beta-blockers", "blockers"]}, [Span(0, 3, "X")]),  # the longest first; no word twice
    ({"X": ["failure"], "Y": ["renal failure"]}, [Span(6, 8, "Y")]),
    ({"X": ["renal", "fail", "ibuprofen", ""]}, [Span(6, 7, "X")]),  # whole words alone
]


@pytest.mark.parametrize(("items", "spans"), FOUND)
def test_listed_items_are_found_in_the_text(items: dict[str, list[str]], spans: list[Span]) -> None:
    assert list(find_items(ROW.tokens, items)) == spans


def answer(id: str, task: str, prediction: str) -> Prediction:
    return Prediction(id, "g", task, "", "", prediction, "tuned")


def test_lists_become_spans_that_the_same_code_scores() -> None:
    given = [answer("1:2:chemicals", "chemicals", "- aspirin\n- ibuprofen"), answer("1:2:diseases", "diseases", "- renal failure")]  # fmt: skip
    (said,) = as_spans([ROW], given)
    (row,) = as_taggings([said])
    assert set(row.gold) == set(read_spans(ROW.tags))
    assert [micro([row])[name].value() for name in ("precision", "recall")] == [1.0, 0.75]
    # a list about the whole document stands for its rows
    whole = [answer("1:chemicals", "chemicals", "- aspirin"), answer("1:diseases", "diseases", "- none")]
    assert len(as_taggings(as_spans([ROW], whole))[0].found) == 2


def test_answers_that_do_not_fit_the_rows_are_refused() -> None:
    with pytest.raises(DataError) as error:
        as_spans([ROW], [answer("1:chemicals", "chemicals", "- none")])
    assert str(error.value) == (
        "row 1:2: nobody listed its diseases; answer every question (raise eval.rows), or name fewer tagged rows"
    )
    with pytest.raises(DataError) as error:
        as_spans([ROW], [answer("9:chemicals", "chemicals", "- none")])
    assert str(error.value) == (
        "the answers are about '9', which the tagged rows do not hold; name the rows that were asked about"
    )


@pytest.fixture(scope="module")
def built(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("datasets")
    done = cli("build", "recipes/tiny_bio_ner.toml", "--out", out, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        f"tiny_bio_ner: 60 rows to train on (100.0%, asked 100%), 15 dev (official), 15 test (official) -> {out}/tiny_bio_ner\n"
    )
    return out / "tiny_bio_ner"


def test_build_writes_a_tagged_dataset(built: Path) -> None:
    from datasets import load_from_disk

    made = load_from_disk(built)
    assert {part: len(rows) for part, rows in made.items()} == {"train": 60, "validation": 15, "test": 15}
    names = made["train"].features["ner_tags"].feature.names
    assert names == ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"]
    first = made["train"][0]
    assert first["tokens"][5:7] == ["myocardial", "infarction"]
    assert [names[tag] for tag in first["ner_tags"]][:7] == ["B-Chemical", "O", "O", "O", "O", "B-Disease", "I-Disease"]
    assert json.loads((built / "data.json").read_text())["labels"] == names


def test_what_build_writes_is_read_again_as_the_same_rows(built: Path) -> None:
    again = {row.id: row for row in read_tagged(built / "tagged")}
    before = {row.id: row for row in read_tagged(ROOT / "data" / "bio")}
    assert len(again) == 90
    for id, row in before.items():
        assert (again[id].tokens, again[id].tags) == (row.tokens, row.tags)
        assert again[id].meta.get("official") == row.meta.get("official")


def test_the_questions_are_read_by_their_own_source_and_score_as_spans(built: Path, tmp_path: Path, cli: Cli) -> None:
    rows = list(INSTRUCT.read(Files(built / "instruct"), Ledger()))
    assert len(rows) == 180
    # a model that lists exactly what is right
    lines = [json.loads(line) for line in (built / "instruct" / "test.jsonl").read_text().splitlines()]
    file = tmp_path / "p.jsonl"
    file.write_text(
        "".join(
            json.dumps({"id": one["id"], "group": "g", "task": one["id"].rpartition(":")[2], "prompt": one["prompt"],
                        "gold": one["completion"], "prediction": one["completion"]}) + "\n"
            for one in lines
        )
    )  # fmt: skip
    done = cli("score", file, "--tagged", built / "tagged" / "test.json", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["spans"]["strict"]["micro"]["f1"]["value"] == 1.0
    assert report["spans"]["support"] == {"Chemical": 12, "Disease": 13}


def test_how_much_a_perfect_list_says_of_real_spans(real_data: Path) -> None:
    """Lists name what occurs, not where: even the right ones miss and mistake some of the places."""
    rows = read_tagged(real_data / "bc5cdr" / "CDR_TestSet.PubTator.txt.gz")
    said = [answer(one.id, str(one.meta["task"]), one.answer) for one in to_conversations(rows)]
    figures = micro(as_taggings(as_spans(rows, said)))
    assert figures["f1"].value() == pytest.approx(0.99, abs=0.01)
    assert figures["f1"].value() < 1
