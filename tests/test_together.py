"""Several processes train and answer as one does: real ones, on CPUs; what needs GPUs is in tests/test_multi_gpu.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import work_out


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/together_cases.py finds, with the adapters' bytes."""
    folder = tmp_path_factory.mktemp("together")
    work_out("tests.together_cases", folder, "two", "two-shared", processes=2)
    # begun by two, it goes on by one from the checkpoint of step 2
    shutil.copytree(folder / "two", folder / "resumed")
    shutil.rmtree(folder / "resumed" / "checkpoints" / "checkpoint-4")
    work_out("tests.together_cases", folder, "one", "resumed")
    return {
        case: {**json.loads((folder / f"{case}.json").read_text()), "adapter": (folder / case / "adapter" / "adapter_model.safetensors").read_bytes()}
        for case in ("one", "two", "two-shared", "resumed")
    }  # fmt: skip


def losses(found: dict[str, Any], case: str) -> list[float]:
    return [loss for _, _, loss in found[case]["losses"]]


def test_two_processes_learn_what_one_does(found: dict[str, Any]) -> None:
    one, two = found["one"], found["two"]
    assert [row[:2] for row in one["losses"]] == [
        ["dev", 0], ["train", 1], ["train", 2], ["dev", 2], ["train", 3], ["train", 4], ["dev", 4],
    ]  # fmt: skip
    assert [row[:2] for row in two["losses"]] == [row[:2] for row in one["losses"]]
    assert losses(found, "two") == pytest.approx(losses(found, "one"), abs=1e-5)
    assert losses(found, "one")[-1] < losses(found, "one")[0]  # and it is learning
    assert (two["best"], two["parameters"]) == (one["best"], one["parameters"])
    assert len(two["peaks"]) == 2


def test_two_processes_answer_and_judge_what_one_does(found: dict[str, Any]) -> None:
    for when in ("before", "after"):
        (answers, nats), (own_answers, own_nats) = found["one"][when], found["two"][when]
        assert own_answers == answers
        assert own_nats == pytest.approx(nats, abs=1e-3)
    assert found["one"]["before"] != found["one"]["after"]
    assert [json.loads(line)["step"] for line in found["two"]["samples"]] == [2, 4]  # written once, by the leader
    assert found["two"]["samples"] == found["one"]["samples"]


@pytest.mark.parametrize("case", ["one", "two", "two-shared"])
def test_a_finished_run_is_opened_again_as_it_was(case: str, found: dict[str, Any]) -> None:
    for again, before in (("base again", "before"), ("again", "after")):
        assert found[case][again][0] == found[case][before][0]
        assert found[case][again][1] == pytest.approx(found[case][before][1], abs=1e-3)


def test_a_base_that_cards_share_is_no_other_base(found: dict[str, Any]) -> None:
    whole, shared = found["two"], found["two-shared"]
    for what in ("losses", "before", "after", "samples", "parameters", "adapter"):
        assert shared[what] == whole[what], what


def test_the_fused_layers_prove_their_rows_apart_and_learned_as_judged(found: dict[str, Any]) -> None:
    for case in ("one", "two"):
        proved = found[case]["proved"]
        assert proved["after others"] == proved["learned"] == pytest.approx(proved["evaluated"], abs=1e-5)
    assert found["two-shared"]["proved"] == {}  # they go in step


def test_a_run_goes_on_with_another_number_of_processes(found: dict[str, Any]) -> None:
    assert [row[:2] for row in found["resumed"]["losses"]] == [row[:2] for row in found["two"]["losses"]]
    assert losses(found, "resumed") == pytest.approx(losses(found, "two"), abs=1e-5)


def test_a_shared_base_gives_the_same_losses_gradients_and_answers(tmp_path: Path) -> None:
    work_out("tests.shards_cases", tmp_path, processes=2)
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(2)]
    for ours, held in zip(said, [3, 2], strict=True):  # of five layers
        assert ours.pop("refusals") == [
            "FOLDER/pickled: has no safetensors, which sharing a base among GPUs wants; name another form of it",
            "FOLDER/cut: model.norm.weight is not in its weights (1 are missing); the base is damaged, or another version of it is wanted: see model.revision",
            "model.shard: the layers of this base are not quantised alike, so they cannot be shared among GPUs; name its 16-bit form, or one that is quantised throughout",
        ]  # fmt: skip
        assert list(ours) == ["4-llama", "16-gemma", "published-mistral"]
        for case in ours.values():
            assert case["held"] == held
            assert case["apart"] == {
                "kept": [0, 0, 70, True],
                "again": [0, 0, 70, True],
                "some again": [0, 0, 70, True],
            }
            assert case["answers"]
            assert len(set(case["lengths"])) > 2  # they end at different tokens, and nobody waits for ever
            assert case["empty"]
            assert case["adapters"]
            assert case["parameters"][0] == case["parameters"][1]
