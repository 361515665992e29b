"""Dimensions of the bases that recipes/base/ names, as their makers publish them: a plan of them needs no Hub."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from typing import Any

from medrecipes.core.resources import shipped
from medrecipes.engines.plan.dimensions import Shape

# file in recipes/base/ -> family, hidden, inner, layers, heads, heads of keys, width of a head, vocabulary, whether words are tied
WIDTHS = {
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
    "mistral_small": ("mistral", 5120, 32_768, 40, 32, 8, 128, 131_072, False),
}
SHAPES = {name: Shape(*widths, capped=False) for name, widths in WIDTHS.items()}
# what a first recipe is proposed on, the largest first: nobody has to be asked for leave to use them (Apache-2.0, MIT)
PROPOSED = ("mistral_small", "phi4", "mistral_v03", "smollm2")


@lru_cache
def halves() -> dict[str, dict[str, Any]]:
    """The files of recipes/base/ that name a base, by their names: base, bits and template."""
    tables = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(shipped("recipes").glob("base/*.toml"))}  # fmt: skip
    return {name: table for name, table in tables.items() if "base" in table.get("model", {})}


def half_of(base: str) -> str | None:
    """The file of recipes/base/ that is meant by its own name or by the base that it names."""
    return next((name for name, table in halves().items() if base in (name, table["model"]["base"])), None)
