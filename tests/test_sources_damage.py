"""Whatever is wrong with a file is one line: which file, which row, and what to do next."""

from __future__ import annotations

import csv
import gzip
import zipfile
from pathlib import Path

import pytest

from medrecipes.core.errors import DataError
from medrecipes.data.sources import Files, Ledger, open_source
from medrecipes.data.sources._files import tables
from medrecipes.data.sources._tables import rows
from medrecipes.recipe.schema import Columns, Data, Recipe
from tests.conftest import ROOT

GOOD = '{"question": "What is gout?", "response": "A disease of the joints."}\n'


def failure(name: str, path: Path, columns: Columns | None = None) -> str:
    with pytest.raises(DataError) as raised:
        list(open_source(name).read(Files(path, columns or Columns()), Ledger()))
    text = str(raised.value)
    assert "\n" not in text
    assert path.name in text
    assert "; " in text  # the next move
    return text


def test_an_absent_file(tmp_path: Path) -> None:
    assert "no such file" in failure("synthetic_qa", tmp_path / "none.jsonl")


def test_a_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("x")
    assert "holds none of .jsonl, .json, .csv, .tsv, .parquet" in failure("synthetic_qa", tmp_path)
    assert "holds neither XML files nor a table" in failure("medquad", tmp_path)


CASES = {
    "invalid.jsonl": (GOOD + '{"question": "x", \n', "invalid.jsonl: line 2: invalid JSON"),
    "list.jsonl": (GOOD + "[1]\n", "row 2 is no object"),
    "column.jsonl": ('{"question": "x", "answer": "y"}\n', "row 1 has no column 'response', only question, answer"),
    "later.jsonl": (GOOD + '{"question": "x"}\n', "row 2 has no column 'response'"),
    "nan.jsonl": (GOOD + '{"question": "x", "response": NaN}\n', "line 2: NaN is no text"),
    "number.jsonl": ('{"question": "x", "response": 3.5}\n', "row 1: response is 3.5 where text belongs"),
    "empty.jsonl": ("", "is empty"),
    "empty.json": ("", "is empty"),
    "none.json": ("[]", "is empty"),
    "cut.json": ('[{"question": "a", "response": "b"},\n {"question": "c"', "line 2: invalid JSON"),
    "comma.json": ('[{"question": "a", "response": "b"}\n {"question": "c"}]', "line 2: invalid JSON (a comma is missing)"),
    "word.json": ("hello", "line 1: invalid JSON (an array of rows should begin here)"),
    "nan.json": ('[{"question": "a", "response": Infinity}]', "row 1: Infinity is no text"),
    "ragged.csv": ("question,response\na,b\na,b,c\n", "line 3: 3 cells under 2 column names"),
    "quote.csv": ('question,response\na,"b\n', "broken CSV"),
    "header.csv": ("question,response\n", "is empty"),
    "null.parquet": ("PAR1 nonsense", "cannot be read as Parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_damage_in_tables(name: str, tmp_path: Path) -> None:
    content, message = CASES[name]
    (tmp_path / name).write_text(content)
    assert message in failure("synthetic_qa", tmp_path / name)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(GOOD.encode() + b'{"question": "caf\xe9"}\n')
    assert "bad.jsonl: line 2: byte 0xe9 is not UTF-8" in failure("synthetic_qa", tmp_path / "bad.jsonl")
    (tmp_path / "bad.json").write_bytes(b'[{"question": "caf\xe9"}]')
    assert "not UTF-8" in failure("synthetic_qa", tmp_path / "bad.json")


def test_damaged_archives(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD.encode() * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    assert "the archive is damaged" in failure("synthetic_qa", tmp_path / "cut.jsonl.gz")
    (tmp_path / "no.jsonl.gz").write_bytes(GOOD.encode())
    assert "the archive is damaged" in failure("synthetic_qa", tmp_path / "no.jsonl.gz")
    (tmp_path / "no.zip").write_bytes(b"PK nothing")
    assert "the archive is damaged" in failure("synthetic_qa", tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "flip.zip", "w") as archive:
        archive.writestr("a.jsonl", GOOD * 100)
    data = bytearray((tmp_path / "flip.zip").read_bytes())
    data[60] ^= 1
    (tmp_path / "flip.zip").write_bytes(bytes(data))
    assert "flip.zip: a.jsonl: the archive is damaged" in failure("synthetic_qa", tmp_path / "flip.zip")


def test_broken_and_foreign_xml(tmp_path: Path) -> None:
    (tmp_path / "x.xml").write_text("<Document>\n<QAPairs>\n</Document>")
    assert "x.xml: line 3: broken XML" in failure("medquad", tmp_path / "x.xml")
    (tmp_path / "y.xml").write_text("<html/>")
    assert "root element <html> is none of Document, DiseaseFile, doc" in failure("medquad", tmp_path / "y.xml")


def test_a_prompt_of_another_shape(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "List all genes.", "completion": "- BRCA1"}\n')
    assert "p.jsonl: row 1: the prompt is not an instruction, an article" in failure(
        "ner_instruct", tmp_path / "p.jsonl"
    )


PUBTATOR = {
    "1|t|Gout\n1|a|Gout hurts.\n1\t0\t4\tPain\tDisease\tD1\n": "line 3: the offsets 0 to 4 do not hold 'Pain'",
    "1|a|Gout hurts.\n": "line 1: an abstract without its title",
    "1\t0\t4\tGout\tDisease\tD1\n": "line 1: a mention before any title",
    "1|t|Gout\n1\tx\n": "line 2: 2 cells that are neither",
    "\n": "is empty, or no PubTator file",
}


@pytest.mark.parametrize("content", PUBTATOR)
def test_broken_pubtator(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert PUBTATOR[content] in failure("ner_instruct", tmp_path / "a.txt")


def test_own_data_that_names_no_column(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"q": "x", "a": "y"}\n')
    assert "row 1 has no column 'messages', only q, a; name its columns" in failure("jsonl", tmp_path / "own.jsonl")
    (tmp_path / "own.jsonl").write_text('{"messages": [{"role": "doctor", "content": "x"}]}\n')
    assert "role 'doctor' is none of system, user, assistant" in failure("jsonl", tmp_path / "own.jsonl")
    (tmp_path / "own.jsonl").write_text('{"messages": [{"role": "assistant", "content": "x"}]}\n')
    with pytest.raises(DataError, match=r"row own.jsonl:1: turn 1 is 'assistant' where 'user' belongs"):
        list(open_source("jsonl").read(Files(tmp_path / "own.jsonl"), Ledger()))


def test_a_source_that_yields_nothing_usable(tmp_path: Path) -> None:
    from medrecipes.data.split import prepare

    (tmp_path / "x.jsonl").write_text('{"question": "What is gout?", "response": " "}\n' * 3)
    with pytest.raises(DataError, match=r"none of 3 rows can be used \(empty answer: 3\); check that data.source"):
        prepare(Recipe(data=Data(source="synthetic_qa", path=tmp_path / "x.jsonl")))


def test_a_long_array_is_read_in_pieces_and_an_early_error_is_found(tmp_path: Path) -> None:
    row = '{"question": "What is gout?", "response": "' + "A disease of the joints. " * 40 + '"}'
    (tmp_path / "long.json").write_text("[" + ",\n".join([row] * 3000) + "]")
    rows = list(open_source("synthetic_qa").read(Files(tmp_path / "long.json"), Ledger()))
    assert len(rows) == 3000
    (tmp_path / "long.json").write_text("[" + ",\n".join([row, row[:-1], *[row] * 3000]) + "]")
    assert "long.json: line 2: invalid JSON" in failure("synthetic_qa", tmp_path / "long.json")


def test_json_lines_under_the_wrong_ending_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text(GOOD * 3000 + "{\n")
    rows = open_source("synthetic_qa").read(Files(tmp_path / "lines.json"), Ledger())
    assert sum(1 for _, row in zip(range(3000), rows, strict=False)) == 3000
    assert "lines.json: line 3001: invalid JSON" in failure("synthetic_qa", tmp_path / "lines.json")


def test_the_samples_are_not_damaged() -> None:
    assert list(open_source("synthetic_qa").read(Files(ROOT / "data/synthetic_qa.jsonl"), Ledger()))


@pytest.mark.parametrize(
    ("name", "content", "columns", "line"),
    [
        ("own.csv", "Question, Answer\nx,y\n", ("question", "answer"), "own.csv: row 2 has no column 'question', only Question,  Answer; did you mean 'Question'? Letters count: set data.columns.question to one of them"),
        ("own.csv", "q,b\nx,y\n", ("q", "a"), "own.csv: row 2 has no column 'a', only q, b; set data.columns.answer to one of them"),
        ("own.csv", "q,b\nx,y\n", None, "own.csv: row 2 has no column 'messages', only q, b; name its columns, such as data.columns = { question = \"...\", answer = \"...\" }"),
        ("own.ods", "PK", ("q", "a"), "own.ods is a spreadsheet of a kind that is not read; save its sheet as .xlsx or as CSV (in UTF-8), and name that as data.path"),
        ("own.csv", "q;b\nx;y\n", ("q", "a"), "own.csv: row 2 has no column 'a', only q, b; set data.columns.answer to one of them"),
    ],
)  # fmt: skip
def test_a_hint_is_of_what_is_wrong(name: str, content: str, columns: tuple[str, str] | None, line: str, tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / name).write_text(content)
    found = failure("jsonl", tmp_path / name, columns and Columns(question=columns[0], answer=columns[1]))
    assert found.removeprefix(f"{tmp_path}/{name}: ") == line


def test_two_tables_read_in_turn_leave_the_longest_cell_of_others_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"text\n{'x' * 200_000}\n{'y' * 200_000}\n")
    first, second = (rows(tables(tmp_path / f"{name}.csv")[0]) for name in ("a", "b"))
    next(first)
    assert csv.field_size_limit() == before
    next(second)
    assert len(list(first)) == 1  # it has ended, and what it put back is not what the other needs
    assert len(list(second)) == 1
    assert csv.field_size_limit() == before
