"""Files, folders, zip and gzip archives as streams of rows; damage is one line with file, row and the next move."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from medrecipes.errors import DataError

TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
BLOCK = 1 << 16
Row = dict[str, Any]


@dataclass(frozen=True)
class Blob:
    """One file to read, wherever it lies: `name` for messages, `inside` its path within the folder or archive."""

    name: str
    inside: PurePosixPath
    opener: Callable[[], BinaryIO]

    @property
    def suffix(self) -> str:
        """The kind of file, `.gz` left out."""
        return self.inside.suffix.lower()

    @property
    def stem(self) -> str:
        """The file's path without its ending, for row ids."""
        return self.inside.with_suffix("").as_posix()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The bytes, unpacked; damage that shows while reading is a DataError too."""
        try:
            with self.opener() as file:
                yield file
        except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{self.name}: the archive is damaged ({error}); fetch it again") from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error}); correct the path") from None


def blobs(path: Path, suffixes: Sequence[str]) -> list[Blob]:
    """All files of these kinds at a path (a file, folder, zip or gz), in natural order: 2_GARD before 10_ADAM."""
    if not path.exists():
        raise DataError(f"{path}: does not exist; correct data.path")
    files = sorted((p for p in path.rglob("*") if p.is_file()), key=_natural) if path.is_dir() else [path]
    found: list[Blob] = []
    for file in files:
        inside = PurePosixPath(file.relative_to(path).as_posix() if path.is_dir() else file.name)
        name = file.name if file == path else f"{path.name}/{inside}"
        if file.suffix.lower() == ".zip":
            found += _members(file, name, suffixes)
        elif file.suffix.lower() == ".gz":
            if inside.with_suffix("").suffix.lower() in suffixes:
                found.append(Blob(name, inside.with_suffix(""), partial(_gunzip, file)))
        elif inside.suffix.lower() in suffixes:
            found.append(Blob(name, inside, partial(_open, file)))
    return found


def tables(path: Path) -> list[Blob]:
    """The tables at a path; none is an error."""
    found = blobs(path, TABLES)
    if not found:
        raise DataError(f"{path}: holds none of {', '.join(TABLES)} (nor .gz or .zip of them); correct data.path")
    return found


def _open(file: Path) -> BinaryIO:
    return file.open("rb")


def _gunzip(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file))


def _members(file: Path, name: str, suffixes: Sequence[str]) -> list[Blob]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name}: the archive is damaged ({error}); fetch it again") from None
    members = sorted((PurePosixPath(i.filename) for i in archive.infolist() if not i.is_dir()), key=_natural)
    return [
        Blob(f"{name}: {m}", m, partial(cast(Callable[..., BinaryIO], archive.open), str(m)))
        for m in members
        if m.suffix.lower() in suffixes
    ]


def _natural(path: Path | PurePosixPath) -> list[tuple[int, str]]:
    """A sorting key in which numbers count as numbers."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


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


def _lines(blob: Blob, file: Iterable[bytes]) -> Iterator[str]:
    """Decoded lines, so that a bad byte is known by its line."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(f"{blob.name}: line {number}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None


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


def _jsonl(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(blob, file), 1):
        if line.strip():
            yield number, _loads(blob, number, line)


def _json(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """An array of objects, one at a time whatever its length; JSON lines under the wrong ending are read as such."""
    decoder = json.JSONDecoder(parse_constant=_constant)
    decode = codecs.getincrementaldecoder("utf-8-sig")()
    buffer, at, line, number, size, ended = "", 0, 1, 0, BLOCK, False

    def more() -> None:
        nonlocal buffer, at, line, ended, size
        block = file.read(size)
        line += buffer.count("\n", 0, at)
        try:
            buffer, at = buffer[at:] + decode.decode(block, not block), 0
        except UnicodeDecodeError as error:
            raise DataError(f"{blob.name}: after row {number}: {error.reason}, not UTF-8; save it as UTF-8") from None
        ended = not block

    def skip() -> str:
        nonlocal at
        while True:
            at = _blank(buffer, at)
            if at < len(buffer) or ended:
                return buffer[at : at + 1]
            more()

    def bad(why: object) -> DataError:
        where = line + buffer.count("\n", 0, at)
        return DataError(f"{blob.name}: line {where}: invalid JSON ({why}) at row {number + 1}; correct it there")

    first = skip()
    if first == "{":
        yield from _jsonl(blob, cast(BinaryIO, io.BytesIO((buffer[at:]).encode() + file.read())))
        return
    if not first:
        return
    if first != "[":
        raise bad("an array of rows should begin here")
    at += 1
    if skip() == "]":
        return
    while True:
        if not skip():
            raise bad("the file ends within the array")
        try:
            value, end = decoder.raw_decode(buffer, at)
        except _NotANumberError as error:
            raise DataError(
                f"{blob.name}: row {number + 1}: {error} is no text; write an empty text, or drop the row"
            ) from None
        except json.JSONDecodeError as error:
            if ended:
                raise bad(error.msg) from None
            size *= 2  # perhaps only cut short by the block; doubling keeps a true error from costing quadratic time
            more()
            continue
        size, at, number = BLOCK, end, number + 1
        yield number, value
        mark = skip()
        if mark == "]":
            return
        if mark != ",":
            raise bad("the file ends within the array" if not mark else "a comma is missing")
        at += 1


_BLANKS = re.compile(r"[ \t\r\n]*")


def _blank(buffer: str, at: int) -> int:
    match = _BLANKS.match(buffer, at)
    return match.end() if match else at


def _csv(blob: Blob, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(1 << 30)  # answers longer than the module's 128 KB occur
    reader = csv.reader(_lines(blob, file), delimiter="\t" if blob.suffix == ".tsv" else ",", strict=True)
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
        reason = str(error).splitlines()[0]
        raise DataError(f"{blob.name}: cannot be read as Parquet ({reason}); fetch it again") from None
