"""What trains: the engine protocol, and the choice of one with its reason."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medrecipes.core import processes as ranks
from medrecipes.core.console import Console
from medrecipes.core.errors import EngineError
from medrecipes.core.files import cache_root
from medrecipes.core.progress import phase
from medrecipes.core.trust import admit
from medrecipes.data.records import Conversation
from medrecipes.data.split import Split
from medrecipes.data.tagged_split import TaggedSplit
from medrecipes.engines.bases import Base, fetch_weights, open_base
from medrecipes.engines.plan import NO_VARLEN, unfit
from medrecipes.engines.plan.dimensions import capped
from medrecipes.recipe.local_bases import made_here
from medrecipes.recipe.rules.names import TINY
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.base_template import base_template
from medrecipes.rendering.chat_template import ChatTemplate, Example
from medrecipes.runs.folder import RunDir


@dataclass(frozen=True)
class Choice:
    """A setting that was left to us, with what was chosen and why; printed and recorded in run.json."""

    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.value} ({self.reason})"


def said_of_load(bits: int, choices: Mapping[str, Choice]) -> str:
    """How a base computes, e.g. `4 bits, decoded once, computed in bf16 (the CPU has avx512_bf16)`."""
    if (weights := choices.get("weights")) is None:
        return f"{bits} bits, {choices['precision']}"
    kept = weights.value if weights.value == "decoded once" else weights
    return f"{bits} bits, {kept}, computed in {choices['precision']}"


@dataclass(frozen=True)
class Decoding:
    """How an answer is drawn from a model; with the prompt it settles the answer, in whatever batch it is asked."""

    max_new_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float
    seed: int
    ignore_eos: bool = False  # go on past stop tokens, as benchmark clients ask for

    @classmethod
    def of(cls, recipe: Recipe) -> Decoding:
        """What the recipe says."""
        evaluated = recipe.eval
        return cls(evaluated.longest, evaluated.temperature, evaluated.top_p, evaluated.repetition_penalty, recipe.seed)

    def ending(self, stop_ids: Sequence[int]) -> Sequence[int]:
        """Which of a template's stop tokens end an answer."""
        return () if self.ignore_eos else stop_ids

    def as_dict(self) -> dict[str, Any]:
        """What answers depend on, as reports keep it: a greedy answer knows no seed."""
        drawn = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed} if self.temperature else {}
        method = "sampled" if self.temperature else "greedy"
        limits = {"max_new_tokens": self.max_new_tokens, "repetition_penalty": self.repetition_penalty}
        return {"method": method, **limits, **drawn}


class Engine(Protocol):
    """A loaded base that can answer, be trained and be saved; it takes ids and labels and never renders text."""

    name: str
    choices: dict[str, Choice]

    def train(
        self, train: Sequence[Example], dev: Sequence[Example], rundir: RunDir, console: Console
    ) -> dict[str, Any]:
        """Attach an adapter, train it (or go on from the last checkpoint) and keep the best; returns the statistics."""

    def base(self) -> AbstractContextManager[None]:
        """Inside, the model answers as the base does, without its adapter."""

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """The ids that answer each prompt, in order, the stop token included where one came."""

    def stream(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        """One answer, id by id as it is written; ends early once `stop` is set."""

    def talking(self) -> AbstractContextManager[None]:
        """Inside, what is streamed comes from a model that is opened once."""

    def shared(self, rows: int) -> Any:
        """The model behind a thread of its own, for so many requests at once (`generation.Shared`)."""

    def answer_nats(self, examples: Sequence[Example]) -> list[float]:
        """The negative log-likelihood of each row's supervised tokens but the stop token, in nats."""

    def open_adapter(self, folder: Path) -> None:
        """Put a saved adapter on the base, to answer with."""

    def save(self, folder: Path) -> None:
        """Write the adapter, safetensors only, with the tokenizer and its template."""


def trl_only(recipe: Recipe) -> dict[str, str]:
    """The settings that Unsloth would ignore or refuse: key to value."""
    model, lora = recipe.model, recipe.lora
    found = {
        "model.quant_type": model.quant_type if model.bits == 4 and model.quant_type != "nf4" else None,
        "model.double_quant": "false" if model.bits == 4 and not model.double_quant else None,
        "model.skip_modules": list(model.skip_modules) or None,
        "model.cpu_offload": "true" if model.cpu_offload else None,
        "lora.use_dora": "true" if lora.use_dora else None,
        "lora.init": lora.init if lora.init in ("pissa", "loftq") else None,
    }
    return {key: str(value) for key, value in found.items() if value is not None}


NARROW = ((8, 6), (8, 9), (12, 0))  # GPUs whose kernel learns with heads of at most 192 numbers

CAPPED = "this base caps what it attends with, which the library's own layers were proved to do"


def choose_engine(recipe: Recipe, *, cuda: bool, processes: int, slow: str | None = None, caps: bool = False) -> Choice:
    """Which engine a recipe gets, and why; a setting that the engine would not honour is an error that names the other."""
    wanted, special = recipe.model.engine, trl_only(recipe)
    if wanted == "trl" and not cuda:
        raise EngineError(
            "model.engine = 'trl' needs an NVIDIA GPU (TRL's loss is a GPU kernel); set model.engine = 'unsloth'"
        )
    if wanted == "auto" and cuda and (special or processes > 1):
        reason = (
            f"{processes} processes train together"
            if processes > 1
            else f"Unsloth does not honour {', '.join(special)}"
        )
        return _trl(recipe, reason)
    if wanted == "trl":
        return _trl(recipe, "the recipe says so")
    if wanted == "auto" and cuda and "lm_head" in recipe.lora.targets:
        slow, caps = "lora.targets has lm_head, which Unsloth alone trains", False
    if wanted == "auto" and cuda and slow is None:
        return Choice("trl", "its fused layers are the fastest on this GPU")
    if wanted == "auto" and cuda and caps:
        return Choice("trl", CAPPED)
    for key, value in special.items():
        raise EngineError(
            f"{key} = {value}: Unsloth does not honour it; set model.engine = 'trl' (needs an NVIDIA GPU)"
        )
    if not cuda and recipe.model.bits == 8:
        raise EngineError("model.bits = 8: Unsloth on a CPU would load 16 bits instead; set model.bits = 4 or 16")
    if wanted == "unsloth" and processes > 1:
        raise EngineError("model.engine = 'unsloth' trains on one GPU; set model.engine = 'trl' for several")
    if wanted == "unsloth":
        return Choice("unsloth", "the recipe says so")
    return Choice("unsloth", f"the default without fused layers: {slow}" if cuda else "the default on a CPU")


def _trl(recipe: Recipe, reason: str) -> Choice:
    if "lm_head" in recipe.lora.targets:
        raise EngineError(
            f"lora.targets: 'lm_head' cannot be trained by engine trl ({reason}), whose loss reads the head's weights "
            "past an adapter; leave it out, or train with Unsloth on one GPU, which trains the head whole"
        )
    return Choice("trl", reason)


FP8_CAPABILITY = (8, 9)  # of the first GPUs that multiply 8-bit floats


def require_bf16(recipe: Recipe, why: str) -> None:
    """Raise where a recipe is to be computed in 8-bit floats and cannot be, and why."""
    if recipe.train.compute == "fp8":
        raise EngineError(f"train.compute = 'fp8': {why}; leave it out, or set 'bf16'")


def require_trackers(recipe: Recipe) -> None:
    """Raise for a tracker that is not installed; said before anything is done."""
    for name in recipe.train.report_to:
        if importlib.util.find_spec(name) is None:
            raise EngineError(
                f"train.report_to: {name} is not installed; pip install {name}, or leave it out: "
                "--set 'train.report_to=[]'"
            )


def tell_figures(recipe: Recipe, rundir: RunDir, report: Mapping[str, Any], steps: int, console: Console) -> None:
    """Give the trackers of the recipe the figures of the held-out rows."""
    importlib.import_module("medrecipes.engines.trackers.guard").tell_figures(recipe, rundir, report, steps, console)


def load_libraries(recipe: Recipe) -> Choice:
    """Import what the chosen engine is made of, in the order it wants: unsloth before trl, transformers and peft."""
    choice = _engine(recipe)
    phase(f"importing torch and {choice.value}")
    importlib.import_module(f"medrecipes.engines.{choice.value}")
    phase("")
    return choice


def engine_ahead(recipe: Recipe) -> Choice:
    """The engine of a recipe, whose libraries `load_ahead` imports; at once, where they themselves build or read the base."""
    built = made_here(recipe.model.base) or recipe.model.base.endswith(".gguf")
    return load_libraries(recipe) if built else _engine(recipe)


def load_ahead(choice: Choice) -> Callable[[], None]:
    """Import an engine's libraries in a thread, while rows are tokenised; returned is what waits for it.

    Whatever the import fails of is raised where the engine is opened, which asks for it again.
    """

    def load() -> None:
        with suppress(Exception):
            importlib.import_module(f"medrecipes.engines.{choice.value}")

    thread = threading.Thread(target=load, name="import")  # no daemon: Python may not end while torch is being loaded
    thread.start()
    return thread.join


def _engine(recipe: Recipe) -> Choice:
    """The engine of a recipe, its libraries installed and free to be imported."""
    ranks.alone()
    import torch  # unsloth wants to come before trl, transformers and peft; torch may come before it

    cuda, processes = torch.cuda.is_available(), ranks.size()
    if not cuda or torch.cuda.get_device_capability() < FP8_CAPABILITY:
        require_bf16(
            recipe, f"{'this GPU has' if cuda else 'a CPU has'} no 8-bit floats (RTX 40, L4, H100 and newer have)"
        )
    slow, caps = _known(recipe) if cuda and recipe.model.engine == "auto" else (None, False)
    choice = choose_engine(recipe, cuda=cuda, processes=processes, slow=slow, caps=caps)
    if choice.value == "unsloth":
        require_bf16(recipe, slow or choice.reason)
    if importlib.util.find_spec(str(choice.value)) is None and choice.value == "unsloth":
        raise EngineError(
            "model.engine = 'unsloth': unsloth is not installed; `bash scripts/install` does it, or set model.engine = 'trl'"
        )
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_root() / "unsloth"))
    return choice


def _known(recipe: Recipe) -> tuple[str | None, bool]:
    """Why this GPU or base cannot have the fused layers, None when it can; and whether it caps what it attends with."""
    name = recipe.model.base
    tiny = {"model_type": TINY[name], "attn_logit_softcapping": TINY[name] == "gemma2"} if name in TINY else None
    config = tiny or open_base(name, recipe.model.revision).config
    text: Any = config.get("text_config") or config
    width = text.get("head_dim") or 0
    return unfit(recipe, str(config.get("model_type"))) if has_varlen(width) else NO_VARLEN, capped(config)


def has_varlen(width: int = 0) -> bool:
    """Whether the GPU at hand is of a kind that has variable-length attention, and learns with heads this wide."""
    import torch

    capability = torch.cuda.get_device_capability()
    return bool(capability >= (8, 0)) and not (width > 192 and capability in NARROW)


def open_engine(recipe: Recipe, base: Base, template: ChatTemplate, choice: Choice) -> Engine:
    """Load the base as the recipe says."""
    import torch

    limit_memory(recipe)
    if ranks.leads():
        fetch_weights(base)
    opener: Callable[..., Engine] = importlib.import_module(f"medrecipes.engines.{choice.value}").open_engine
    try:
        engine = opener(recipe, base, template)
    except torch.cuda.OutOfMemoryError:
        raise EngineError(
            f"out of memory while {recipe.model.base} is loaded (`medrecipes plan RECIPE` says what it takes); choose a smaller "
            "base, or several GPUs that share it: --gpus N"
        ) from None
    engine.choices["engine"] = choice
    return engine


def open_tagger(recipe: Recipe, base: Base, labels: Sequence[str], choice: Choice) -> Any:
    """Load the base with a tagging head (`trainer.tags.Tagger`)."""
    fetch_weights(base)
    engine = importlib.import_module("medrecipes.engines.trainer.tags").Tagger(recipe, base, labels)
    engine.choices["engine"] = choice
    return engine


def limit_memory(recipe: Recipe) -> None:
    """Hold this process to train.memory_gb of its GPU, or to all of it where the recipe before this one said so."""
    import torch

    if torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        share = recipe.train.memory_gb * 1e9 / whole if recipe.train.memory_gb else 1.0
        torch.cuda.set_per_process_memory_fraction(min(1.0, share))


def recipe_base(recipe: Recipe, split: Split) -> Base:
    """The recipe's base; a tiny one is built on the spot, and sees the training groups alone."""
    if not recipe.model.base.startswith("tiny:"):
        return _admitted(recipe)
    load_libraries(recipe)
    return _tiny(recipe, split)


def foundation(recipe: Recipe, split: Split) -> tuple[Choice, Base, ChatTemplate]:
    """What an engine is opened with besides its recipe: its libraries loaded, the base, and the template on it."""
    choice = load_libraries(recipe)
    base = recipe_base(recipe, split)
    return choice, base, base_template(recipe, base.tokenizer, recipe.model.base, split.rows)


def tag_base(recipe: Recipe, split: TaggedSplit) -> Base:
    """The base of a tag recipe; a tiny one is built on the spot, and sees the training documents alone."""
    if not recipe.model.base.startswith("tiny:"):
        return _admitted(recipe)
    return _tiny(recipe, split)


def tokenizer_base(recipe: Recipe, split: Split | TaggedSplit) -> Base:
    """The recipe's base for those who need its tokenizer and template alone: no engine is imported, no tiny base trained."""
    if not recipe.model.base.startswith("tiny:"):
        return _admitted(recipe)
    tiny = importlib.import_module("medrecipes.engines.tiny_tokenizers")
    base: Base = tiny.build(recipe.model.base.removeprefix("tiny:"), _texts(split))
    return base


def _admitted(recipe: Recipe) -> Base:
    """The recipe's base of the Hub or of a folder; raises where its own code is asked for and nobody allowed it."""
    base = open_base(recipe.model.base, recipe.model.revision)
    admit(recipe.model, base)
    return base


def _tiny(recipe: Recipe, split: Split | TaggedSplit) -> Base:
    """A tiny base, built on the training rows."""
    phase(f"building {recipe.model.base}")
    tiny = importlib.import_module("medrecipes.engines.tiny_bases")
    base: Base = tiny.build(recipe.model.base.removeprefix("tiny:"), _texts(split), recipe.seed)
    return base


TINY_ROWS = 2000  # hold about as many tokens as a tiny base trains on; all of a large dataset would take gigabytes


def _texts(split: Split | TaggedSplit) -> list[str]:
    """What a tiny base learns from: the training rows, evenly chosen where they are many, those of a group as one text."""
    documents: dict[str, list[str]] = {}
    rows = split.train
    for number in range(0, len(rows), max(1, -(-len(rows) // TINY_ROWS))):
        row = rows[number]
        text = f"{row.question}\n{row.answer}" if isinstance(row, Conversation) else " ".join(row.tokens)
        documents.setdefault(row.group, []).append(text)
    return ["\n".join(parts) for parts in documents.values()]
