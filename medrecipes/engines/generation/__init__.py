"""Generation: answers of a loaded model by continuous batching, and how likely it finds an answer; base and tuned alike.

`batch.Generator` answers many prompts at once, on a GPU by CUDA graphs; `library` is transformers' own `generate`, for
bases that the former was not seen to agree with, and for layers that several GPUs share.
"""

from __future__ import annotations

from medrecipes.engines.generation.batch import Generator, Loaded, Request
from medrecipes.engines.generation.body import LibraryBody
from medrecipes.engines.generation.library import AtOnce, device_of, generate, inference, portions
from medrecipes.engines.generation.likelihood import nats, packed_nats
from medrecipes.engines.generation.shared import Shared
from medrecipes.engines.generation.text import spoken

__all__ = [
    "AtOnce", "Generator", "LibraryBody", "Loaded", "Request", "Shared", "device_of", "generate", "inference", "nats", "packed_nats", "portions",
    "spoken",
]  # fmt: skip
