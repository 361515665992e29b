"""This project's own decoder layers against the library's: the same loss, the same gradients, whatever is kept."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import work_out


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What tests/fused_cases.py finds."""
    result: dict[str, Any] = json.loads(work_out("tests.fused_cases").splitlines()[-1])
    return result


def test_loss_and_gradients_are_the_librarys(found: dict[str, Any]) -> None:
    # two kinds of base with two sets of targets, three ways to keep, frozen inputs or not, in sizes to be captured or not,
    # and ten others with three of these combinations
    assert len(found["apart"]) == 2 * 24 + 11 * 3
    for case, apart in found["apart"].items():
        # norms and rotary positions are computed in fp32, there as here; the rest is in fp64
        assert apart["loss"] < 3e-7, case  # by processor
        assert apart["gradients"] < 5e-6, case
        matrices = (4, 2) if case.startswith("phi3") else (7, 3)
        assert apart["updates"] == 2 * 3 * matrices["some targets" in case], case


def test_judging_and_what_comes_after_go_the_librarys_way(found: dict[str, Any]) -> None:
    assert found["calls"] == [3, 3, 3]  # a layer each in the training step, none later


def test_an_update_made_by_the_optimiser_reaches_the_next_step(found: dict[str, Any]) -> None:
    before, after, library = found["two steps"]
    assert after < before
    assert after == pytest.approx(library, rel=1e-7)


def test_rows_on_a_line_are_proved_apart_and_a_forgotten_border_is_found(found: dict[str, Any]) -> None:
    kept = found["neighbours"]["kept"]
    assert kept["learned"] == kept["after others"]
    assert re.fullmatch(
        r"packed sequences see each other through the llama layers of this engine \(a row's loss is \d\.\d{4} or "
        r"\d\.\d{4}, depending on what stands before it\); set train.padding_free = false",
        found["neighbours"]["blurred"],
    )


def test_what_they_cannot_do_is_left_to_the_library(found: dict[str, Any]) -> None:
    assert found["reasons"] == {
        "dropout": "not with lora.dropout = 0.1",
        "dora": "not with lora.use_dora = true",
        "offload": "not with model.cpu_offload = true",
        "8 bits": None,
        "granite": "granite layers are built otherwise",
        "relu": "its activation is relu",
        "none": None,
    }


def test_a_family_that_was_not_proved_on_a_gpu_is_held_against_the_library_first(found: dict[str, Any]) -> None:
    probes = found["probes"]
    assert probes["right"] is None
    assert re.fullmatch(r"the fused ones lie \d+\.\d% from them on a probe", probes["wrong"])
    assert probes["none"] == "the fused ones fail here: no kernel for this GPU"


def test_weights_in_8_bits_train_and_answer_as_through_the_librarys_layers(found: dict[str, Any]) -> None:
    for family, apart in found["weights in 8 bits"].items():
        assert apart["updates"] == 3 * 2 * (4 if family == "phi3" else 7), family
        assert max(apart["once"], apart["anew"]) < 1e-4, family
        assert apart["answers"] < 1e-3, family


def test_8_bit_floats_are_the_product_but_for_their_rounding(found: dict[str, Any]) -> None:
    rounded = found["eight bits"]
    for way in (
        "held",
        "anew",
    ):  # e4m3 rounds by up to 1/16, at random; a scale for the whole matrix would lose most columns
        assert all(0.001 < apart < 0.05 for apart in rounded[way]), way
    assert rounded["nothing"] == 0
    for family in ("mistral", "qwen2", "gemma 3"):
        loss, gradients = rounded[family]
        assert loss < 0.02, family
        assert 0.001 < gradients < 0.3, family
    assert rounded["unfit"] == [None, "a matrix of 90 x 128 numbers, whose sides are no multiples of 16"]
