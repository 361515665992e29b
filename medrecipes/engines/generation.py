"""What a loaded model says and how likely it finds an answer; the same code for base and tuned, and for every engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, TopPLogitsWarper
from transformers.generation import BaseStreamer

from medrecipes.core.errors import EngineError
from medrecipes.core.files import digest
from medrecipes.engines import Decoding
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.packing import collate, pack
from medrecipes.rendering.tokenizer import Tokenizer

T = TypeVar("T")
R = TypeVar("R")
UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what a character decodes to before all of its bytes are there


def device_of(model: Any) -> torch.device:
    """Where a model computes; short of memory, Unsloth leaves embeddings on the CPU."""
    devices = [parameter.device for parameter in model.parameters()]
    return next((device for device in devices if device.type != "cpu"), devices[0])


@contextmanager
def inference(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """No gradients, and on a GPU the number format that training computes in."""
    with torch.no_grad(), torch.autocast("cuda", dtype, enabled=device.type == "cuda" and dtype != torch.float32):
        yield


def generate(
    model: Any, template: ChatTemplate, prompts: Sequence[Sequence[int]], decoding: Decoding, batch: int, dtype: torch.dtype,
    *, in_step: bool = False,
) -> Iterator[list[int]]:  # fmt: skip
    """Answers in the order of the prompts, the stop token included where one came; `in_step` with other processes."""
    stops = set(template.stop_ids)

    def some(rows: Sequence[Sequence[int]]) -> list[list[int]]:
        return _answers(model, template, rows, decoding, dtype, synced_gpus=in_step)

    for row in portions(prompts, batch, some, in_step=in_step):
        end = next((i for i, id in enumerate(row) if id in stops), None)
        yield row[: end + 1] if end is not None else row


def portions(
    rows: Sequence[T], batch: int, work: Callable[[Sequence[T]], Sequence[R]], *, in_step: bool = False
) -> Iterator[R]:
    """What `work` makes of rows, a value a row, so many at a time; half as many from where memory ran out.

    Processes that are in step cannot: the others would not know.
    """
    start = 0
    while start < len(rows):
        try:
            values = work(rows[start : start + batch])
        except torch.cuda.OutOfMemoryError:
            if batch == 1 or in_step:
                size = "one row" if batch == 1 else f"{batch} rows"
                lower = "data.max_tokens" if batch == 1 else "eval.batch"
                raise EngineError(
                    f"out of memory with {size} at a time and nothing to learn from it; lower {lower}, or choose a "
                    "smaller base"
                ) from None
            values = None
        if values is None:  # behind that block, where what the attempt had made is no longer held
            batch //= 2
            torch.cuda.empty_cache()
            continue
        yield from values
        start += batch


def stream(
    model: Any, template: ChatTemplate, prompt: Sequence[int], decoding: Decoding, dtype: torch.dtype,
    stop: threading.Event | None = None,
) -> Iterator[str]:  # fmt: skip
    """What `generate` answers, as text that is yielded while it is written; whole characters only."""
    said, left = _Said(), threading.Event()

    def unwanted(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        asked = left.is_set() or (stop is not None and stop.is_set())
        return torch.full((len(ids),), asked, device=ids.device)

    def write() -> None:
        try:
            _answers(model, template, [prompt], decoding, dtype, streamer=said, stopping_criteria=[unwanted])
        except BaseException as error:
            said.fail(error)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        yield from text_pieces(template.tokenizer, said)
    finally:  # also when the reader has heard enough
        left.set()
        writer.join()


def text_pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of ids as they come, whole characters only; together, what they decode to at once."""
    ids: list[int] = []
    shown = text = ""
    for id in tokens:
        ids.append(id)
        # blanks at the end wait for what follows them: an answer ends without any
        text = tokenizer.decode([ids])[0].strip()
        if len(text) > len(shown) and not text.endswith(UNFINISHED):
            yield text[len(shown) :]
            shown = text
    if len(text) > len(shown):
        yield text[len(shown) :]


class _Said(BaseStreamer):
    """Hands every token over to another thread as it comes; the prompt comes first and is left out."""

    def __init__(self) -> None:
        self._tokens: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._asked = False

    def __iter__(self) -> Iterator[int]:
        while (token := self._tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            yield token

    def put(self, value: torch.Tensor) -> None:
        """Take the next token."""
        if self._asked:
            self._tokens.put(int(value))
        self._asked = True

    def fail(self, error: BaseException) -> None:
        """What went wrong is raised where the tokens are read."""
        self._tokens.put(error)

    def end(self) -> None:
        """There is no more."""
        self._tokens.put(None)


class _Drawn:
    """Makes the likeliest token a drawn one: Gumbel's noise on the logarithms of a distribution is a draw from it.

    Every row draws from numbers of its own, made of the seed and its prompt, so that an answer is the same in any batch.
    """

    def __init__(self, decoding: Decoding, prompts: Sequence[Sequence[int]]) -> None:
        self._temperature, self._warp = decoding.temperature, TopPLogitsWarper(decoding.top_p)
        seeds = (int(digest([decoding.seed, list(prompt)])[:15], 16) for prompt in prompts)
        self._numbers = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = self._warp(ids, scores.float() / self._temperature)
        shape = scores.shape[1:]
        noise = torch.stack([torch.empty(shape).exponential_(generator=numbers) for numbers in self._numbers])
        return scores.log_softmax(-1) - noise.log().to(scores.device)


def _answers(
    model: Any, template: ChatTemplate, prompts: Sequence[Sequence[int]], decoding: Decoding, dtype: torch.dtype,
    **more: Any,
) -> list[list[int]]:  # fmt: skip
    """One batch of answers, padded behind their stop tokens."""
    device = device_of(model)
    _, pad = template.pad
    # made anew, so that nothing of the base's own generation config (a temperature, a penalty) slips in
    config = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens, max_length=None, do_sample=False, num_beams=1,
        repetition_penalty=decoding.repetition_penalty,
        eos_token_id=template.stop_ids, pad_token_id=pad, bos_token_id=template.tokenizer.bos,
    )  # fmt: skip
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    if decoding.temperature:
        more["logits_processor"] = [_Drawn(decoding, prompts)]
    with inference(device, dtype):
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **more)
    rows: list[list[int]] = output[:, longest:].tolist()
    return rows


def nats(
    model: Any, template: ChatTemplate, examples: Sequence[Example], batch: int, dtype: torch.dtype, *,
    in_step: bool = False,
) -> list[tuple[float, float]]:  # fmt: skip
    """The negative log-likelihood of each row's answers and of their stop tokens; logits are made for these only."""
    device = device_of(model)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    cap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
    stops = torch.tensor(sorted(template.stop_ids), device=device)
    _, pad = template.pad
    packs = pack(examples, 0, packing=False)

    def some(rows: Sequence[int]) -> list[tuple[float, float]]:
        lists = collate([packs[i] for i in rows], pad, "padded")
        tensors = {name: torch.tensor(value, device=device) for name, value in lists.items()}
        labels = tensors["labels"][:, 1:]
        wanted = labels != MASKED
        with inference(device, dtype):
            hidden = causal.model(input_ids=tensors["input_ids"], attention_mask=tensors["attention_mask"])[0]
            logits = causal.lm_head(hidden[:, :-1][wanted]).float()
        if cap:
            logits = cap * torch.tanh(logits / cap)
        losses = torch.zeros(labels.shape, device=device)
        losses[wanted] = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="none")
        stop = torch.isin(labels, stops)
        texts, ends = (losses * ~stop).sum(1).tolist(), (losses * stop).sum(1).tolist()
        return list(zip(texts, ends, strict=True))

    # the longest first: should memory run out, then at once
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i].input_ids))
    found = dict(zip(order, portions(order, batch, some, in_step=in_step), strict=True))
    return [found[i] for i in range(len(examples))]
