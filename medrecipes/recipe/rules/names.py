"""Names that a recipe may say, beside those of files."""

from __future__ import annotations

# bases that are built on the spot, and the architecture of each
TINY = {
    "tiny:gemma": "gemma",
    "tiny:gemma2": "gemma2",
    "tiny:gemma3": "gemma3",
    "tiny:gemma3n": "gemma3n_text",
    "tiny:gemma4": "gemma4_text",
    "tiny:gpt_oss": "gpt_oss",
    "tiny:llama2": "llama",
    "tiny:llama3": "llama",
    "tiny:llama4": "llama4_text",
    "tiny:ministral3": "ministral3",
    "tiny:mistral": "mistral",
    "tiny:phi4": "phi3",
    "tiny:qwen25": "qwen2",
    "tiny:qwen3": "qwen3",
    "tiny:smollm2": "llama",
    "tiny:smollm3": "smollm3",
}
# and the chat template that each is published with, as a real base is
TINY_TEMPLATES = {
    "tiny:gemma": "gemma",
    "tiny:gemma2": "gemma",
    "tiny:gemma3": "gemma3",
    "tiny:gemma3n": "gemma3",
    "tiny:gemma4": "gemma4",
    "tiny:gpt_oss": "gpt-oss",
    "tiny:llama2": "llama2",
    "tiny:llama3": "llama3",
    "tiny:llama4": "llama4",
    "tiny:ministral3": "mistral-v7-tekken",
    "tiny:mistral": "mistral-v1",
    "tiny:phi4": "phi4",
    "tiny:qwen25": "qwen25",
    "tiny:qwen3": "qwen3",
    "tiny:smollm2": "smollm2",
    "tiny:smollm3": "smollm2",  # its own writes a date and what it may do; none of ours does
}
# transformers' names, without those that need a package of their own or no LoRA can use; a test compares them
OPTIMISERS = (
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit",
    "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit",
    "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit",
    "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "adafactor", "adagrad", "sgd",
)  # fmt: skip
TORCH_OPTIMISERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd")
SCHEDULERS = (
    "linear", "cosine", "constant", "constant_with_warmup", "inverse_sqrt", "cosine_with_restarts", "polynomial",
)  # fmt: skip
