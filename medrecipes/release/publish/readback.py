"""A release as a stranger gets it: fetched by its commit, loaded with the plain libraries, and compared."""

from __future__ import annotations

from pathlib import Path

from medrecipes.core.errors import HubError
from medrecipes.core.hub import patient
from medrecipes.release.publish.delivery import Delivered, Target, same_bytes
from medrecipes.release.publish.release import Release

ASKED = ("What is asthma?", "  Which tests are made,\nand why?")  # prompts whose ids are compared


def read_back(target: Target, done: Delivered, release: Release, path: Path, back: Path) -> str:
    """Fetch the release by its commit, and load it as a stranger would."""
    weights = () if release.format in ("adapter", "parquet") else (".safetensors", ".gguf")
    same_bytes(target, done, release.files, back, skip=weights)
    told = f"{len(release.files)} files, the same by their hashes"
    if release.kind == "dataset":
        return f"{told}; {_same_rows(target.repo, done.commit, path, back)} load, the same"
    if release.format == "gguf":
        return told
    prompts = _same_prompts(target.repo, done.commit, release.files["tokenizer.json"].parent)
    loaded = f"; {_same_weights(target.repo, done.commit, path)} tensors load, the same" if release.format == "adapter" else ""  # fmt: skip
    return f"{told}{loaded}; {prompts} prompts give the same ids"


def _same_rows(repo: str, commit: str, folder: Path, back: Path) -> str:
    from datasets import load_dataset, load_from_disk

    mine = load_from_disk(str(folder))
    theirs = patient(repo, lambda: load_dataset(repo, revision=commit, cache_dir=str(back / "cache")))
    counts = []
    for part, rows in mine.items():
        same = len(theirs[part]) == len(rows) and all(
            theirs[part][i : i + 1000] == rows[i : i + 1000] for i in range(0, len(rows), 1000)
        )
        if not same:
            raise HubError(f"{repo}@{commit[:12]}: its {part} rows load otherwise than they were sent; look at it")
        counts.append(f"{len(rows):,} {part} rows")
    return ", ".join(counts)


def _same_prompts(repo: str, commit: str, folder: Path) -> int:
    from transformers import AutoTokenizer

    mine = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    theirs = patient(repo, lambda: AutoTokenizer.from_pretrained(repo, revision=commit, trust_remote_code=False))
    if not mine.chat_template:  # of a tagging run
        if [mine(text)["input_ids"] for text in ASKED] != [theirs(text)["input_ids"] for text in ASKED]:
            raise HubError(
                f"{repo}@{commit[:12]}: its tokenizer reads texts otherwise than the one that was sent; look at it"
            )
        return len(ASKED)
    for text in ASKED:
        asked = [{"role": "user", "content": text}]
        one, other = (t.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"] for t in (mine, theirs))  # fmt: skip
        if one != other:
            raise HubError(f"{repo}@{commit[:12]}: its tokenizer writes other prompts than the one that was sent; look at it")  # fmt: skip
    return len(ASKED)


def _same_weights(repo: str, commit: str, path: Path) -> int:
    import torch
    from peft import load_peft_weights

    mine = load_peft_weights(str(path / "adapter"), device="cpu")
    theirs = patient(repo, lambda: load_peft_weights(repo, device="cpu", revision=commit))
    if mine.keys() != theirs.keys() or not all(torch.equal(mine[name], theirs[name]) for name in mine):
        raise HubError(f"{repo}@{commit[:12]}: its adapter loads otherwise than it was sent; look at it")
    return len(mine)
