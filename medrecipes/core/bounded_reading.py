"""What a file from elsewhere may be: regular, whole while it is read, within bounds, JSON that says one thing; else one line."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from medrecipes.core.errors import DataError, reason

# the longest answers that we know of have 30 KB, a book has a megabyte; what is longer is no row, and patterns crawl over it
LONGEST = 4 << 20
# text packs to a third, rows made from one template to a thirtieth; a bomb packs to a thousandth
RATIO = 100
# below this many bytes nothing is a bomb, however well it packs
HARMLESS = 4 << 20
MOST_BLANK = 100_000  # empty lines one after the other
KINDS = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
SURROGATE = re.compile("[\ud800-\udfff]")


# signs that no font stacks so high on one letter; Unicode's own limit for streams (UAX 15), as sorting more of them is slow
MOST_MARKS = 30
STACKED = re.compile(rf"[^\w\s\x00-\x7f]{{{MOST_MARKS + 1},}}")


class BoundsError(Exception):
    """Bytes beyond what a file may hold; the text says why."""


class JsonError(ValueError):
    """JSON that is broken, or says what no row can: the text says what, and the next move."""


@dataclass
class Meter:
    """How much was unpacked from an archive, over all that lies in it."""

    packed: int
    unpacked: int = 0

    def count(self, size: int) -> None:
        """So many bytes more."""
        self.unpacked += size
        if self.unpacked > max(HARMLESS, RATIO * self.packed):
            raise BoundsError(
                f"unpacks to more than {RATIO} times its {self.packed:,} bytes, as no rows of text do and a bomb does; "
                "unpack it yourself if you trust it"
            )


class Metered(io.RawIOBase):
    """Unpacked bytes on their way to a reader, counted."""

    def __init__(self, file: BinaryIO, meter: Meter, below: BinaryIO | None = None) -> None:
        self.file, self.meter, self.below = file, meter, below

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        got = self.file.read(len(buffer))
        self.meter.count(len(got))
        buffer[: len(got)] = got
        return len(got)

    def close(self) -> None:
        """Close what lies below too."""
        self.file.close()
        if self.below:
            self.below.close()
        super().close()


def require_regular(about: os.stat_result) -> None:
    """Raise for what is no file, and may never end."""
    if not stat.S_ISREG(about.st_mode):
        what = KINDS.get(stat.S_IFMT(about.st_mode), "no regular file")
        raise BoundsError(f"is {what}, not a file; copy what it gives into one")


_taken = 0


def taken() -> int:
    """The bytes that this process has read of regular files, for whoever tells how far it is."""
    return _taken


class Whole(io.RawIOBase):
    """A regular file, which must stay what it was when it was opened: one that grows might never end."""

    def __init__(self, path: Path) -> None:
        # a pipe must not be waited for, and what it is must not change between a look and the opening
        self.file = io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC))
        about = os.fstat(self.file.fileno())
        try:
            require_regular(about)
        except BoundsError:
            self.close()
            raise
        self.size = about.st_size

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, which Parquet needs."""
        return True

    def fileno(self) -> int:
        """Its descriptor."""
        return self.file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        global _taken
        got = self.file.readinto(buffer)
        if self.file.tell() > self.size:
            raise BoundsError("grows while it is read; wait until whatever writes it is done")
        _taken += got or 0
        return got or 0

    def close(self) -> None:
        """Close what lies below too."""
        self.file.close()
        super().close()


def open_whole(path: Path, wanted: str) -> io.BufferedReader:
    """A regular file to read; whatever else lies at the path, or nothing, is one line that ends in what is `wanted`."""
    try:
        return io.BufferedReader(Whole(path), 1 << 18)
    except BoundsError as error:
        raise DataError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {wanted}") from None
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        raise DataError(f"{path}: cannot be read ({why(error)}); {wanted}") from None


def read_text(path: Path, wanted: str) -> str:
    """The text of a file that is small enough to lie in memory whole."""
    try:
        with open_whole(path, wanted) as file:
            return file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, BoundsError) as error:
        raise DataError(f"{path}: cannot be read ({why(error)}); {wanted}, in UTF-8") from None


def why(error: Exception) -> str:
    """What an error of the system or of a decoder says."""
    return (error.strerror if isinstance(error, OSError) else None) or reason(error)


def lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one that is longer than any row ends it."""
    number = blank = 0
    while line := file.readline(LONGEST + 1):
        number, blank = number + 1, blank + 1 if line.isspace() else 0
        if blank > MOST_BLANK:
            raise BoundsError(f"line {number}: follows {MOST_BLANK:,} empty lines, as no rows do; take them out")
        if len(line) > LONGEST:
            raise BoundsError(
                f"line {number}: has more than {LONGEST >> 20} MB, which is no row; put a row in each line"
            )
        yield line


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that stands twice, Python would keep the last value and lose the others without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"the key {twice[:60]!r} stands twice in one object; keep the one that is meant")
    return found


def _constant(name: str) -> None:
    raise JsonError(f"{name} is no text; write an empty text, or drop the row")


DECODER = json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_once)


def decode(text: str, at: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at a place, and where it ends; JSONDecodeError where it is cut short or broken."""
    try:
        return DECODER.raw_decode(text, at)
    except (json.JSONDecodeError, JsonError):
        raise
    except RecursionError:
        raise JsonError("it is nested more deeply than any row; flatten it") from None
    except ValueError:  # Python converts no integer of so many digits
        raise JsonError("a number has more than 4,300 digits; quote it") from None


def loads(text: str) -> Any:
    """The one JSON value of a text; JsonError says what is wrong with it, and the next move."""
    text = text.strip(" \t\r\n")
    try:
        value, end = decode(text)
    except json.JSONDecodeError as error:
        raise JsonError(f"invalid JSON ({error}); correct or delete the line") from None
    if end < len(text):
        raise JsonError(
            f"invalid JSON (more follows the value, from character {end + 1} on); correct or delete the line"
        )
    return value


def thin(text: str) -> str:
    """A text whose letters bear at most MOST_MARKS accents each: normalising takes the square of their number."""
    return text if text.isascii() else STACKED.sub(_thinner, text)


def _thinner(stack: re.Match[str]) -> str:
    kept, marks = [], 0
    for sign in stack[0]:
        marks = marks + 1 if unicodedata.combining(sign) else 0
        kept += [sign] if marks <= MOST_MARKS else []
    return "".join(kept)
