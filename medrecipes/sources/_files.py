"""Files, folders, zip and gzip archives as streams of bytes and lines; damage is one line with its file and next move."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from medrecipes.errors import DataError

TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


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


def lines(blob: Blob, file: Iterable[bytes]) -> Iterator[str]:
    """Decoded lines, so that a bad byte is known by its line."""
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise DataError(f"{blob.name}: line {number}: byte 0x{byte:02x} is not UTF-8; save it as UTF-8") from None
