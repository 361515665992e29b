"""The cache of keys and values while answers are generated: one pool for all rows, and attention over what it holds.

`Segments` gives every row a piece of one pool, as long as its prompt and its longest answer need, and attends with
torch's variable-length attention. `Slots` gives all rows pieces of one size and attends by plain matrix products, where
there is no such kernel (a CPU, a GPU before Ampere) or none that does what the base wants (capped scores).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medrecipes.engines.kernels import torch_private, varlen_attention
from medrecipes.engines.kernels.varlen_attention import How, Rows


class Cache(Protocol):
    """Where keys and values lie, layer by layer; a layer's part is made when it first writes."""

    moves: bool  # whether a row's piece is its number in the batch

    @property
    def bytes_per_token(self) -> int:
        """Of all layers that have written."""

    def where(self, starts: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """Where tokens lie that have these places in the pieces that begin at `starts`."""

    def put(self, layer: int, k: Tensor, v: Tensor, where: tuple[Tensor, ...]) -> None:
        """Write keys and values of tokens, [tokens, heads, width]."""

    def attend(self, layer: int, q: Tensor, batch: Batch, how: How) -> Tensor:
        """What one token a row attends to, [rows, heads, width]."""

    def move(self, source: int, target: int) -> None:
        """Copy a row's piece."""


@dataclass(frozen=True)
class Batch:
    """Where the rows of a decoding step stand: their pieces' starts, and how many tokens each holds with the one of this step."""

    starts: Tensor
    used: Tensor
    longest: int  # no row holds more


class Segments:
    """Pieces of one pool of tokens, of any length."""

    moves = False

    def __init__(self, tokens: int, dtype: torch.dtype) -> None:
        self.tokens, self._dtype = tokens, dtype
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._grids: dict[tuple[int, int], Tensor] = {}
        self._free = [(1, tokens)]  # the first token is where rows write that are filled up with

    def take(self, need: int) -> int | None:
        """The start of a piece of so many tokens; None where no gap is as long."""
        for number, (start, end) in enumerate(self._free):
            if end - start >= need:
                self._free[number] = (start + need, end)
                return start
        return None

    def give(self, start: int, need: int) -> None:
        """Take a piece back, and join it to its neighbours."""
        joined: list[tuple[int, int]] = []
        for begin, end in sorted([*self._free, (start, start + need)]):
            if begin == end:
                continue
            if joined and joined[-1][1] == begin:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((begin, end))
        self._free = joined

    @property
    def bytes_per_token(self) -> int:
        """Of all layers that have written."""
        return sum(2 * k.shape[1] * k.shape[2] * k.itemsize for k in self._keys.values())

    def where(self, starts: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """Where tokens lie in the pool."""
        return (starts + places,)

    def put(self, layer: int, k: Tensor, v: Tensor, where: tuple[Tensor, ...]) -> None:
        """Write keys and values of tokens."""
        if layer not in self._keys:
            # zeroed: what no row has written yet must not be NaN where a mask multiplies it by nothing
            self._keys[layer] = torch.zeros((self.tokens, *k.shape[1:]), dtype=self._dtype, device=k.device)
            self._values[layer] = torch.zeros((self.tokens, *v.shape[1:]), dtype=self._dtype, device=v.device)
        self._keys[layer].index_copy_(0, where[0], k.to(self._dtype))
        self._values[layer].index_copy_(0, where[0], v.to(self._dtype))

    def attend(self, layer: int, q: Tensor, batch: Batch, how: How) -> Tensor:
        """Attention of one token a row over its piece, by one kernel."""
        keys, values = self._keys[layer], self._values[layer]
        rows, heads, width = q.shape
        shared = keys.shape[1]
        slides = how.window is not None and how.window < batch.longest
        together = 1 if slides else heads // shared
        if together > 1:  # the heads that share keys read them once, as if they were tokens of one row
            q = q.reshape(rows, shared, together, width).transpose(1, 2).reshape(-1, shared, width)
        window = {"window_size_left": how.window - 1, "window_size_right": 0} if slides and how.window else {}
        out = torch_private.flash_forward(
            q.to(self._dtype), keys, values, self._grid(rows, together, q.device), batch.starts, together, batch.longest,
            0.0, False, False, scale=how.scale, seqused_k=batch.used, **window,
        )[0]  # fmt: skip
        if together > 1:
            out = out.view(rows, together, shared, width).transpose(1, 2).reshape(rows, heads, width)
        return out

    def _grid(self, rows: int, each: int, device: torch.device) -> Tensor:
        """Where the queries of rows begin."""
        if (rows, each) not in self._grids:
            self._grids[rows, each] = torch.arange(0, (rows + 1) * each, each, dtype=torch.int32, device=device)
        return self._grids[rows, each]

    def move(self, source: int, target: int) -> None:
        """Nothing has to lie anywhere."""


class Slots:
    """Pieces of one size; a row's piece is its number in the batch."""

    moves = True

    def __init__(self, rows: int, size: int, dtype: torch.dtype) -> None:
        self.rows, self.size, self._dtype = rows, size, dtype
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}

    @property
    def bytes_per_token(self) -> int:
        """Of all layers that have written."""
        return sum(2 * k.shape[1] * k.shape[3] * k.itemsize for k in self._keys.values())

    def where(self, starts: Tensor, places: Tensor) -> tuple[Tensor, ...]:
        """Rows and places."""
        return starts, places

    def put(self, layer: int, k: Tensor, v: Tensor, where: tuple[Tensor, ...]) -> None:
        """Write keys and values of tokens."""
        if layer not in self._keys:
            shape = (self.rows, k.shape[1], self.size, k.shape[2])
            self._keys[layer] = torch.zeros(shape, dtype=self._dtype, device=k.device)
            self._values[layer] = torch.zeros((*shape[:3], v.shape[2]), dtype=self._dtype, device=v.device)
        rows, places = where
        self._keys[layer][rows, :, places] = k.to(self._dtype)
        self._values[layer][rows, :, places] = v.to(self._dtype)

    def attend(self, layer: int, q: Tensor, batch: Batch, how: How) -> Tensor:
        """Attention of one token a row over its piece, by matrix products."""
        rows, heads, width = q.shape
        keys, values = (held[layer][:rows, :, : batch.longest].flatten(0, 1) for held in (self._keys, self._values))
        queries = q.to(self._dtype).reshape(len(keys), -1, width)
        scores = torch.bmm(queries, keys.transpose(1, 2)).view(rows, heads, -1).float() * how.scale
        if how.cap is not None:
            scores = torch.tanh(scores / how.cap) * how.cap
        used = batch.used[:, None]
        places = torch.arange(keys.shape[1], device=q.device)[None]
        hidden = places >= used
        if how.window is not None and how.window < batch.longest:
            hidden = hidden | (places < used - how.window)
        shares = scores.masked_fill_(hidden[:, None], -torch.inf).softmax(-1).to(self._dtype)
        return torch.bmm(shares.view(len(keys), -1, keys.shape[1]), values).view(rows, heads, -1)

    def move(self, source: int, target: int) -> None:
        """Copy a row's piece."""
        for held in (*self._keys.values(), *self._values.values()):
            held[target].copy_(held[source])


def attend_prompts(q: Tensor, k: Tensor, v: Tensor, rows: Rows, how: How) -> Tensor:
    """Causal attention within each of several prompts, laid end to end."""
    flash = q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and varlen_attention.available(q.dtype)
    if how.cap is None and (flash or not q.is_cuda):
        return varlen_attention.attend(q.contiguous(), k.contiguous(), v.contiguous(), rows, how)[0]
    found = []
    lengths = rows.ends.diff().tolist()
    for query, key, value in zip(*(tensor.split(lengths) for tensor in (q, k, v)), strict=True):
        tokens, heads, width = query.shape
        groups = query.view(tokens, key.shape[1], -1, width).permute(1, 2, 0, 3)
        scores = (groups @ key.permute(1, 2, 0)[:, None]).float() * how.scale
        if how.cap is not None:
            scores = torch.tanh(scores / how.cap) * how.cap
        seen = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).tril()
        if how.window is not None:
            seen = seen.triu(1 - how.window)
        shares = scores.masked_fill_(~seen, -torch.inf).softmax(-1).to(value.dtype)
        found.append((shares @ value.transpose(0, 1)[:, None]).permute(2, 0, 1, 3).reshape(tokens, heads, -1))
    return torch.cat(found)
