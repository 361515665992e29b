"""Tokens and keys in files: what must never leave the machine, known by the shapes that their issuers give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

# issuer -> the shape of what it issues
SHAPES = {
    "Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b",
    "API key (sk-…)": r"\bsk-(?:proj-|svcacct-|admin-|ant-)?[A-Za-z0-9_-]{20,}",
    "AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "AWS secret key": r"(?i:aws_?secret_?(?:access_?)?key)[\"']?\s{0,3}[:=]\s{0,3}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    "private key": r"-----BEGIN (?:[A-Z]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    "Google API key": r"\bAIza[\w-]{35}",
    "Stripe key": r"\b[rs]k_live_[A-Za-z0-9]{20,}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}\b",
    "PyPI token": r"\bpypi-AgE[\w-]{50,}",
    "Weights & Biases key": r"(?i:wandb)[\w\"' ]{0,20}[:=]\s{0,3}[\"']?[0-9a-f]{40}\b",
    "JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "password in a URL": r"\bhttps?://[^\s/:@\"']{1,64}:[^\s/@\"']{3,128}@[\w.-]",
    "password or key": r"(?i:\b(?:api[_-]?key|client[_-]?secret|password|passwd|access[_-]?token|auth[_-]?token))[\"']?\s{0,3}[:=]"
    r"\s{0,3}[\"'](?=[^\"']*\d)[A-Za-z0-9_+/=.-]{16,}[\"']",
}
PATTERN = re.compile("|".join(f"(?P<k{i}>{shape})" for i, shape in enumerate(SHAPES.values())).encode())
NAMES = list(SHAPES)
CHUNK, OVERLAP = 1 << 22, 512
# of weights, which are numbers, only what stands before them can hold a text
HEAD = {".safetensors": 1 << 24, ".gguf": 1 << 26}


def secrets_in(content: bytes) -> Iterator[tuple[str, int]]:
    """The kind of each token or key, and where it stands; never the thing itself."""
    for match in PATTERN.finditer(content):
        yield NAMES[int(str(match.lastgroup)[1:])], match.start()


def secrets_of(path: Path) -> Iterator[str]:
    """The tokens and keys of a file, each with its line, e.g. `Hugging Face token, line 3`."""
    left, before, lines, told = HEAD.get(path.suffix.lower(), path.stat().st_size), b"", 1, set()
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            content = before + chunk
            for kind, start in secrets_in(content):
                line = lines + content.count(b"\n", 0, start)
                if (kind, line) not in told:
                    told.add((kind, line))
                    yield f"{kind}, line {line}"
            before = content[-OVERLAP:]
            lines += content.count(b"\n", 0, len(content) - len(before))
