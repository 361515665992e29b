"""Greedy decoding and sampling: the next token of every row from its logits, the same in whatever batch it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecipes.core.files import digest
from medrecipes.engines import Decoding


def row_seed(decoding: Decoding, prompt: Sequence[int]) -> int:
    """What a row's draws depend on besides the positions of its tokens: the seed and the prompt, not the batch."""
    return int(digest([decoding.seed, list(prompt)])[:15], 16)


@dataclass(frozen=True)
class Rules:
    """How each row of a batch chooses; a temperature of 0 takes the likeliest token. `seen`: the tokens of each row so far."""

    temperature: Tensor
    top_p: Tensor
    seeds: Tensor
    penalty: Tensor
    seen: Tensor | None = None

    @classmethod
    def of(cls, rows: Sequence[tuple[Decoding, int]], device: torch.device, seen: Tensor | None = None) -> Rules:
        """The rules of rows, each with its decoding and its seed."""
        decodings = [decoding for decoding, _ in rows]

        def floats(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        return cls(
            floats([d.temperature for d in decodings]),
            floats([d.top_p for d in decodings]),
            torch.tensor([seed for _, seed in rows], dtype=torch.long, device=device),
            floats([d.repetition_penalty for d in decodings]),
            seen,
        )


def choose(logits: Tensor, rules: Rules | None, places: Tensor) -> Tensor:
    """The next token of each row; `places`: how many tokens it has before it. Without rules, the likeliest."""
    if rules is None:
        return logits.argmax(-1)
    scores = logits.float()
    if rules.seen is not None:
        penalty = rules.penalty[:, None]
        scores = torch.where(rules.seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
    return torch.where(rules.temperature > 0, drawn(scores, rules, places), scores.argmax(-1))


def drawn(scores: Tensor, rules: Rules, places: Tensor) -> Tensor:
    """A draw from each row's distribution: Gumbel noise makes the likeliest token a drawn one."""
    scores = scores / rules.temperature.clamp(min=1e-6)[:, None]
    ordered, order = scores.sort(descending=False)
    beyond = ordered.softmax(-1).cumsum(-1) <= (1 - rules.top_p)[:, None]
    beyond[:, -1] = False
    scores = scores.masked_fill(beyond.scatter(1, order, beyond), -torch.inf)
    return (scores.log_softmax(-1) + gumbel(rules.seeds, places, scores.shape[-1])).argmax(-1)


def gumbel(seeds: Tensor, places: Tensor, vocabulary: int) -> Tensor:
    """Noise that depends on nothing but the row's seed, the position and the token, on every device alike."""
    tokens = torch.arange(vocabulary, device=seeds.device)
    mixed = _mix((seeds + places.long() * 0x2545F4914F6CDD1D)[:, None]) + tokens * 0x1B873593CC9E2D51
    share = ((_mix(mixed) >> 40) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)
    return -(-share.log()).log()


def _mix(x: Tensor) -> Tensor:
    """The finaliser of MurmurHash3, which leaves no bit of its input recognisable."""
    for factor in (-0x00AE502812AA7333, -0x3B314601E57A13AD):
        x = (x ^ ((x >> 33) & 0x7FFFFFFF)) * factor
    return x ^ ((x >> 33) & 0x7FFFFFFF)
