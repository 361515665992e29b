"""Content-addressed stage folders: same inputs, same key, no work; a killed stage leaves nothing that looks whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrecipes import ranks
from medrecipes.errors import DataError, MedRecipesError

MANIFEST = "manifest.json"
WRITE_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EEXIST,
}
# how libraries that write below Python (safetensors, torch) put a full disk
FULL_DISK = ("No space left", "StorageFull", "PytorchStreamWriter failed", "unexpected pos", "File too large")


def digest(value: Any) -> str:
    """The sha256 of a JSON value (keys sorted), of bytes, or of a text."""
    if not isinstance(value, bytes):
        value = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
        value = value.encode("utf-8", "surrogatepass")
    return hashlib.sha256(value).hexdigest()


def digest_path(path: Path) -> str:
    """The sha256 of a file, or of a folder's file names and contents; an absent path is one clear error."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest([[p.relative_to(path).as_posix(), digest_path(p)] for p in files])
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct the path") from error


def cache_root() -> Path:
    """Where stages are kept: `MEDRECIPES_CACHE`, else `~/.cache/medrecipes`."""
    return Path(os.environ.get("MEDRECIPES_CACHE") or Path.home() / ".cache" / "medrecipes")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses (no permission, disk full) into one clear line."""
    try:
        yield
    except MedRecipesError:
        raise
    except Exception as error:
        below_python = not isinstance(error, OSError) and any(words in str(error) for words in FULL_DISK)
        if not below_python and getattr(error, "errno", None) not in WRITE_ERRORS:
            raise
        where = getattr(error, "filename", None) or path
        reason = "No space left on device" if below_python else getattr(error, "strerror", None)
        raise MedRecipesError(
            f"{where}: cannot be written ({reason}); free the space, mend the permission, "
            "or choose another folder with --runs or MEDRECIPES_CACHE"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: beside its place first, then renamed over it."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MedRecipesError(f"{path}: cannot be read as JSON ({error}); delete it and run again") from error


@contextmanager
def scratch(name: str, root: Path | None = None) -> Iterator[Path]:
    """A folder of the store for what is made and then moved or let go of; gone afterwards."""
    root = root or cache_root()
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}-"))
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


Made = Callable[[str], object]  # whether we made a file of a folder, by its path within


def require_ours(place: Path, what: str, made: Callable[[Path], Made | None]) -> None:
    """Raise unless nothing stands in a place, or a folder that we made, with nothing in it but what we put there.

    `made` tells from the folder's own manifest which files are ours; None: it has no such manifest.
    """
    if not os.path.lexists(place):
        return
    ours = made(place) if place.is_dir() and not place.is_symlink() else None
    if ours is None:
        # a link is its owner's, and so is what it leads to
        kind = "a link" if place.is_symlink() else f"no {what} that medrecipes made"
        raise MedRecipesError(
            f"{place}: stands in the way and is {kind}; move it away, or choose another name or folder"
        )
    for path in _leaves(place):
        if path.is_symlink() or not ours(path.relative_to(place).as_posix()):
            raise MedRecipesError(
                f"{path}: is not of medrecipes and would be lost, for {place} is made anew; move it away"
            )


def _leaves(place: Path) -> Iterator[Path]:
    """Everything below a folder that holds nothing itself: files, links, empty folders."""
    for path in sorted(place.iterdir()):
        inner = path.is_dir() and not path.is_symlink() and any(path.iterdir())
        yield from _leaves(path) if inner else (path,)


def stage(name: str, key: str, build: Callable[[Path], dict[str, Any]], root: Path | None = None) -> Path:
    """The folder of a stage, built by `build(folder)` if absent; what it returns becomes the manifest, written last."""
    root = root or cache_root()
    place = root / f"{name}-{key[:16]}"
    while not ranks.prepares() and not (place / MANIFEST).exists():
        time.sleep(0.2)  # the first process of this machine makes it
    if (place / MANIFEST).exists():
        return place
    with scratch(name, root) as work:
        manifest = build(work)
        write_json(work / MANIFEST, {"stage": name, "key": key, **manifest})
        try:
            work.rename(place)
        except OSError:
            # another process finished the same stage first (its folder stands), or a torn one is in the way
            if not (place / MANIFEST).exists():
                shutil.rmtree(place, ignore_errors=True)
                work.rename(place)
    return place
