"""The Hub's HTTP interface, as far as the real clients use it: one function a route, each from a request to an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from tests.hub.card import card_data, check_card
from tests.hub.store import (
    MAIN,
    PREFIXES,
    Commit,
    File,
    RefusedError,
    Repo,
    Store,
    Token,
    allow_writing,
    changes,
    large,
)


@dataclass(frozen=True)
class Request:
    """What was asked, by whom."""

    url: str  # of this Hub
    outside: str  # of the service that keeps large files: another host, which gets no token
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    token: Token | None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["0"])[0].lower() in ("1", "true")


@dataclass(frozen=True)
class Answer:
    """What is said to it."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Settings:
    """What a test may change of a Hub's ways."""

    page: int = 1000  # entries of a tree at once
    part: int = 16 * 1024 * 1024  # files above this size are uploaded in parts of it


def said(value: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **named})


def refused(error: RefusedError) -> Answer:
    """The answer to what is turned down."""
    headers = {"X-Error-Message": error.words} | ({"X-Error-Code": error.code} if error.code else {})
    return Answer(json.dumps({"error": error.words}).encode(), error.status, headers)


# --- who, and which repository


def alive(store: Store, settings: Settings, request: Request) -> Answer:
    return Answer(b"a test Hub")


def whoami(store: Store, settings: Settings, request: Request) -> Answer:
    if request.token is None:
        raise RefusedError(401, "Invalid credentials in Authorization header")
    token = request.token
    organisations = [{"type": "org", "name": name} for name in token.organisations]
    role = "write" if token.write else "read"
    access = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
    return said({"type": "user", "name": token.user, "fullname": token.user, "orgs": organisations, "auth": access})


def create_repo(store: Store, settings: Settings, request: Request) -> Answer:
    wanted = request.json()
    owner = wanted.get("organization") or (request.token.user if request.token else "")
    name, kind = f"{owner}/{wanted['name']}", wanted.get("type") or "model"
    allow_writing(request.token, name)
    url = f"{request.url}/{PREFIXES[kind]}{name}"
    try:
        store.create(name, kind, private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
    except RefusedError as error:
        return said({"error": error.words, "url": url}, 409)
    return said({"url": url, "name": name})


def validate_yaml(store: Store, settings: Settings, request: Request) -> Answer:
    asked = request.json()
    errors, warnings = check_card(asked["content"], asked.get("repoType", "model"))
    return said({"errors": errors, "warnings": warnings}, 400 if errors else 200)


def auth_check(store: Store, settings: Settings, request: Request, repo: Repo) -> Answer:
    return said({})


def info(store: Store, settings: Settings, request: Request, repo: Repo, revision: str = "main") -> Answer:
    commit = repo.resolve(revision)
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
    if request.flag("blobs"):
        siblings = [{"rfilename": path, **_blob(file)} for path, file in commit.files.items()]
    readme = commit.files.get("README.md")
    return said(
        {
            "_id": "0" * 24, "id": repo.name, "modelId": repo.name, "author": repo.name.partition("/")[0], "sha": commit.sha,
            "private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False, "downloads": 0, "likes": 0,
            "tags": [], "siblings": siblings, "createdAt": repo.log("main")[-1].date, "lastModified": commit.date,
            "cardData": card_data(readme.content.decode()) if readme else None,
        }
    )  # fmt: skip


# --- reading


def _blob(file: File) -> dict[str, Any]:
    found: dict[str, Any] = {"size": len(file.content), "blobId": file.oid}
    if file.large:
        found["lfs"] = {"sha256": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    return found


def _entry(path: str, file: File | None, commit: Commit, expand: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
    if file:
        entry |= {"type": "file", "oid": file.oid, "size": len(file.content)}
        if file.large:
            entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
    if expand:
        entry["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": commit.date}
    return entry


def _entries(commit: Commit) -> dict[str, File | None]:
    """Every folder and file of a commit, by its path."""
    folders = {path[: match.start()] for path in commit.files for match in re.finditer("/", path)}
    return dict(sorted({**dict.fromkeys(folders), **commit.files}.items()))


def tree(
    store: Store, settings: Settings, request: Request, repo: Repo, revision: str, folder: str | None = None
) -> Answer:
    commit, inside = repo.resolve(revision), f"{folder}/" if folder else ""
    entries = {path: file for path, file in _entries(commit).items() if path.startswith(inside)}
    if folder and not entries:
        raise RefusedError(404, f"{folder} does not exist", "EntryNotFound")
    if not request.flag("recursive"):
        entries = {path: file for path, file in entries.items() if "/" not in path[len(inside) :]}
    start = int(request.query.get("cursor", ["0"])[0])
    page = list(entries.items())[start : start + settings.page]
    headers = {}
    if start + settings.page < len(entries):
        query = urlencode({**{k: v[0] for k, v in request.query.items()}, "cursor": start + settings.page})
        headers["Link"] = f'<{request.url}{quote(request.path, safe="/%")}?{query}>; rel="next"'
    return said([_entry(path, file, commit, request.flag("expand")) for path, file in page], **headers)


def paths_info(store: Store, settings: Settings, request: Request, repo: Repo, revision: str) -> Answer:
    if "json" in request.headers.get("content-type", ""):
        asked, expand = request.json()["paths"], bool(request.json().get("expand"))
    else:
        form = parse_qs(request.body.decode())
        asked, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
    commit = repo.resolve(revision)
    entries = _entries(commit)
    return said([_entry(path, entries[path], commit, expand) for path in asked if path in entries])


def resolve(store: Store, settings: Settings, request: Request, repo: Repo, revision: str, path: str) -> Answer:
    commit = repo.resolve(revision)
    if path not in commit.files:
        answer = refused(RefusedError(404, "Entry not found", "EntryNotFound"))
        return Answer(answer.body, 404, {**answer.headers, "X-Repo-Commit": commit.sha})
    file = commit.files[path]
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    if not file.large:
        return _ranged(request, file.content, headers)
    linked = {"X-Linked-ETag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
    place = f"{request.outside}/cdn/{PREFIXES[repo.kind]}{repo.name}/{file.sha256}"
    return Answer(b"", 302, {**headers, **linked, "Location": place})


def cdn(store: Store, settings: Settings, request: Request, name: str, sha256: str) -> Answer:
    _refuse_token(request)
    kind = "dataset" if name.startswith("datasets/") else "model"
    return _ranged(request, store.repos[kind, name.removeprefix("datasets/")].content_of(sha256), {"ETag": f'"{sha256}"'})  # fmt: skip


def _refuse_token(request: Request) -> None:
    """Addresses of the outer service are signed; like the real one, it takes no second proof of who asks."""
    if request.headers.get("authorization"):
        raise RefusedError(400, "Only one auth mechanism allowed")


def _ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Answer:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not match:
        return Answer(content, 200, headers)
    first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
    if first >= len(content):
        return Answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
    return Answer(content[first : last + 1], 206, {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"})


def refs(store: Store, settings: Settings, request: Request, repo: Repo) -> Answer:
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/"}
    found: dict[str, Any] = {
        kind: [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": sha}
            for ref, sha in repo.refs.items()
            if ref.startswith(prefix)
        ]
        for kind, prefix in kinds.items()
    }
    return said({**found, "converts": []})


def commits(store: Store, settings: Settings, request: Request, repo: Repo, revision: str) -> Answer:
    return said(
        [{"id": c.sha, "title": c.title, "message": "", "authors": [], "date": c.date} for c in repo.log(revision)]
    )


def discussions(store: Store, settings: Settings, request: Request, repo: Repo) -> Answer:
    """Its pull requests; the test Hub has no discussions else."""
    numbers = [int(ref.removeprefix("refs/pr/")) for ref in repo.refs if ref.startswith("refs/pr/")]
    status = request.query.get("status", ["all"])[0]
    found = [
        {
            "num": number, "title": repo.resolve(f"refs/pr/{number}").title, "author": {"name": "ann"}, "isPullRequest": True,
            "status": "closed" if number in repo.closed else "open", "createdAt": repo.resolve(f"refs/pr/{number}").date,
            "repo": {"name": repo.name, "type": repo.kind},
        }
        for number in numbers
    ]  # fmt: skip
    found = [pull for pull in found if status in ("all", pull["status"])]
    return said({"discussions": found, "count": len(found), "start": 0, "numClosedDiscussions": len(repo.closed)})


# --- writing


def preupload(store: Store, settings: Settings, request: Request, repo: Repo, revision: str) -> Answer:
    import base64

    present = repo.resolve(revision).files
    modes = []
    for file in request.json()["files"]:
        mode = "lfs" if large(file["path"], file["size"], base64.b64decode(file["sample"])) else "regular"
        mine = {"oid": present[file["path"]].etag} if file["path"] in present else {}
        modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **mine})
    return said({"files": modes})


def lfs_batch(store: Store, settings: Settings, request: Request, repo: Repo) -> Answer:
    asked = request.json()
    place = f"{request.outside}/upload/{PREFIXES[repo.kind]}{repo.name}"
    objects = []
    for item in asked["objects"]:
        oid, size = item["oid"], item["size"]
        entry: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
        if oid not in repo.stored:
            upload: dict[str, Any] = {"href": f"{place}/{oid}"}
            if size > settings.part and "multipart" in asked.get("transfers", ()):
                count = -(-size // settings.part)
                parts = {str(n): f"{place}/{oid}/{n}" for n in range(1, count + 1)}
                upload = {"href": f"{place}/{oid}/complete", "header": {"chunk_size": str(settings.part), **parts}}
            entry["actions"] = {"upload": upload, "verify": {"href": f"{place}/{oid}/verify"}}
        objects.append(entry)
    return said({"transfer": "basic", "objects": objects})


def upload(store: Store, settings: Settings, request: Request, name: str, oid: str, part: str = "") -> Answer:
    """A large file, or a part of one; its address was signed, so it needs no token."""
    import hashlib

    if part not in ("verify", "complete"):
        _refuse_token(request)
    kind = "dataset" if name.startswith("datasets/") else "model"
    repo = store.repos[kind, name.removeprefix("datasets/")]
    if part == "verify":
        whole = repo.stored.get(oid, b"")
        if hashlib.sha256(whole).hexdigest() != oid or len(whole) != request.json()["size"]:
            repo.stored.pop(oid, None)
            raise RefusedError(422, "the uploaded file is not the one that was announced")
        return said({"message": "ok"})
    if part == "complete":
        if oid in repo.stored:
            return said({"message": "ok"})
        pieces = [store.parts.pop((repo.name, oid, piece["partNumber"])) for piece in request.json()["parts"]]
        repo.stored[oid] = b"".join(pieces)
        return said({"message": "ok"})
    if part:
        store.parts[repo.name, oid, int(part)] = request.body
    else:
        repo.stored[oid] = request.body
    return Answer(b"", 200, {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def commit(store: Store, settings: Settings, request: Request, repo: Repo, revision: str) -> Answer:
    header, *operations = (json.loads(line) for line in request.body.splitlines())
    wanted = header["value"]
    made, number = repo.commit(
        revision, changes(repo, operations), wanted["summary"], wanted.get("parentCommit"), pull=request.flag("create_pr")
    )  # fmt: skip
    place = f"{request.url}/{PREFIXES[repo.kind]}{repo.name}"
    pull = f"{place}/discussions/{number}" if number else None
    return said({"success": True, "commitOid": made.sha, "commitUrl": f"{place}/commit/{made.sha}", "pullRequestUrl": pull})  # fmt: skip


def create_branch(store: Store, settings: Settings, request: Request, repo: Repo, name: str) -> Answer:
    with repo.lock:
        if f"refs/heads/{name}" in repo.refs:
            raise RefusedError(409, f"Reference refs/heads/{name} already exists")
        repo.refs[f"refs/heads/{name}"] = repo.resolve(request.json().get("startingPoint", MAIN)).sha
    return said({})


def create_tag(store: Store, settings: Settings, request: Request, repo: Repo, revision: str) -> Answer:
    name = request.json()["tag"]
    with repo.lock:
        if f"refs/tags/{name}" in repo.refs:
            raise RefusedError(409, f"Tag reference exists already: {name}")
        repo.refs[f"refs/tags/{name}"] = repo.resolve(revision).sha
    return said({})


Route = tuple[str, str, Callable[..., Answer], dict[str, bool]]
REPO = r"/api/(?P<kind>model|dataset)s/(?P<repo>[^/]+/[^/]+)"
PLAIN = r"/(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+?)"
WRITE, CONTENT = {"write": True}, {"content": True}
# method, path, what answers, and what of the repository it needs
ROUTES: list[Route] = [
    ("GET", "/", alive, {}),
    ("GET", "/api/whoami-v2", whoami, {}),
    ("POST", "/api/repos/create", create_repo, {}),
    ("POST", "/api/validate-yaml", validate_yaml, {}),
    ("GET", rf"{REPO}/auth-check", auth_check, CONTENT),
    ("GET", rf"{REPO}", info, {}),
    ("GET", rf"{REPO}/revision/([^/]+)", info, {}),
    ("GET", rf"{REPO}/tree/([^/]+)(?:/(.+))?", tree, {}),
    ("POST", rf"{REPO}/paths-info/([^/]+)", paths_info, {}),
    ("GET", rf"{REPO}/refs", refs, {}),
    ("GET", rf"{REPO}/commits/([^/]+)", commits, {}),
    ("GET", rf"{REPO}/discussions", discussions, {}),
    ("GET", rf"{PLAIN}/resolve/([^/]+)/(.+)", resolve, CONTENT),
    ("GET", r"/cdn/(.+)/([0-9a-f]{64})", cdn, {}),
    ("POST", rf"{REPO}/preupload/([^/]+)", preupload, WRITE),
    ("POST", rf"{PLAIN}\.git/info/lfs/objects/batch", lfs_batch, WRITE),
    ("PUT", r"/upload/(.+)/([0-9a-f]{64})(?:/(\d+))?", upload, {}),
    ("POST", r"/upload/(.+)/([0-9a-f]{64})/(complete|verify)", upload, {}),
    ("POST", rf"{REPO}/commit/([^/]+)", commit, WRITE),
    ("POST", rf"{REPO}/branch/([^/]+)", create_branch, WRITE),
    ("POST", rf"{REPO}/tag/([^/]+)", create_tag, WRITE),
]  # fmt: skip


def answer(store: Store, settings: Settings, request: Request) -> Answer:
    """The answer to a request."""
    method = "GET" if request.method == "HEAD" else request.method
    for wanted, pattern, function, needs in ROUTES:
        if method != wanted or not (match := re.fullmatch(pattern, request.path)):
            continue
        named = match.groupdict()
        values = [unquote(text) for text in match.groups() if text is not None]
        if "repo" not in named:
            return function(store, settings, request, *values)
        kind = named.get("kind") or ("dataset" if named.get("prefix") else "model")
        used = [unquote(text) for text in named.values() if text is not None]
        repo = store.repo(kind, unquote(named["repo"]), request.token, **needs)
        return function(store, settings, request, repo, *values[len(used) :])
    raise RefusedError(404, f"this Hub has no {request.method} {request.path}")
