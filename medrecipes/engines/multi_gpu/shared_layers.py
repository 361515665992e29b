"""A frozen base shared among the GPUs: each holds every n-th decoder layer, and sends it round when its turn comes.

The layers are alike, so two buffers serve for all that a GPU does not hold itself: the layer at work, and the next one,
which arrives meanwhile. Every process asks for the same layers in the same order; that is what keeps them in step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from medrecipes.core import processes
from medrecipes.core.errors import EngineError

ALIGNED = 256  # bytes; kernels read whole lines
# a tensor of a layer: who bears it, and under which name, e.g. (the weight of q_proj, "data")
Place = tuple[Any, str]


@dataclass(frozen=True)
class Span:
    """Where a tensor lies in a layer's bytes."""

    start: int
    shape: torch.Size
    dtype: torch.dtype

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return int(self.start + math.prod(self.shape) * self.dtype.itemsize)

    def of(self, flat: Tensor) -> Tensor:
        """The tensor in a layer's bytes."""
        return flat[self.start : self.end].view(self.dtype).view(self.shape)


@dataclass
class Slot:
    """A buffer for layers of others: which one it holds, or will once `work` is done."""

    views: list[Tensor]
    flat: Tensor
    number: int | None = None
    work: Any = None


def own(count: int) -> range:
    """The numbers of the layers that this process holds."""
    return range(processes.rank(), count, processes.size())


def matrices(layer: Any) -> list[Any]:
    """The matrices of a decoder layer, in an order that is the same in all of them."""
    return [module for _, module in sorted(layer.named_modules()) if isinstance(module, torch.nn.Linear)]


def places(layer: Any) -> list[Place]:
    """The frozen tensors of a layer that are worth sharing: its matrices, with the scales of those in 4 bits."""
    found: list[Place] = []
    for module in matrices(layer):
        found.append((module.weight, "data"))
        state = getattr(module.weight, "quant_state", None)
        if state is not None:
            found.append((state, "absmax"))
            if state.nested:
                found += [(state, "offset"), (state.state2, "absmax")]
    return found


class Shards:
    """The decoder layers of a model, shared among all processes; outside its turn a layer's matrices are empty."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.count = len(layers)
        self._places = [places(layer) for layer in layers]
        mine = own(self.count)
        spans = _spans(self._places[mine[0]])
        # a published base may leave some modules of some layers in 16 bits
        if (
            len({kind for kinds in processes.gather([str(_spans(self._places[i])) for i in mine]) for kind in kinds})
            > 1
        ):
            raise EngineError(
                "model.shard: the layers of this base are not quantised alike, so they cannot be shared among GPUs; "
                "name its 16-bit form, or one that is quantised throughout"
            )
        device = self._tensor(mine[0], 0).device
        size = -(-spans[-1].end // ALIGNED) * ALIGNED
        self._own: dict[int, tuple[Tensor, list[Tensor]]] = {}
        for number in mine:
            flat = torch.empty(size, dtype=torch.uint8, device=device)
            views = [span.of(flat) for span in spans]
            for place, view in enumerate(views):
                view.copy_(self._tensor(number, place))
            self._own[number] = flat, views
            self._put(number, views)  # what they were made of is let go
        self._slots = []
        for _ in range(2):
            flat = torch.empty(size, dtype=torch.uint8, device=device)
            self._slots.append(Slot([span.of(flat) for span in spans], flat))
        # a single number stays one: who saves the adapter asks all layers for what they are
        self._nothing = [torch.zeros(() if not span.shape else 0, dtype=span.dtype, device=device) for span in spans]
        for number, layer in enumerate(layers):
            for module in matrices(layer):
                module.weight.whole = (module.out_features, module.in_features)
            self._close(number)
            layer.register_forward_pre_hook(lambda *_, number=number: self._open(number, 1))
            layer.register_forward_hook(lambda *_, number=number: self._close(number))

    @property
    def weights(self) -> set[int]:
        """The weights that are shared, by their identity."""
        return {id(holder) for number in range(self.count) for holder, name in self._places[number] if name == "data"}

    @contextmanager
    def lent(self, number: int) -> Iterator[None]:
        """Inside, a layer is whole; the one before it is sent for. For the way back: on the way forth the layers see to it."""
        self._open(number, -1)
        try:
            yield
        finally:
            self._close(number)

    def _open(self, number: int, ahead: int) -> None:
        slot = self._send(number)
        if slot.work is not None:
            slot.work.wait()  # on a GPU, its stream waits and not this process
            slot.work = None
        self._put(number, self._own[number][1] if number in self._own else slot.views)
        # after what reads the buffer was begun: the sending waits for it
        if 0 <= number + ahead < self.count:
            self._send(number + ahead)

    def _close(self, number: int) -> None:
        self._put(number, self._nothing)

    def _send(self, number: int) -> Slot:
        slot = self._slots[number % 2]
        if slot.number != number:
            slot.number = number
            flat = self._own[number][0] if number in self._own else slot.flat
            slot.work = distributed.broadcast(flat, src=number % processes.size(), async_op=True)
        return slot

    def _put(self, number: int, tensors: Sequence[Tensor]) -> None:
        for (holder, name), tensor in zip(self._places[number], tensors, strict=True):
            setattr(holder, name, tensor)

    def _tensor(self, number: int, place: int) -> Tensor:
        holder, name = self._places[number][place]
        found: Tensor = getattr(holder, name)
        return found


def _spans(of: Sequence[Place]) -> list[Span]:
    """The tensors of a layer one behind the other."""
    spans: list[Span] = []
    for holder, name in of:
        tensor = getattr(holder, name)
        start = -(-spans[-1].end // ALIGNED) * ALIGNED if spans else 0
        spans.append(Span(start, tensor.shape, tensor.dtype))
    return spans
