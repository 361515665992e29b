"""GGUF by llama.cpp's own converter, quantised and read back through its Python bindings."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.extras import install
from medrecipes.core.files import read_json, write_json
from medrecipes.release.export.parity import Logits
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.rendering.tokenizer import merge_pairs, parts

VARIABLE = "MEDRECIPES_LLAMA_CPP"
CONVERTER = "convert_hf_to_gguf.py"
PACKAGES = {
    "llama_cpp": "llama-cpp-python",
    "gguf": "gguf",
    "sentencepiece": "sentencepiece",
    "google.protobuf": "protobuf",
}
FTYPES = {"q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}
ENDS = ("eos", "eot", "eom")  # what GGUF calls the tokens that end an answer


def require() -> Path:
    """llama.cpp's folder; raise, with what to install, for any piece that is missing."""
    missing = [package for module, package in PACKAGES.items() if not _found(module)]
    if missing:
        raise MedRecipesError(f"--format gguf needs {' and '.join(missing)}; {install('gguf')}")
    folder = Path(os.environ.get(VARIABLE) or "llama.cpp").expanduser()
    if not (folder / CONVERTER).is_file():
        raise MedRecipesError(
            f"--format gguf needs llama.cpp's {CONVERTER}, which is not in {folder}; "
            f"git clone --depth 1 https://github.com/ggml-org/llama.cpp, and set {VARIABLE} to that folder"
        )
    return folder


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def file_name(quant: str) -> str:
    """What a GGUF is called; several can lie in one repository."""
    return f"model-{quant}.gguf"


def export(merged: Path, folder: Path, quant: str, template: ChatTemplate, longest: int) -> Logits:
    """Convert a merged model, quantise it, and open what came out for rows of at most `longest` tokens."""
    whole, path = folder / "whole.gguf", folder / file_name(quant)
    _tokenizer_files(merged)
    _convert(merged, path if quant == "f16" else whole)
    if quant != "f16":
        _quantise(whole, path, quant)
        whole.unlink()
    _set_stops(path, template)
    return gguf_logits(path, longest)


def _convert(merged: Path, path: Path) -> None:
    converter = require() / CONVERTER
    command = [sys.executable, str(converter), str(merged), "--outtype", "f16", "--outfile", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise MedRecipesError(f"{converter}: {said[-1] if said else 'failed'}; a newer llama.cpp may know this model")


def _quantise(source: Path, path: Path, quant: str) -> None:
    llama = importlib.import_module("llama_cpp")
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = getattr(llama, FTYPES[quant])
    if llama.llama_model_quantize(str(source).encode(), str(path).encode(), settings):
        raise MedRecipesError(f"{source}: llama.cpp could not quantise it as {quant}; try --quant f16")


def _set_stops(path: Path, template: ChatTemplate) -> None:
    """Let the file end an answer where training did: the converter takes some of these ids from a list of its own."""
    reader = importlib.import_module("gguf").GGUFReader(str(path), "r+")
    for end in ENDS:
        field = reader.get_field(f"tokenizer.ggml.{end}_token_id")
        if field is not None and int(field.parts[field.data[0]][0]) not in template.stop_ids:
            field.parts[field.data[0]][0] = template.stop_id
    del reader  # writes through
    llama = importlib.import_module("llama_cpp")
    model = open_gguf(path, vocab_only=True)
    vocabulary = llama.llama_model_get_vocab(model.model)
    for token, id in zip(template.stops, template.stop_ids, strict=True):
        if not llama.llama_vocab_is_eog(vocabulary, id):
            raise MedRecipesError(f"{path}: llama.cpp would not stop at {token}; choose another format")


def open_gguf(path: Path, **settings: Any) -> Any:
    """A GGUF in llama.cpp, on the CPU, quietly."""
    # its threads spin while they wait; on all cores of a busy machine that takes many times as long
    threads = max(1, (os.cpu_count() or 1) // 2)
    return importlib.import_module("llama_cpp").Llama(
        str(path), n_gpu_layers=0, verbose=False, n_threads=threads, n_threads_batch=threads, **settings
    )


def gguf_logits(path: Path, longest: int) -> Logits:
    """The logits that llama.cpp computes from a GGUF."""
    model = open_gguf(path, n_ctx=longest, logits_all=True)

    def logits(ids: Sequence[int], n: int) -> Any:
        model.reset()
        model.eval(list(ids))
        return model.scores[len(ids) - n : len(ids)].copy()

    return logits


def read_alike(path: Path, texts: Sequence[str], ids: Sequence[Sequence[int]]) -> float:
    """The share of prompts whose text llama.cpp's own tokenizer reads as the ids of training."""
    model = open_gguf(path, vocab_only=True)
    read = (model.tokenize(text.encode(), add_bos=True, special=True) for text in texts)
    return float(sum(one == list(other) for one, other in zip(read, ids, strict=True)) / len(texts))


def _tokenizer_files(merged: Path) -> None:
    """Have the converter find what it tells the kinds of tokenizers by: a tokenizer.model for SentencePiece's, none for others."""
    spec = read_json(merged / "tokenizer.json")
    if (merged / "tokenizer.model").exists() or not spec["model"].get("byte_fallback"):
        return
    if "<0x00>" in spec["model"]["vocab"]:
        _sentencepiece_model(merged, spec)
    else:  # a byte-level BPE, which transformers, reading it from a GGUF file, marks as one with byte fallback
        spec["model"]["byte_fallback"] = False
        write_json(merged / "tokenizer.json", spec)


def _sentencepiece_model(merged: Path, spec: dict[str, Any]) -> None:
    """Write tokenizer.model where a base ships tokenizer.json alone: without it llama.cpp has no scores to merge by."""
    model_pb2 = importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    proto = model_pb2.ModelProto()
    kinds = model_pb2.ModelProto.SentencePiece
    # the first merge of a tokenizer.json is the one that SentencePiece scores highest
    scores = {"".join(pair): -float(rank) for rank, pair in reversed(list(enumerate(merge_pairs(spec))))}
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    vocabulary = spec["model"]["vocab"] | {token["content"]: token["id"] for token in spec["added_tokens"]}
    for piece, _ in sorted(vocabulary.items(), key=lambda item: item[1]):
        kind = kinds.NORMAL
        if piece == spec["model"].get("unk_token"):
            kind = kinds.UNKNOWN
        elif piece in special:
            kind = kinds.CONTROL
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            kind = kinds.BYTE
        score = 0.0 if kind != kinds.NORMAL else scores.get(piece, -float(len(scores)))
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.model_type = model_pb2.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id = vocabulary.get(spec["model"].get("unk_token"), 0)
    dummy = any(part.get("type") == "Prepend" for part in parts(spec.get("normalizer")))
    proto.normalizer_spec.add_dummy_prefix = dummy
    proto.normalizer_spec.remove_extra_whitespaces = False
    (merged / "tokenizer.model").write_bytes(proto.SerializeToString())
