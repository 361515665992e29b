"""A dataset's files from the Hub, at a commit that is known and recorded."""

from __future__ import annotations

import re
from pathlib import Path

from medrecipes.errors import DataError, reason
from medrecipes.hub import client_errors
from medrecipes.sources import Source


def resolve(source: Source, revision: str) -> str:
    """The commit that a branch or tag of the source's repository stands for; a commit is itself, without asking."""
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        sha = HfApi().dataset_info(_repo(source), revision=revision).sha
    except client_errors() as error:
        raise _failed(source, revision, error) from None
    if not sha:
        raise DataError(f"{source.repo}@{revision}: the Hub names no commit for it; set data.revision to one")
    return str(sha)


def fetch(source: Source, sha: str) -> Path:
    """The folder with the source's files at that commit, from the Hub's own cache where they are there."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                _repo(source), repo_type="dataset", revision=sha, allow_patterns=list(source.hub_files) or None
            )
        )
    except client_errors() as error:
        raise _failed(source, sha, error) from None


def _repo(source: Source) -> str:
    if source.repo is None:
        raise DataError(f"{source.name}: has no repository on the Hub; set data.path (see {source.homepage})")
    return source.repo


def _failed(source: Source, revision: str, error: Exception) -> DataError:
    return DataError(
        f"{source.repo}@{revision}: cannot be had from the Hub ({reason(error)}); set data.path to a local copy, "
        "or check the network, HF_ENDPOINT and the token"
    )
