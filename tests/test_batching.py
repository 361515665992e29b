"""Packs and batches in literals: nothing lost, nothing cut, no row sees another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrecipes.core.errors import EngineError
from medrecipes.engines.plan import Machine, Rows, choose
from medrecipes.engines.plan.dimensions import GPUS, Shape
from medrecipes.engines.plan.evaluations import Schedule
from medrecipes.engines.trainer.attempt import Attempt
from medrecipes.recipe.schema import Recipe, Train
from medrecipes.rendering.chat_template import MASKED, Example
from medrecipes.rendering.packing import collate, learn_all, pack
from medrecipes.runs.folder import LossLog, RunDir

SHAPE = Shape.of({"model_type": "mistral", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2})  # fmt: skip
M = MASKED


def example(id: str, ids: list[int], learned: int) -> Example:
    return Example(id, id, ids, [M] * (len(ids) - learned) + ids[len(ids) - learned :])


ROWS = [example("a", [1, 5, 6, 2], 2), example("b", [1, 7, 2], 1), example("c", [1, 8, 9, 9, 9, 2], 3)]


def test_unpacked_every_row_has_its_line() -> None:
    assert [p.rows for p in pack(ROWS, 8, packing=False)] == [[0], [1], [2]]


def test_packed_each_row_lies_where_it_fits_best() -> None:
    assert [p.rows for p in pack(ROWS, 8, packing=True)] == [[2], [0, 1]]
    assert [p.rows for p in pack(ROWS, 13, packing=True)] == [[0, 1, 2]]


def test_a_pack_is_its_rows_end_to_end() -> None:
    line = pack(ROWS, 8, packing=True)[1]
    assert line.input_ids == [1, 5, 6, 2, 1, 7, 2]
    assert line.labels == [M, M, 6, 2, M, M, 2]
    assert line.lengths == [4, 3]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_packing_loses_nothing_and_wastes_little(lengths: list[int]) -> None:
    rows = [example(str(i), list(range(length)), 1) for i, length in enumerate(lengths)]
    packs = pack(rows, 20, packing=True)
    assert sorted(row for p in packs for row in p.rows) == list(range(len(rows)))
    assert all(sum(p.lengths) == len(p.input_ids) <= 20 for p in packs)
    # no two lines could have been one
    sizes = sorted(len(p.input_ids) for p in packs)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > 20


def test_padded_rows_are_filled_on_the_right() -> None:
    batch = collate(pack(ROWS[:2], 8, packing=False), 0, "padded")
    assert batch == {
        "input_ids": [[1, 5, 6, 2], [1, 7, 2, 0]],
        "labels": [[M, M, 6, 2], [M, M, 2, M]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1, 0]],
    }


def test_packed_lines_start_their_positions_again_at_every_row() -> None:
    batch = collate(pack(ROWS, 8, packing=True), 0, "padded")
    assert batch["position_ids"] == [[0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 3, 0, 1, 2]]
    assert "attention_mask" not in batch


def test_flat_is_all_rows_in_one_line() -> None:
    batch = collate(pack(ROWS, 8, packing=False), 0, "flat")
    assert batch["input_ids"] == [[1, 5, 6, 2, 1, 7, 2, 1, 8, 9, 9, 9, 2]]
    assert batch["labels"] == [[M, M, 6, 2, M, M, 2, M, M, M, 9, 9, 2]]
    assert batch["position_ids"] == [[0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4, 5]]
    assert batch["lengths"] == [4, 3, 6]


def test_old_runs_learned_everything() -> None:
    assert learn_all(ROWS[:1])[0].labels == [1, 5, 6, 2]


@given(st.integers(1, 48), st.one_of(st.just("auto"), st.integers(1, 48)), st.integers(1, 8))
def test_rows_a_step_are_the_batch_or_a_line_says_why_not(batch: int, micro_batch: Any, gpus: int) -> None:
    recipe = Recipe(train=Train(batch=batch, micro_batch=micro_batch, checkpointing=True))
    attempt = Attempt(None, None, LossLog(Path(os.devnull), writes=False), None, Schedule(None, 50, "", ""))

    def rows() -> int:
        at_once = choose(recipe, SHAPE, Machine(GPUS["h200"], gpus), "library", Rows(lambda n: (n, n))).micro_batch
        told = attempt.arguments(recipe, RunDir(Path("none")), torch.float32, at_once, cpu=True, checkpointing=False)  # fmt: skip
        return int(told["per_device_train_batch_size"] * told["gradient_accumulation_steps"] * gpus)

    share = batch // gpus
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(gpus))
        if batch % gpus == 0 and (micro_batch == "auto" or share % min(micro_batch, share) == 0):
            assert rows() == batch
        else:
            line = r"^train\.(micro_)?batch = \d+ [^\n]+; choose a (multiple|divisor of \d+)$"
            with pytest.raises(EngineError, match=line):
                rows()
