"""Tokenizers of tiny bases, each of its family's kind, learned on the spot: all that checks and previews need of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from medrecipes.core.errors import EngineError, did_you_mean
from medrecipes.core.files import digest, stage, write_json, write_text
from medrecipes.engines.bases import TINY_CONTEXT, Base
from medrecipes.recipe.rules.names import TINY_TEMPLATES
from medrecipes.recipe.schema import template_path

CODE = "1"  # raise it when a change here makes other bases


@dataclass(frozen=True)
class Family:
    """What makes a base one of its family: the architecture, the real special tokens and the kind of tokenizer."""

    config: str  # of transformers
    specials: tuple[str, ...]
    named: dict[str, str]
    pieces: Literal["prepended", "bare", "bytes"]  # SentencePiece with a dummy blank, or without one, or bytes
    settings: dict[str, Any]
    added: tuple[
        str, ...
    ] = ()  # tokens that the tokenizer does not mark as special, though the chat template writes them
    form: Literal["NFC"] | None = None  # the Unicode form that its tokenizer gives a text

    @property
    def tokens(self) -> tuple[str, ...]:
        """All that no text is split into."""
        return (*self.specials, *self.added)

    @property
    def opens(self) -> bool:
        """Whether a text begins with its BOS; ChatML models have none, or name the token that opens a turn so."""
        return self.named.get("bos_token") in ("<s>", "<bos>", "<|begin_of_text|>")


@dataclass(frozen=True)
class Size:
    """How large a base is and how long it is pre-trained; `device` is where."""

    vocabulary: int = 1024
    width: int = 256
    inner: int = 704
    layers: int = 3
    heads: int = 4
    key_heads: int = 2
    window: int = 128  # tokens a row
    rows: int = 8  # rows a step
    max_steps: int = 400
    eval_every: int = 20  # steps between two looks at the base's own dev loss
    patience: int = 1  # looks without improvement before it stops
    dev_every: int = 9  # every so many texts, one chooses when to stop
    peak_rate: float = 2e-3
    warmup: int = 20
    device: str = "cpu"

    @property
    def shape(self) -> dict[str, int]:
        """The same in the words of transformers' configs."""
        return {
            "hidden_size": self.width, "intermediate_size": self.inner, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.key_heads,
        }  # fmt: skip


TINY = Size()


LLAMA2 = ("<unk>", "<s>", "</s>")
LLAMA2_NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
GEMMA_NAMED = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SMOLLM2_NAMED = {
    "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>",
}  # fmt: skip
THOUGHT = ("<think>", "</think>")
HARMONY = (
    "<|startoftext|>", "<|endoftext|>", "<|return|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>",
)  # fmt: skip
# how Meta's tokenizer cuts a text into words
LLAMA3_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FAMILIES = {
    # v0.1 and v0.2 know three control tokens; [INST] is text to them
    "mistral": Family("MistralConfig", LLAMA2, LLAMA2_NAMED, "prepended", {"tie_word_embeddings": False}),
    "llama2": Family("LlamaConfig", LLAMA2, LLAMA2_NAMED, "prepended", {"tie_word_embeddings": False}),
    "llama3": Family(
        "LlamaConfig",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eom_id|>", "<|eot_id|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
        "bytes", {"tie_word_embeddings": False},
    ),
    "llama4": Family(
        "Llama4TextConfig",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad|>", "<|header_start|>", "<|header_end|>", "<|eom|>",
         "<|eot|>"),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>"}, "bytes",
        {"tie_word_embeddings": False, "head_dim": 64, "intermediate_size_mlp": 704, "num_local_experts": 4,
         "num_hidden_layers": 4, "attention_chunk_size": 32},
    ),
    # its language half: Unsloth opens no base that sees on a CPU
    "ministral3": Family(
        "Ministral3Config", (*LLAMA2, "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<pad>"),
        {**LLAMA2_NAMED, "pad_token": "<pad>"}, "bytes", {"tie_word_embeddings": True, "head_dim": 64},
    ),
    "qwen25": Family(
        "Qwen2Config", CHATML, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "bytes",
        {"tie_word_embeddings": False}, ("<tool_call>", "</tool_call>", "<|fim_pad|>"), "NFC",
    ),
    "qwen3": Family(
        "Qwen3Config", CHATML, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "bytes",
        {"tie_word_embeddings": True, "head_dim": 64}, ("<tool_call>", "</tool_call>", "<|fim_pad|>", *THOUGHT), "NFC",
    ),
    "smollm2": Family("LlamaConfig", CHATML, SMOLLM2_NAMED, "bytes", {"tie_word_embeddings": True}),
    # one layer of its three has no positions
    "smollm3": Family(
        "SmolLM3Config", (*CHATML, *THOUGHT), SMOLLM2_NAMED, "bytes",
        {"tie_word_embeddings": True, "no_rope_layer_interval": 3},
    ),
    # its own modules, qkv_proj and gate_up_proj, and not those of a Llama that Unsloth makes of it
    "phi4": Family(
        "Phi3Config", (*CHATML, "<|im_sep|>", "<|dummy_87|>"),
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|dummy_87|>"}, "bytes",
        {"tie_word_embeddings": False},
    ),
    "gpt_oss": Family(
        "GptOssConfig", HARMONY,
        {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}, "bytes",
        {"tie_word_embeddings": False, "head_dim": 64, "num_local_experts": 4, "num_experts_per_tok": 2,
         "intermediate_size": 256, "sliding_window": 32},
    ),
    "gemma": Family("GemmaConfig", GEMMA, GEMMA_NAMED, "bare", {"tie_word_embeddings": True, "head_dim": 64}),
    # windows, caps and their order small enough to tell in a model of this size
    "gemma2": Family(
        "Gemma2Config", GEMMA, GEMMA_NAMED, "bare",
        {"tie_word_embeddings": True, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 32,
         "attn_logit_softcapping": 2.0},
    ),
    "gemma3": Family(
        "Gemma3Config", GEMMA, GEMMA_NAMED, "bare",
        # five layers look back a little, the sixth at everything; what reads the file later counts on that order
        {"tie_word_embeddings": True, "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 32,
         "num_hidden_layers": 6},
    ),
    "gemma3n": Family(
        "Gemma3nTextConfig", GEMMA, GEMMA_NAMED, "bare",
        {"tie_word_embeddings": True, "head_dim": 64, "sliding_window": 32, "num_hidden_layers": 5,
         "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 32, "laurel_rank": 16,
         "activation_sparsity_pattern": None, "vocab_size_per_layer_input": 1024},
    ),
    "gemma4": Family(
        "Gemma4TextConfig", (*GEMMA[:4], "<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>"),
        GEMMA_NAMED, "bare",
        {"tie_word_embeddings": True, "head_dim": 64, "global_head_dim": 64, "sliding_window": 32,
         "num_hidden_layers": 6, "hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": 1024},
    ),
}  # fmt: skip


def build(family: str, texts: Sequence[str], size: Size = TINY) -> Base:
    """The tokenizer and the chat template of a family's base for these training texts, the same ones that its weights are trained with."""
    spec, chat = require(family, texts), chat_template(family)
    key = digest(["tiny tokenizer", CODE, chat, family, list(texts), asdict(size)])

    def make(folder: Path) -> dict[str, Any]:
        train, _ = parts(texts, size)
        save(spec, learned(spec, train, size), folder)
        write_text(folder / "chat_template.jinja", chat)
        return {"family": family}

    folder = stage(f"tiny-tokenizer-{family}", key, make)
    return Base(str(folder), folder)


def require(family: str, texts: Sequence[str]) -> Family:
    """The family of a tiny base; an error where there is none, or hardly a text to learn from."""
    if family not in FAMILIES:
        raise EngineError(f"model.base = 'tiny:{family}' is unknown{did_you_mean(family, FAMILIES)}")
    if len(texts) < 2:
        raise EngineError(f"model.base = 'tiny:{family}' learns from the training rows, which are too few; use more")
    return FAMILIES[family]


def chat_template(family: str) -> str:
    """The template that goes with a family."""
    return template_path(TINY_TEMPLATES[f"tiny:{family}"]).read_text(encoding="utf-8")


def parts(texts: Sequence[str], size: Size) -> tuple[list[str], list[str]]:
    """A ninth of the documents chooses when to stop; the tokenizer sees the same texts as the weights."""
    every = size.dev_every
    dev = [text for i, text in enumerate(texts) if i % every == every - 1] or list(texts[-1:])
    return [text for i, text in enumerate(texts) if i % every != every - 1][: len(texts) - 1], dev


def learned(spec: Family, texts: Sequence[str], size: Size) -> Tokenizer:
    """A BPE tokenizer of the family's kind, learned from the texts."""
    pieces, alphabet = list(spec.tokens), []
    if spec.pieces == "bytes":
        tokenizer = Tokenizer(models.BPE())
        if spec.form:
            tokenizer.normalizer = getattr(normalizers, spec.form)()
        words = pre_tokenizers.Split(Regex(LLAMA3_WORDS), "isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        pieces += [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        dummy = [normalizers.Prepend("▁")] if spec.pieces == "prepended" else []
        tokenizer.normalizer = normalizers.Sequence([*dummy, normalizers.Replace(" ", "▁")])
        # pieces never cross a blank: SentencePiece's own rule, which its BPE learns from word by word
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        strip = [decoders.Strip(" ", 1, 0)] if dummy else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary, special_tokens=pieces, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _demote_bytes(spec, tokenizer)


def _demote_bytes(spec: Family, tokenizer: Tokenizer) -> Tokenizer:
    """Byte pieces were only reserved as special tokens; they belong to the vocabulary, not to the control tokens."""
    value = json.loads(tokenizer.to_str())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] in spec.tokens]
    return Tokenizer.from_str(json.dumps(value))


def save(spec: Family, tokenizer: Tokenizer, folder: Path) -> None:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in spec.specials])
    value = json.loads(tokenizer.to_str())
    for token in value["added_tokens"]:
        token["special"] = token["content"] not in spec.added
    tokenizer = Tokenizer.from_str(json.dumps(value))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": TINY_CONTEXT, "clean_up_tokenization_spaces": False,
         "add_bos_token": spec.opens, **spec.named},
    )  # fmt: skip
