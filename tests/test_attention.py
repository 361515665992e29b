"""Attention over padding-free rows, where a CPU computes it row by row: what it means, told by another way to the same."""

from __future__ import annotations

import importlib
import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medrecipes.core.errors import EngineError


@pytest.fixture(scope="module")
def attention(libraries: None) -> Any:
    """The module, imported behind the engine's own libraries."""
    return importlib.import_module("medrecipes.engines.kernels.varlen_attention")


ENDS = torch.tensor([0, 5, 6, 14], dtype=torch.int32)


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, left: int) -> torch.Tensor:
    """Every token looks at those of its row that came before, at most so many of them (all: -1)."""
    out = torch.zeros_like(q)
    shared = q.shape[1] // k.shape[1]
    for start, end in itertools.pairwise(ENDS.tolist()):
        for token, head in itertools.product(range(start, end), range(q.shape[1])):
            first = start if left < 0 else max(start, token - left)
            keys, values = (t[first : token + 1, head // shared] for t in (k, v))
            out[token, head] = (scale * keys @ q[token, head]).softmax(0) @ values
    return out


@pytest.mark.parametrize("left", [-1, 0, 3])
@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("scale", [None, 0.1])
def test_a_token_looks_at_its_own_row_and_back(left: int, key_heads: int, scale: float | None, attention: Any) -> None:
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(14, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, key_heads, key_heads)
    )
    wanted = by_hand(q, k, v, scale or 8**-0.5, left)
    out = attention.varlen_attn(
        q, k, v, ENDS, ENDS, 8, 8, scale=scale, window_size=(left, 0), enable_gqa=key_heads != 4
    )
    assert torch.allclose(out, wanted, atol=1e-12)
    grad = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad(out, (q, k, v), grad), torch.autograd.grad(wanted, (q, k, v), grad), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-12)


def test_it_never_looks_ahead(attention: Any) -> None:
    q = torch.randn(14, 2, 8)
    with pytest.raises(AssertionError, match="only towards what came before"):
        attention.varlen_attn(q, q, q, ENDS, ENDS, 8, 8, window_size=(-1, -1))


@pytest.mark.parametrize("name", ["softcap", "s_aux"])
def test_what_the_kernel_would_leave_out_is_refused(name: str, attention: Any) -> None:
    q = torch.randn(1, 2, 14, 8)
    rows = {"cu_seq_lens_q": ENDS, "max_length_q": 8}
    attention.varlen(SimpleNamespace(), q, q, q, None, **rows, **{name: None})
    with pytest.raises(
        EngineError, match=f"^the attention of this base wants {name}, .*; set train.padding_free = false"
    ):
        attention.varlen(SimpleNamespace(), q, q, q, None, **rows, **{name: 50.0})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"model_type": "gemma2", "attn_logit_softcapping": 50.0}, "eager"),
        ({"model_type": "gemma2", "attn_logit_softcapping": None}, "sdpa"),
        ({"model_type": "mistral"}, "sdpa"),
        ({"model_type": "x", "text_config": {"attn_logit_softcapping": 30.0}}, "eager"),
    ],
)
def test_caps_are_kept(config: dict[str, object], name: str, attention: Any) -> None:
    assert attention.exact(config) == name
