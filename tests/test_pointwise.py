"""What the compiler makes of the pointwise functions is held against them, whenever it compiled anew."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from medrecipes.engines.kernels import pointwise, torch_private
from tests.conftest import need_gpus

ROWS = 1_300
X, WEIGHT = torch.linspace(-2, 3, ROWS * 4).view(ROWS, 4), torch.tensor([0.5, -0.25, 0.1, 2.0])
VALUES = X, WEIGHT, 1e-6, True


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], list[int]]:
    """Puts a function in the place of what is compiled; the list counts its calls, of which each of the first two compiles."""

    def put(function: Callable[..., Any]) -> list[int]:
        calls: list[int] = []

        def called(*values: Any) -> Any:
            calls.append(len(calls))
            return function(*values)

        monkeypatch.setattr(pointwise, "_compiled", lambda _: called)
        monkeypatch.setattr(torch_private, "compilations", lambda: min(len(calls), 2))
        return calls

    monkeypatch.setattr(pointwise, "_written", set())
    return put


def test_what_is_right_stays(compiled: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]) -> None:
    calls = compiled(pointwise.norm)
    for _ in range(3):
        assert torch.equal(pointwise._on_gpu(pointwise.norm, VALUES, ROWS), pointwise.norm(*VALUES))
    assert len(calls) == 3
    assert capsys.readouterr().err == ""


def test_what_is_wrong_is_computed_as_it_is_written_and_never_used_again(
    compiled: Callable[..., list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return pointwise.norm(x, *rest) * torch.where(torch.arange(len(x)) > 1_000, 1e3, 1.0)[:, None]

    calls = compiled(wrong)
    for _ in range(3):
        assert torch.equal(pointwise._on_gpu(pointwise.norm, VALUES, ROWS), pointwise.norm(*VALUES))
    assert len(calls) == 1
    said = capsys.readouterr().err
    assert "norm, as torch" in said
    assert said.count("it runs uncompiled, which is slower") == 1


def test_of_wide_tokens_fewer_are_compared(compiled: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def words(logits: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        compared.append(len(logits))
        return pointwise.words(logits, *rest)

    compiled(pointwise.words)
    monkeypatch.setattr(pointwise, "NUMBERS", 40 * 100)
    logits, target = torch.randn(130, 100), torch.zeros(130, 1, dtype=torch.long)
    pointwise._on_gpu(words, (logits, target, None), 130)
    assert compared == [33]  # every fourth of 130
    assert not pointwise._written


def test_what_is_not_a_number_is_told_from_what_overflows_by_itself(compiled: Callable[..., list[int]]) -> None:
    compiled(lambda x, *rest: pointwise.norm(x, *rest) * torch.nan)
    assert bool(pointwise._on_gpu(pointwise.norm, VALUES, ROWS).isfinite().all())
    endless = (X.masked_fill(X > 2, torch.inf), *VALUES[1:])
    calls = compiled(pointwise.norm)
    pointwise._written.clear()
    assert not bool(pointwise._on_gpu(pointwise.norm, endless, ROWS).isfinite().all())
    assert len(calls) == 1
    assert not pointwise._written


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_wrong_tensor_of_several_is_found(compiled: Callable[..., list[int]], which: int) -> None:
    both = torch.cat([X, X.flip(0)], dim=1)

    def wrong(*values: Any) -> tuple[torch.Tensor, ...]:
        found = list(pointwise.gate_back(*values))
        found[which] = found[which] * 1.1
        return tuple(found)

    compiled(wrong)
    found = pointwise._on_gpu(pointwise.gate_back, (X, both, True), ROWS)
    for ours, written in zip(found, pointwise.gate_back(X, both, True), strict=True):
        assert torch.equal(ours, written)


def test_what_was_compiled_in_a_run_that_is_captured_is_not_looked_at(
    compiled: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    compiled(lambda x, *_: x)
    assert pointwise._on_gpu(pointwise.norm, VALUES, ROWS) is X


def test_the_real_compiler_counts() -> None:
    before = torch_private.compilations()
    function = torch.compile(lambda x: x + 1, backend="eager")
    function(torch.ones(3))
    assert torch_private.compilations() == before + 1


@pytest.mark.parametrize("cap", [None, 3.0])
def test_words_are_those_of_plain_softmax_and_so_is_their_slope(cap: float | None) -> None:
    logits = (torch.linspace(-4, 6, 5 * 11).sin() * 5).view(5, 11)
    logits[0, [2, 7]] = 6.0  # of two equal ones the first is the choice
    target = torch.tensor([7, 2, 0, 10, 5])[:, None]
    target[1] = logits[1].argmax()
    logits.requires_grad_()
    bent = logits if cap is None else cap * torch.tanh(logits / cap)
    likely = bent.log_softmax(-1)
    found = pointwise.words(logits.detach(), target, cap)
    torch.testing.assert_close(found[0], likely.gather(-1, target).detach())
    torch.testing.assert_close(found[1], -(likely.exp() * likely).sum(-1, keepdim=True).detach())
    assert found[2][:, 0].tolist() == (bent.argmax(-1) == target[:, 0]).tolist()
    assert [bool(first) for first in found[2][:2]] == [False, True]
    likely.gather(-1, target).sum().backward()
    torch.testing.assert_close(found[3], logits.grad)


CALLS: dict[str, Callable[[Callable[..., torch.Tensor]], tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    "norm": lambda t: (pointwise.norm, (t(640), t(), 1e-6, True)),
    "norm_back": lambda t: (pointwise.norm_back, (t(640), t(640), t(), 1e-6, True, t(640))),
    "norm_added": lambda t: (pointwise.norm_added, (t(640), t(), 1e-6, True, t(640))),
    "heads": lambda t: (pointwise.heads, (t(1536), t(256), t(256), 4, 1)),
    "heads_back": lambda t: (pointwise.heads_back, (t(4, 256), t(1, 256), t(1, 256), t(256), t(256))),
    "heads_normed": lambda t: (pointwise.heads_normed, (t(1536), t(256), t(256), (4, 1), (t()[:256],) * 2, (1e-6, True))),
    "turned_back": lambda t: (pointwise.turned_back, (t(4, 256), t(1, 256), t(256), t(256))),
    "heads_normed_back": lambda t: (
        pointwise.heads_normed_back,
        ((t(4, 256), t(1, 256), t(1, 256)), t(1536), (t()[:256],) * 2, (1e-6, True)),
    ),
    "gate": lambda t: (pointwise.gate, (t(4096), True)),
    "gate_back": lambda t: (pointwise.gate_back, (t(2048), t(4096), True)),
    "eight_bit": lambda t: (pointwise.eight_bit, (t(640), t(256))),
    "words": lambda t: (pointwise.words, (t(5000), (t(1).abs() * 1_000).long(), None)),
    "words, capped": lambda t: (pointwise.words, (t(5000), (t(1).abs() * 1_000).long(), 30.0)),
}  # fmt: skip


@pytest.mark.cuda
@pytest.mark.parametrize("looped", [False, True], ids=["at once", "in a loop"])
@pytest.mark.parametrize("name", CALLS)
def test_no_kernel_takes_up_what_it_has_put_down(name: str, looped: bool) -> None:
    """A thread may take up what another has not put down yet: there is no barrier between."""
    need_gpus(1)
    from torch._inductor.utils import fresh_cache, run_and_get_code

    def tensor(*shape: int) -> torch.Tensor:
        shape = (ROWS, *shape) if shape else (640,)
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    function, values = CALLS[name](tensor)
    torch._dynamo.reset()
    compiled = torch.compile(function, options={"triton.persistent_reductions": not looped})
    with fresh_cache():
        found, codes = run_and_get_code(compiled, *values)
    kernels = "".join(codes)
    assert "tl.store(" in kernels
    assert not re.search(r"tl\.load\((?:in_)?out_ptr", kernels)
    assert pointwise._apart(function, values, found, ROWS) < pointwise.APART
