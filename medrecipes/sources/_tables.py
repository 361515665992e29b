"""JSON, JSON lines, CSV, TSV and Parquet as streams of rows; what is wrong is one line with file, row and next move."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from medrecipes.errors import DataError, reason
from medrecipes.sources import Files, Ledger
from medrecipes.sources._files import Blob, lines, tables

BLOCK = 1 << 16
Row = dict[str, Any]


def rows(blob: Blob, required: Sequence[str] = ()) -> Iterator[tuple[int, Row]]:
    """The rows of a table with their numbers (lines where the format has them); every row has the required columns."""
    kind = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}[blob.suffix]
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
        raise DataError(
            f"{blob.name}: row {number}: {column} is {json.dumps(value, default=str)[:60]} where text belongs; quote it"
        )
    return value


def _no_column(blob: Blob, number: int, column: str, row: Row) -> DataError:
    has = ", ".join(map(str, row)) or "none"
    return DataError(
        f"{blob.name}: row {number} has no column {column!r}, only {has}; name the right file, "
        'or use source = "jsonl" with data.columns'
    )


def _loads(blob: Blob, line: int, source: str) -> Any:
    try:
        return json.loads(source, parse_constant=_constant)
    except _NotANumberError as error:
        raise DataError(f"{blob.name}: line {line}: {error} is no text; write an empty text, or drop the row") from None
    except ValueError as error:
        raise DataError(f"{blob.name}: line {line}: invalid JSON ({error}); correct or delete the line") from None


class _NotANumberError(Exception):
    """NaN or an infinity in JSON."""


def _constant(name: str) -> None:
    raise _NotANumberError(name)


def _jsonl(blob: Blob, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(blob, file), 1):
        if line.strip():
            yield number, _loads(blob, number, line)


def _json(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """An array of objects, one at a time whatever its length; JSON lines under the wrong ending are read as such."""
    array = _Array(blob, file)
    first = array.next()
    if first == "{":
        yield from _jsonl(blob, array.lines())
    elif first == "[":
        array.at += 1
        mark = array.next()
        while mark != "]":
            yield array.number + 1, array.value()
            array.number += 1
            mark = array.next()
            if mark not in ("]", ","):
                raise array.broken("a comma is missing" if mark else "the file ends within the array")
            array.at += mark == ","
    elif first:
        raise array.broken("an array of rows should begin here")


class _Array:
    """The text of a JSON array, of which only the part around the current row is in memory."""

    def __init__(self, blob: Blob, file: BinaryIO) -> None:
        self.blob, self.file = blob, file
        self.text, self.at, self.line, self.number, self.ended = "", 0, 1, 0, False
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder(parse_constant=_constant)

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
                value, self.at = self._json.raw_decode(self.text, self.at)
                return value
            except _NotANumberError as error:
                where = f"{self.blob.name}: row {self.number + 1}"
                raise DataError(f"{where}: {error} is no text; write an empty text, or drop the row") from None
            except json.JSONDecodeError as error:
                if self.ended:
                    raise self.broken(error.msg) from None
                self._more(size)  # perhaps only cut short; doubling keeps a true error from costing quadratic time
                size *= 2

    def lines(self) -> Iterator[bytes]:
        """All that is left, as lines of bytes."""
        begun = self.text[self.at :].encode() + self._decoder.getstate()[0] + self.file.readline()
        return chain(begun.splitlines(keepends=True), self.file)

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


def _csv(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(1 << 30)  # answers longer than the module's 128 KB occur
    reader = csv.reader(lines(blob, file), delimiter="\t" if blob.suffix == ".tsv" else ",", strict=True)
    try:
        header = next(reader, [])
        for cells in reader:
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


def _parquet(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet

    try:
        # members of archives cannot seek, which parquet must
        table = pyarrow.parquet.ParquetFile(file if isinstance(file, io.BufferedReader) else io.BytesIO(file.read()))
        number = 0
        for batch in table.iter_batches(batch_size=2048):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{blob.name}: cannot be read as Parquet ({reason(error)}); fetch it again") from None
