"""Files, folders, zip and gzip archives as streams of bytes and lines; damage is one line with its file and next move."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from medrecipes.core import bounded_reading
from medrecipes.core.bounded_reading import BoundsError, Meter, Metered, open_whole
from medrecipes.core.errors import DataError, visible

TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".zip")
# what is packed otherwise would be passed over without a word
UNREAD = (".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".tar", ".tgz")
EXCEL = (".xlsx", ".xlsm")
SHEETS = (".xls", ".xlsb", ".ods", ".numbers")  # which nothing here opens
BESIDE = ("._", ".#")  # what macOS and editors put beside a file
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)
CORRECT = "correct data.path"


@dataclass(frozen=True)
class Blob:
    """One file to read, wherever it lies: `name` for messages, `inside` its path within the folder or archive."""

    name: str
    inside: PurePosixPath
    opener: Callable[[], io.BufferedReader]

    @property
    def suffix(self) -> str:
        """The kind of file, `.gz` left out."""
        return self.inside.suffix.lower()

    @property
    def stem(self) -> str:
        """The file's path without its ending, for row ids."""
        return visible(self.inside.with_suffix("").as_posix())

    @contextmanager
    def open(self) -> Iterator[io.BufferedReader]:
        """The bytes, unpacked; damage that shows while reading is a DataError too."""
        try:
            with self.opener() as file:
                yield file
        except DAMAGE as error:
            raise DataError(f"{self.name}: the archive is damaged ({error}); fetch it again") from None
        except BoundsError as error:
            raise DataError(f"{self.name}: {error}") from None
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read ({error.strerror or error}); {CORRECT}") from None


def files(path: Path) -> list[Path]:
    """The file at a path, or all files of the folder there; what would be passed over, or never end, is one line."""
    try:
        if not path.is_dir():
            open_whole(path, CORRECT).close()
            return [path]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({bounded_reading.why(error)}); {CORRECT}") from None
    found = []
    for folder, folders, names in os.walk(path, onerror=_unreadable):
        for name in folders:
            if (link := Path(folder, name)).is_symlink():
                raise DataError(
                    f"{link}: is a link to another folder, which is not followed; move its files here, or set data.path to it"
                )
        for file in (Path(folder, name) for name in names if not name.startswith(BESIDE)):
            try:
                bounded_reading.require_regular(file.stat())
            except BoundsError as error:
                raise DataError(f"{file}: {error}, or move it away") from None
            except OSError as error:  # a link that leads nowhere, or round in a circle
                raise DataError(f"{file}: cannot be read ({error.strerror}); mend it, or move it away") from None
            found.append(file)
    return found


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); mend its permissions") from None


def blobs(path: Path, suffixes: Sequence[str]) -> list[Blob]:
    """All files of these kinds at a path (a file, folder, zip or gz), in natural order: 2_GARD before 10_ADAM."""
    folder = path.is_dir()
    found: list[Blob] = []
    for file in sorted(files(path), key=_natural):
        inside = PurePosixPath(file.relative_to(path).as_posix() if folder else file.name)
        name = f"{path.name}/{inside}" if folder else file.name
        _require_read(name, inside)
        if file.suffix.lower() == ".zip":
            found += _members(file, name, suffixes)
        elif file.suffix.lower() == ".gz":
            if inside.with_suffix("").suffix.lower() in suffixes:
                found.append(Blob(name, inside.with_suffix(""), partial(_gunzip, file)))
        elif inside.suffix.lower() in suffixes:
            found.append(Blob(name, inside, partial(open_whole, file, CORRECT)))
    return found


def tables(path: Path) -> list[Blob]:
    """The tables at a path, or its Excel files where it has no others; none is an error."""
    found = blobs(path, TABLES) or blobs(path, EXCEL)
    if not found:
        if sheet := next((file.name for file in sorted(files(path)) if file.suffix.lower() in SHEETS), None):
            raise DataError(f"{path}: {sheet} is a spreadsheet of a kind that is not read; save its sheet as .xlsx or as CSV (in UTF-8), and name that as data.path")  # fmt: skip
        raise DataError(f"{path}: holds none of {', '.join(TABLES)}, {EXCEL[0]} (nor .gz or .zip of them); {CORRECT}")
    return found


def _require_read(name: str, inside: PurePosixPath) -> None:
    """Raise for an archive that nobody here opens, and for a name that is no text."""
    kinds = [suffix.lower() for suffix in inside.suffixes[-2:]]
    if kinds[-1:] and (kinds[-1] in UNREAD or (kinds[-1] == ".gz" and kinds[0] in (".tar", *PACKED))):
        raise DataError(
            f"{name}: is packed in a way that is not read here; unpack it, pack it as .gz or .zip, or move it away"
        )
    try:
        str(inside).encode()
    except UnicodeEncodeError:
        raise DataError(f"{name}: the file's name is not UTF-8; rename it") from None


def _gunzip(file: Path) -> io.BufferedReader:
    packed = open_whole(file, CORRECT)
    meter = Meter(os.fstat(packed.fileno()).st_size)
    return io.BufferedReader(Metered(cast(BinaryIO, gzip.open(packed)), meter, packed), 1 << 18)


def _members(file: Path, name: str, suffixes: Sequence[str]) -> list[Blob]:
    try:
        archive = zipfile.ZipFile(open_whole(file, CORRECT))
        entries = sorted(
            ((PurePosixPath(i.filename), i) for i in archive.infolist() if not i.is_dir()), key=lambda e: _natural(e[0])
        )
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{name}: the archive is damaged ({error}); fetch it again") from None
    meter = Meter(file.stat().st_size)
    found = []
    for member, entry in entries:
        if member.name.startswith(BESIDE):
            continue
        where = f"{name}: {member}"
        _require_read(where, member)
        if member.suffix.lower() in PACKED:
            raise DataError(f"{where}: is an archive within an archive; unpack the outer one")
        if member.suffix.lower() in suffixes:
            found.append(Blob(where, member, partial(_unzip, archive, entry, where, meter)))
    return found


def _unzip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str, meter: Meter) -> io.BufferedReader:
    if entry.flag_bits & 1:
        raise DataError(f"{where}: is encrypted; unpack it with its password first")
    try:
        return io.BufferedReader(Metered(cast(BinaryIO, archive.open(entry)), meter), 1 << 18)
    except NotImplementedError as error:
        raise DataError(
            f"{where}: is packed in a way that is not read here ({error}); unpack it, and pack it as deflate"
        ) from None


def _natural(path: Path | PurePosixPath) -> tuple[list[tuple[int, str]], str]:
    """A sorting key in which numbers count as numbers."""
    whole = path.as_posix()
    # every second part is digits; as texts, since Python makes no number of thousands of them
    parts = [part.lstrip("0") if at % 2 else part for at, part in enumerate(re.split(r"([0-9]+)", whole))]
    return [(len(part) if at % 2 else 0, part) for at, part in enumerate(parts)], whole


def lines(blob: Blob, file: BinaryIO) -> Iterator[str]:
    """Decoded lines, so that a bad byte is known by its line."""
    for number, line in enumerate(bounded_reading.lines(file), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(f"{blob.name}: line {number}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None
