"""A dataset's files from the Hub, at a commit that is known and recorded."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from medrecipes.core.errors import DataError, MedRecipesError, UnreachableError, reason
from medrecipes.core.files import write_text
from medrecipes.core.hub import bar_class, client_errors, content, hub_silence, promptly

NAMED = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Published(Protocol):
    """A repository of the Hub with what is read of it: a source, or a benchmark."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def repo(self) -> str | None:
        """Its repository."""

    @property
    def homepage(self) -> str:
        """Where else it is to be found."""

    @property
    def hub_files(self) -> tuple[str, ...]:
        """What is fetched, as patterns."""

    @property
    def own_copy(self) -> str:
        """The next move where the Hub does not answer."""


def resolve(source: Published, revision: str) -> str:
    """The commit that a branch or tag of the source's repository stands for, or last stood for where the Hub is silent."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionResolutionError
    from huggingface_hub.file_download import repo_folder_name

    repo = _repo(source)
    try:
        sha = promptly(lambda limits: HfApi().dataset_info(repo, revision=revision, timeout=limits)).sha
    except UnreachableError as silent:
        try:
            return (
                HfApi().resolve_revision(repo, repo_type="dataset", revision=revision, local_files_only=True).resolved
            )
        except RevisionResolutionError:
            raise _unreachable(source, revision, str(silent)) from None
    except client_errors() as error:
        raise _failed(source, revision, error) from None
    if not sha:
        raise DataError(f"{source.repo}@{revision}: the Hub names no commit for it; set data.revision to one")
    # in the client's own cache, under the name that was asked for, for the time when the Hub is silent
    with suppress(MedRecipesError):  # a cache that cannot be written to
        write_text(Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo, repo_type="dataset"), "refs", revision), sha)  # fmt: skip
    return str(sha)


def fetch(source: Published, sha: str) -> Path:
    """The folder with the source's files at that commit, from the Hub's own cache where they are there; each is what the Hub
    names by its hash."""
    from huggingface_hub import snapshot_download

    repo, files = _repo(source), list(source.hub_files) or None
    if (folder := _fetched(repo, sha, files)) is not None:
        return _as_named(source, sha, folder)
    if why := hub_silence():
        raise _unreachable(source, sha, why)
    try:
        # a file at a time to the disk, and on from where an earlier download broke off
        folder = Path(
            snapshot_download(repo, repo_type="dataset", revision=sha, allow_patterns=files, tqdm_class=bar_class())
        )
    except client_errors() as error:
        raise _failed(source, sha, error) from None
    return _as_named(source, sha, folder)


def _as_named(source: Published, sha: str, folder: Path) -> Path:
    """The folder, where every file has the hash that the Hub gives it, by which the client's cache names it: git's, or the sha256
    of what is kept outside git."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        blob = file.resolve()
        if NAMED.fullmatch(blob.name) and blob.name not in (content(blob).sha256, content(blob).oid):
            raise DataError(
                f"{source.repo}@{sha[:12]}: {file.relative_to(folder)} is not what the Hub names by its hash; delete {blob} and run again"
            )
    return folder


def _fetched(repo: str, sha: str, files: list[str] | None) -> Path | None:
    """The folder of a commit that was fetched before; without the list of its files a part could be taken for the whole."""
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    try:
        get_cached_repo_tree(repo, repo_type="dataset", revision=sha)
        return Path(
            snapshot_download(repo, repo_type="dataset", revision=sha, allow_patterns=files, local_files_only=True)
        )
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None


def _repo(source: Published) -> str:
    if source.repo is None:
        raise DataError(f"{source.name}: has no repository on the Hub; set data.path (see {source.homepage})")
    return source.repo


def _failed(source: Published, revision: str, error: Exception) -> DataError:
    return DataError(
        f"{source.repo}@{revision}: cannot be had from the Hub ({reason(error)}); {source.own_copy}, "
        "or check the network, HF_ENDPOINT and the token"
    )


def _unreachable(source: Published, revision: str, why: str) -> UnreachableError:
    return UnreachableError(
        f"{source.repo}@{revision}: cannot be had from the Hub ({why}) and was never fetched whole before; check the "
        f"network, or {source.own_copy}"
    )
