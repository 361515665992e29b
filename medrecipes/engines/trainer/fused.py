"""Training through the fused decoder layers, replayed from CUDA graphs where that pays; chat and tagging runs alike.

Families that were proved on a GPU go straight to them. Any other, and a base in 8 bits, is held against the library's layers first,
on two short rows: the stream behind the last layer and the gradients of LoRA. One that differs or fails trains as the library has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medrecipes.core.console import Console
from medrecipes.core.errors import reason
from medrecipes.core.notes import labelled
from medrecipes.engines import Choice, require_bf16
from medrecipes.engines.choices import Setting
from medrecipes.engines.kernels import fused_layer
from medrecipes.engines.kernels.cuda_graphs import Recorded
from medrecipes.engines.kernels.eight_bit import EightBitProjection
from medrecipes.engines.kernels.projections import Projection
from medrecipes.engines.multi_gpu.shared_layers import Shards
from medrecipes.engines.plan import PROVED_FAMILIES
from medrecipes.engines.plan.memory import GB

ROWS = (60, 600)  # tokens of the rows of the probe: one is longer than some windows
APART = {
    torch.float64: 1e-5,
    torch.float32: 1e-3,
    torch.bfloat16: 0.1,
    torch.float16: 0.03,
}  # of their size, all together


@contextmanager
def fused_layers(engine: Any, setting: Setting, console: Console, shards: Shards | None = None) -> Iterator[None]:
    """Inside, the decoder layers of an engine's model train as one function each."""
    # the last layers' activations are let go first, so it is the first layers that are recomputed
    keep = [number >= setting.recomputed for number in range(engine.model.config.get_text_config().num_hidden_layers)]

    def tell(name: str, value: str, why: str) -> None:
        engine.choices[name] = choice = Choice(value, why)
        console.line(labelled(name, str(choice)))

    enter = partial(fused_layer.layers, engine.model, engine.dtype, keep, shards=shards)
    family = fused_layer.decoder(engine.model).config.model_type
    on_gpu = next(engine.model.parameters()).is_cuda
    proved = family in PROVED_FAMILIES and engine.recipe.model.bits != 8
    if on_gpu and not proved and (why := differs(engine.model, engine.dtype, enter)):
        require_bf16(engine.recipe, why)
        tell("layers", "library", why)
        yield
        return
    recorded = None
    if setting.graphs:
        room = setting.recordings_gb * GB
        one_by_one = partial(tell, "launches", "one by one")
        recorded = partial(
            Recorded,
            graphs=setting.graphs,
            room=room,
            tell=lambda why: one_by_one(f"they cannot be captured here: {why}"),
        )
    project = EightBitProjection if engine.recipe.train.compute == "fp8" else Projection
    with enter(project=partial(project, decode=setting.decode_once), recorded=recorded):
        yield


def differs(model: Any, dtype: torch.dtype, enter: Callable[[], AbstractContextManager[None]]) -> str | None:
    """Why a model may not train through the fused layers that `enter` puts on it; None where they do as the library's do."""
    before = model.training
    model.train()
    try:
        wanted = _probe(model, dtype)  # what fails here would fail in training, and is not to be hidden
        try:
            with enter():
                found = _probe(model, dtype)
        except RuntimeError as error:
            return f"the fused ones fail here: {reason(error)}"
    finally:
        model.zero_grad(set_to_none=True)
        model.train(before)
    apart = max(apart_by(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))
    return None if apart <= APART[dtype] else f"the fused ones lie {apart:.1%} from them on a probe"


def _probe(model: Any, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """What stands behind the last layer for two packed rows, and the gradients of what is trained."""
    inner = fused_layer.decoder(model)
    device = inner.embed_tokens.weight.device
    total = sum(ROWS)
    ids = (torch.arange(total, device=device) * 7 + 3) % (inner.config.vocab_size - 1) + 1
    begin = getattr(inner.config, "bos_token_id", None)
    if isinstance(begin, int) and begin < inner.config.vocab_size:  # where some bases gather large numbers
        ids[[0, ROWS[0]]] = begin
    places = torch.cat([torch.arange(row) for row in ROWS]).to(device)
    ends = torch.tensor([0, *ROWS], device=device).cumsum(0).to(torch.int32)
    model.zero_grad(set_to_none=True)
    half = dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(device.type, dtype if half else torch.bfloat16, enabled=half):
        stream = inner(
            input_ids=ids[None], position_ids=places[None], use_cache=False, cu_seq_lens_q=ends, cu_seq_lens_k=ends,
            max_length_q=max(ROWS), max_length_k=max(ROWS),
        )[0]  # fmt: skip
    # a direction in which nothing cancels out by chance, the same each time
    weights = torch.sin(torch.arange(stream.numel(), device=device, dtype=torch.float32)).view_as(stream)
    (stream.float() * weights).mean().backward()
    gradients = [p.grad.detach().clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
    return [stream.detach()], gradients


def apart_by(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """How far lists of tensors lie apart, as a share of their size; infinite where they are not alike."""
    if [one.shape for one in ours] != [one.shape for one in theirs]:
        return float("inf")
    far = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(ours, theirs, strict=True))
    size = sum(float(b.double().square().sum()) for b in theirs)
    return (far / size) ** 0.5 if size and far == far else float("inf") if far else 0.0
