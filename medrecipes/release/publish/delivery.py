"""Delivery to the Hub: one commit a release, compared before and after; nothing else in this project writes there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import HubError
from medrecipes.core.hub import (
    WAITS_S,
    Content,
    Kind,
    client_errors,
    content,
    failed,
    fetch,
    patient,
    pause,
    remote_files,
    told,
    transient,
)
from medrecipes.core.notes import labelled
from medrecipes.core.progress import counting

MANIFEST = "release.json"
LARGE = 100_000_000  # bytes


@dataclass(frozen=True)
class Target:
    """Where a release goes; `pull`: as a pull request rather than onto the branch."""

    repo: str
    kind: Kind
    private: bool = True
    revision: str = "main"
    pull: bool = False
    tag: str | None = None


@dataclass(frozen=True)
class Delivered:
    """What stands on the Hub now; `pushed` is false where it stood there before."""

    commit: str
    revision: str
    pushed: bool
    foreign: tuple[str, ...] = ()  # files there that no release brought; they stay


def deliver(target: Target, files: Mapping[str, Path], message: str, console: Console) -> Delivered:
    """Bring a release to the Hub in one commit, or find that it is there; a failure leaves the repository as it was."""
    with told(console):
        _make(target, console)
        done = _tagged(target, files) or _commit(target, files, message)
        if target.tag:
            _tag(target, done.commit)
    return done


def differing(remote: Mapping[str, Any], files: Mapping[str, Path]) -> list[str]:
    """The paths of a release that the Hub lacks or has otherwise."""
    return [path for path, file in files.items() if path not in remote or not _same(remote[path], content(file))]


def same_bytes(target: Target, done: Delivered, files: Mapping[str, Path], into: Path, skip: tuple[str, ...] = ()) -> None:  # fmt: skip
    """Compare what the Hub says it has with what was sent, then fetch it and compare the bytes; `skip`: not fetched."""
    where = f"{target.repo}@{done.commit[:12]}"
    if wrong := differing(remote_files(target.repo, target.kind, done.commit), files):
        raise HubError(f"{where}: the Hub lists {', '.join(wrong)} otherwise than it was sent; push again")
    wanted = [path for path in files if not path.endswith(skip)]
    for attempt in (1, 2):
        try:
            folder = fetch(target.repo, target.kind, done.commit, into / str(attempt), wanted)
        except HubError:
            if attempt == 2:
                raise
            continue
        wrong = [path for path in wanted if content(folder / path).sha256 != content(files[path]).sha256]
        if not wrong:
            return
    raise HubError(f"{where}: {', '.join(wrong)} came back otherwise than it was sent, twice; verify it with `medrecipes verify {target.repo}`")  # fmt: skip


# --- the repository


def _make(target: Target, console: Console) -> None:
    """The repository and its branch; one that is public is no place for what the recipe wants private."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi()

    def known() -> Any:
        try:
            return api.repo_info(target.repo, repo_type=target.kind)
        except RepositoryNotFoundError as error:
            if error.response is not None and error.response.status_code == 401:
                raise  # nobody at all is asking
            return None

    if (info := patient(target.repo, known)) is None:
        patient(target.repo, lambda: api.create_repo(target.repo, repo_type=target.kind, private=target.private, exist_ok=True))  # fmt: skip
    elif target.private and not info.private:
        raise HubError(
            f"{target.repo}: is public, and this release is private; set publish.private = false, or choose another "
            "publish.repo"
        )
    elif info.private and not target.private:
        console.line(labelled("note", f"{target.repo} is private and stays so; it is made public on its own page"))
    if target.revision not in _refs(target)[0]:
        patient(target.repo, lambda: api.create_branch(target.repo, branch=target.revision, repo_type=target.kind, exist_ok=True))  # fmt: skip


def _refs(target: Target) -> tuple[dict[str, str], dict[str, str]]:
    """Branches and tags, each with its commit."""
    from huggingface_hub import HfApi

    refs = patient(target.repo, lambda: HfApi().list_repo_refs(target.repo, repo_type=target.kind))
    return {ref.name: ref.target_commit for ref in refs.branches}, {ref.name: ref.target_commit for ref in refs.tags}


def _open_pulls(target: Target) -> dict[str, str]:
    """The pull requests that nobody has merged or closed, each with its commit."""
    from huggingface_hub import HfApi

    def ask() -> dict[str, str]:
        api = HfApi()
        found = api.get_repo_discussions(target.repo, repo_type=target.kind, discussion_type="pull_request", discussion_status="open")  # fmt: skip
        names = {f"refs/pr/{pull.num}" for pull in found}
        refs = api.list_repo_refs(target.repo, repo_type=target.kind, include_pull_requests=True)
        return {ref.ref: ref.target_commit for ref in refs.pull_requests or [] if ref.ref in names}

    return patient(target.repo, ask)


def _tagged(target: Target, files: Mapping[str, Path]) -> Delivered | None:
    """The release, where its tag stands already; a tag never moves, so one at another release is an error at once."""
    stands = _refs(target)[1].get(target.tag or "")
    if not stands:
        return None
    if found := _there(target, files, target.revision, stands):
        return found
    raise HubError(
        f"{target.repo}: tag {target.tag} stands at another release ({stands[:12]}) and does not move; choose another"
    )


def _tag(target: Target, commit: str) -> None:
    from huggingface_hub import HfApi

    if _refs(target)[1].get(str(target.tag)) != commit:
        patient(target.repo, lambda: HfApi().create_tag(target.repo, tag=str(target.tag), revision=commit, repo_type=target.kind, exist_ok=True))  # fmt: skip


# --- the commit


def _commit(target: Target, files: Mapping[str, Path], message: str) -> Delivered:
    """Compare, upload, commit on what was compared with; whatever went wrong, look again before sending anything twice."""
    raced = sent = False
    for wait in (*WAITS_S, None):
        head = _refs(target)[0][target.revision]
        for revision, sha in {target.revision: head, **(_open_pulls(target) if target.pull else {})}.items():
            if found := _there(target, files, revision, sha):
                return replace(found, pushed=sent)  # the answer was lost, the commit had arrived
        try:
            sent = True
            return _send(target, files, message, head)
        except client_errors() as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (409, 412):
                if raced:
                    raise HubError(f"{target.repo}: somebody else commits to it again and again; push again later") from None  # fmt: skip
                raced = True
            elif wait is None or not transient(error):
                raise failed(target.repo, error) from None
            else:
                pause(error, wait)
    raise AssertionError


def _there(target: Target, files: Mapping[str, Path], revision: str, sha: str) -> Delivered | None:
    """The release, where this commit already holds it."""
    remote = remote_files(target.repo, target.kind, sha)
    stale, foreign = _others(target, remote, files, sha)
    if stale or differing(remote, files):
        return None
    return Delivered(sha, revision, pushed=False, foreign=foreign)


def _others(target: Target, remote: Mapping[str, Any], files: Mapping[str, Path], sha: str) -> tuple[tuple[str, ...], tuple[str, ...]]:  # fmt: skip
    """Files there that are not of this release: those that an earlier release brought, and those that none did."""
    others = sorted(remote.keys() - files.keys())
    brought = _manifest(target, sha) if others and MANIFEST in remote else set()
    return tuple(p for p in others if p in brought), tuple(p for p in others if p not in brought)


def _manifest(target: Target, sha: str) -> set[str]:
    """The files that the release at a commit says it brought."""
    from huggingface_hub import hf_hub_download

    path = patient(target.repo, lambda: hf_hub_download(target.repo, MANIFEST, repo_type=target.kind, revision=sha))
    try:
        return {str(name) for name in json.loads(Path(path).read_text(encoding="utf-8"))["files"]}
    except (ValueError, KeyError, TypeError):
        return set()  # not ours: then nothing there is


def _send(target: Target, files: Mapping[str, Path], message: str, head: str) -> Delivered:
    """Upload what the Hub lacks, then one commit onto `head` and no other."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api, remote = HfApi(), remote_files(target.repo, target.kind, head)
    stale, foreign = _others(target, remote, files, head)
    # made anew for every attempt: they remember what the Hub had when they were first sent
    adds = [CommitOperationAdd(path, files[path]) for path in differing(remote, files)]
    try:
        with counting(sum(add.upload_info.size for add in adds), bytes=True) as sent:
            for some in _portions(adds):
                # the client tries this part again by itself, and for long enough
                api.preupload_lfs_files(target.repo, some, repo_type=target.kind, revision=target.revision, create_pr=target.pull, free_memory=False)  # fmt: skip
                sent(sum(add.upload_info.size for add in some))
    except client_errors() as error:
        raise failed(target.repo, error) from None
    made = api.create_commit(
        target.repo, [*adds, *(CommitOperationDelete(path) for path in stale)], commit_message=message, repo_type=target.kind,
        revision=target.revision, create_pr=target.pull, parent_commit=head,
    )  # fmt: skip
    revision = str(made.pr_revision) if target.pull else target.revision
    return Delivered(str(made.oid), revision, pushed=True, foreign=foreign)


def _portions(adds: Sequence[Any]) -> Iterator[list[Any]]:
    """The files of a commit as they are uploaded: the small ones at once, then each large one by itself."""
    small = [add for add in adds if add.upload_info.size < LARGE]
    yield from filter(None, [small, *([add] for add in adds if add.upload_info.size >= LARGE)])


def _same(remote: Any, mine: Content) -> bool:
    return bool(remote.lfs.sha256 == mine.sha256 if remote.lfs else remote.blob_id == mine.oid)
