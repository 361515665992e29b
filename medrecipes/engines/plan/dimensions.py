"""What decides about memory and time: the dimensions of a base, and of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU: memory that a process can have, dense half-precision rate and memory bandwidth by its data sheet."""

    name: str
    gb: float
    tflops: float
    gbps: float
    varlen: bool = True  # whether it runs variable-length attention (compute capability 8.0)
    link_gbps: float = 20  # to another GPU: PCIe 4, or NVLink


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("t4", 15.6, 65, 320, varlen=False),
        Gpu("v100", 16.9, 125, 900, varlen=False),
        Gpu("rtx3050", 8.3, 36, 224),
        Gpu("rtx3060", 12.4, 51, 360),
        Gpu("rtx3090", 25.2, 71, 936),
        Gpu("rtx4060", 8.3, 60, 272),
        Gpu("rtx4090", 25.2, 165, 1008),
        Gpu("rtx5090", 33.6, 210, 1792),
        Gpu("l4", 23.6, 121, 300),
        Gpu("a10g", 23.6, 70, 600),
        Gpu("l40s", 47.6, 362, 864),
        Gpu("a100-40", 42.3, 312, 1555, link_gbps=200),
        Gpu("a100-80", 84.9, 312, 2039, link_gbps=200),
        Gpu("h100", 84.9, 989, 3350, link_gbps=300),
        Gpu("h200", 149.9, 989, 4800, link_gbps=300),
    )
}


def data_sheet(name: str, gb: float, *, varlen: bool) -> Gpu:
    """A GPU by the name that its driver gives, with the memory it can have; one that is not known is taken for an A100."""
    name = name.lower()
    known = sorted((key for key in GPUS if key.split("-")[0] in name.replace(" ", "")), key=len)
    return replace(GPUS[known[-1]] if known else GPUS["a100-40"], name=name, gb=gb, varlen=varlen)


def capped(config: Mapping[str, Any]) -> bool:
    """Whether a base caps what it attends with, as Gemma 2 does; no kernel that is fast knows how."""
    return bool((config.get("text_config") or config).get("attn_logit_softcapping"))


@dataclass(frozen=True)
class Shape:
    """What of config.json decides about memory and time."""

    family: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    width: int
    vocabulary: int
    tied: bool
    capped: bool
    # of a mixture of experts: how many multilayer perceptrons a layer holds, and how many a token goes through
    experts: int = 1
    used: int = 1
    per_layer: int = 0  # parameters of the embeddings that each layer adds (Gemma 3n and 4)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Read a config; models that also see keep theirs in `text_config`."""
        text = config.get("text_config") or config
        heads = text["num_attention_heads"]
        inner, experts, used = _experts(text)
        return cls(
            family=str(text.get("model_type", "")),
            hidden=text["hidden_size"],
            inner=inner,
            layers=text["num_hidden_layers"],
            heads=heads,
            kv_heads=text.get("num_key_value_heads") or heads,
            width=text.get("head_dim") or text["hidden_size"] // heads,
            vocabulary=text["vocab_size"],
            tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))),
            capped=capped(config),
            experts=experts,
            used=used,
            per_layer=text["num_hidden_layers"]
            * (text.get("hidden_size_per_layer_input") or 0)
            * (text.get("vocab_size_per_layer_input") or text["vocab_size"]),
        )

    @property
    def modules(self) -> dict[str, tuple[int, int]]:
        """The matrices of a layer, inputs and outputs; of the experts one."""
        queries, keys = self.heads * self.width, self.kv_heads * self.width
        if self.family == "phi3":
            return {
                "qkv_proj": (self.hidden, queries + 2 * keys), "o_proj": (queries, self.hidden),
                "gate_up_proj": (self.hidden, 2 * self.inner), "down_proj": (self.inner, self.hidden),
            }  # fmt: skip
        return {
            "q_proj": (self.hidden, queries), "k_proj": (self.hidden, keys), "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden), "gate_proj": (self.hidden, self.inner),
            "up_proj": (self.hidden, self.inner), "down_proj": (self.inner, self.hidden),
        }  # fmt: skip

    @property
    def sandwich(self) -> bool:
        """Whether what attention and the perceptron make is normed before it joins the stream."""
        return self.family.startswith(("gemma2", "gemma3"))

    @property
    def matrices(self) -> int:
        """The parameters in all layers' matrices, all experts included."""
        return self._matrices(self.experts)

    @property
    def computed(self) -> int:
        """The parameters in all layers' matrices that a token is multiplied with."""
        return self._matrices(self.used)

    def _matrices(self, experts: int) -> int:
        one = sum(rows * columns for rows, columns in self.modules.values())
        return self.layers * (one + (experts - 1) * 3 * self.hidden * self.inner)

    @property
    def head(self) -> int:
        """The numbers in the matrix that makes words of the last layer's output."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All numbers of the base, norms left out."""
        return self.matrices + self.head * (1 if self.tied else 2) + self.per_layer


def _experts(text: Mapping[str, Any]) -> tuple[int, int, int]:
    """The width of a layer's perceptron, how many a layer holds, and how many a token goes through."""
    held = text.get("num_local_experts") or text.get("num_experts") or 0
    inner = (held and text.get("moe_intermediate_size")) or text["intermediate_size"]
    inner = max(inner) if isinstance(inner, list) else inner  # Gemma 3n gives one a layer
    if not held:
        return inner, 1, 1
    shared = str(text.get("model_type", "")).startswith("llama4")  # one that every token goes through
    return inner, held + shared, (text.get("num_experts_per_tok") or 1) + shared
