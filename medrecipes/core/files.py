"""Content-addressed stage folders: same inputs, same key, no work; what was killed or damaged is never taken for whole."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import platform
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from medrecipes.core import processes
from medrecipes.core.errors import DataError, MedRecipesError
from medrecipes.core.notes import note

MANIFEST = "manifest.json"
# Work in progress: a file that its process holds locked, and by the same name what it makes and what that replaces.
SCRATCH, NEW, OLD = ".medrecipes-", ".new", ".old"
LEFT = f"{SCRATCH}*-{'[0-9a-f]' * 8}"
PRIVATE = 0o700  # of folders that hold rows or answers; files in them are as the user's umask says
WRITE_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EXDEV,
    errno.ELOOP,
    errno.EISDIR,
}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of file systems that keep nobody out
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


def digest_files(place: Path, files: Iterable[Path]) -> str:
    """The sha256 of some files' names and contents; read are those whose size or times are not what they were the last time.

    `place`: what they are asked for, by which the store knows them again.
    """
    store = cache_root() / "digests" / f"{digest(str(place.resolve()))[:16]}.json"
    try:
        known = json.loads(store.read_bytes())
    except (OSError, ValueError, RecursionError):
        known = None
    known = known if isinstance(known, dict) else {}
    now: dict[str, dict[str, Any]] = {}
    try:
        for file in sorted(files):
            look, was = _look(file.resolve(), times=True), known.get(file.name)
            was = was if isinstance(was, dict) and not _every_byte.get() else {}
            same = look.items() <= was.items() and isinstance(was.get("sha256"), str)
            now[file.name] = {**look, "sha256": was["sha256"] if same else _sha256(file)}
    except OSError as error:
        raise DataError(f"{error.filename or place}: cannot be read ({error.strerror}); correct the path") from error
    if now != known:
        with suppress(MedRecipesError):  # a store that cannot be written to
            write_json(store, now)
    return digest([[name, each["sha256"]] for name, each in now.items()])


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
        where = path if SCRATCH in str(where) else where
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
        with scratch(path.name, path.parent) as work:
            with (work / path.name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            (work / path.name).replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that this project wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise MedRecipesError(f"{path}: cannot be read as JSON ({error}); delete it and run again") from error


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock file, which is gone afterwards; what another process holds is waited for, or raises BlockingIOError."""
    while True:
        with suppress(FileNotFoundError):  # whoever held it has taken it away, or its folder
            path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            lock = own_file(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                # what is locked now may be gone, and a third may hold what stands there
                if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    break
            except BlockingIOError as error:
                lock.seek(0)
                error.strerror = lock.read(200)  # who holds it
                lock.close()
                raise
            except OSError as error:
                if error.errno in NO_LOCKS:
                    break
                lock.close()
                raise
            lock.close()
    with lock:
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def own_file(path: Path) -> TextIO:
    """A file to add to, made where there is none; a link or a pipe in its place is somebody else's."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileExistsError(errno.EEXIST, "something else stands there", str(path))
    return os.fdopen(handle, "a+", encoding="utf-8")


@contextmanager
def scratch(name: str, root: Path | None = None) -> Iterator[Path]:
    """A folder to make something in, beside its place where it has one; gone afterwards, or by the next command there."""
    root = root or cache_root()
    with writing(root):
        root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        clear_left(root)
        lock = root / f"{SCRATCH}{name}-{secrets.token_hex(4)}"
        work = lock.with_name(lock.name + NEW)
        with locked(lock, wait=True):
            try:
                work.mkdir(PRIVATE)
                yield work
            finally:
                _clear(lock)


def clear_left(root: Path) -> None:
    """Clear what processes that were killed in the midst of their work left in a folder."""
    for lock in root.glob(LEFT):
        with suppress(OSError), lock.open("r+") as file:  # an error: its process is at work, or it is not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # what is locked now may be gone, and its process be at work under another of the same name
            if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                _clear(lock)
                lock.unlink()


def _clear(lock: Path) -> None:
    """Remove what a process made under its lock; what it set aside and did not replace goes back first."""
    new, old = (lock.with_name(lock.name + end) for end in (NEW, OLD))
    place = lock.with_name(lock.name.removeprefix(SCRATCH).rpartition("-")[0])
    if old.exists() and new.exists() and not os.path.lexists(place):
        old.rename(place)
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(place: Path, mode: int = 0o777) -> Iterator[Path]:
    """A folder that takes a place when all went well; until then what stands there stands."""
    with scratch(place.name, place.parent) as work:
        made = work / place.name
        made.mkdir(mode)
        yield made
        if not _exchanged(made, place):
            if os.path.lexists(place):
                place.rename(work.with_suffix(OLD))
            made.rename(place)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two paths have changed places in one step, which Linux does on most file systems."""
    with suppress(AttributeError):
        swap = ctypes.CDLL(None, use_errno=True).renameat2
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return bool(swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)
    return False


Made = Callable[[str], object]  # whether we made a file of a folder, by its path within


def require_ours(place: Path, what: str, made: Callable[[Path], Made | None]) -> None:
    """Raise unless nothing stands in a place, or a folder that we made, with nothing in it but what we put there.

    `made` tells from the folder's own manifest which files are ours; None: it has no such manifest.
    """
    clear_left(place.parent)
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


_every_byte = ContextVar("every byte", default=False)


@contextmanager
def thorough() -> Iterator[None]:
    """Inside, sizes and times prove nothing: every byte of a stage that is read is hashed."""
    before = _every_byte.set(True)
    try:
        yield
    finally:
        _every_byte.reset(before)


def seal(folder: Path, said: Mapping[str, Any], *, times: bool) -> None:
    """Write a folder's manifest, its last file: what is said of it, and what every other file in it is.

    `times`: by which a file is known again unread, once it has reached the disk.
    """
    files = {
        name: {"sha256": _sha256(folder / name, sync=times), **_look(folder / name, times=times)}
        for name in _inside(folder)
        if name != MANIFEST
    }
    value = json.loads(json.dumps({**said, "files": files}, default=str))  # as it will be read
    write_json(folder / MANIFEST, {**value, "sha256": digest(value)})


def damage(folder: Path, said: Mapping[str, Any], *, every_byte: bool) -> str:
    """What of a sealed folder is not as it was written, or nothing; `said`: what its manifest must say of it.

    A file of the same size and times is taken for the same, unless every byte is asked for.
    """
    if not os.path.lexists(folder / MANIFEST):
        return f"{MANIFEST} is missing"
    try:
        manifest = json.loads(_bytes(folder / MANIFEST))
        files, own = manifest["files"], manifest.pop("sha256")
    except (KeyError, TypeError, AttributeError):
        return f"{MANIFEST} has no hashes"
    except (OSError, ValueError, RecursionError):
        return f"{MANIFEST} cannot be read"
    if own != digest(manifest):
        return f"{MANIFEST} is not as it was written"
    if wrong := [key for key, value in said.items() if manifest.get(key) != value]:
        return f"its {wrong[0]} is that of another"
    found = {name for name in _inside(folder) if name != MANIFEST}
    if lost := sorted(files.keys() - found):
        return f"{lost[0]} is missing"
    if foreign := sorted(found - files.keys()):
        return f"{foreign[0]} was put there"
    now = {name: _look(folder / name, times="mtime_ns" in known) for name, known in files.items()}
    moved = {name for name, known in files.items() if now[name] != {key: known[key] for key in now[name]}}
    for name in sorted(files if every_byte else moved):
        try:
            if now[name]["bytes"] != files[name]["bytes"] or _sha256(folder / name) != files[name]["sha256"]:
                return f"{name} is not as it was written"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    if moved:  # copied or restored: the next one need not read it again, where that can be kept
        value = {**manifest, "files": {name: {**known, **now[name]} for name, known in files.items()}}
        with suppress(MedRecipesError):
            write_json(folder / MANIFEST, {**value, "sha256": digest(value)})
    return ""


def _inside(folder: Path) -> list[str]:
    """Whatever lies in a folder but folders, by its path there; not what a process is writing there just now."""
    found = []
    for where, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(where, name))]
        found += [(Path(where) / name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(name for name in found if not name.startswith(SCRATCH))


def _look(path: Path, *, times: bool) -> dict[str, int]:
    """What tells of a change without reading; a link or a device has no size that a file could have."""
    now = path.lstat()
    size = now.st_size if stat.S_ISREG(now.st_mode) else -1
    return {"bytes": size} | ({"mtime_ns": now.st_mtime_ns, "ctime_ns": now.st_ctime_ns} if times else {})


def _bytes(path: Path) -> bytes:
    """A file's bytes; of a pipe or a device one would wait for them for ever."""
    if _look(path, times=False)["bytes"] < 0:
        raise OSError(errno.EINVAL, "is no file", str(path))
    return path.read_bytes()


def _sha256(path: Path, *, sync: bool = False) -> str:
    """The sha256 of a file's bytes; `sync`: which are on the disk from then on."""
    with path.open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def intact(folder: Path) -> bool:
    """Whether a stage that is known by its folder alone is still there, as it was written; of damage a note tells."""
    why = damage(folder, {}, every_byte=_every_byte.get())
    if why and folder.is_dir():
        note(f"{folder}: {why}; it is not used")
    return not why


def stage(name: str, key: str, build: Callable[[Path], dict[str, Any]], root: Path | None = None) -> Path:
    """The folder of a stage, built by `build(folder)` if it is absent or damaged; what it returns goes into the manifest."""
    root = root or cache_root()
    place = root / f"{name}-{key[:16]}"
    said = {"stage": name, "key": key}

    def wrong() -> str:
        return damage(place, said, every_byte=_every_byte.get())

    while (why := wrong()) and not processes.prepares():
        time.sleep(0.2)  # the first process of this machine makes it
    if not why:
        return place
    if os.path.lexists(place):
        note(f"{place}: {why}; it is made anew")
    with scratch(name, root) as work, scratch(name, root) as old:
        seal(work, {**said, **build(work)}, times=True)
        with locked(root / f"{SCRATCH}{name}-{key[:8]}", wait=True):
            if wrong():  # or another process has made the same
                if os.path.lexists(place):
                    place.rename(old / "damaged")
                work.rename(place)
    return place
