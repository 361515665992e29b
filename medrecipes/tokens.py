"""The base's own tokenizer, used so that text stays text: no content ever becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from medrecipes.errors import TemplateError
from medrecipes.store import digest


class Tokenizer:
    """A base's `tokenizer.json` with its named special tokens; needs neither transformers nor torch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "tokenizer.json"
        try:
            self.json: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TemplateError(
                f"{path}: cannot be read ({error}); the base needs a fast tokenizer: save one there with "
                "transformers' AutoTokenizer(...).save_pretrained"
            ) from None
        self.config = _read(folder / "tokenizer_config.json")
        named = {**_read(folder / "special_tokens_map.json"), **self.config}
        self.named = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in named.items()
            if name in ("bos_token", "eos_token", "pad_token", "unk_token") and value
        }
        self._whole = RustTokenizer.from_str(json.dumps(self.json))
        self._whole.encode_special_tokens = True
        self._whole.no_truncation()
        self._whole.no_padding()

    @cached_property
    def hash(self) -> str:
        """The sha256 of all that decides ids."""
        return digest([self.json, self.named])

    @cached_property
    def control(self) -> dict[str, int]:
        """Every control token with its id."""
        return {token["content"]: token["id"] for token in self.json["added_tokens"] if token["special"]}

    @property
    def size(self) -> int:
        """How many ids there are."""
        return int(self._whole.get_vocab_size())

    def control_id(self, token: str) -> int:
        """The id of a control token."""
        if token not in self.control:
            raise TemplateError(f"{self.folder}: the tokenizer has no control token {token!r}")
        return self.control[token]

    @cached_property
    def bos(self) -> int | None:
        """The id that begins a text, if the base has one."""
        return self.control.get(self.named.get("bos_token", ""))

    @cached_property
    def pad(self) -> tuple[str, int]:
        """A token to pad with that is never a stop token: the base's own, else one that it reserves, else unknown."""
        stops = {self.named.get("eos_token"), "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>", "</s>"}
        reserved = [
            "<pad>",
            "[PAD]",
            "<|finetune_right_pad_id|>",
            "<|pad|>",
            "[control_768]",
            "<|reserved_special_token_0|>",
        ]
        for token in (self.named.get("pad_token"), *reserved, self.named.get("unk_token")):
            if token and token in self.control and token not in stops and token != self.named.get("bos_token"):
                return token, self.control[token]
        raise TemplateError(
            f"{self.folder}: no token can serve as padding (pad_token is a stop token and none is reserved); "
            "add one to the tokenizer and resize the base"
        )

    @cached_property
    def _continuing(self) -> RustTokenizer:
        """The same tokenizer without the blank that some put before a text: for text that goes on after other text."""
        return self._without_dummy_blank(prepend=True)

    @cached_property
    def _fresh(self) -> RustTokenizer:
        """For text after a control token: `Prepend` puts its blank before every such run, `Metaspace` only when it always does."""
        return self._without_dummy_blank(prepend=False)

    def _without_dummy_blank(self, *, prepend: bool) -> RustTokenizer:
        spec = json.loads(json.dumps(self.json))
        changed = False
        for part in _parts(spec.get("normalizer")):
            if prepend and part.get("type") == "Sequence":
                kept = [p for p in part["normalizers"] if p.get("type") != "Prepend"]
                changed |= len(kept) < len(part["normalizers"])
                part["normalizers"] = kept
        if prepend and (spec.get("normalizer") or {}).get("type") == "Prepend":
            spec["normalizer"], changed = None, True
        for part in _parts(spec.get("pre_tokenizer")):
            if part.get("type") == "Metaspace" and (part.get("prepend_scheme") == "first" or prepend):
                changed |= part.get("prepend_scheme") != "never"
                part["prepend_scheme"] = "never"
        if not changed:
            return self._whole
        tokenizer = RustTokenizer.from_str(json.dumps(spec))
        tokenizer.encode_special_tokens = True
        return tokenizer

    def encode(self, runs: Sequence[str], *, continuing: bool) -> list[list[int]]:
        """The ids of many runs of text; `continuing`: the runs follow other text rather than a control token."""
        tokenizer = self._continuing if continuing else self._fresh
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(list(runs), add_special_tokens=False)]

    def prefix(self, text: str, max_tokens: int, *, continuing: bool) -> str:
        """The longest part of a text, up to a blank where there is one, that takes at most `max_tokens`."""
        tokenizer = self._continuing if continuing else self._fresh
        encoding = tokenizer.encode(text, add_special_tokens=False)
        if len(encoding.ids) <= max_tokens:
            return text
        if max_tokens <= 0:
            return ""
        cut = text[: encoding.offsets[max_tokens - 1][1]]
        blank = max(cut.rfind(" "), cut.rfind("\n"))
        return (cut[:blank] if blank > 0 else cut).rstrip()

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """The text of many id lists, control tokens left out."""
        texts: list[str] = self._whole.decode_batch([list(i) for i in ids], skip_special_tokens=True)
        return texts

    def token(self, id: int) -> str:
        """The piece that an id stands for."""
        return str(self._whole.id_to_token(id))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _parts(spec: Any) -> list[dict[str, Any]]:
    """A normalizer or pre-tokenizer and, where it is a sequence, all that it holds."""
    if not spec:
        return []
    inner = [p for key in ("normalizers", "pretokenizers") for p in spec.get(key, [])]
    return [spec, *(q for p in inner for q in _parts(p))]
