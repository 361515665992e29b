"""The base model before any weight is loaded: its folder or Hub id, its tokenizer, and what its config tells."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from medrecipes.core.errors import MedRecipesError, RecipeError, UnreachableError, did_you_mean, reason
from medrecipes.core.files import read_json
from medrecipes.core.hub import bar_class, client_errors, hub_silence, transport
from medrecipes.core.trust import inspect
from medrecipes.recipe.local_bases import is_local
from medrecipes.recipe.rules.names import TINY
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.base_template import TOOL_TEMPLATE
from medrecipes.rendering.tokenizer import Tokenizer

# all that says what a base is, and none of its weights
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "special_tokens_map.json", "chat_template.jinja", TOOL_TEMPLATE, "tokenizer.model", "adapter_config.json", "README.md")  # fmt: skip

SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head")
# model_type of config.json -> where LoRA can sit, by the end of the name; a test asks transformers for each
MODULES = {
    "mistral": SPLIT, "mixtral": ("q_proj", "k_proj", "v_proj", "o_proj", "embed_tokens", "lm_head"),
    "ministral3": SPLIT, "mistral3": SPLIT, "smollm3": SPLIT, "llama": SPLIT, "qwen2": SPLIT, "qwen3": SPLIT, "gemma": SPLIT, "gemma2": SPLIT, "gemma3_text": SPLIT,
    "gemma3": SPLIT,  # of its language half: the other learns nothing from text
    "gemma3n_text": SPLIT, "gemma3n": SPLIT, "gemma4_text": SPLIT, "gemma4": SPLIT,  # what feeds the layers stays as it is
    # of a mixture of experts the attention, and of Llama 4 the expert that all tokens share: the others are one tensor
    "llama4_text": SPLIT, "llama4": SPLIT, "gpt_oss": ("q_proj", "k_proj", "v_proj", "o_proj", "embed_tokens", "lm_head"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj", "embed_tokens", "lm_head"),
}  # fmt: skip
# those of them that transformers can tag words with; a test asks it for each
TAGGING = (
    "mistral",
    "mixtral",
    "ministral3",
    "smollm3",
    "llama",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gpt_oss",
    "phi3",
)
TINY_CONTEXT = 1024
FORMS = ("mxfp4", "fp8")  # of which no library here makes weights that LoRA trains on
# those of tiny bases whose name does not follow from their type
ARCHITECTURES = {
    "gemma3": "Gemma3ForConditionalGeneration",  # it sees
    "gemma3n_text": "Gemma3nForCausalLM", "gemma4_text": "Gemma4ForCausalLM", "llama4_text": "Llama4ForCausalLM",
    "gpt_oss": "GptOssForCausalLM", "smollm3": "SmolLM3ForCausalLM",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What config.json says; `modules` is empty where this project does not know the architecture."""

    architecture: str
    modules: tuple[str, ...]
    context: int | None
    bits: int | None
    form: str | None = None  # a way to quantise it that only its own maker's kernels read, such as mxfp4

    def __str__(self) -> str:
        parts = [self.architecture or "unnamed architecture"]
        parts += [f"context of {self.context:,} tokens"] if self.context else []
        parts += [f"published in {self.form or f'{self.bits} bits'}"] if self.form or self.bits else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Base:
    """A base model: `name` as engines load it (a folder or a Hub id), and `folder` with its config and tokenizer."""

    name: str
    folder: Path
    revision: str | None = None
    gated: bool = False

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The base's own tokenizer."""
        return Tokenizer(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """What config.json says."""
        config = read_json(self.folder / "config.json")
        if not isinstance(config, dict):
            raise MedRecipesError(
                f"{self.folder / 'config.json'}: is no JSON object, so it describes no model; fetch the base again"
            )
        return config

    @property
    def licence(self) -> str | None:
        """What its card declares, if it has one: the Hub's short name of a licence."""
        from huggingface_hub import metadata_load

        card = self.folder / "README.md"
        try:
            declared = (metadata_load(card) or {}) if card.exists() else {}
        except ValueError:  # a card of another make
            return None
        named = declared.get("license_name") if declared.get("license") == "other" else None
        return str(named or declared["license"]) if declared.get("license") else None

    @property
    def facts(self) -> Facts:
        """What matters of it before the weights are there."""
        return read_facts(self.config)

    @property
    def is_local(self) -> bool:
        """Whether the weights lie in a folder of this machine."""
        return self.revision is None


def read_facts(config: dict[str, Any]) -> Facts:
    """The facts of a config; models that also see keep those of their language half in `text_config`."""
    text = config.get("text_config") or config
    quantised = config.get("quantization_config") or {}
    bits = 4 if quantised.get("load_in_4bit") else 8 if quantised.get("load_in_8bit") else quantised.get("bits")
    return Facts(
        architecture=next(iter(config.get("architectures") or ()), ""),
        modules=MODULES.get(str(config.get("model_type")), ()),
        context=text.get("max_position_embeddings"),
        bits=bits if isinstance(bits, int) else None,
        form=form if (form := quantised.get("quant_method")) in FORMS else None,
    )


def tiny_facts(name: str) -> Facts:
    """What a base that is built on the spot will be."""
    kind = TINY[name]
    return Facts(ARCHITECTURES.get(kind, f"{kind.capitalize()}ForCausalLM"), MODULES[kind], TINY_CONTEXT, None)


def require_base(recipe: Recipe, base: Base) -> None:
    """Raise for all that the recipe asks of a base that does not have it."""
    if wrong := list(contradictions(recipe, base.facts)):
        raise RecipeError([f"{recipe.name}: {problem}" for problem in wrong])


def contradictions(recipe: Recipe, facts: Facts) -> Iterator[str]:
    """What the recipe asks for that this base does not have, a line each that begins with the key."""
    if facts.architecture and not facts.architecture.endswith(("ForCausalLM", "ForConditionalGeneration")):
        yield f"model.base is a {facts.architecture}, which writes no text; choose another base"
    if facts.form:
        yield (
            f"model.base is published in {facts.form}, on which LoRA does not train here; name a form of it in 16 bits, or in "
            "bitsandbytes' 4 bits, as Unsloth publishes it (unsloth/…-bnb-4bit)"
        )
    modules = facts.modules
    if recipe.task == "tag":
        family = facts.architecture.partition("For")[0]
        if modules and family.lower() not in {kind.replace("_", "") for kind in TAGGING}:
            yield f"model.base is a {family}, for which transformers has no token classification; choose a Mistral, Llama or Gemma (1 or 2)"  # fmt: skip
        modules = tuple(name for name in modules if name != "lm_head")  # the tagging head stands in its place
    for key, names in (("lora.targets", recipe.lora.targets), ("model.skip_modules", recipe.model.skip_modules)):
        for name in names:
            if modules and name != "all-linear" and name not in modules:
                known = ", ".join(modules)
                hint = did_you_mean(name, modules)
                hint = hint if hint.startswith("; did") else ""
                yield f"{key}: {name!r} matches no module of this base{hint} (it has {known})"
    for key, tokens in (("data.max_tokens", recipe.data.max_tokens), ("eval.max_new_tokens", recipe.eval.max_new_tokens if recipe.task == "chat" else 0), ("eval.max_reasoning_tokens", recipe.eval.max_reasoning_tokens)):  # fmt: skip
        if facts.context and tokens > facts.context:
            yield f"{key} = {tokens} is beyond the base's context of {facts.context} tokens; lower it"
    if facts.bits and facts.bits != recipe.model.bits:
        yield (
            f"model.bits = {recipe.model.bits}, but the base is published in {facts.bits} bits; set that, or name its "
            "16-bit form"
        )


def open_base(name: str, revision: str) -> Base:
    """A base from a folder or a GGUF file by its path, a package that ships one, or the Hub at the commit that `revision` stands for now."""
    folder, local = Path(os.path.expanduser(name)), is_local(name)
    if name.startswith("package:") or (local and name.endswith(".gguf") and os.path.isfile(folder)):
        from medrecipes.engines.gguf_base import gguf_folder, package_file

        folder = gguf_folder(package_file(name) if name.startswith("package:") else folder)
        return Base(str(folder), folder)
    if local and os.path.isdir(folder):
        if not (folder / "config.json").exists():
            raise MedRecipesError(f"{folder}: holds no config.json, so it is no base model; correct model.base")
        return _inspected(Base(str(folder.resolve()), folder.resolve()))
    if local:
        raise MedRecipesError(f"{folder}: no such {'file' if name.endswith('.gguf') else 'folder'}; correct model.base")
    return _from_hub(name, revision)


def _from_hub(name: str, revision: str) -> Base:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

    if why := hub_silence():
        return _from_cache(name, revision, why)
    try:
        info = HfApi().model_info(name, revision=revision, timeout=10)
        # by the revision as it was given, so that the cache knows it under that name when the Hub cannot be asked
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except GatedRepoError:
        raise MedRecipesError(
            f"{name}: the base is gated; accept its terms on its Hub page, then log in with `hf auth login`"
        ) from None
    except (HfHubHTTPError, HFValidationError, transport().HTTPError, OSError) as error:
        raise MedRecipesError(
            f"{name}@{revision}: cannot be had from the Hub ({reason(error)}); check the name, the network and `hf auth login`, "
            "or give a folder as model.base"
        ) from None
    # a snapshot's folder is named after its commit
    base = Base(name, folder, folder.name, bool(info.gated))
    return _inspected(base, [file.rfilename for file in info.siblings or ()])


def _from_cache(name: str, revision: str, why: str) -> Base:
    """A base that was fetched before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError, HFValidationError, OSError):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=True))
        if (folder / "config.json").exists():
            return _inspected(Base(name, folder, folder.name))
    raise UnreachableError(
        f"{name}@{revision}: cannot be had from the Hub ({why}) and was never fetched before; check the network, "
        "or give a folder as model.base"
    )


def fetch_weights(base: Base) -> None:
    """Have the weights of a base of the Hub at hand, the bytes counted by the stage at work; what fails says the library that loads them."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    if base.is_local or hub_silence():
        return
    names = ["model.safetensors"]
    with suppress(*client_errors(), LookupError, TypeError, AttributeError):
        with suppress(EntryNotFoundError):
            index = read_json(Path(hf_hub_download(base.name, f"{names[0]}.index.json", revision=base.revision)))
            names = sorted(set(index["weight_map"].values()))
        snapshot_download(base.name, revision=base.revision, allow_patterns=names, tqdm_class=bar_class())


def _inspected(base: Base, names: Sequence[str] | None = None) -> Base:
    """A base of which nothing but weights, a config and a tokenizer would be opened; `names`: its files, where not all are here."""
    inspect(base, names or [path.name for path in base.folder.iterdir()])
    return base
