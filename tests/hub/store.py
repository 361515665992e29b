"""What the test Hub keeps: content-addressed files, commits with parents, refs, pull requests, and who may do what."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

PREFIXES = {"model": "", "dataset": "datasets/"}
MAIN = "refs/heads/main"
# what the Hub puts into every new repository; these patterns, and large or binary files, are kept outside git
ATTRIBUTES = ("*.arrow", "*.bin", "*.gguf", "*.parquet", "*.safetensors", "*.model", "tokenizer.json")


class RefusedError(Exception):
    """A request that the Hub turns down: status, error code and words, as the real one sends them."""

    def __init__(self, status: int, words: str, code: str = "") -> None:
        super().__init__(words)
        self.status, self.words, self.code = status, words, code


@dataclass(frozen=True)
class File:
    """A file of a commit; a large one is a pointer in git to content kept elsewhere."""

    content: bytes
    large: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def oid(self) -> str:
        """Git's own name for the blob: of the content, or of the pointer to it."""
        data = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid


@dataclass(frozen=True)
class Commit:
    """A state of all files, and where it came from."""

    parents: tuple[str, ...]
    files: Mapping[str, File]
    title: str
    number: int

    @property
    def sha(self) -> str:
        tree = sorted((path, file.oid) for path, file in self.files.items())
        return hashlib.sha1(json.dumps([self.parents, tree, self.title, self.number]).encode()).hexdigest()

    @property
    def date(self) -> str:
        return datetime.fromtimestamp(1_750_000_000 + self.number, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Token:
    """A user's token: what it may do, and the organisations of its user."""

    user: str
    write: bool = True
    organisations: tuple[str, ...] = ()

    def owns(self, repo: str) -> bool:
        return repo.partition("/")[0] in (self.user, *self.organisations)


@dataclass
class Repo:
    """A repository; every change of a ref is one step under its lock."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by their sha256, committed or not yet
    closed: set[int] = field(default_factory=set)  # pull requests that were merged or closed
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        text = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in ATTRIBUTES)
        self.advance(MAIN, {".gitattributes": File(text.encode())}, "initial commit")

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or a full hash stands for."""
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if name in self.refs:
                return self.commits[self.refs[name]]
        if revision in self.commits:
            return self.commits[revision]
        raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def advance(self, ref: str, files: Mapping[str, File], title: str) -> Commit:
        """Put a commit on a ref."""
        with self.lock:
            parents = (self.refs[ref],) if ref in self.refs else ()
            commit = Commit(parents, dict(files), title, len(self.commits))
            self.commits[commit.sha] = commit
            self.refs[ref] = commit.sha
            return commit

    def commit(
        self, revision: str, changes: Mapping[str, File | None], title: str, parent: str | None = None, *, pull: bool = False
    ) -> tuple[Commit, int | None]:  # fmt: skip
        """Change files on a branch, or open a pull request with them; None deletes. A parent that is not the head is refused."""
        with self.lock:
            head = self.resolve(revision)
            if parent is not None and parent != head.sha:
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            files = {**head.files, **{path: file for path, file in changes.items() if file is not None}}
            for path in [path for path, file in changes.items() if file is None]:
                del files[path]
            if not pull:
                ref = revision if revision.startswith("refs/pr/") else f"refs/heads/{revision}"
                if ref not in self.refs:
                    raise RefusedError(400, f"{revision} is no branch")
                return self.advance(ref, files, title), None
            number = sum(ref.startswith("refs/pr/") for ref in self.refs) + 1
            self.refs[f"refs/pr/{number}"] = head.sha
            return self.advance(f"refs/pr/{number}", files, title), number

    def put(self, files: Mapping[str, bytes], title: str = "by hand") -> str:
        """Somebody else's commit on main; returns its hash."""
        return self.commit("main", {path: self.file(path, content) for path, content in files.items()}, title)[0].sha

    def file(self, path: str, content: bytes) -> File:
        """A file as this repository would keep it."""
        return File(content, large(path, len(content), content[:512]))

    def content_of(self, sha256: str) -> bytes:
        """The content of a large file that some commit holds."""
        return next(
            f.content for c in self.commits.values() for f in c.files.values() if f.large and f.sha256 == sha256
        )

    def log(self, revision: str) -> list[Commit]:
        """The commits behind a revision, newest first."""
        commits = [self.resolve(revision)]
        while commits[-1].parents:
            commits.append(self.commits[commits[-1].parents[0]])
        return commits

    def contents(self, revision: str = "main") -> dict[str, bytes]:
        """All files of a revision, but for the Hub's own."""
        files = self.resolve(revision).files
        return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file is kept outside git."""
    names = (path, path.rpartition("/")[2])
    listed = any(re.fullmatch(re.escape(p).replace(r"\*", ".*"), name) for p in ATTRIBUTES for name in names)
    return size > 0 and (listed or size > 10_000_000 or b"\0" in sample)


class Store:
    """All repositories and tokens of a Hub."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.tokens: dict[str, Token] = {}
        self.granted: set[tuple[str, str]] = set()  # (user, gated repository)
        self.parts: dict[tuple[str, str, int], bytes] = {}  # (repository, sha256, number) of uploads in parts
        self.lock = threading.RLock()

    def create(self, name: str, kind: str = "model", *, private: bool = False, gated: bool = False) -> Repo:
        """A new, empty repository."""
        with self.lock:
            if (kind, name) in self.repos:
                raise RefusedError(409, "You already created this repo")
            repo = self.repos[kind, name] = Repo(kind, name, private, gated)
            return repo

    def repo(self, kind: str, name: str, token: Token | None, *, write: bool = False, content: bool = False) -> Repo:
        """A repository, if the token may do this to it; what it may not see does not exist for it."""
        repo = self.repos.get((kind, name))
        if repo is None or (repo.private and not (token and token.owns(name))):
            raise RefusedError(404 if token else 401, "Repository not found", "RepoNotFound")
        if write:
            allow_writing(token, name)
        if content and repo.gated and not (token and (token.owns(name) or (token.user, name) in self.granted)):
            raise RefusedError(
                403 if token else 401, f"Access to {kind} {name} is restricted. Ask for it on its page.", "GatedRepo"
            )
        return repo


def allow_writing(token: Token | None, name: str) -> None:
    """Refuse those who may not write here."""
    if token is None:
        raise RefusedError(401, "Invalid username or password.")
    if not token.write:
        raise RefusedError(403, "Forbidden: you must use a write token to upload to a repository.")
    if not token.owns(name):
        raise RefusedError(403, f"Forbidden: you don't have the rights to write to {name}")


def changes(repo: Repo, lines: Iterable[dict[str, object]]) -> dict[str, File | None]:
    """What the operations of a commit request do to its files."""
    import base64

    found: dict[str, File | None] = {}
    for line in lines:
        value: dict[str, str] = line["value"]  # type: ignore[assignment]
        match line["key"]:
            case "file":
                found[value["path"]] = File(base64.b64decode(value["content"]))
            case "lfsFile":
                if value["oid"] not in repo.stored:
                    raise RefusedError(400, f"LFS pointer of {value['path']} points to a file that does not exist")
                found[value["path"]] = File(repo.stored[value["oid"]], large=True)
            case "deletedFile":
                found[value["path"]] = None
            case "deletedFolder":
                inside = value["path"].rstrip("/") + "/"
                found |= dict.fromkeys(p for p in repo.resolve("main").files if p.startswith(inside))
            case other:
                raise RefusedError(400, f"unknown operation {other}")
    return found
