"""Whose code may run: a base's own Python code runs only where the command line names that base and its commit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medrecipes.core.errors import MedRecipesError, TrustError
from medrecipes.core.files import read_json

OPTION = "--trust-remote-code"
COMMIT = re.compile("[0-9a-f]{40}")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
KERNELS = ("attn_implementation", "experts_implementation")  # which may name a repository of kernels


class Base(Protocol):
    """What is asked of a base here."""

    @property
    def name(self) -> str:
        """A folder, or the id of a repository."""

    @property
    def revision(self) -> str | None:
        """The commit of a repository; none of a folder."""

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says."""


class Asks(Protocol):
    """What is asked of a recipe's `[model]` here."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether the recipe asks for the base's own code."""

    @property
    def asked_at(self) -> str:
        """The file and line that ask for it."""


@dataclass(frozen=True)
class Grant:
    """What the command line trusts: a repository of the Hub at a commit, or a folder (without one)."""

    name: str
    commit: str | None

    @classmethod
    def parse(cls, word: str) -> Grant:
        """`OWNER/NAME@COMMIT`, or the path of a folder."""
        folder, (name, _, commit) = Path(word).expanduser(), word.rpartition("@")
        if word and folder.is_dir():
            return cls(str(folder.resolve()), None)
        if name and COMMIT.fullmatch(commit):
            return cls(name, commit)
        raise TrustError(
            f"{OPTION} {word}: is neither a folder nor a repository with its whole commit, OWNER/NAME@COMMIT (a branch may "
            "move); leave the option out, and the command says what to type"
        )


_granted: ContextVar[tuple[Grant, ...]] = ContextVar("granted", default=())


@contextmanager
def granted(words: Sequence[str]) -> Iterator[None]:
    """Inside, the code of these bases may run: what was typed for `--trust-remote-code`, and nothing that a file says."""
    token = _granted.set(tuple(map(Grant.parse, words)))
    try:
        yield
    finally:
        _granted.reset(token)


def trusts(name: str, commit: str | None) -> bool:
    """Whether the command line names this repository at the very commit that is opened, or this folder (without one)."""
    return Grant(name, commit) in _granted.get()


def admit(model: Asks, base: Base) -> bool:
    """Whether a base's own code runs here; raises where a recipe asks for it and the command line does not name it."""
    if not model.trust_remote_code:
        return False
    if not trusts(base.name, base.revision):
        raise TrustError(f"{model.asked_at}: model.trust_remote_code = true asks to run Python code of {_place(base)}; {advice(base)}")  # fmt: skip
    if others := sorted(set(_others(base))):
        raise TrustError(
            f"{_place(base)}: takes its code from {', '.join(others)}, which {OPTION} {named(base)} does not name; "
            "copy the base and that code into one folder, and give it as model.base"
        )
    return True


def named(base: Base) -> str:
    """A base as the option names it."""
    return base.name if base.revision is None else f"{base.name}@{base.revision}"


def advice(base: Base) -> str:
    """The next move of whoever wants a base's code to run."""
    return f"read it{_where(base)}, and if you trust it add {OPTION} {shlex.quote(named(base))}"


def _place(base: Base) -> str:
    return f"the folder {base.name}" if base.revision is None else f"{base.name} at {base.revision[:12]}"


def _where(base: Base) -> str:
    if base.revision is None:
        return ""
    from huggingface_hub import constants

    return f" at {constants.ENDPOINT}/{base.name}/tree/{base.revision}"


def code_of(base: Base) -> list[str]:
    """The classes of files of its own that a base's config names, e.g. `modeling_x.Model` or `OWNER/NAME--modeling_x.Model`."""
    return sorted(set(_texts(base.config.get("auto_map"))))


def _others(base: Base) -> Iterator[str]:
    """The other repositories that a base takes code from."""
    for reference in code_of(base):
        repository, dashes, _ = reference.partition("--")
        if dashes and repository != base.name:
            yield repository


def inspect(base: Base, names: Collection[str]) -> None:
    """Raise for a base whose files would bring more than a base: an adapter, pickles, kernels of the Hub."""
    if "adapter_config.json" in names:
        raise MedRecipesError(
            f"{_place(base)}: holds an adapter (adapter_config.json); name the base that it was trained on, or merge the two"
        )
    pickles = sorted(name for name in names if name.endswith(PICKLES) and "model" in name)
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise MedRecipesError(
            f"{_place(base)}: its weights are pickles ({pickles[0]}), which can run code when they are opened; name a form of it "
            "in safetensors, as transformers' save_pretrained writes it"
        )
    if kernels := [name for name in _kernels(base.config) if "/" in name]:
        raise TrustError(
            f"{_place(base)}: its config.json asks for kernels of {kernels[0]}, which are code; take that out"
        )


def inspect_adapter(folder: Path) -> None:
    """Raise for an adapter that is more than LoRA's matrices in safetensors, or would have a library open something else."""
    config = read_json(folder / "adapter_config.json")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise TrustError(f"{folder}/adapter_config.json: is not of a LoRA adapter, and nothing else is opened here")
    others = [name for name, value in config.items() if value and name.endswith("_config") and name != "loftq_config"]
    if others:
        raise TrustError(f"{folder}/adapter_config.json: {others[0]} may name files and modules to open; take it out")
    pickles = sorted(path.name for path in folder.glob("adapter_model*") if path.suffix in PICKLES)
    if pickles and not (folder / "adapter_model.safetensors").exists():
        raise TrustError(
            f"{folder}/{pickles[0]}: is a pickle, which can run code when it is opened; save it as safetensors"
        )


def _kernels(config: Any) -> Iterator[str]:
    """What a config says at any depth of how to attend."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield from _texts(value) if name.strip("_").removesuffix("_internal") in KERNELS else _kernels(value)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
