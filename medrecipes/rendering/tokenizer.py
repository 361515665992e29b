"""The base's own tokenizer, used so that text stays text: no content ever becomes a control token."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from medrecipes.core.errors import TemplateError
from medrecipes.core.files import digest

NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")
# what bases reserve and never write, the best first
PADS = (
    "<pad>",
    "[PAD]",
    "<|finetune_right_pad_id|>",
    "<|finetune_right_pad|>",
    "<|pad|>",
    "[control_768]",
    "[control_748]",
)
RESERVED = "<|reserved_special_token_0|>"
# the spelling that makers give control tokens alone, also to those that their file does not mark as special
SPELLED = re.compile(r"<\|\S+>|<\S+\|>")

BLANK = "▁"  # how SentencePiece writes a blank
WORD = re.compile(f"[ {BLANK}]*[^ {BLANK}]+|[ {BLANK}]+")
CROSSING = re.compile(f"[^{BLANK}]{BLANK}")
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
MAX_SEEN = 2_000_000  # words kept with their ids: a few hundred megabytes at most


class Tokenizer:
    """A base's `tokenizer.json` with its named special tokens; needs neither transformers nor torch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "tokenizer.json"
        try:
            self.json, self._kept = _opened(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise TemplateError(
                f"{path}: cannot be read ({error}); the base needs a fast tokenizer: save one there with "
                "transformers' AutoTokenizer(...).save_pretrained"
            ) from None
        self.config = _read(folder / "tokenizer_config.json")
        named = {**_read(folder / "special_tokens_map.json"), **self.config}
        self.named = {name: _text(folder, name, named[name]) for name in NAMED if named.get(name)}
        self._whole = self._variant("whole", self.json)  # at once: what is wrong with the file is said here
        self._seen: dict[str, list[int]] = {}
        self._marked: dict[frozenset[str], Tokenizer] = {}

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
            raise TemplateError(f"{self.folder}: the tokenizer has no control token {token!r}; choose another template")
        return self.control[token]

    @cached_property
    def bos(self) -> int | None:
        """The id that begins a text, if the base has one."""
        return self.control.get(self.named.get("bos_token", ""))

    @property
    def pad(self) -> tuple[str, int]:
        """A token to pad with where no template says which tokens stop an answer."""
        return self.padding(())

    def padding(self, stops: Sequence[str]) -> tuple[str, int]:
        """A token to pad with that never ends an answer: the base's own, else one that it reserves, else unknown.

        `stops` are the tokens at which generation stops; the first of them is the one that is supervised.
        """
        named = [self.named.get(name) for name in ("pad_token", "unk_token")]
        bos, eos = self.named.get("bos_token"), self.named.get("eos_token")
        for taken in (
            {bos, eos, *stops},
            {bos, *(stops[:1] or (eos,))},
        ):  # a second stop token is never supervised, so it may pad
            for token in (named[0], *PADS, RESERVED, named[1], *stops[1:]):
                if token and token in self.control and token not in taken:
                    return token, self.control[token]
        raise TemplateError(
            f"{self.folder}: no token can serve as padding (pad_token is a stop token and none is reserved); "
            "add one to the tokenizer and resize the base"
        )

    def with_control(self, tokens: Iterable[str]) -> Tokenizer:
        """This tokenizer with added tokens as control tokens that its file does not mark as special: those named, and those
        spelled as control tokens are, so that nobody can type one."""
        added = {token["content"] for token in self.json["added_tokens"] if not token["special"]}
        more = frozenset(added.intersection(tokens) | {token for token in added if SPELLED.fullmatch(token)})
        if not more:
            return self
        if more not in self._marked:
            self._marked[more] = self._marking(more)
        return self._marked[more]

    def _marking(self, control: frozenset[str]) -> Tokenizer:
        """This tokenizer with more control tokens; built when it first reads a text, for most templates are only compared."""
        marked = Tokenizer.__new__(Tokenizer)
        tokens = [{**token, "special": token["special"] or token["content"] in control} for token in self.json["added_tokens"]]  # fmt: skip
        marked.folder, marked.config, marked.named = self.folder, self.config, self.named
        marked.json = {**self.json, "added_tokens": tokens}
        marked._seen, marked._marked, marked._kept = {}, {}, {}
        return marked

    @cached_property
    def _whole(self) -> RustTokenizer:
        """For decoding, and where a text begins."""
        return self._variant("whole", self.json)

    def mentioned(self, text: str) -> set[str]:
        """The added tokens that a template's text names, white space and single letters aside."""
        added = {token["content"] for token in self.json["added_tokens"]}
        return {token for token in added if len(token.strip()) > 2 and token in text}

    def read_whole(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids as plain transformers reads a rendered text: whatever looks like a control token becomes one."""
        return self._batch(self._literal, texts)

    @cached_property
    def _literal(self) -> RustTokenizer:
        tokenizer = RustTokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def normalised(self, text: str) -> str:
        """A text in the Unicode form that the tokenizer gives it, which is all that can be decoded again."""
        for step in parts(self.json.get("normalizer")):
            if step.get("type") in ("NFC", "NFD", "NFKC", "NFKD"):
                text = unicodedata.normalize(step["type"], text)
        return text

    @property
    def prepends(self) -> bool:
        """Whether a blank is put before every run of text, as Mistral v0.2 and Llama-2 do."""
        return any(part.get("type") == "Prepend" for part in parts(self.json.get("normalizer")))

    @cached_property
    def _continuing(self) -> RustTokenizer:
        """For text that goes on after other text: without the blank that some tokenizers put before a text."""
        return self._without_dummy_blank(always=True)

    @cached_property
    def _fresh(self) -> RustTokenizer:
        """For text after a control token, where a blank that only begins a whole text is out of place too."""
        return self._without_dummy_blank(always=False)

    def _without_dummy_blank(self, *, always: bool) -> RustTokenizer:
        """A copy that leaves out the blank of a text's beginning; `always`: the blank of every run as well."""
        spec = {**self.json, **json.loads(json.dumps({k: self.json.get(k) for k in ("normalizer", "pre_tokenizer")}))}
        for part in parts(spec["normalizer"]) if always else []:
            if part.get("type") == "Sequence":
                part["normalizers"] = [p for p in part["normalizers"] if p.get("type") != "Prepend"]
        if always and (spec["normalizer"] or {}).get("type") == "Prepend":
            spec["normalizer"] = None
        for part in parts(spec["pre_tokenizer"]):
            if part.get("type") == "Metaspace" and (always or part.get("prepend_scheme") == "first"):
                part["prepend_scheme"] = "never"
            if part.get("type") == "ByteLevel" and always:
                part["add_prefix_space"] = False
        unchanged = all(spec[k] == self.json.get(k) for k in ("normalizer", "pre_tokenizer"))
        return self._whole if unchanged else self._variant("continuing" if always else "fresh", spec)

    def _variant(self, name: str, spec: dict[str, Any]) -> RustTokenizer:
        """One of the tokenizers that are made of the file, which is made once for all that open a file of this content."""
        if name not in self._kept:
            self._kept[name] = self._built(spec)
        return self._kept[name]

    def _built(self, spec: dict[str, Any]) -> RustTokenizer:
        """A tokenizer that reads control tokens in a text as text."""
        try:
            tokenizer = RustTokenizer.from_str(json.dumps(text_only(spec)))
        except Exception as error:  # the Rust library raises nothing narrower
            raise TemplateError(f"{self.folder / 'tokenizer.json'}: {error}; fetch the base again") from None
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def encode(self, runs: Sequence[str], *, continuing: bool) -> list[list[int]]:
        """The ids of many runs of text; `continuing`: the runs follow other text rather than a control token."""
        if not self._by_words:
            return self._batch(self._continuing if continuing else self._fresh, runs)
        if self.prepends and not continuing:
            runs = [f" {run}" if run else run for run in runs]
        words = [WORD.findall(run) for run in runs]
        unseen = [word for word in set(chain.from_iterable(words)) if word not in self._seen]
        self._seen.update(zip(unseen, self._batch(self._continuing, unseen), strict=True))
        ids = [list(chain.from_iterable(map(self._seen.__getitem__, row))) for row in words]
        if len(self._seen) > MAX_SEEN:
            self._seen.clear()
        return ids

    def _batch(self, tokenizer: RustTokenizer, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _by_words(self) -> bool:
        """Whether a text may be cut before its runs of blanks, for no piece reaches over such a border.

        SentencePiece models are merged over whole texts, which is most of the time that rendering takes: with this cut
        a word is tokenised once and looked up ever after.
        """
        model, normalizers = self.json["model"], parts(self.json.get("normalizer"))
        return (
            model.get("type") == "BPE"
            and model.get("byte_fallback") is True
            and BLANK in model["vocab"]
            and not model.get("dropout")
            and not any(CROSSING.search(piece) for piece in model["vocab"])
            and all(n.get("type") in ("Sequence", "Prepend") or n == REPLACE for n in normalizers)
            and all(
                p.get("type") == "Metaspace" and p.get("prepend_scheme") == "first" and p.get("split") is False
                for p in parts(self.json.get("pre_tokenizer"))
            )
            and all(token["special"] for token in self.json["added_tokens"])
        )

    def prefix(self, text: str, max_tokens: int) -> str:
        """The longest part of a text that goes on after other text, up to a blank, that takes at most `max_tokens`."""
        if max_tokens <= 0:
            return ""
        encoding = self._continuing.encode(text, add_special_tokens=False)
        if len(encoding.ids) <= max_tokens:
            return text
        cut = text[: encoding.offsets[max_tokens - 1][1]]
        blank = max(cut.rfind(" "), cut.rfind("\n"))
        return (cut[:blank] if blank > 0 else cut).rstrip()

    def decode(self, ids: Iterable[Sequence[int]], *, control: bool = False) -> list[str]:
        """The text of many id lists, control tokens left out unless asked for."""
        texts: list[str] = self._whole.decode_batch(list(ids), skip_special_tokens=not control)
        return texts

    def spell(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of many id lists letter by letter: like decode, but a blank at the front stays."""
        texts: list[str] = self._spelling.decode_batch(ids, skip_special_tokens=True)
        return [text.replace(BLANK, " ") for text in texts]

    @cached_property
    def _spelling(self) -> RustTokenizer:
        """A copy whose decoder keeps the blank that SentencePiece takes for a dummy."""
        decoder = json.loads(json.dumps(self.json.get("decoder")))
        for part in parts(decoder):
            if part.get("type") == "Sequence":
                part["decoders"] = [p for p in part["decoders"] if p.get("type") != "Strip"]
            if part.get("type") == "Metaspace":
                part["prepend_scheme"] = "never"
        unchanged = decoder == self.json.get("decoder")
        return self._whole if unchanged else self._variant("spelling", {**self.json, "decoder": decoder})

    def token(self, id: int) -> str:
        """The piece that an id stands for."""
        return str(self._whole.id_to_token(id))


@lru_cache(maxsize=2)  # a run's and its base's, which a command may open a dozen times
def _opened(content: bytes) -> tuple[dict[str, Any], dict[str, RustTokenizer]]:
    """What a `tokenizer.json` holds, and a place for what is built of it; nobody changes either."""
    return json.loads(content.decode("utf-8")), {}


def parts(spec: Any) -> list[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder of a `tokenizer.json` and, where it is a sequence, all that it holds."""
    if not spec:
        return []
    inner = [p for key in ("normalizers", "pretokenizers", "decoders") for p in spec.get(key, [])]
    return [spec, *(q for p in inner for q in parts(p))]


def merge_pairs(spec: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges of a `tokenizer.json`, the first applied first; older files write each as one string."""
    merges = spec["model"].get("merges", [])
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in merges)
    return [(left, right) for left, right in pairs]


def text_only(spec: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without the merges that spell a control token out of letters, e.g. `</` and `s>`."""
    control = {token["content"] for token in spec["added_tokens"] if token["special"]}
    if spec["model"].get("type") != "BPE":
        return spec
    kept = [pair for pair in merge_pairs(spec) if "".join(pair) not in control]
    return {**spec, "model": {**spec["model"], "merges": kept}}


def _text(folder: Path, name: str, value: Any) -> str:
    """A named token as its file writes it: a text, or an object with the text as its content."""
    text = value.get("content") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise TemplateError(
            f"{folder / 'tokenizer_config.json'}: {name} = {value!r}: must be a token; fetch the base again"
        )
    return text


def _read(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing where there is no such file."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TemplateError(f"{path}: cannot be read ({error}); fetch the base again") from None
    if not isinstance(value, dict):
        raise TemplateError(f"{path}: is no JSON object, but a {type(value).__name__}; fetch the base again")
    return value
