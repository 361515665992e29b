"""A base that lies on this machine: how a recipe names one, and the sha256 of the files that it is."""

from __future__ import annotations

import os
from pathlib import Path

from medrecipes.core.files import digest_files

# what lies beside a GGUF file whose own tokenizer cannot be rebuilt
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def is_local(base: str) -> bool:
    """Whether a base is named by its path; any other name is one of the Hub, `package:NAME` or `tiny:FAMILY`."""
    return base.startswith((".", "/", "~"))


def made_here(base: str) -> bool:
    """Whether a base is built on the spot, out of training rows or of a file that a package holds."""
    return base.startswith(("tiny:", "package:"))


def means_path(base: str, folder: Path) -> bool:
    """Whether what a recipe in a folder says of its base is a path: by how it begins or ends, or because it lies there."""
    if is_local(base) or not base or made_here(base):
        return is_local(base)
    return base.endswith(".gguf") or os.path.isdir(folder / base)


def content(base: str) -> str | None:
    """The sha256 of a folder's own files, or of a GGUF file with the tokenizer beside it; None where nothing lies there."""
    path = Path(os.path.expanduser(base))
    if os.path.isdir(path):
        files = [*path.iterdir(), *path.glob("additional_chat_templates/*.jinja")]
        return digest_files(path, [file for file in files if not file.name.startswith(".") and file.is_file()])
    beside = [path.parent / name for name in TOKENIZER]
    return digest_files(path, [path, *filter(Path.is_file, beside)]) if os.path.isfile(path) else None
