"""JSON, JSON lines, CSV, TSV, Parquet and Excel as streams of rows; what is wrong is one line with file, row and next move."""

from __future__ import annotations

import codecs
import csv
import importlib
import importlib.util
import io
import json
import math
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

from medrecipes.core.bounded_reading import LONGEST, BoundsError, JsonError, Meter, decode, loads
from medrecipes.core.errors import DataError, reason, shown
from medrecipes.data.sources import Files, Ledger
from medrecipes.data.sources._files import Blob, lines, tables

BLOCK = 1 << 16
TOO_LONG = f"a row of more than {LONGEST >> 20} MB, or a text that is not closed"
ROWS_AT_ONCE = 512  # of Parquet
SHOWN = 12  # columns that a message names
MOST_PACKED = 1 << 30  # bytes of a Parquet file in an archive, which must lie in memory whole
MOST_COLUMNS = 1000  # that a column which is not there is looked for among
MARKS = {
    ".csv": (",", ";", "\t", "|"),
    ".tsv": ("\t", ",", ";", "|"),
}  # between columns; the first that the header is cut by
Row = dict[str, Any]


def rows(blob: Blob, required: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers (lines where the format has them); every row has the required columns."""
    kind = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}.get(blob.suffix, _excel)
    empty = True
    with blob.open() as file:
        for number, row in kind(blob, file):
            empty = False
            if not isinstance(row, dict):
                raise DataError(f"{blob.name}: row {number} is no object of named columns; write it as {{...}}")
            for column in required:
                if column not in row:
                    raise _no_column(blob, number, column, row)
            yield number, row
    if empty:
        raise DataError(f"{blob.name}: is empty; name a file that has rows")


class Pair(NamedTuple):
    """A row of a table of questions and answers."""

    id: str
    question: str
    answer: str
    instruction: str


def pairs(files: Files, ledger: Ledger, question: str, answer: str, instruction: str = "") -> Iterator[Pair]:
    """The rows that have an answer, by the names of their columns; those without are counted."""
    names = [name for name in (question, answer, instruction) if name]
    for blob in tables(files.path):
        for number, row in rows(blob, names):
            ledger.seen += 1
            id = f"{blob.stem}:{number}"
            said = text(blob, number, row, answer)
            if said.strip():
                asked = text(blob, number, row, instruction).strip() if instruction else ""
                yield Pair(id, text(blob, number, row, question), said, asked)
            else:
                ledger.drop("empty answer", id)


def text(blob: Blob, number: int, row: Row, column: str) -> str:
    """One cell as text; nothing there is an empty text, a number is an error."""
    if column not in row:
        raise _no_column(blob, number, column, row)
    value = row[column]
    if value is None:
        return ""
    if isinstance(value, float) and math.isnan(value):
        raise DataError(f"{blob.name}: row {number}: {column} is NaN; write an empty text, or drop the row")
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else str(value)[:60]
        raise DataError(f"{blob.name}: row {number}: {column} is {kind} where text belongs; quote it")
    return value


def _no_column(blob: Blob, number: int, column: str, row: Row) -> DataError:
    return no_column(blob, number, column, row, 'name the right file, or use source = "jsonl" with data.columns')


def no_column(blob: Blob, number: int, column: str, row: Row, cure: str) -> DataError:
    """The error for a column that a row has not; `cure`: the next move, where the row's own columns tell no better one."""
    names = [str(name) for name in islice(row, MOST_COLUMNS)]
    if meant := [name for name in names if name.strip().casefold() == column.strip().casefold()]:
        cure = f"did you mean {shown(meant[0], 60)}? Letters count: {cure}"
    return DataError(f"{blob.name}: row {number} has no column {shown(column, 60)}, only {columns_of(row)}; {cure}")


def columns_of(row: Row) -> str:
    """The names of a row's columns, as many as anybody reads."""
    names = [str(name)[:40] for name in islice(row, SHOWN)]
    return ", ".join([*names, *(["…"] if len(row) > SHOWN else [])]) or "none"


def _jsonl(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(blob, file), 1):
        if line.strip():
            try:
                yield number, loads(line)
            except JsonError as error:
                raise DataError(f"{blob.name}: line {number}: {error}") from None


def _json(blob: Blob, file: io.BufferedReader) -> Iterator[tuple[int, Any]]:
    """An array of objects, one at a time whatever its length; JSON lines under the wrong ending are read as such."""
    if file.peek().removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{":
        yield from _jsonl(blob, file)
        return
    array = _Array(blob, file)
    mark = array.next()
    if not mark:
        return
    if mark != "[":
        raise array.broken("an array of rows should begin here")
    array.at += 1
    mark = array.next()
    while mark != "]":
        yield array.number + 1, array.value()
        array.number += 1
        mark = array.next()
        if mark not in ("]", ","):
            raise array.broken("a comma is missing" if mark else "the file ends within the array")
        array.at += mark == ","
    array.at += 1
    if array.next():
        raise array.broken("more follows the end of the array; put all rows into one")


class _Array:
    """The text of a JSON array, of which only the part around the current row is in memory."""

    def __init__(self, blob: Blob, file: BinaryIO) -> None:
        self.blob, self.file = blob, file
        self.text, self.at, self.line, self.number, self.ended = "", 0, 1, 0, False
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()

    def next(self) -> str:
        """The next character that is no blank, or nothing at the end."""
        while True:
            self.at = re.compile(r"[ \t\r\n]*").match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self._more(BLOCK)

    def value(self) -> Any:
        """The value that comes next."""
        size = BLOCK
        if not self.next():
            raise self.broken("the file ends within the array")
        while True:
            try:
                value, end = decode(self.text, self.at)
                if end - self.at > LONGEST:
                    raise self.broken(TOO_LONG)
                self.at = end
                return value
            except JsonError as error:
                raise DataError(f"{self.blob.name}: row {self.number + 1}: {error}") from None
            except json.JSONDecodeError as error:
                if self.ended:
                    raise self.broken(error.msg) from None
                if len(self.text) - self.at > LONGEST:
                    raise self.broken(TOO_LONG) from None
                self._more(size)  # perhaps only cut short; doubling keeps a true error from costing quadratic time
                size *= 2

    def broken(self, why: str) -> DataError:
        """The error for this place."""
        line = self.line + self.text.count("\n", 0, self.at)
        return DataError(
            f"{self.blob.name}: line {line}: invalid JSON ({why}) at row {self.number + 1}; correct it there"
        )

    def _more(self, size: int) -> None:
        block = self.file.read(size)
        self.line += self.text.count("\n", 0, self.at)
        try:
            self.text, self.at = self.text[self.at :] + self._decoder.decode(block, not block), 0
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.blob.name}: after row {self.number}: {error.reason}, not UTF-8; save it as UTF-8"
            ) from None
        self.ended = not block


def _once(blob: Blob, names: Sequence[str]) -> None:
    """Raise for two columns of one name: a row would keep one of them without a word."""
    for name, count in Counter(names).items():
        if name and count > 1:
            raise DataError(f"{blob.name}: the column {name[:60]!r} stands {count} times; rename or delete the others")


def _csv(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    text = lines(blob, file)
    first = list(islice(text, 1))
    reader = csv.reader(chain(first, text), delimiter=_mark(blob, first), strict=True)
    try:
        header = _cells(reader) or []
        _once(blob, header)
        while (cells := _cells(reader)) is not None:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{blob.name}: line {reader.line_num}: {len(cells)} cells under {len(header)} column names; "
                    "quote cells that hold a separator or a line end"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{blob.name}: line {reader.line_num}: broken CSV ({error}); mend the quotes there") from None


def _mark(blob: Blob, header: Sequence[str]) -> str:
    """What keeps the columns apart: the mark of the file's ending, or the one that cuts its header where that does not."""
    for mark in MARKS[blob.suffix]:
        with suppress(csv.Error):
            if any(len(cells) > 1 for cells in csv.reader(header, delimiter=mark, strict=True)):
                return mark
    return MARKS[blob.suffix][0]


def _cells(reader: Iterator[list[str]]) -> list[str] | None:
    """The next row's cells, None at the end: longer ones than the module's 128 KB too, whose limit is that of all readers."""
    before = csv.field_size_limit(LONGEST)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def _parquet(blob: Blob, file: io.BufferedReader) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # what is packed cannot seek, which Parquet must
        whole = file if file.seekable() else io.BytesIO(file.read(MOST_PACKED + 1))
        size = whole.seek(0, io.SEEK_END)
        if size > MOST_PACKED and whole is not file:
            raise BoundsError(f"is Parquet of more than {MOST_PACKED >> 20} MB in an archive; unpack it")
        whole.seek(0)
        table, meter, number = pyarrow.parquet.ParquetFile(whole), Meter(size), 0
        _once(blob, table.schema_arrow.names)
        Meter(size).count(sum(table.metadata.row_group(i).total_byte_size for i in range(table.num_row_groups)))
        for batch in table.iter_batches(batch_size=ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                # one text may stand for all rows of a column in the file
                meter.count(sum(len(cell) for cell in row.values() if isinstance(cell, str)))
                yield number, row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{blob.name}: cannot be read as Parquet ({reason(error)}); fetch it again") from None


def _excel(blob: Blob, file: io.BufferedReader) -> Iterator[tuple[int, Row]]:
    """The rows of the one sheet that has any, every cell as the text that a CSV would hold."""
    if importlib.util.find_spec("openpyxl") is None:
        raise DataError(f"{blob.name}: is an Excel file, which openpyxl reads; pip install openpyxl, or save its sheet as CSV (in UTF-8)")  # fmt: skip
    whole = io.BytesIO(file.read(MOST_PACKED + 1))
    size = len(whole.getbuffer())
    if size > MOST_PACKED:
        raise BoundsError(f"is an Excel file of more than {MOST_PACKED >> 20} MB; save its sheet as CSV")
    Meter(size).count(sum(entry.file_size for entry in zipfile.ZipFile(whole).infolist()))
    try:
        book = importlib.import_module("openpyxl").load_workbook(whole, read_only=True, data_only=True)
        filled = [sheet for sheet in book.worksheets if any(any(row) for row in islice(sheet.values, 100))]
        if len(filled) > 1:
            names = ", ".join(sheet.title for sheet in filled[:SHOWN])
            raise DataError(f"{blob.name}: has rows on {len(filled)} sheets ({names}); keep the one that is meant")
        numbered = ((number, cells) for sheet in filled for number, cells in enumerate(sheet.values, 1) if any(cells))
        header = [_cell(value) for value in next(numbered, (1, ()))[1]]
        while header and not header[-1]:
            header.pop()
        _once(blob, header)
        for number, values in numbered:
            cells = [_cell(value) for value in values]
            if any(cells[len(header) :]):
                raise DataError(f"{blob.name}: row {number}: has cells beside the columns that the first row names; name them there")  # fmt: skip
            yield number, dict(zip(header, [*cells, *[""] * len(header)], strict=False))
    except (DataError, BoundsError):
        raise
    except Exception as error:  # a damaged workbook fails in as many ways as it has parts
        raise DataError(f"{blob.name}: cannot be read as Excel ({reason(error)}); save its sheet as CSV (in UTF-8)") from None  # fmt: skip


def _cell(value: Any) -> str:
    """A cell of a sheet as text: 5 and not 5.0, a date without the hour of midnight."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).removesuffix(" 00:00:00")
