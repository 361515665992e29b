"""Bad data files, over all sources and formats: each is one line with its place and the next move, or counted with its reason."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import os
import re
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.data.reading import Making, Opened, Place, Rows, locate, read
from medrecipes.data.tagged_split import _read as read_tagged
from medrecipes.evaluation.compare.histories import read_history
from medrecipes.recipe.schema import Columns, Data, Recipe
from medrecipes.rendering.preview import conversations_from_file
from medrecipes.scoring.predictions import read_predictions
from medrecipes.use.tag_text import read_texts
from tests.attack.harness import attack, fingerprint, limited, refused
from tests.conftest import ROOT

DATA = ROOT / "data"
SLOW_S = 5  # nothing of this size may take as long
Bad = Callable[[Path], Any]  # writes a file at the path, or gives the bytes to write


def sample(name: str) -> bytes:
    return (DATA / name).read_bytes()


def table(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as Parquet."""
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), file)
    return file.getvalue()


@functools.cache
def pairs() -> bytes:
    return table([{"question": f"What is {n}?", "response": f"The number {n}."} for n in range(40)])


# a good file of every source and format: what is done to it is what is wrong
GOOD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "medquad.xml": ("medquad", lambda: sample("medquad/1_CancerGov_QA/0000001.xml")),
    "medquad.csv": ("medquad", lambda: sample("medquad.csv")),
    "wikidoc.json": ("wikidoc", lambda: sample("wikidoc.json")),
    "patient.json": ("wikidoc_patient_information", lambda: sample("wikidoc_patient_information.json")),
    "healthcaremagic.json": ("healthcaremagic", lambda: sample("healthcaremagic.json")),
    "synthetic.jsonl": ("synthetic_qa", lambda: sample("synthetic_qa.jsonl")),
    "synthetic.parquet": ("synthetic_qa", pairs),
    "prompts.jsonl": ("ner_instruct", lambda: sample("ner_instruct/instruct.jsonl")),
    "articles.txt": ("ner_instruct", lambda: sample("ner_instruct/articles.PubTator.txt")),
    "own.jsonl": ("jsonl", lambda: sample("own_conversations.jsonl")),
    "own.tsv": ("jsonl", lambda: sample("own_columns.tsv")),
    "tagged.json": ("bio_ner", lambda: sample("bio_tagged.json")),
    "words.tsv": ("bio_ner", lambda: sample("bio/train.tsv")),
    "marked.txt": ("bio_ner", lambda: sample("ner_instruct/articles.PubTator.txt")),
}
OWN = Columns(question="frage", answer="antwort", document="leaflet")


def take(source: str, path: Path, columns: Columns | None = None) -> Any:
    """All that is read of a data set, as a run begins."""
    data = Data(source=source, path=path, columns=columns or (OWN if path.name.startswith("own.tsv") else Columns()))
    places = locate(data)
    if source == "bio_ner":
        read_tagged(places[0], Recipe(task="tag", data=data))
    else:
        read_rows(places)
    return places[0].ledger


def read_rows(places: Sequence[Place]) -> Rows:
    """All usable rows, as the split of a small data set reads them."""
    with tempfile.TemporaryDirectory() as folder:
        making = Making(Path(folder), "", False, lambda: None, Path(folder))
        return read([Opened(place, cast(Path, place.path), place.content) for place in places], making)


def one_line(does: Callable[[], object], says: str, where: str = "") -> None:
    """Hold that this is refused in one printable line with its file, its reason and a next move, and soon."""
    began = time.process_time()
    with pytest.raises(MedRecipesError) as raised, limited():
        does()
    said = str(raised.value)
    assert said.isprintable(), repr(said)
    assert len(said) < 2100
    assert where in said, said
    assert re.search(r"; \w", said), said
    assert re.search(says, said), said
    assert time.process_time() - began < SLOW_S, said


def put(path: Path, bad: bytes | Bad) -> Path:
    content = bad if isinstance(bad, bytes) else bad(path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    return path


# --- what can be wrong with any file --------------------------------------------------------------------------------


def zipped(content: bytes, name: str, **more: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content, **more)
    return file.getvalue()


def flipped(content: bytes, at: float) -> bytes:
    """With a bit turned over, so far into it."""
    changed = bytearray(content)
    changed[int(at * len(content))] ^= 16
    return bytes(changed)


def locked(content: bytes, name: str) -> bytes:
    """A zip archive whose members say that they are encrypted."""
    packed = bytearray(zipped(content, name))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + at] |= 1
    return bytes(packed)


def method(content: bytes, name: str) -> bytes:
    """A zip archive packed by a method that nobody knows."""
    packed = bytearray(zipped(content, name))
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", packed, packed.index(mark) + at, 97)
    return bytes(packed)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def growing(path: Path) -> None:
    path.symlink_to("/dev/zero")


@functools.cache
def bomb(what: bytes, name: str = "") -> bytes:
    """Twelve megabytes of one character, as gz or, given a name, as a zip archive: a thousandth of that."""
    return zipped(what * (12 << 20), name) if name else gzip.compress(what * (12 << 20))


# name -> what becomes of the file's name, what becomes of its content, and what is said
ANY: dict[str, tuple[str, Callable[[bytes, str], bytes | Bad], str]] = {
    "empty": ("{}", lambda good, name: b"", "empty|no element found|cannot be read as Parquet|holds"),
    "UTF-16": ("{}", lambda good, name: good.decode("utf-8", "replace").encode("utf-16"), "not UTF-8|Parquet|broken XML"),
    "zeros": ("{}", lambda good, name: bytes(5000), "invalid|not|no |Parquet|neither|cells|is empty|before any title"),
    "a picture": ("{}", lambda good, name: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "not UTF-8|broken XML|Parquet"),
    "a pipe": ("{}", lambda good, name: pipe, "is a named pipe, not a file; copy"),
    "a device": ("{}", lambda good, name: growing, "is a device, not a file; copy"),
    "a link that leads nowhere": ("{}", lambda good, name: lambda path: path.symlink_to("nowhere"), "no such file"),
    "a link to itself": ("{}", lambda good, name: lambda path: path.symlink_to(path.name), "Too many levels|no such file"),
    "a folder": ("{}", lambda good, name: lambda path: path.mkdir(), "holds n"),
    "a torn gz": ("{}.gz", lambda good, name: gzip.compress(good)[:-20], "the archive is damaged|ended before"),
    "a damaged gz": ("{}.gz", lambda good, name: flipped(gzip.compress(good), 0.5), "the archive is damaged|not UTF-8|invalid|broken|Parquet"),
    "no gz": ("{}.gz", lambda good, name: good, "the archive is damaged|Not a gzipped file"),
    "garbage behind a gz": ("{}.gz", lambda good, name: gzip.compress(good) + b"garbage", "the archive is damaged|Not a gzipped file"),
    "a gz bomb": ("{}.gz", lambda good, name: bomb(b" "), "unpacks to more than 100 times|more than 4 MB"),
    "a gz of line ends": ("{}.gz", lambda good, name: bomb(b"\n"), "follows 100,000 empty lines|unpacks to more than 100 times|more than 4 MB|Parquet"),
    "gz in gz": ("{}.gz.gz", lambda good, name: gzip.compress(gzip.compress(good)), "packed in a way that is not read here"),
    "bz2": ("{}.bz2", lambda good, name: bz2.compress(good), "packed in a way that is not read here"),
    "xz": ("{}.xz", lambda good, name: lzma.compress(good), "packed in a way that is not read here"),
    "no zip": ("{}.zip", lambda good, name: good, "the archive is damaged"),
    "a torn zip": ("{}.zip", lambda good, name: zipped(good, name)[:-30], "the archive is damaged"),
    "a damaged zip": ("{}.zip", lambda good, name: flipped(zipped(good, name), 0.4), "the archive is damaged|not UTF-8|invalid|broken|Parquet"),
    "an encrypted zip": ("{}.zip", lambda good, name: locked(good, name), "is encrypted; unpack it with its password"),
    "a zip by another method": ("{}.zip", lambda good, name: method(good, name), "packed in a way that is not read here"),
    "zip in zip": ("{}.zip", lambda good, name: zipped(zipped(good, name), "inner.zip"), "is an archive within an archive; unpack the outer one"),
    "gz in zip": ("{}.zip", lambda good, name: zipped(gzip.compress(good), f"{name}.gz"), "is an archive within an archive"),
    "a zip bomb": ("{}.zip", lambda good, name: bomb(b" ", name), "unpacks to more than 100 times|more than 4 MB"),
    "a zip of other things": ("{}.zip", lambda good, name: zipped(good, "readme.rst"), "holds n"),
    "a name that is not UTF-8": ("\udcff{}", lambda good, name: good, "name is not UTF-8; rename it"),
    "a name of control characters": ("\x1b[2J\n{}", lambda good, name: b"", r"\\x1b"),
    "a name too long": ("x" * 300 + "{}", lambda good, name: lambda path: None, "File name too long"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_can_be_wrong_with_any_file(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:  # fmt: skip
    source, good = GOOD[name]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for number, (kind, (called, make, says)) in enumerate(ANY.items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        path = put(folder / called.format(name), make(good(), name))
        before = fingerprint(tmp_path) if kind != "a device" else {}
        one_line(lambda path=path: take(source, path), says)  # type: ignore[misc]
        assert not before or fingerprint(tmp_path) == before, kind
    record_property("attacks", ("bad data files", len(ANY)))


def test_folders_are_read_whole_or_not_at_all(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    good = sample("synthetic_qa.jsonl")

    def folder(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_bytes(good)
        return tmp_path / name

    outside = folder("outside")
    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "a link to a folder": (lambda path: (path / "more").symlink_to(outside), "is a link to another folder, which is not followed"),
        "a link that goes round": (lambda path: (path / "more").symlink_to(path), "is a link to another folder"),
        "a link to itself": (lambda path: (path / "b.jsonl").symlink_to("b.jsonl"), "Too many levels of symbolic links"),
        "a link that leads nowhere": (lambda path: (path / "b.jsonl").symlink_to("none"), "No such file"),
        "a pipe": (lambda path: os.mkfifo(path / "b.jsonl"), "is a named pipe"),
        "a device": (lambda path: (path / "b.jsonl").symlink_to("/dev/zero"), "is a device"),
        "packed otherwise": (lambda path: (path / "b.jsonl.zst").write_bytes(b"x"), "packed in a way that is not read here"),
        "a tar": (lambda path: (path / "b.tar.gz").write_bytes(b"x"), "packed in a way that is not read here"),
        "an empty file": (lambda path: (path / "b.jsonl").write_bytes(b""), "b.jsonl: is empty"),
        "a file of another kind": (lambda path: (path / "b.csv").write_text("x,y\n1,2\n"), "has no column 'question'"),
        "two files of one stem": (lambda path: (path / "a.json").write_text(json.dumps([json.loads(good.split(b"\n")[0])])), "two rows have the id a:1"),
    }  # fmt: skip
    for name, (harm, says) in cases.items():
        path = folder(name)
        harm(path)
        one_line(lambda path=path: take("synthetic_qa", path), says)  # type: ignore[misc]
    beside = folder("what macOS and editors leave")
    (beside / "._a.jsonl").write_bytes(b"\x00\x05")
    (beside / ".#a.jsonl").symlink_to("me@here.1")
    (beside / "1\u00b22.jsonl").write_bytes(
        good.replace(b"What", b"So, what")
    )  # a digit to Python that int() does not read
    assert take("synthetic_qa", beside).seen == 60
    record_property("attacks", ("bad data files", len(cases) + 1))


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    path = tmp_path / "grows.jsonl"
    line = sample("synthetic_qa.jsonl").split(b"\n")[0] + b"\n"
    path.write_bytes(line * 3000)

    def rows() -> None:
        from medrecipes.data.sources import Files, Ledger, open_source

        for _ in open_source("synthetic_qa").read(Files(path), Ledger()):
            with path.open("ab") as file:
                file.write(line * 2)

    one_line(rows, "grows while it is read; wait", "grows.jsonl")
    record_property("attacks", ("bad data files", 1))


# --- JSON ------------------------------------------------------------------------------------------------------------

ROW = '{"question": "What is gout?", "response": "A disease of the joints."}'
DEEP = 100_000
LONG = "9" * 5000
# a row that is wrong, what is said of it, and whether it is wrong as a line (l), within an array (a), or as both
ROWS: list[tuple[str, str]] = [
    ('{"question": "x", "response": "y", "response": "z"}', "the key 'response' stands twice in one object; keep"),
    ('{"question": "x", "response": "y", "more": {"a": 1, "a": 2}}', "the key 'a' stands twice in one object"),
    ('{"question": "x", "response": "y", "more": ' + "[" * DEEP + "]" * DEEP + "}", "nested more deeply than any row"),
    ('{"question": "x", "response": "y", "more": ' + '{"a":' * DEEP + "1" + "}" * DEEP + "}", "nested more deeply"),
    ('{"question": "x", "response": ' + "[" * DEEP, "nested more deeply|invalid JSON"),
    ('{"question": "x", "response": "y", "n": ' + LONG + "}", "a number has more than 4,300 digits; quote it"),
    ('{"question": "x", "response": -' + LONG + "}", "a number has more than 4,300 digits"),
    ('{"question": "x", "response": NaN}', "NaN is no text; write an empty text"),
    ('{"question": "x", "response": "y", "score": -Infinity}', "-Infinity is no text"),
    ('{"question": "x", "response": 1e999}', "response is inf where text belongs"),
    ('{"question": "x", "response": 3.5}', "response is 3.5 where text belongs; quote it"),
    ('{"question": "x", "response": true}', "response is True where text belongs"),
    ('{"question": "x", "response": ["y"]}', "response is a list where text belongs"),
    ('{"question": {"en": "x"}, "response": "y"}', "question is an object where text belongs"),
    ('{"question": "x"}', "has no column 'response', only question; name"),
    ('{"Question": "x", "Response": "y"}', "has no column 'question', only Question, Response"),
    ("{" + ", ".join(f'"c{n}": {n}' for n in range(5000)) + "}", "only c0, c1, .*, …; name"),
    ('{"\\ud800": 1}', r"only \\ud800; name"),
    ("{}", "has no column 'question', only none"),
    ("[1, 2]", "is no object of named columns"),
    ('"text"', "is no object of named columns"),
    ("null", "is no object of named columns"),
    ("17", "is no object of named columns"),
    ('{"question": "x", "response": "y"', "invalid JSON"),
    ('{"question": "x" "response": "y"}', "invalid JSON"),
    ('{"question": "x", "response": "y",}', "invalid JSON"),
    ("{'question': 'x', 'response': 'y'}", "invalid JSON"),
    ('{"question": "x", "response": "y\ty"}', "invalid JSON .*control character"),
    ('{"question": "x", "response": "y\\x"}', "invalid JSON"),
    ('{"question": "x", "response": "y\\u12"}', "invalid JSON"),
    ('{"question": "x", "response": "y"} // a remark', "invalid JSON|a comma is missing"),
    ('{"question": "x", "response": "y"} {"question": "x", "response": "z"}', "invalid JSON|a comma is missing"),
    ('\ufeff{"question": "x", "response": "y"}', "invalid JSON"),
    ('{"question": "x", "response": "' + "y" * (5 << 20) + '"}', "more than 4 MB"),
]  # fmt: skip
# whole files, where what is wrong lies around the rows
FILES: list[tuple[str, str, str]] = [
    ("two.json", f"[{ROW}] [{ROW}]", "more follows the end of the array; put all rows into one"),
    ("garbage.json", f"[{ROW}] and so on", "more follows the end of the array"),
    ("bracket.json", f"[{ROW}]]", "more follows the end of the array"),
    ("comma.json", f"[{ROW},]", "invalid JSON"),
    ("commas.json", f"[{ROW},,{ROW}]", "invalid JSON"),
    ("open.json", f"[{ROW}", "the file ends within the array"),
    ("again.json", f"[{ROW},", "the file ends within the array"),
    ("begun.json", f"[{ROW}, {{\"question\": \"x", "line 1: invalid JSON .* at row 2"),
    ("word.json", "rows", "an array of rows should begin here"),
    ("number.json", "12", "an array of rows should begin here"),
    ("none.json", "[]", "is empty; name a file that has rows"),
    ("blank.json", " \n" * 200_000, "is empty; name a file that has rows"),
    ("within.json", f'{{"data": [{ROW}]}}', "has no column 'question', only data"),
    ("pretty.json", '{\n "data": []\n}', "line 1: invalid JSON"),
    ("deep.json", "[" * DEEP, "nested more deeply|invalid JSON"),
    ("blank.jsonl", "\n \n\t\n", "is empty"),
    ("mark.jsonl", "\ufeff", "is empty|invalid JSON"),
    ("array.jsonl", f"[{ROW}]", "is no object of named columns"),
    ("lines.jsonl", ROW + "\n" * 200_000 + ROW, "line 100,002: follows 100,000 empty lines|line 100002: follows"),
    ("mac.jsonl", f"{ROW}\r{ROW}\r", "invalid JSON"),
]  # fmt: skip


def test_rows_that_are_no_rows(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    count = 0
    for row, says in ROWS:
        for kind, content in (("jsonl", f"{ROW}\n{row}\n"), ("json", f"[{ROW},\n {row}]")):
            path = tmp_path / f"rows.{kind}"
            path.write_text(content, encoding="utf-8")
            where = r"rows\.\w+: (line|row) 2|rows\.json: line 2"
            one_line(lambda path=path: take("synthetic_qa", path), says, "")  # type: ignore[misc]
            with pytest.raises(MedRecipesError, match=where):
                take("synthetic_qa", path)
            count += 1
    for name, content, says in FILES:
        (tmp_path / name).write_bytes(content.encode())
        one_line(lambda name=name: take("synthetic_qa", tmp_path / name), says, name)  # type: ignore[misc]
    record_property("attacks", ("bad data files", count + len(FILES)))


def test_no_row_of_an_array_is_passed_over(tmp_path: Path) -> None:
    rows = [json.loads(ROW) | {"question": f"What is {n}?"} for n in range(40)]
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(rows) + "\n \n")
    assert take("synthetic_qa", path).seen == 40
    path.write_text(json.dumps(rows) + "\n" + json.dumps(rows))  # of these 80, 40 were once read and 40 lost
    one_line(lambda: take("synthetic_qa", path), "more follows the end of the array", "whole.json: line 2")


# --- CSV, Parquet, XML -----------------------------------------------------------------------------------------------

CSV: list[tuple[str, str, str]] = [
    ("ragged.csv", "question,response\na,b\na,b,c\n", "line 3: 3 cells under 2 column names"),
    ("short.csv", "question,response\na\n", "line 2: 1 cells under 2 column names"),
    ("open.csv", 'question,response\na,"b\n', "broken CSV"),
    ("behind.csv", 'question,response\na,"b" c\n', "line 2: broken CSV"),
    ("twice.csv", "question,response,response\na,b,c\n", "the column 'response' stands 2 times; rename or delete"),
    ("semicolon.csv", "question;answer\na;b\n", "has no column 'response', only question, answer"),
    ("header.csv", "question,response\n", "is empty"),
    ("blank.csv", "\n\n", "is empty|cells"),
    ("late.csv", "\nquestion,response\na,b\n", "cells under 0 column names|has no column"),
    ("spaces.csv", "question, response\na,b\n", "has no column 'response'"),
    ("mac.csv", "question,response\ra,b\r", "broken CSV|line"),
    ("nul.csv", "question,response\na\0,b,\n", "cells|NUL"),
    ("nul2.csv", "q\0uestion,response\na,b\n", r"has no column 'question', only q\\x00uestion"),
    ("huge.csv", "question,response\na," + "b" * (5 << 20) + "\n", "more than 4 MB"),
    ("huge2.csv", 'question,response\na,"' + "b\n" * (3 << 20), "broken CSV .*field limit"),
    ("wide.csv", ",".join(f"c{n}" for n in range(5000)) + "\n" + "," * 4999 + "\n", "has no column 'question', only c0, c1"),
    ("one.tsv", "question,answer\na,b\n", "has no column 'response', only question, answer"),
    ("quote.tsv", 'question\tresponse\n"a"b\tc\n', "line 2: broken CSV"),
]  # fmt: skip


def parquets() -> Iterator[tuple[str, bytes, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def made(*columns: tuple[str, Any]) -> bytes:
        file = io.BytesIO()
        pq.write_table(pa.table([values for _, values in columns], names=[name for name, _ in columns]), file)
        return file.getvalue()

    texts, halves = pa.array(["x"] * 3), pa.array([b"\xff\xfe"] * 3).view(pa.string())
    far = pa.array([2**62] * 3, pa.timestamp("us"))
    whole = made(("question", texts), ("response", texts))
    yield "nonsense", b"PAR1 nonsense PAR1", "cannot be read as Parquet"
    yield "torn", whole[: len(whole) // 2], "cannot be read as Parquet"
    yield "head cut off", whole[20:], "cannot be read as Parquet"
    yield "garbage behind", whole + b"x", "cannot be read as Parquet"
    yield "no rows", made(("question", texts[:0]), ("response", texts[:0])), "is empty"
    yield "no column", made(("question", texts)), "has no column 'response'"
    yield "a column twice", made(("question", texts), ("response", texts), ("response", texts)), "the column 'response' stands 2 times"  # fmt: skip
    yield "invalid UTF-8", made(("question", texts), ("response", halves)), "cannot be read as Parquet .*utf-8"
    yield "far dates", made(("question", texts), ("response", texts), ("at", far)), "cannot be read as Parquet"
    yield "numbers", made(("question", texts), ("response", pa.array([1, 2, 3]))), "response is 1 where text belongs"
    yield (
        "dates",
        made(("question", texts), ("response", pa.array([0] * 3, pa.date32()))),
        "response is 1970-01-01 where",
    )
    yield "bytes", made(("question", texts), ("response", pa.array([b"x"] * 3))), "response is b'x' where text belongs"
    yield "lists", made(("question", texts), ("response", pa.array([["x"]] * 3))), "response is a list where"
    yield "NaN", made(("question", texts), ("response", pa.array([float("nan")] * 3))), "response is NaN"
    same = pa.DictionaryArray.from_arrays(pa.array([0] * 400_000, pa.int32()), pa.array(["x" * 1000]))
    yield "a bomb", made(("question", same), ("response", same)), "unpacks to more than 100 times"


HEAD = '<?xml version="1.0"?>'
PAIR = "<QAPairs><QAPair><Question>Is it?</Question><Answer>Yes, it is.</Answer></QAPair></QAPairs>"
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
XML: list[tuple[str, bytes, str]] = [
    ("cut", f"{HEAD}<Document>{PAIR}".encode(), "broken XML"),
    ("crossed", f"{HEAD}<Document><a><b></a></b></Document>".encode(), "broken XML"),
    ("twice", f"{HEAD}<Document>{PAIR}</Document><Document/>".encode(), "broken XML"),
    ("entity", f"{HEAD}<Document>{PAIR}&nbsp;</Document>".encode(), "broken XML"),
    ("laughs", f'{HEAD}<!DOCTYPE d [<!ENTITY l0 "ha">{LAUGHS}]><Document>&l11;{PAIR}</Document>'.encode(), "broken XML"),
    ("outside", f'{HEAD}<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Document>&x;</Document>'.encode(), "broken XML"),
    ("foreign", f"{HEAD}<html><body/></html>".encode(), "root element <html> is none of"),
    ("unknown", f'<?xml version="1.0" encoding="x-klingon"?><Document>{PAIR}</Document>'.encode(), "encoding"),
    ("many", f'<?xml version="1.0" encoding="utf-7"?><Document>{PAIR}</Document>'.encode(), "cannot be read as XML|broken XML"),
    ("shift", f'<?xml version="1.0" encoding="shift_jis"?><Document>{PAIR}</Document>'.encode(), "cannot be read as XML|broken XML"),
    ("wrong", f'<?xml version="1.0" encoding="utf-16"?><Document>{PAIR}</Document>'.encode(), "broken XML"),
    ("latin", b"<Document>caf\xe9</Document>", "broken XML"),
    ("nul", b"<Document>\0</Document>", "broken XML"),
    ("control", b"<Document>&#1;</Document>", "broken XML"),
    ("deep", b"<Document>" + b"<a>" * 200_000, "broken XML"),
    ("large", b"<Document>" + b"a" * (5 << 20) + b"</Document>", "is more than 4 MB"),
    ("answers", f"{HEAD}<Document>{PAIR.replace('</Answer>', '</Answer><Answer>No.</Answer>')}</Document>".encode(), "holds 1 <Question> and 2 <Answer>"),
    ("questions", f"{HEAD}<Document>{PAIR.replace('<Answer>', '<Question>Or?</Question><Answer>')}</Document>".encode(), "holds 2 <Question> and 1 <Answer>"),
    ("pairless", f"{HEAD}<Document><Focus>Gout</Focus></Document>".encode(), "holds no list of <QAPair> alone, so rows would be lost"),
    ("other", f"{HEAD}<Document>{PAIR.replace('QAPair>', 'qaPair>')}</Document>".encode(), "holds no list of <QAPair> alone"),
]  # fmt: skip


def test_tables_and_pages(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    cases = [("synthetic_qa", name, content.encode(), says) for name, content, says in CSV]
    cases += [("synthetic_qa", f"{name}.parquet", content, says) for name, content, says in parquets()]
    cases += [("medquad", f"{name}.xml", content, says) for name, content, says in XML]
    for source, name, content, says in cases:
        path = put(tmp_path / name, content)
        one_line(lambda source=source, path=path: take(source, path), says, name)  # type: ignore[misc]
    record_property("attacks", ("bad data files", len(cases)))


def test_what_an_answer_says_within_mark_up_is_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "page.xml"
    pair = PAIR.replace("Is it?", "Is gout painful?")
    path.write_text(f"<Document>{pair.replace('it is.', '<b>it</b> is.<br/> Often.')}</Document>")
    [row] = read_rows(locate(Data(path=path))).records
    assert row.answer == "Yes, it is. Often."
    path.write_text("<Document>" + "<a>" * 50_000 + pair + "</a>" * 50_000 + "</Document>")
    assert take("medquad", path).seen == 1


# --- one's own rows, prompts, articles and tagged words --------------------------------------------------------------


def said(*turns: Any) -> str:
    return json.dumps({"messages": list(turns)})


def turn(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


OWN_ROWS: list[tuple[str, str]] = [
    (said(), "must end with the assistant"),
    (said(turn("user", "x")), "must end with the assistant"),
    (said(turn("assistant", "x")), "turn 1 is 'assistant' where 'user' belongs"),
    (said(turn("user", "x"), turn("user", "y"), turn("assistant", "z")), "turn 2 is 'user'"),
    (said(turn("user", "x"), turn("system", "y"), turn("assistant", "z")), "turn 2 is 'system'"),
    (said(turn("tool", "x"), turn("assistant", "z")), "turn 1 is 'tool' where 'user' belongs"),
    (said(turn("x" * 100_000, "x"), turn("assistant", "z")), "is none of system, user, assistant"),
    (said(turn(7, "x"), turn("assistant", "z")), "role is 7 where text belongs"),
    (said(turn("user", [{"type": "text", "text": "x"}]), turn("assistant", "z")), "content is a list where text belongs"),
    (said({"role": "user"}, turn("assistant", "z")), "has no column 'content'"),
    (said({"from": "human", "value": "x"}), "must end with the assistant"),
    (said({"from": "human"}, turn("assistant", "z")), "has no column 'value', only from; give each turn from and value"),
    (said({"from": "tool", "value": "x"}), "turn 1 is 'tool' where 'user' belongs"),
    (said("x", "y"), "messages is no list of objects"),
    (json.dumps({"messages": "x"}), "messages is no list of objects"),
    (json.dumps({"messages": None}), "messages is no list of objects"),
    (json.dumps({"conversations": []}), "must end with the assistant"),
    (json.dumps({"question": "x", "answer": "y"}), "name its columns, such as data.columns"),
]  # fmt: skip
ARTICLE = "1|t|Gout\n1|a|Gout hurts.\n"
PUBTATOR: list[tuple[str, str]] = [
    ("1|a|Gout hurts.\n", "line 1: an abstract without its title"),
    ("1|t|Gout\n2|a|Gout hurts.\n", "line 2: an abstract without its title"),
    (ARTICLE + "1|a|And more.\n", "line 3: a second abstract of 1"),
    ("1\t0\t4\tGout\tDisease\tD1\n1|t|Gout\n", "line 1: a mention before any title|holds no|no tagged words|cells"),
    (ARTICLE + "2\t0\t4\tGout\tDisease\tD1\n", "line 3: a line of article '2' among those of 1"),
    (ARTICLE + "1\t0\t4\tPain\tDisease\tD1\n", "line 3: the offsets 0 to 4 do not hold 'Pain'"),
    (ARTICLE + "1\t4\t0\tGout\tDisease\tD1\n", "the offsets 4 to 0 do not hold"),
    (ARTICLE + "1\t2\t2\t\tDisease\tD1\n", "the offsets 2 to 2 do not hold"),
    (ARTICLE + "1\t0\t99\tGout\tDisease\tD1\n", "do not hold"),
    (ARTICLE + "1\t-4\t4\tGout\tDisease\tD1\n", "6 cells that are neither a mention nor a relation"),
    (ARTICLE + f"1\t0\t{LONG}\tGout\tDisease\tD1\n", "offsets beyond any text"),
    (ARTICLE + "1\t\u00b2\t4\tGout\tDisease\tD1\n", "cells that are neither"),
    (ARTICLE + "1\t0\t4\tGout\t\tD1\n", "a mention without a type"),
    (ARTICLE + "1\t0\t4\tGout\n", "4 cells that are neither|do not hold"),
    (ARTICLE + "1\t0\t4\tGout\tDisease\tD1\tx\ty\n", "8 cells that are neither"),
    (ARTICLE + "remark\n", "neither|line of article 'remark'"),
    (ARTICLE + ARTICLE, "two rows have the id"),
]  # fmt: skip
PROMPTS: list[tuple[str, str]] = [
    ("List all genes.", "the prompt is not an instruction, an article"),
    ("", "the prompt is not an instruction"),
    ("Create a list.\n\nAspirin helps.", "the prompt is not an instruction"),
    ("Create a list.\n\nAspirin helps.\n\nList of extracted genes:", "the prompt is not an instruction"),
    ("Create a list.\n\nAspirin helps.\n\nList of extracted chemicals: aspirin", "the prompt is not an instruction"),
    ("\n\n" * 1_000_000, "the prompt is not an instruction"),
    ("x\n\n" + "\n\nList of extracted " * 100_000, "the prompt is not an instruction"),
]
WORDS: list[tuple[str, str]] = [
    ("aspirin\n", "1 cells where a word and its tag belong"),
    ("aspirin NN B-Chemical\n", "3 cells where a word and its tag belong"),
    ("aspirin\tNN\tB-Chemical\n", "3 cells where"),
    ("\tO\n", "where a word and its tag belong|1 cells"),
    ("aspirin\t\n", "1 cells where|'' is no tag"),
    ("aspirin\tChemical\n", "'Chemical' is no tag; write O, or B- or I-"),
    ("aspirin\tB_Chemical\n", "is no tag"),
    ("aspirin\tB-\n", "is no tag"),
    ("aspirin\tX-Chemical\n", "is no tag"),
    ("aspirin\tb-chemical\n", "is no tag"),
    ("aspirin\t0\n", "is no tag"),
    ("\n\n", "is empty; name a file of lines"),
    ("-DOCSTART- O\n\n", "is empty; name a file of lines"),
]


def labels(*words: Any) -> str:
    return json.dumps([{"text": "aspirin helps", "labels": list(words)}])


def word(text: Any, tag: Any = "O") -> dict[str, Any]:
    return {"word": text, "entity": tag}


TAGGED: list[tuple[str, str]] = [
    (json.dumps([{"text": "x"}]), "has no column 'labels'"),
    (json.dumps([{"labels": []}]), "has no column 'text'"),
    (json.dumps([{"text": "x", "labels": "O"}]), "labels is no list of"),
    (labels("aspirin"), "labels is no list of"),
    (labels({"word": "aspirin"}), "labels is no list of"),
    (labels(word("")), "a word is blank; leave it out"),
    (labels(word(" ")), "a word is blank"),
    (labels(word("aspirin\nhelps")), "a word holds a line end or a tab; part it there"),
    (labels(word("aspirin", "B-Small molecule")), "'B-Small molecule' is no tag"),
    (labels(word("aspirin", "B-a\nb")), "is no tag"),
    (labels(word(7)), "word is 7 where text belongs"),
    (labels(word("aspirin", None)), "'' is no tag"),
    (labels(word("aspirin", "Chemical")), "'Chemical' is no tag"),
    (labels(word("\ud800")), "holds half a character; write it whole"),
    (labels(word("aspirin", "B-\udfff")), "holds half a character"),
    (json.dumps([{"id": "\ud83d", "text": "x", "labels": [word("x")]}]), "holds half a character"),
    (json.dumps([{"id": "1", "text": "x", "labels": [word("x")]}] * 2), "two rows have the id 1"),
    (json.dumps([{"id": 7, "text": "x", "labels": [word("x")]}]), "id is 7 where text belongs"),
    (json.dumps([{"text": ["x"], "labels": [word("x")]}]), "text is a list where text belongs"),
]


def test_rows_of_every_source(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    good = said(turn("user", "Is it?"), turn("assistant", "Yes."))
    prompt = lambda text: json.dumps({"prompt": text, "completion": "- x"})  # noqa: E731
    cases = [("jsonl", "own.jsonl", f"{good}\n{row}\n", says) for row, says in OWN_ROWS]
    cases += [("ner_instruct", "article.txt", text, says) for text, says in PUBTATOR]
    cases += [("bio_ner", "article.txt", text, says) for text, says in PUBTATOR if text.startswith("1|t|")]
    cases += [("ner_instruct", "prompts.jsonl", prompt(text), says) for text, says in PROMPTS]
    cases += [("bio_ner", "words.tsv", text, says) for text, says in WORDS]
    cases += [("bio_ner", "tagged.json", text, says) for text, says in TAGGED]
    for source, name, content, says in cases:
        path = put(tmp_path / name, content.encode("utf-8", "surrogatepass"))
        one_line(lambda source=source, path=path: take(source, path), says)  # type: ignore[misc]
        path.unlink()
    record_property("attacks", ("bad data files", len(cases)))


def test_what_is_mended_or_left_out_is_counted(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    columns = Columns(question="q", answer="a", system="s", document="d", type="t", split="p")
    whole = {"q": "What is gout?", "a": "A disease of the joints.", "s": "", "d": "leaflet", "t": "cause", "p": "train"}
    half = {key: f"{whole[key]}\ud83d" for key in ("q", "a", "d", "t")}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"a": ""}, "dropped", "empty answer"),
        ({"a": None}, "dropped", "empty answer"),
        ({"a": " \t\r\n"}, "dropped", "empty answer"),
        ({"a": "\0\0"}, "dropped", "empty answer"),
        ({"a": "-- ?!"}, "dropped", "empty answer"),
        ({"a": "\ud800"}, "dropped", "empty answer"),
        ({"q": "What is it?"}, "dropped", "question without content"),
        ({"q": ""}, "dropped", "question without content"),
        ({"q": half["q"]}, "repaired", "text normalised"),
        ({"a": half["a"]}, "repaired", "text normalised"),
        ({"a": "A disease\0 of the joints."}, "repaired", "text normalised"),
        ({"a": "A disease\u202e of the joints."}, "repaired", "text normalised"),
        ({"a": "A disease" + "\u0301\u0323" * 200_000}, "repaired", "text normalised"),
        ({"d": half["d"]}, "repaired", "half a character taken out of a name"),
        ({"t": half["t"]}, "repaired", "half a character taken out of a name"),
    ]
    for changed, kind, reason in cases:
        path = tmp_path / "own.jsonl"
        path.write_text(json.dumps(whole) + "\n" + json.dumps({**whole, **changed}) + "\n")
        ledger = take("jsonl", path, columns)
        assert ledger.seen == 2
        assert dict(getattr(ledger, kind)) == {reason: 1}, changed
        assert ledger.examples[reason] == ["own:2"]
    path.write_text(json.dumps({**whole, "p": "TEST"}))
    rows = read_rows(locate(Data(source="jsonl", path=path, columns=columns)))
    assert rows.official(0)  # in whatever letters: a test row must not be learned
    record_property("attacks", ("bad data files", len(cases) + 1))


# --- files that are scored, previewed, tagged and compared -----------------------------------------------------------

ANSWER = {
    "id": "1",
    "group": "g",
    "task": "spans",
    "prompt": "aspirin and ibuprofen help",
    "gold": "",
    "prediction": "",
}
ANSWERS: list[tuple[Any, str]] = [
    ({"gold": "Chemical\t0\t2\taspirin and ibuprofen\nChemical\t2\t2\tibuprofen"}, "gold has spans that overlap, words 0 to 2 and 2 to 2"),
    ({"prediction": "Chemical\t0\t0\taspirin\nDisease\t0\t0\taspirin"}, "prediction has spans that overlap"),
    ({"gold": "Chemical\t0\t4\tx"}, "there are 4; count words from 0"),
    ({"gold": "Chemical\t-1\t0\tx"}, "count words from 0"),
    ({"gold": "Chemical\t1\t0\tx"}, "count words from 0"),
    ({"gold": "Chemical 0 0"}, "gold is no list of spans"),
    ({"gold": "Chemical\t\u00b2\t3\tx"}, "gold is no list of spans"),
    ({"gold": f"Chemical\t0\t{LONG}\tx"}, "gold is no list of spans"),
    ({"prediction": "\ud800"}, "prediction is no list of spans|half a character"),
    ({"task": "qa", "gold": "x", "prediction": "\udc00"}, "holds half a character; write it whole"),
    ('{"id": "1", "group": "g", "task": "qa", "prompt": "p", "gold": "x", "prediction": "", "bits": 1e999}', "bits is Infinity"),
    ({"task": "qa", "gold": "x", "tokens": -1}, "tokens is -1"),
    ({"task": "qa", "gold": "x", "stopped": 1}, "stopped is 1; it must be bool"),
    ({"task": ["qa"]}, "task \\['qa'\\] is unknown"),
    ({"id": 1.5}, "id is 1.5; it must be a text"),
    ({"id": None}, "id is missing"),
    ('{"id": "1", "id": "2"}', "the key 'id' stands twice"),
    ('{"bits": NaN}', "NaN is no text|NaN"),
    ("[" * DEEP, "nested more deeply|invalid JSON"),
    ('{"id": ' + LONG + "}", "a number has more than 4,300 digits"),
    ("[]", "is no JSON object"),
    ("{", "invalid JSON"),
]  # fmt: skip
LOSSES: list[tuple[str, str]] = [
    ("Step,Loss\n1,nan\n", "step or loss is no number; correct or delete this line"),
    ("Step,Loss\n1,inf\n", "step or loss is no number"),
    ("Step,Loss\ninf,1\n", "step or loss is no number"),
    ("Step,Loss\nnan,1\n", "step or loss is no number"),
    ("Step,Loss\n1e400,1\n", "step or loss is no number"),
    ("Step,Loss\nx,1\n", "step or loss is no number"),
    ("Step,Loss\n", "holds no training loss; name"),
    ("a,b\n1,2\n", "is no run: it has no columns Step and Loss"),
    ("", "is no run: it has no columns"),
]


def test_files_that_are_scored_previewed_tagged_and_compared(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:  # fmt: skip
    def read_file(kind: str, path: Path) -> object:
        return {
            "score": lambda: read_predictions(path),
            "preview": lambda: conversations_from_file(path),
            "tag": lambda: list(read_texts([], path)),
            "compare": lambda: read_history(path),
        }[kind]()

    one = json.dumps({**ANSWER, "id": "0"})
    cases = [("score", f"{one}\n{row if isinstance(row, str) else json.dumps({**ANSWER, **row})}\n".encode(), says) for row, says in ANSWERS]  # fmt: skip
    good = said(turn("user", "Is it?"), turn("assistant", "Yes."))
    cases += [("preview", f"{good}\n{row}\n".encode(), "; ") for row, _ in OWN_ROWS]
    cases += [("preview", said(turn("user", "\ud800"), turn("assistant", "y")).encode(), "half a character")]
    cases += [("tag", row.encode(), says) for row, says in (
        ("[" * DEEP, "nested more deeply|invalid JSON"), ('{"text": 1}', "has no text"), ('{"text": "\\ud800"}', "half a character"),
        ('{"text": "x", "text": "y"}', "stands twice"), ("17", "has no text"), ("{", "invalid JSON"),
    )]  # fmt: skip
    cases += [("compare", text.encode(), says) for text, says in LOSSES]
    for kind in ("score", "preview", "tag"):
        cases += [(kind, b"\xff\xfe", "UTF-8"), (kind, b"\x89PNG" + bytes(range(256)), "UTF-8")]
    for kind, content, says in cases:
        path = put(tmp_path / ("file.csv" if kind == "compare" else "file.jsonl"), content)
        one_line(lambda kind=kind, path=path: read_file(kind, path), says, path.name)  # type: ignore[misc]
        path.unlink()
    for kind in ("score", "preview", "tag", "compare"):
        for harm in (pipe, growing, lambda path: path.symlink_to(path.name)):
            path = tmp_path / "file.jsonl"
            harm(path)
            one_line(
                lambda kind=kind, path=path: read_file(kind, path), "pipe|device|symbolic links|no such", path.name
            )  # type: ignore[misc]
            path.unlink()
    record_property("attacks", ("bad data files", len(cases) + 12))


# --- through the commands --------------------------------------------------------------------------------------------


def test_the_commands_say_it_in_one_line_and_touch_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "r.toml").write_text('[data]\nsource = "synthetic_qa"\npath = "rows.json"\nmax_tokens = 256\n')
    cases: list[tuple[bytes | Bad, tuple[str, ...]]] = [
        (f"[{ROW}] [{ROW}]".encode(), ("rows.json: line 1", "more follows the end of the array")),
        (b'[{"question": "x", "response": "y", "response": "z"}]', ("rows.json: row 1", "stands twice")),
        (pipe, ("rows.json", "is a named pipe")),
        (growing, ("/dev/zero: is a device",)),
        (b"[" * DEEP, ("rows.json", "nested more deeply")),
        ((ROW.replace("gout", "\x1b[2J gout") + "\n").encode(), ("rows.json: line 1", "control character")),
    ]  # fmt: skip
    for bad, words in cases:
        path = put(tmp_path / "rows.json", bad)
        before = fingerprint(tmp_path / "mine")
        for command in (("check", "r.toml"), ("build", "r.toml", "--out", "built")):
            done = attack(*command, cwd=tmp_path)
            refused(done, *words)
            assert done.err.count("\n") == 1, done.err
        assert fingerprint(tmp_path / "mine") == before
        assert not (tmp_path / "built").exists() or not any((tmp_path / "built").iterdir())
        path.unlink()
    (tmp_path / "p.jsonl").write_text(json.dumps({**ANSWER, "gold": "Chemical\t0\t2\tx\nChemical\t1\t1\tand"}))
    refused(attack("score", "p.jsonl", cwd=tmp_path), "p.jsonl:1", "spans that overlap")
    assert sys.getrecursionlimit() < 10_000
    record_property("attacks", ("bad data files", len(cases) * 2 + 1))
