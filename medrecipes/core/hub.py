"""How the Hub is asked: patiently, in one line where it fails, and never with a token in what is said."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from medrecipes.core import progress
from medrecipes.core.console import Console
from medrecipes.core.errors import HubError, UnreachableError
from medrecipes.core.notes import labelled

Kind = Literal["model", "dataset"]
T = TypeVar("T")

OWN = {".gitattributes"}  # what the Hub itself puts into a new repository
# huggingface_hub retries uploads and downloads like this by itself, but not what creates, commits or tags
TRANSIENT = {408, 429, 500, 502, 503, 504}
WAITS_S = (1.0, 2.0, 4.0, 8.0, 8.0)
LONGEST_WAIT_S = 300.0
REACH_S, ANSWER_S = 3.0, 8.0


@dataclass(frozen=True)
class Content:
    """What makes two files the same one: git's name for it, or the sha256 where it is kept outside git."""

    sha256: str
    oid: str
    size: int


@lru_cache(maxsize=4096)
def _content(path: Path, size: int, changed: int) -> Content:
    sha256, oid = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            oid.update(block)
    return Content(sha256.hexdigest(), oid.hexdigest(), size)


def content(path: Path) -> Content:
    """The content of a file, read once as long as the file stays as it is."""
    state = path.stat()
    return _content(path, state.st_size, state.st_mtime_ns)


_silent: dict[str, str] = {}  # of an endpoint, why it cannot be asked, or nothing if it can; found out once a process


def transport() -> Any:
    """The library that the Hub's client speaks through: httpx, and httpx2 from its second edition on."""
    from huggingface_hub.errors import HfHubHTTPError

    [base] = [base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"]
    return importlib.import_module(base.__module__.partition(".")[0])


def promptly(call: Callable[[Any], T]) -> T:
    """What the Hub answers to a call, which is given its time limits; one that does not answer is silent from then on.

    A slow Hub is no silent one: who is connected in `REACH_S` has until `ANSWER_S` to answer.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    httpx = transport()
    if constants.HF_HUB_OFFLINE:
        _silent[constants.ENDPOINT] = "HF_HUB_OFFLINE is set"
    if why := _silent.get(constants.ENDPOINT):
        raise UnreachableError(why)
    found: list[T] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            found.append(call(httpx.Timeout(ANSWER_S, connect=REACH_S)))
        except Exception as error:
            failed.append(error)

    # in a thread of its own: no timeout of the client covers the look-up of a name
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    answered = found or (failed and (isinstance(failed[0], HfHubHTTPError) or not isinstance(failed[0], (httpx.HTTPError, OSError))))  # fmt: skip
    _silent[constants.ENDPOINT] = "" if answered else f"{constants.ENDPOINT} does not answer"
    if not answered:
        raise UnreachableError(_silent[constants.ENDPOINT])
    if failed:
        raise failed[0]
    return found[0]


def hub_silence() -> str:
    """Why the Hub cannot be asked, or nothing if it can; found out once a process, within seconds."""
    from huggingface_hub import constants, get_session

    if constants.ENDPOINT not in _silent:
        with suppress(UnreachableError):
            promptly(lambda limits: get_session().head(constants.ENDPOINT, timeout=limits))
    return _silent[constants.ENDPOINT]


def asked_cache() -> str:
    """Why what comes of the Hub is taken from its cache; nothing where it is not, or nothing was asked for yet."""
    return next(iter(_silent.values()), "")


def user() -> str:
    """Whose token it is; it comes from the environment or from `hf auth login`, and is never passed on."""
    from huggingface_hub import HfApi, constants

    return str(patient(constants.ENDPOINT, lambda: HfApi().whoami())["name"])


def remote_files(repo: str, kind: Kind, revision: str) -> dict[str, Any]:
    """The files of a revision by their path, as the Hub lists them."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    entries = patient(repo, lambda: list(HfApi().list_repo_tree(repo, recursive=True, revision=revision, repo_type=kind)))  # fmt: skip
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile) and entry.path not in OWN}


def fetch(repo: str, kind: Kind, revision: str, into: Path, patterns: list[str] | None = None) -> Path:
    """A copy of a revision's files under `into`, from the Hub and no cache."""
    from huggingface_hub import snapshot_download

    return Path(
        patient(
            repo,
            lambda: snapshot_download(
                repo,
                repo_type=kind,
                revision=revision,
                local_dir=into,
                allow_patterns=patterns,
                force_download=True,
                tqdm_class=bar_class(),
            ),
        )
    )


def patient(what: str, call: Callable[[], T]) -> T:
    """Ask again while the Hub is busy, as long as it says or a little longer each time; anything else is one line."""
    for wait in (*WAITS_S, None):
        try:
            return call()
        except client_errors() as error:
            if wait is None or not transient(error):
                raise failed(what, error) from None
            pause(error, wait)
    raise AssertionError


def client_errors() -> tuple[type[Exception], ...]:
    """What the client raises: its own kinds, those of its transport, of the system, and for answers it cannot read."""
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError, transport().HTTPError, OSError, RuntimeError, ValueError)


def transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code in TRANSIENT
    if isinstance(error, json.JSONDecodeError):  # half an answer, or the page of a gateway in its place
        return True
    return isinstance(error, transport().TransportError) and not isinstance(error, OfflineModeIsEnabled)


def pause(error: BaseException, wait: float) -> None:
    """Wait as long as the Hub asks for, or the given time."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    if asked.isdigit():
        wait = min(float(asked), LONGEST_WAIT_S)
    logging.getLogger("huggingface_hub").warning("Retrying in %gs: %s", wait, _words(error))
    time.sleep(wait)


def failed(what: str, error: BaseException) -> HubError:
    """One line for what the client raises; no token is ever in it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, HubError):
        return error
    # the client's "Error while uploading": its cause says why
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ValueError) and "Invalid metadata" in str(error):
        return HubError(f"{what}: the Hub refuses the card's metadata ({' '.join(str(error).split()[4:])}); correct it")
    words, status = _words(error), getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, LocalTokenNotFoundError):
        return HubError(f"{what}: there is no token; log in with `hf auth login`, or set HF_TOKEN")
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{what}: HF_HUB_OFFLINE is set; unset it to reach the Hub")
    if status == 401:
        return HubError(f"{what}: the Hub does not take the token ({words}); log in again with `hf auth login`, or correct HF_TOKEN")  # fmt: skip
    if status == 403:
        return HubError(f"{what}: the token may not do this ({words}); use one with write access to that account")
    if status == 404:
        return HubError(f"{what}: the Hub knows nothing by this name that the token may see ({words}); correct it")
    return HubError(f"{what}: {constants.ENDPOINT} did not do it ({words}); the same command goes on")


def _words(error: BaseException) -> str:
    """What an error says, on one line, without tokens and without addresses that carry a signature."""
    from huggingface_hub import get_token

    while error.__cause__ is not None and isinstance(
        error, RuntimeError
    ):  # "Error while uploading": of what comes from
        error = error.__cause__
    text = getattr(error, "server_message", None) or str(error) or type(error).__name__
    line = " ".join(next((line for line in str(text).splitlines() if line.strip()), "").split())
    if token := get_token():
        line = line.replace(token, "(token)")
    return re.sub(r"https?://\S+|hf_\w{8,}", lambda m: "(token)" if m[0].startswith("hf_") else m[0].partition("?")[0], line)  # fmt: skip


def bar_class() -> Any:
    """What the client draws a download with: a bar that draws nothing, and has the stage at work count the bytes."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            settings.pop("name", None)  # the client's own, by which it switches bars off
            self._counts = settings.get("unit") == "B" and settings.get("desc") != "Downloading bytes"
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                super().__init__(*arguments, **{**settings, "file": nowhere, "disable": False, "delay": 1e9})

        def refresh(self, *_: Any, **__: Any) -> None:
            """Draw nothing."""

        def update(self, n: float | None = 1) -> bool | None:
            """So many more."""
            self.n += n or 0
            if self._counts and self.total:
                progress.at_bytes(int(self.n), int(self.total))
            return None

        def close(self) -> None:
            """There is nothing to clear."""
            self.disable = True

    return Bar


@contextmanager
def told(console: Console) -> Iterator[None]:
    """What the client says while it waits becomes a line of ours; its bars give way to that of the stage at work."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    class Waits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith(("Retrying", "Rate limited")):
                console.line(labelled("wait", text))

    log, handler = logging.getLogger("huggingface_hub"), Waits()
    before, propagate = log.handlers[:], log.propagate
    log.handlers, log.propagate = [handler], False
    if quiet := not are_progress_bars_disabled():
        disable_progress_bars()
    try:
        yield
    finally:
        log.handlers, log.propagate = before, propagate
        if quiet:
            enable_progress_bars()
