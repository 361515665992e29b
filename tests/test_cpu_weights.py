"""4-bit weights decoded once on a CPU: the same values, the same losses, the same training, and said of every run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from medrecipes.recipe.load import load
from medrecipes.rendering.chat_template import Example
from medrecipes.runs.folder import read_losses
from tests.conftest import ROOT, Train, need_no_gpus
from tests.test_engine import STEP, adapter, difference, rows_seen

BIG = {"num_attention_heads": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32000}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_card() -> None:
    need_no_gpus()


@pytest.fixture
def decoded(libraries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treats the tiny base as one that is large enough to be decoded."""
    monkeypatch.setattr(importlib.import_module("medrecipes.engines.choices"), "SMALL", 0)


def opened(*overrides: str) -> Any:
    from medrecipes.data.split import prepare
    from medrecipes.engines import load_libraries, open_engine, recipe_base
    from medrecipes.rendering.chat_template import ChatTemplate

    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", overrides).recipe
    base = recipe_base(recipe, prepare(recipe))
    return open_engine(recipe, base, ChatTemplate(recipe.template.name, base.tokenizer), load_libraries(recipe))


def values_in_blocks(model: Any) -> int:
    """The most values that any 64 weights in a row of memory have."""
    from medrecipes.engines.cpu_weights import Decoded

    layers = [module for module in model.modules() if isinstance(module, Decoded)]
    assert len(layers) == 21  # seven matrices of three layers
    return max(len(block.unique()) for layer in layers for block in layer.weight.flatten().view(-1, 64)[:50])


@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-4), ("bf16", 2e-2)])
def test_a_decoded_base_has_the_losses_of_the_4_bit_one(
    rows: Sequence[Example], precision: str, apart: float, decoded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = opened(f"train.precision={precision}")
    assert engine.choices["weights"].value == "decoded once"
    assert values_in_blocks(engine.model) <= 16
    found = engine.answer_nats(rows)
    monkeypatch.undo()
    usual = opened("train.precision=fp32")
    assert "weights" not in usual.choices
    for one, other, row in zip(found, usual.answer_nats(rows), rows, strict=True):
        assert abs(one - other) <= apart * row.supervised


def test_training_on_decoded_weights_is_no_other_training(
    train: Train, rows: list[Example], decoded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run, seen = train(*STEP)
    assert whole.choices["layout"].value == "flat"
    assert whole.choices["layers"].value == "fused"
    assert sorted(rows_seen(seen)) == sorted((tuple(e.input_ids), tuple(e.labels)) for e in rows)
    monkeypatch.undo()
    usual, other, _ = train(*STEP)
    assert usual.choices["layout"].value == "padded"
    losses = [float(read_losses(r.path / "loss.csv")[0]["loss"]) for r in (run, other)]
    assert abs(losses[0] - losses[1]) < 1e-5
    one, two = ({n: p for n, p in adapter(e).items() if "lora_B" in n} for e in (whole, usual))
    moved = max(float(p.abs().max()) for p in two.values())
    assert moved > 1e-2
    # TRL rounds the first values of A to bf16 where the base is quantised, and of nothing else
    assert max(float((one[n] - two[n]).abs().max()) for n in one) < 5e-3 * moved


def test_what_the_fused_layers_cannot_do_trains_through_the_librarys(train: Train, decoded: None) -> None:
    engine, run, _ = train(*STEP, "lora.dropout=0.1")
    assert str(engine.choices["layers"]) == "library (not with lora.dropout = 0.1)"
    assert float(read_losses(run.path / "loss.csv")[0]["loss"]) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_has_the_losses_of_one_that_was_not_stopped(
    precision: str, train: Train, decoded: None
) -> None:
    from medrecipes.runs.folder import RunDir

    settings = ("train.max_steps=4", "train.batch=4", "train.save_steps=2", f"train.precision={precision}")
    whole, expected, _ = train(*settings)
    assert whole.choices["layers"].value == "fused"

    def before(engine: Any) -> None:
        steps: list[int] = []

        def stop(*_: Any) -> None:
            if torch.is_grad_enabled():
                steps.append(1)
                if len(steps) == 4:
                    raise KeyboardInterrupt

        engine.model.register_forward_pre_hook(stop)

    run = RunDir(expected.path.parent / f"stopped-{precision}")
    with pytest.raises(KeyboardInterrupt):
        train(*settings, rundir=run, before=before)
    again, run, _ = train(*settings, rundir=run)
    assert run.state["resumed_from_step"] == 2
    assert [row["loss"] for row in read_losses(run.path / "loss.csv")] == [row["loss"] for row in read_losses(expected.path / "loss.csv")]  # fmt: skip
    assert difference(again, whole) == 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_lora_in_one_function_is_pefts(dropout: float, decoded: None) -> None:
    from peft.tuners import lora

    from medrecipes.engines.cpu_weights import AddedLinear

    engine = opened("train.precision=fp32", f"lora.dropout={dropout}", "lora.rank=4")
    model = engine._attach(engine.model, engine.recipe, recomputed=0)
    layer = next(module for module in model.modules() if isinstance(module, AddedLinear))
    torch.manual_seed(0)
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(2, 5, layer.in_features)

    def results() -> list[torch.Tensor]:
        given = x.clone().requires_grad_()
        parameters = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
        torch.manual_seed(1)
        out = layer.train()(given)
        return [out, *torch.autograd.grad((out * torch.arange(out.shape[-1])).sum(), [given, *parameters])]

    ours = results()
    layer.__class__ = lora.Linear
    theirs = results()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max()))
    layer.__class__ = AddedLinear
    with model.disable_adapter():
        torch.testing.assert_close(layer(x), x @ layer.base_layer.weight.t())


def test_what_memory_does_not_allow_stays_in_4_bits(libraries: None) -> None:
    from medrecipes.engines.cpu_weights import choose_weights
    from medrecipes.engines.plan.memory import free_memory

    assert choose_weights(BIG, torch.bfloat16, 40).value == "decoded once"
    short = choose_weights(BIG, torch.bfloat16, 20)
    assert short.value == "decoded when needed"
    assert "15.6 GB decoded, 20.0 GB of memory free" in short.reason
    assert choose_weights(BIG, torch.float32, 40).value == "decoded when needed"
    assert 1e8 < free_memory() < 1e14


@pytest.mark.parametrize(("flag", "dtype"), [("avx512_bf16", torch.bfloat16), (None, torch.float32)])
def test_bf16_only_where_the_cpu_has_it_and_the_base_is_large(
    flag: str | None, dtype: torch.dtype, libraries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecipes.engines import Choice, choices, said_of_load
    from medrecipes.recipe.schema import Recipe

    monkeypatch.setattr(choices, "native_bf16", lambda: flag)
    choice, found = choices.choose_precision(Recipe(), BIG)
    assert found == dtype
    assert choices.choose_precision(Recipe(), {**BIG, "num_hidden_layers": 1, "hidden_size": 256})[1] == torch.float32
    if flag:
        said = said_of_load(4, {"precision": choice, "weights": Choice("decoded once", "1 GB")})
        assert said == "4 bits, decoded once, computed in bf16 (the CPU has avx512_bf16)"
