"""Dimensions of the bases that shipped recipes name, as their makers publish them: a plan of them needs no Hub."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from medrecipes.core.resources import shipped
from medrecipes.engines.plan.dimensions import Shape

# file in recipes/base/ -> family, hidden, inner, layers, heads, heads of keys, width of a head, vocabulary, whether words are tied
WIDTHS = {
    "smollm2_135m": ("llama", 576, 1536, 30, 9, 3, 64, 49_152, True),
    "gemma3_270m": ("gemma3_text", 640, 2048, 18, 4, 1, 256, 262_144, True),
    "smollm2": ("llama", 2048, 8192, 24, 32, 32, 64, 49_152, True),
    "smollm3": ("smollm3", 2048, 11_008, 36, 16, 4, 128, 128_256, True),
    "llama32": ("llama", 3072, 8192, 28, 24, 8, 128, 128_256, True),
    "llama2": ("llama", 4096, 11_008, 32, 32, 32, 128, 32_000, False),
    "mistral": ("mistral", 4096, 14_336, 32, 32, 8, 128, 32_000, False),
    "mistral_v03": ("mistral", 4096, 14_336, 32, 32, 8, 128, 32_768, False),
    "qwen25": ("qwen2", 3584, 18_944, 28, 28, 4, 128, 152_064, False),
    "llama3": ("llama", 4096, 14_336, 32, 32, 8, 128, 128_256, False),
    "llama31": ("llama", 4096, 14_336, 32, 32, 8, 128, 128_256, False),
    "qwen3": ("qwen3", 4096, 12_288, 36, 32, 8, 128, 151_936, False),
    "phi4": ("llama", 5120, 17_920, 40, 40, 10, 128, 100_352, False),
    "ministral3": ("ministral3", 4096, 14_336, 34, 32, 8, 128, 131_072, False),
    "gemma": ("gemma", 3072, 24_576, 28, 16, 16, 256, 256_000, True),
    "gemma2": ("gemma2", 3584, 14_336, 42, 16, 8, 256, 256_000, True),
    "gemma3": ("gemma3_text", 2560, 10_240, 34, 8, 4, 256, 262_208, True),
    "medgemma": ("gemma3_text", 2560, 10_240, 34, 8, 4, 256, 262_208, True),
    "medgemma_27b": ("gemma3_text", 5376, 21_504, 62, 32, 16, 128, 262_144, True),
    "gemma3n": ("gemma3n_text", 2048, 16_384, 35, 8, 2, 256, 262_400, True),
    "mistral_small": ("mistral", 5120, 32_768, 40, 32, 8, 128, 131_072, False),
    "gpt_oss": ("gpt_oss", 2880, 2880, 24, 64, 8, 64, 201_088, False),
    "llama4": ("llama4_text", 5120, 8192, 48, 40, 8, 128, 202_048, False),
}
# experts of a layer, how many a token goes through, and parameters of the embeddings that layers add
MORE: dict[str, dict[str, Any]] = {
    "gemma3n": {"per_layer": 35 * 256 * 262_144}, "gpt_oss": {"experts": 32, "used": 4}, "llama4": {"experts": 17, "used": 2},
}  # fmt: skip
_SHAPES = {name: Shape(*widths, capped=name == "gemma2", **MORE.get(name, {})) for name, widths in WIDTHS.items()}
SHAPES = dict(sorted(_SHAPES.items(), key=lambda item: item[1].parameters))
# a base that a recipe names by itself
ALONE = {"unsloth/mistral-7b-bnb-4bit": SHAPES["mistral"]}
# letters of a token in English medical texts (MedQuAD, WikiDoc, HealthCareMagic), by the size of the vocabulary that the
# tokenizers of Llama 2, Mistral, Llama 3.1, Qwen 3, Gemma 3 and SmolLM2 have; a test measures them
SMALL_VOCABULARY = 40_000
LETTERS_SMALL, LETTERS = 4.1, 4.6
TURN = 5  # tokens that a template puts around a turn, about
# what a first recipe is proposed on, the largest first: nobody has to be asked for leave to use them (Apache-2.0, MIT)
PROPOSED = ("mistral_small", "phi4", "mistral_v03", "smollm2")


def shape_of(base: str) -> Shape | None:
    """The dimensions of a base by its id, where a shipped recipe names it and they are known."""
    return ALONE.get(base) or SHAPES.get(half_of(base) or "")


def tokens_of(texts: Sequence[str], shape: Shape) -> int:
    """About how many tokens a conversation of these turns has."""
    letters = LETTERS_SMALL if shape.vocabulary < SMALL_VOCABULARY else LETTERS
    return int(sum(map(len, texts)) / letters) + TURN * len(texts)


@lru_cache
def halves() -> dict[str, dict[str, Any]]:
    """The files of recipes/base/ that name a base, by their names: base, bits and template."""
    tables = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(shipped("recipes").glob("base/*.toml"))}  # fmt: skip
    return {name: table for name, table in tables.items() if "base" in table.get("model", {})}


def half_of(base: str) -> str | None:
    """The file of recipes/base/ that is meant by its own name or by the base that it names."""
    return next((name for name, table in halves().items() if base in (name, table["model"]["base"])), None)
