"""Attention over padding-free rows, where a CPU computes it row by row: what it means, told by another way to the same."""

from __future__ import annotations

import importlib
import itertools
from collections import Counter
from functools import partial
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


def by_hand(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, left: int, cap: float | None = None
) -> torch.Tensor:
    """Every token looks at those of its row that came before, at most so many of them (all: -1)."""
    out = torch.zeros_like(q)
    shared = q.shape[1] // k.shape[1]
    for start, end in itertools.pairwise(ENDS.tolist()):
        for token, head in itertools.product(range(start, end), range(q.shape[1])):
            first = start if left < 0 else max(start, token - left)
            keys, values = (t[first : token + 1, head // shared] for t in (k, v))
            scores = scale * keys @ q[token, head]
            out[token, head] = (scores if cap is None else cap * (scores / cap).tanh()).softmax(0) @ values
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


@pytest.mark.parametrize("window", [None, 1, 4])
def test_scores_are_capped(window: int | None, attention: Any) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(14, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    left = -1 if window is None else window - 1
    wanted, uncapped = by_hand(q, k, v, 2.0, left, 1.5), by_hand(q, k, v, 2.0, left)
    module = SimpleNamespace(sliding_window=window)
    values = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
    out, _ = attention.varlen(
        module, *values, None, scaling=2.0, cu_seq_lens_q=ENDS, max_length_q=8, softcap=1.5
    )  # fmt: skip
    assert torch.allclose(out[0], wanted, atol=1e-12)
    assert window == 1 or not torch.allclose(uncapped, wanted, atol=1e-2)
    grad = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(out[0], (q, k, v), grad), torch.autograd.grad(wanted, (q, k, v), grad), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-12)


def test_numbers_of_tokens_that_come_often_are_compiled_for_themselves(
    libraries: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecipes.engines.kernels import capped_attention as capped

    monkeypatch.setattr(capped, "_sights", Counter())
    monkeypatch.setattr(capped, "_numbers", set())
    for tokens in [1024, 8192] * 2 + [1024, 4096]:
        capped.sight(tokens)
    assert not capped.comes_often(8192)
    assert capsys.readouterr().err == ""
    capped.sight(8192)
    assert capped.comes_often(8192)
    assert not capped.comes_often(1024)  # of few tokens attention is a small part
    assert capsys.readouterr().err.count("compiled for 8,192 tokens") == 1
    for tokens in range(2048, 2048 + 128 * 6, 128):
        for _ in range(3):
            capped.sight(tokens)
    # torch keeps eight kernels of a function, and then computes without
    assert sum(map(capped.comes_often, [8192, *range(2048, 2048 + 128 * 6, 128)])) == capped.NUMBERS


def test_kernels_that_do_not_compile_are_torchs_own_from_then_on(
    libraries: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecipes.engines.kernels import capped_attention as capped

    asked: list[Any] = []

    def compiled(often: bool, kernels: Any) -> Any:
        asked.append(kernels.options)
        if kernels.options:
            raise RuntimeError("No valid triton configs.\nout of resource")
        return partial(capped._flex, options=None)

    monkeypatch.setattr(capped, "_refused", set())
    monkeypatch.setattr(capped, "_compiled", compiled)
    monkeypatch.setattr(capped.Kernels, "of", lambda _: capped.Kernels(64, (("fwd_BLOCK_M", 64),)))
    q, k, v = (torch.randn(905, heads, 16) for heads in (4, 2, 2))
    seen = capped.mask(LONG, 905, None, causal=True, block=64)
    outs = [capped.attend(q, k, v, seen, capped.Scores(0.2, 3.0)) for _ in range(2)]
    assert torch.equal(*outs)
    assert asked == [(("fwd_BLOCK_M", 64),), (), ()]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "is slower: its kernels do not compile as they were measured (No valid triton configs" in told


LONG = torch.tensor([0, 5, 133, 133, 134, 391, 700, 905, 905], dtype=torch.int32)  # two rows are empty


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 100, 129, 300])
@pytest.mark.parametrize("tokens", [905, 1000])  # behind the last row may stand what belongs to none
@pytest.mark.parametrize("size", [64, 128])
def test_the_blocks_of_capped_attention_are_those_that_are_seen(
    size: int, tokens: int, window: int | None, causal: bool, libraries: None
) -> None:
    from medrecipes.engines.kernels.capped_attention import BLOCK, mask

    found = mask(LONG, tokens, window, causal=causal, block=size)
    rows = torch.searchsorted(LONG[1:].contiguous(), torch.arange(tokens, dtype=torch.int32), right=True)
    places = torch.arange(tokens)
    back = places[:, None] - places[None]
    seen = (rows[:, None] == rows[None]) & ((back >= 0) | (not causal)) & (back.abs() < (window or tokens))
    assert torch.equal(found.mask_mod(None, None, places[:, None], places[None]), seen)
    blocks = -(-tokens // BLOCK) * BLOCK // size
    wanted = torch.zeros(blocks * size, blocks * size, dtype=torch.bool)
    wanted[:tokens, :tokens] = seen
    wanted = wanted.view(blocks, size, blocks, size)
    some, every = wanted.any(3).any(1), wanted.all(3).all(1)
    listed = torch.zeros(2, blocks, blocks, dtype=torch.bool)
    for kind, (counts, which) in enumerate(
        [(found.kv_num_blocks, found.kv_indices), (found.full_kv_num_blocks, found.full_kv_indices)]
    ):
        for block in range(blocks):
            listed[kind, block, which[0, 0, block, : counts[0, 0, block]].long()] = True
    partly, wholly = listed
    assert not (partly & wholly).any()
    assert not (some & ~partly & ~wholly).any()  # none is left out that is seen
    assert not (wholly & ~every)[: tokens // size, : tokens // size].any()  # and none taken whole that is not


def test_capped_attention_of_the_gpu_is_that_of_the_cpu(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.engines.kernels import capped_attention

    torch.manual_seed(0)
    cuda = torch.cuda.is_available()
    kind, learns = (torch.bfloat16, True) if cuda else (torch.float32, False)
    if not cuda:  # where the same function runs as it is written, and learns nothing
        monkeypatch.setattr(capped_attention, "_compiled", lambda *_: partial(capped_attention._flex, options=None))
    device = "cuda" if cuda else "cpu"
    q, k, v = (torch.randn(905, heads, 64, device=device, dtype=kind, requires_grad=learns) for heads in (4, 2, 2))
    for window, often in itertools.product((None, 100), (False, True)):
        monkeypatch.setattr(capped_attention, "comes_often", lambda _, often=often: often)
        rows, how = attention.Rows(LONG.to(device), 309), attention.How(0.2, window, 3.0)
        wanted = attention._attend_slowly(q.float(), k.float(), v.float(), rows, how)
        out = attention._capped(q, k, v, rows, how)
        assert torch.allclose(out.float(), wanted, atol=2e-2 if cuda else 1e-5)
        if learns:
            grad = torch.randn_like(out)
            ours = attention.attend_back(grad, (q, k, v, out.detach(), out), rows, how)
            theirs = torch.autograd.grad(wanted, (q, k, v), grad.float())
            for one, other in zip(ours, theirs, strict=True):
                assert (one.float() - other.float()).norm() <= 0.02 * other.float().norm()


def test_long_rows_are_attended_one_by_one_and_short_ones_together(attention: Any) -> None:
    ends = torch.tensor([0, 7, 20, 4116, 4117, 4117, 13_000, 13_000], dtype=torch.int32)
    found = [(part.start, part.end, part.ends, part.long) for part in attention.Rows(ends, 8883).stretches]
    assert found == [
        (0, 20, [0, 7, 20], False),
        (20, 4116, [0, 4096], True),
        (4116, 4117, [0, 1, 1], False),
        (4117, 13_000, [0, 8883], True),
    ]


def test_rows_of_a_cuda_graph_are_attended_together(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention.torch_private, "has_dense", lambda: True)
    ends, how = torch.tensor([0, 5000, 6000], dtype=torch.int32), attention.How(1.0)
    assert attention._has_long(attention.Rows(ends, 5000), how)
    assert not attention._has_long(attention.Rows(ends, 5000, fixed=True), how)  # others will stand there
    assert not attention._has_long(attention.Rows(ends, 5000, causal=False), how)
    assert not attention._has_long(attention.Rows(ends, 5000), attention.How(1.0, window=1024))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("heads", "key_heads", "width"), [(8, 2, 128), (4, 4, 64), (4, 2, 256)])
def test_long_rows_are_those_of_flash_attention(
    heads: int, key_heads: int, width: int, attention: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not attention.torch_private.has_dense():
        pytest.skip("this GPU has no attention by cuDNN")
    torch.manual_seed(0)
    ends = torch.tensor([0, 7, 20, 5020, 5021, 10_000, 10_300], dtype=torch.int32, device="cuda")
    q, k, v = (
        torch.randn(10_300, h, width, device="cuda", dtype=torch.bfloat16) for h in (heads, key_heads, key_heads)
    )
    grad, rows, how = torch.randn_like(q), attention.Rows(ends, 5000), attention.How(width**-0.5)

    def both() -> list[torch.Tensor]:
        out, sums = attention.attend(q, k, v, rows, how)
        return [out, *attention.attend_back(grad, (q, k, v, out, sums), rows, how)]

    ours = both()
    monkeypatch.setattr(attention, "LONG", 10**9)
    for one, other in zip(ours, both(), strict=True):
        assert one.shape == other.shape
        assert (one.float() - other.float()).norm() <= 0.01 * other.float().norm()


@pytest.mark.parametrize("name", ["s_aux"])
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
