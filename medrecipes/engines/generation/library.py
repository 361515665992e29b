"""Answers by transformers' own `generate`, a padded batch at a time, and what all ways to run a model share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig

from medrecipes.core.errors import EngineError
from medrecipes.engines import Decoding
from medrecipes.engines.generation.sampling import Rules, drawn, row_seed
from medrecipes.rendering.chat_template import ChatTemplate

T = TypeVar("T")
R = TypeVar("R")


def device_of(model: Any) -> torch.device:
    """Where a model computes; short of memory, Unsloth leaves embeddings on the CPU."""
    devices = [parameter.device for parameter in model.parameters()]
    return next((device for device in devices if device.type != "cpu"), devices[0])


@contextmanager
def inference(device: torch.device, dtype: torch.dtype, *, keeps_casts: bool = True) -> Iterator[None]:
    """No gradients, and on a GPU the number format that training computes in."""
    half = device.type == "cuda" and dtype != torch.float32
    with torch.no_grad(), torch.autocast("cuda", dtype, enabled=half, cache_enabled=keeps_casts):
        yield


@dataclass(frozen=True)
class AtOnce:
    """How many rows are answered at once, in which number format, and whether in step with other processes."""

    rows: int
    dtype: torch.dtype
    in_step: bool = False


def generate(
    model: Any, template: ChatTemplate, prompts: Sequence[Sequence[int]], decoding: Decoding, at_once: AtOnce
) -> Iterator[list[int]]:
    """Answers in the order of the prompts, the stop token included where one came."""
    stops = decoding.ending(template.stop_ids)

    def some(rows: Sequence[Sequence[int]]) -> list[list[int]]:
        return _answers(model, template, rows, decoding, at_once.dtype, synced_gpus=at_once.in_step)

    for row in portions(prompts, at_once.rows, some, in_step=at_once.in_step):
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


class _Drawn:
    """Makes the likeliest token a drawn one, or one that did not occur; an answer is the same in any batch."""

    def __init__(self, decoding: Decoding, prompts: Sequence[Sequence[int]], device: torch.device) -> None:
        self._rules = Rules.of([(decoding, row_seed(decoding, prompt)) for prompt in prompts], device)
        self._lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._longest = int(self._lengths.max())

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = drawn(scores.float(), self._rules, self._lengths + ids.shape[1] - self._longest)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


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
        eos_token_id=decoding.ending(template.stop_ids) or None, pad_token_id=pad, bos_token_id=template.tokenizer.bos,
    )  # fmt: skip
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    if decoding.temperature:
        more["logits_processor"] = [_Drawn(decoding, prompts, device)]
    with inference(device, dtype):
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, **more)
    rows: list[list[int]] = output[:, longest:].tolist()
    return rows
