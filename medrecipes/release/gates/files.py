"""What the files tell: personal data in texts, and weights that could run code."""

from __future__ import annotations

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medrecipes.release.gates.rows import strings
from medrecipes.release.personal_data.second import look

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".h5", ".keras")
TEXTS = (".md", ".txt", ".json", ".jsonl", ".toml", ".csv", ".tsv", ".yaml", ".yml", "")
# a tokenizer's words are the base's, and its numbers are no telephone's
NOT_PROSE = ("tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "adapter_config", "model.safetensors.index")  # fmt: skip


def personal_files(files: Mapping[str, Path]) -> Iterator[str]:
    """Texts among the files that hold personal data; of lines of JSON, which line."""
    for name, path in files.items():
        if path.suffix.lower() not in TEXTS or path.name.startswith(NOT_PROSE):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = text.splitlines() if path.suffix == ".jsonl" else [text]
        for number, line in enumerate(lines, 1):
            if path.suffix in (".json", ".jsonl"):  # as it is read, not as it is escaped
                line = "\n".join(strings(_parsed(line)))
            if kinds := dict.fromkeys(str(finding) for finding in look(line)):
                yield f"{name}{f', line {number}' if path.suffix == '.jsonl' else ''}: {', '.join(kinds)}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def pickled(path: Path) -> str:
    """Why a file is no safe way to hold weights, or nothing: by its name, and by what is inside whatever its name."""
    if path.suffix.lower() in PICKLED:
        return f"{path.suffix} files may hold code"
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if path.suffix.lower() == ".safetensors":
        size = int.from_bytes(head[:8], "little")
        if not (8 <= size < path.stat().st_size and head[8:9] == b"{"):
            return "is no safetensors file inside" + (", but a pickle" if _is_pickle(head) else "")
        return ""
    if head[:4] == b"PK\x03\x04" and zipfile.is_zipfile(path):
        names = zipfile.ZipFile(path).namelist()
        if any(name.endswith((".pkl", ".npy")) for name in names):
            return "is a zip archive with a pickle inside"
    return "is a pickle inside" if _is_pickle(head) else ""


def _is_pickle(head: bytes) -> bool:
    """Whether the bytes are a pickle's, of whichever protocol: its opcodes, and one that builds something."""
    if re.match(rb"\x80[\x02-\x05]", head):
        return True
    built = False
    try:
        for operation, _, _ in pickletools.genops(io.BytesIO(head)):
            built = built or operation.name in ("GLOBAL", "INST", "REDUCE", "BUILD", "STACK_GLOBAL")
    except Exception:  # what is no pickle ends in any error
        return False
    return built
