"""8-bit weights: the weights alone are rounded, so that a row's result does not depend on the rows beside it."""

from __future__ import annotations

import copy
from types import MethodType

import pytest


@pytest.fixture
def layers(libraries: None):  # type: ignore[no-untyped-def]
    """A layer of bitsandbytes' with 8-bit weights, and the model that it is in once its inputs are left alone."""
    import torch
    from bitsandbytes.nn import Linear8bitLt

    from medrecipes.engines.base_weights import round_weights_alone

    torch.manual_seed(0)
    whole = torch.nn.Linear(64, 48)
    theirs = Linear8bitLt(64, 48, has_fp16_weights=False, threshold=6.0)
    theirs.load_state_dict(whole.state_dict())
    theirs.to("cpu")
    ours = torch.nn.Sequential(copy.deepcopy(theirs))
    round_weights_alone(ours)
    return whole, theirs, ours


def test_a_row_is_computed_as_if_it_stood_alone_and_its_gradient_is_the_decoded_weights_own(layers) -> None:  # type: ignore[no-untyped-def]
    import torch

    whole, theirs, ours = layers
    weight = theirs.weight.CB.double() * theirs.weight.SCB.double()[:, None] / 127
    assert (weight - whole.weight).abs().max() < whole.weight.abs().max() / 127
    x = torch.randn(10, 64, requires_grad=True)
    with torch.no_grad():
        x[7, 3] = 50.0  # what bitsandbytes would take out of the rounding, in every row
    found = ours(x)
    assert torch.equal(found[:5], ours(x[:5]))
    assert (found - (x.double() @ weight.T + whole.bias)).abs().max() < 1e-4
    found.square().sum().backward()
    assert (x.grad - 2 * found.double() @ weight).abs().max() < 1e-2
    # it sees as little under autocast as any other layer
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    # what bitsandbytes' own has looked at once holds its weights elsewhere
    theirs(x)
    assert theirs.weight.CB is None
    again = torch.nn.Sequential(theirs)
    from medrecipes.engines.base_weights import round_weights_alone

    round_weights_alone(again)
    assert torch.equal(again(x), found)


def test_a_layer_that_accelerate_moves_is_reached_behind_its_hook(layers) -> None:  # type: ignore[no-untyped-def]
    import torch
    from accelerate.hooks import ModelHook, add_hook_to_module

    from medrecipes.engines.base_weights import WeightOnly8bit, round_weights_alone

    _, theirs, ours = layers
    add_hook_to_module(theirs, ModelHook())
    assert isinstance(theirs._old_forward, MethodType)
    round_weights_alone(torch.nn.Sequential(theirs))
    assert theirs._old_forward.__func__ is WeightOnly8bit.forward
    x = torch.randn(3, 64)
    assert torch.equal(theirs(x), ours(x))
