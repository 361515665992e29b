"""Continuous batching against transformers' own `generate`, row by row: the same answers, whoever else is in the batch."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrecipes.engines.generation.cache import Segments
from medrecipes.engines.generation.sampling import gumbel
from tests.conftest import work_out

FUSED = {
    "gemma2",
    "mistral",
    "mistral with a window",
    "llama",
    "llama 3's positions",
    "gemma",
    "gemma3",
    "qwen2",
    "qwen3",
    "phi3",
}
SURE = 0.05  # nats by which a token may be preferred and yet be another in half precision


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What tests/generation_cases.py finds."""
    result: dict[str, Any] = json.loads(work_out("tests.generation_cases").splitlines()[-1])
    return result


def test_greedy_answers_are_those_of_generate_row_by_row(found: dict[str, Any]) -> None:
    assert len(found["families"]) == 11
    for name, family in found["families"].items():
        assert family["apart"] < 1e-4, name
        assert family["library"], name
        assert family["base"], name  # without the adapter
    assert sum(family["early"] for family in found["families"].values()) > 10  # rows that left before the others


def test_fused_layers_answer_the_same(found: dict[str, Any]) -> None:
    assert {name for name, family in found["families"].items() if family.get("body") == "FusedBody"} == FUSED
    for name in FUSED:
        assert found["families"][name]["fused"], name
        assert found["families"][name]["fused apart"] < 1e-4, name


def test_packed_rows_are_as_likely_as_padded_ones(found: dict[str, Any]) -> None:
    for name, family in found["families"].items():
        assert family["head"] < 1e-3, name
        assert family.get("odd head", 1) > 0.1, name
        assert family.get("nats", 0) < 1e-3, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_in_half_precision_tokens_change_only_where_two_are_as_likely(found: dict[str, Any]) -> None:
    for name, family in found["families"].items():
        assert max(family["ties"], default=0) < SURE, name
        assert family["captured"], name


def test_an_answer_is_the_same_in_any_batch_however_it_is_drawn(found: dict[str, Any]) -> None:
    for name, drawn in found["drawn"].items():
        assert drawn["same"] == [True] * 4, name
    assert all(one != other for one, other in combinations([drawn["said"] for drawn in found["drawn"].values()], 2))


def test_stop_tokens_end_no_answer_where_they_are_to_be_ignored(found: dict[str, Any]) -> None:
    endless = found["endless"]
    assert endless["same"] == [True, True]
    assert set(endless["lengths"]) == {12}
    assert endless["stopped"] > 0
    assert all(endless["begin"])


def test_a_base_that_computes_otherwise_is_seen(found: dict[str, Any]) -> None:
    assert found["odd"] > 0.1


def test_where_memory_runs_out_half_as_many_go_on(found: dict[str, Any]) -> None:
    memory = found["memory"]
    assert memory["same"]
    assert memory["largest"][0] > 3 >= memory["largest"][1]
    assert memory["heard"][0].startswith("memory ran out: ")


def test_requests_come_and_go_while_others_are_answered(found: dict[str, Any]) -> None:
    cancelled = found["cancelled"]
    assert 2 <= cancelled.pop("first") <= 4  # a GPU may be two steps ahead
    assert cancelled == {"others": True, "ended": 4}


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=80))
def test_no_two_rows_share_a_token_of_the_cache(asked: list[tuple[bool, int]]) -> None:
    cache = Segments(100, torch.float32)
    held: list[tuple[int, int]] = []
    for gives, need in asked:
        if gives and held:
            cache.give(*held.pop(need % len(held)))
        elif (start := cache.take(need)) is not None:
            held.append((start, need))
        taken = [token for start, size in held for token in range(start, start + size)]
        assert len(taken) == len(set(taken))
        assert all(1 <= token < 100 for token in taken)
    for start, need in held:
        cache.give(start, need)
    assert cache.take(99) == 1  # all of it is one piece again


def test_noise_is_gumbels_and_of_its_row_alone() -> None:
    seeds, places = torch.arange(64) * 7919, torch.full((64,), 3)
    noise = gumbel(seeds, places, 1000)
    assert abs(float(noise.mean()) - 0.5772) < 0.02
    assert abs(float(noise.var()) - 1.6449) < 0.05
    assert torch.equal(gumbel(seeds[5:6], places[5:6], 1000), noise[5:6])
    assert not torch.equal(gumbel(seeds[5:6], places[5:6] + 1, 1000), noise[5:6])
    correlation = torch.corrcoef(noise[:20])
    assert float((correlation - torch.eye(20)).abs().max()) < 0.15
