"""What a training proves of itself on its first micro-batches, and what is said where it cannot."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch

from medrecipes.core.errors import EngineError
from medrecipes.engines.trainer.runtime_proofs import Proving, a_row
from medrecipes.rendering.chat_template import MASKED
from medrecipes.rendering.packing import Pack
from tests.conftest import Train

# two lines of rows: of three, of which the last learns nothing, and of one; a row's first token is never learned
PACKS = [
    Pack([0, 1, 2], [11, 12, 13, 21, 22, 31, 32, 33], [MASKED, 12, 13, MASKED, 22, MASKED, MASKED, MASKED], [3, 2, 3]),
    Pack([3], [41, 42, 43], [MASKED, 42, 43], [3]),
]
ALONE = [Pack([0], [11, 12], [MASKED, MASKED], [2]), Pack([1], [21, 22, 23], [MASKED, 22, 23], [3])]


@pytest.fixture(autouse=True, scope="module")
def _libraries(libraries: None) -> None:
    """They come first."""


def tensors(packs: list[Pack], pad: int, layout: Any, engine: str) -> dict[str, Any]:
    """What a trainer is given."""
    made: dict[str, Any] = importlib.import_module("medrecipes.engines.trainer.collate").tensors(
        packs, pad, layout, engine
    )
    return made


class Losses:
    """A way to these losses, one after the other; it keeps the batches that it was asked for, and what dice it threw."""

    def __init__(self, *values: float) -> None:
        self._given, self.seen, self.dice = iter(values), list[Any](), list[float]()

    def __call__(self, batch: dict[str, Any]) -> float:
        self.seen.append(batch)
        self.dice.append(float(torch.rand(())))
        return next(self._given)


@pytest.mark.parametrize(
    ("packs", "layout", "place"),
    [
        (PACKS, "padded", (0, 3, 5)),
        (PACKS, "flat", (0, 8, 11)),
        (PACKS[:1], "flat", (0, 3, 5)),
        (ALONE, "padded", (1, 0, 3)),
        (ALONE, "flat", (0, 2, 5)),
        (ALONE[1:], "flat", (0, 0, 3)),
        (ALONE[:1], "flat", None),
        (ALONE[:1], "padded", None),
    ],
)
def test_a_row_that_learns_is_found_behind_others_where_there_is_one(
    packs: list[Pack], layout: Any, place: Any
) -> None:
    assert a_row(tensors(packs, 0, layout, "unsloth")) == place


@pytest.mark.parametrize("layout", ["padded", "flat"])
def test_it_alone_learns_and_only_what_stands_before_it_changes(layout: Any) -> None:
    batch, losses, evaluated = tensors(PACKS[:1], 0, layout, "unsloth"), Losses(2.5, 2.5), []
    proving = Proving("mistral", packing=True, evaluate=lambda ids, labels: (evaluated.append((ids, labels)), 2.51)[1])
    proving.look(batch, losses)
    one, other = losses.seen
    assert one["input_ids"].tolist() == batch["input_ids"].tolist()
    assert other["input_ids"].tolist() == [[13, 11, 12, 21, 22, 31, 32, 33]]
    assert one["labels"].tolist() == other["labels"].tolist() == [[MASKED] * 4 + [22] + [MASKED] * 3]
    assert evaluated == [([21, 22], [MASKED, 22])]
    assert proving.found == {"learned": 2.5, "after others": 2.5, "evaluated": 2.51}


def test_each_proof_is_made_once_and_leaves_the_dice_as_they_were() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(7)
    proving, losses = Proving("mistral", packing=True, evaluate=lambda *_: 2.4), Losses(2.4, 2.5, 2.5)
    for _ in range(2):
        proving.look(tensors(ALONE, 0, "padded", "trl"), losses)  # nothing stands before it
    assert proving.found == {"learned": 2.4, "evaluated": 2.4}
    assert proving.goes_on
    proving.look(tensors(PACKS, 0, "padded", "trl"), losses)
    assert not proving.goes_on
    assert proving.found == {"learned": 2.5, "after others": 2.5, "evaluated": 2.4}
    assert losses.dice[1] == losses.dice[2]  # dropout falls alike
    assert torch.rand(3).tolist() == wanted


def test_it_does_not_look_for_ever() -> None:
    proving, alone = Proving("mistral", packing=True, evaluate=None), tensors(ALONE, 0, "padded", "trl")
    for _ in range(8):
        assert proving.goes_on
        proving.look(alone, Losses())
    assert not proving.goes_on


@pytest.mark.parametrize(("packing", "cure"), [(True, "train.packing = false"), (False, "train.padding_free = false")])
def test_a_row_that_sees_another_is_told_with_the_cure(packing: bool, cure: str) -> None:
    with pytest.raises(EngineError) as error:
        Proving("gemma2", packing=packing, evaluate=None).look(tensors(PACKS, 0, "flat", "trl"), Losses(2.5, 2.501))
    assert str(error.value) == (
        "packed sequences see each other through the gemma2 layers of this engine (a row's loss is 2.5000 or 2.5010, "
        f"depending on what stands before it); set {cure}"
    )


def long_row(tokens: int) -> dict[str, Any]:
    """A row with this many tokens that learn."""
    ids = list(range(11, 12 + tokens))
    return tensors([Pack([0], ids, [MASKED, *ids[1:]], [len(ids)])], 0, "padded", "trl")


def test_a_row_that_is_learned_otherwise_than_judged_is_told() -> None:
    batch = long_row(64)
    Proving("gemma2", packing=False, evaluate=lambda *_: 2.45).look(batch, Losses(2.5))  # half precision
    with pytest.raises(EngineError) as error:
        Proving("gemma2", packing=False, evaluate=lambda *_: 2.4).look(batch, Losses(2.5))
    assert str(error.value) == (
        "a row that is evaluated with a loss of 2.4000 is learned with 2.5000: the gemma2 layers of this engine train another "
        "model than the one that answers; set model.engine to the other one, trl or unsloth"
    )


def test_the_mean_over_few_tokens_may_lie_further_apart() -> None:
    # SmolLM2 in 4 bits and bf16 on an H200, gone on from step 120: 6 tokens that learn, and layers that are right
    Proving("llama", packing=True, evaluate=lambda *_: 0.2047).look(long_row(6), Losses(0.2351))
    with pytest.raises(EngineError, match=r"evaluated with a loss of 0\.2047 is learned with 0\.2351"):
        Proving("llama", packing=True, evaluate=lambda *_: 0.2047).look(long_row(64), Losses(0.2351))
    with pytest.raises(EngineError, match=r"evaluated with a loss of 0\.2047 is learned with 0\.3047"):
        Proving("llama", packing=True, evaluate=lambda *_: 0.2047).look(long_row(6), Losses(0.3047))


def test_a_loss_that_is_no_number_is_left_to_the_step_that_tells_it() -> None:
    proving, batch = Proving("mistral", packing=True, evaluate=None), tensors(PACKS, 0, "flat", "trl")
    proving.look(batch, Losses(math.nan, math.nan))
    assert proving.found == {}
    proving.look(batch, Losses(2.5, 2.5))
    assert proving.found == {"learned": 2.5, "after others": 2.5}


# --- in a real training


@pytest.mark.parametrize("layout", [["train.padding_free=false"], ["train.packing=true"]])
def test_a_training_proves_itself(train: Train, layout: list[str]) -> None:
    stats: dict[str, Any] = {}

    def keep(engine: Any) -> None:
        usual = engine.train
        engine.train = lambda *values: stats.update(usual(*values))

    train("train.max_steps=2", "train.batch=4", *layout, before=keep)
    found = stats["proved"]
    assert found["evaluated"] == pytest.approx(found["learned"], rel=1e-4)
    assert found.get("after others", found["learned"]) == found["learned"]
    assert ("after others" in found) is (layout == ["train.packing=true"])


def test_with_dropout_no_row_is_learned_as_it_is_judged(train: Train) -> None:
    stats: dict[str, Any] = {}

    def keep(engine: Any) -> None:
        usual = engine.train
        engine.train = lambda *values: stats.update(usual(*values))

    train("train.max_steps=1", "train.batch=4", "lora.dropout=0.1", "train.packing=true", before=keep)
    assert stats["proved"].keys() == {"learned", "after others"}


def broken(engine: Any, forget: tuple[str, ...] = (), factor: float = 1.0) -> None:
    """A way to the loss that leaves something out, or is another."""
    usual = engine._loss
    engine._loss = lambda model, batch: factor * usual(model, {k: v for k, v in batch.items() if k not in forget})


BROKEN = [
    ({"forget": ("position_ids", "packed_seq_lengths")}, r"packed sequences see each other through the mistral layers .*; set train.packing = false"),
    ({"factor": 1.1}, r"a row that is evaluated with a loss of \d\.\d{4} is learned with \d\.\d{4}: the mistral layers .*"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "message"), BROKEN)
def test_what_is_broken_is_told_before_anything_is_learned(train: Train, how: dict[str, Any], message: str) -> None:
    engines = []
    with pytest.raises(EngineError, match=message):
        train(
            "train.max_steps=1", "train.packing=true", "train.batch=4",
            before=lambda engine: (broken(engine, **how), engines.append(engine)),
        )  # fmt: skip
    learned = [p for name, p in engines[0].model.named_parameters() if "lora_B" in name]
    assert learned
    assert not any(float(p.detach().abs().max()) for p in learned)
