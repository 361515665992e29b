"""The makers' own tokenizers as `tokenizer.json` folders, converted faithfully: the ground of all template proofs."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Regex

from medrecipes.core.files import digest, digest_path, stage

ROOT = Path(__file__).parent.parent
BLANK = "▁"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6  # the types of a SentencePiece piece

# Mistral v0.1, v0.2 and Llama-2 publish the dummy blank as a normalizer that acts on every run of text ...
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": BLANK},
        {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
    ],
}
# ... Mistral v0.3 and later as a pre-tokenizer that acts on the first run only: their templates spell it out.
METASPACE = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": "first", "split": False}
# how byte-level tokenizers cut a text into words: those of OpenAI's o200k, of Qwen (each digit by itself) and of GPT-2
O200K = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
TOOLS = ("<tool_call>", "</tool_call>")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SENTENCEPIECE_DECODER = [
    {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]


def mistral_file(name: str) -> Path:
    """A tokenizer that mistral-common bundles."""
    import mistral_common

    return Path(mistral_common.__file__).parent / "data" / name


def llama3_file() -> Path:
    """The tokenizer that llama-models bundles."""
    import llama_models.llama3

    return Path(llama_models.llama3.__file__).parent / "tokenizer.model"


@lru_cache
def folder(family: str) -> Path:
    """The folder of a family's tokenizer, built once for all test runs of the same code and libraries."""
    versions = [version(name) for name in ("mistral-common", "llama-models", "tokenizers", "transformers")]
    template = ROOT / "templates" / f"{family}.jinja"  # the base's own, as its makers publish it with the tokenizer
    sources = (Path(__file__), ROOT / "data" / "medquad.csv", template)
    key = digest([family, versions, *map(digest_path, sources)])

    def build(work: Path) -> dict[str, Any]:
        tokenizer, config = FAMILIES[family]()
        write(work, tokenizer, config)
        shutil.copyfile(template, work / "chat_template.jinja")
        return {}

    return stage(family, key, build, Path(tempfile.gettempdir()) / "medrecipes-tests")


def write(work: Path, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """The two files of a tokenizer; its class is the one that takes `tokenizer.json` as it stands."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
    (work / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    (work / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def sentencepiece(file: Path, *, normalizer: Any, pre_tokenizer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A SentencePiece model; the merges follow its scores, so that runs of blanks are merged last, as it does."""
    from transformers.utils import sentencepiece_model_pb2_new as protobuf

    model = protobuf.ModelProto()
    model.ParseFromString(file.read_bytes())
    vocab = {piece.piece: id for id, piece in enumerate(model.pieces)}
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == NORMAL}
    merges = [
        (score, piece[:cut], piece[cut:])
        for piece, score in scores.items()
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    # SentencePiece takes the leftmost of equal scores: of two ways to the same run, the longer left part comes first
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    special = [p.piece for p in model.pieces if p.type in (UNKNOWN, CONTROL, USER_DEFINED)]
    bpe = {
        "type": "BPE",
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocab,
        "merges": [[left, right] for _, left, right in merges],
    }
    decoder = {
        "type": "Sequence",
        "decoders": [*SENTENCEPIECE_DECODER, {"type": "Strip", "content": " ", "start": 1, "stop": 0}],
    }
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return tokenizer_json(bpe, special, normalizer, pre_tokenizer, decoder, bos="<s>"), config


def tekken(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tekken file: its control tokens take the first ids, the pieces follow."""
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    reference = Tekkenizer.from_file(file)
    source = json.loads(file.read_text(encoding="utf-8"))
    controls = reference.num_special_tokens
    pieces = source["vocab"][: reference.n_words - controls]
    ranks = {base64.b64decode(piece["token_bytes"]): piece["rank"] for piece in pieces}
    special = [reference.id_to_piece(id) for id in range(controls)]
    bpe = byte_bpe(ranks, {token: id for id, token in enumerate(special)}, first=controls)
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    pre_tokenizer = split(source["config"]["pattern"])
    return tokenizer_json(bpe, special, None, pre_tokenizer, {**BYTE_LEVEL}, bos="<s>"), config


def llama3() -> tuple[dict[str, Any], dict[str, Any]]:
    """Meta's tiktoken file: the pieces first, then 256 control tokens."""
    from llama_models.llama3.tokenizer import Tokenizer

    reference = Tokenizer.get_instance()
    ranks = reference.model._mergeable_ranks
    tokenizer = tokenizer_json(
        byte_bpe(ranks, {}, first=0),
        reference.special_tokens,
        None,
        split(reference.pat_str),
        {**BYTE_LEVEL},
        bos="<|begin_of_text|>",
    )
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}


def llama4() -> tuple[dict[str, Any], dict[str, Any]]:
    """Meta's tiktoken file of Llama 4: the pieces first, then 2,048 control tokens."""
    from llama_models.llama4.tokenizer import Tokenizer

    reference = Tokenizer.get_instance()
    model = byte_bpe(reference.model._mergeable_ranks, {}, first=0)
    words = split(reference.O200K_PATTERN)
    tokenizer = tokenizer_json(model, reference.special_tokens, None, words, {**BYTE_LEVEL}, bos="<|begin_of_text|>")
    return tokenizer, {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>", "pad_token": "<|finetune_right_pad|>",
    }  # fmt: skip


def learned(
    special: Sequence[str], added: Sequence[str] = (), *, words: str, normalizer: Any = None, **named: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small byte-level vocabulary with a family's control tokens, `added` ones that are not marked as special, its
    normalizer and its way to cut words: for makers who bundle their tokenizer nowhere. No such family begins with a BOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), letters])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(
        texts(), trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    )
    bpe = json.loads(learner.to_str())["model"]
    tokenizer = tokenizer_json(bpe, [*special, *added], normalizer, split(words), {**BYTE_LEVEL}, bos=special[0])
    tokenizer["post_processor"] = {**BYTE_LEVEL}
    for token in tokenizer["added_tokens"]:
        token["special"] = token["content"] not in added
    return tokenizer, named


def texts() -> list[str]:
    """The shipped sample, which small vocabularies are learned from."""
    with (ROOT / "data" / "medquad.csv").open(encoding="utf-8", newline="") as file:
        return [f"{row['question']}\n{row['answer']}" for row in csv.DictReader(file)]


def gemma(control: Sequence[str] = ("<start_of_turn>", "<end_of_turn>")) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small vocabulary with Gemma's control tokens, normalizer and decoder: Google bundles its own nowhere."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    control = ["<pad>", "<eos>", "<bos>", "<unk>", *control]
    hexes = [f"<0x{byte:02X}>" for byte in range(256)]
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=[*control, *hexes], show_progress=False)
    learner.train_from_iterator(texts(), trainer)
    bpe = json.loads(learner.to_str())["model"]
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    decoder = {"type": "Sequence", "decoders": SENTENCEPIECE_DECODER}
    config = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return tokenizer_json(bpe, control, normalizer, None, decoder, bos="<bos>"), config


def byte_bpe(ranks: dict[bytes, int], before: dict[str, int], *, first: int) -> dict[str, Any]:
    """tiktoken's ranks as merges over printable stand-ins for bytes; a word that is a piece is taken whole."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = bytes_to_unicode()

    def written(piece: bytes) -> str:
        return "".join(letters[byte] for byte in piece)

    merges = []
    for piece, rank in ranks.items():
        ways = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [way for way in ways if way[0] in ranks and way[1] in ranks]
        merges += [(rank, ranks[left], ranks[right], left, right) for left, right in known]
    merges.sort(key=lambda merge: merge[:3])
    return {
        "type": "BPE",
        "ignore_merges": True,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {**before, **{written(piece): rank + first for piece, rank in ranks.items()}},
        "merges": [[written(left), written(right)] for *_, left, right in merges],
    }


def split(pattern: str) -> dict[str, Any]:
    """The words that tiktoken cuts a text into before it merges."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, {**BYTE_LEVEL}]}


def tokenizer_json(
    model: dict[str, Any], special: Iterable[str], normalizer: Any, pre_tokenizer: Any, decoder: Any, *, bos: str
) -> dict[str, Any]:
    """All parts of a `tokenizer.json`; like the published ones it puts BOS before a text unless told not to."""
    vocab = model["vocab"]
    ids: dict[str, int] = {}
    for token in special:
        ids[token] = vocab.get(token, len(vocab) + len(ids))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": token, **flags} for token, id in ids.items()],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}},
        },
        "decoder": decoder,
        "model": model,
    }


FAMILIES: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = {
    "mistral-v1": lambda: sentencepiece(mistral_file("tokenizer.model.v1"), normalizer=PREPEND, pre_tokenizer=None),
    "mistral-v3": lambda: sentencepiece(
        mistral_file("mistral_instruct_tokenizer_240323.model.v3"), normalizer=None, pre_tokenizer=METASPACE
    ),
    "mistral-v3-tekken": lambda: tekken(mistral_file("tekken_240718.json")),
    "mistral-v7": lambda: sentencepiece(
        mistral_file("mistral_instruct_tokenizer_241114.model.v7"), normalizer=None, pre_tokenizer=METASPACE
    ),
    "mistral-v7-tekken": lambda: tekken(mistral_file("tekken_240911.json")),
    "llama3": llama3,
    "llama4": llama4,
    "gemma": gemma,
    "gemma4": lambda: gemma(("<|turn>", "<turn|>", "<|think|>", "<|channel>", "<channel|>", '<|"|>', "<|tool>", "<tool|>")),
    "qwen25": lambda: learned(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), (*TOOLS, *FIM), words=QWEN, normalizer={"type": "NFC"},
        eos_token="<|im_end|>", pad_token="<|endoftext|>",
    ),
    "qwen3": lambda: learned(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        (*TOOLS, *FIM, "<tool_response>", "</tool_response>", "<think>", "</think>"),
        words=QWEN, normalizer={"type": "NFC"}, eos_token="<|im_end|>", pad_token="<|endoftext|>",
    ),
    "deepseek-r1": lambda: learned(
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>"), ("<think>", "</think>"),
        words=QWEN, bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>", pad_token="<｜▁pad▁｜>",
    ),
    "smollm2": lambda: learned(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>"), words=GPT2,
        bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>", unk_token="<|endoftext|>",
    ),
    "phi4": lambda: learned(
        ("<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|dummy_87|>"), words=CL100K,
        bos_token="<|endoftext|>", eos_token="<|im_end|>", pad_token="<|dummy_87|>",
    ),
    "gpt-oss": lambda: learned(
        ("<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>",
         "<|message|>", "<|call|>"),
        words=O200K, bos_token="<|startoftext|>", eos_token="<|return|>", pad_token="<|endoftext|>",
    ),
}  # fmt: skip
