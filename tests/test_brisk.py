"""The trainer that does not wait: it learns, logs and stops as the library's does, a step later."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.conftest import work_out


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What tests/brisk_cases.py finds."""
    pytest.importorskip("torch")
    result: dict[str, Any] = json.loads(work_out("tests.brisk_cases").splitlines()[-1])
    return result


@pytest.mark.parametrize("case", ["every step", "every third"])
def test_what_is_learned_and_logged_is_the_librarys(case: str, found: dict[str, Any]) -> None:
    library, ours = found[case]
    assert ours["weights"] == library["weights"]
    assert ours["losses"] == library["losses"]  # to the last digit
    assert ours["history"] == library["history"]
    assert [row["step"] for row in ours["losses"]] == (["3", "6"] if case == "every third" else list("1234567"))


def test_a_step_is_told_when_the_next_is_launched_or_somebody_looks(found: dict[str, Any]) -> None:
    library, ours = found["every step"]
    assert library["events"][:4] == ["step 1", "log 1", "step 2", "log 2"]
    assert ours["events"] == [
        "step 1", "step 2", "log 1", "log 2", "look 2",
        "step 3", "log 3", "save 3",
        "step 4", "log 4", "look 4",
        "step 5", "step 6", "log 5", "log 6", "look 6", "save 6",
        "step 7", "log 7", "look 7", "save 7", *library["events"][-1:],
    ]  # fmt: skip
    assert found["every third"][1]["events"] == [
        "step 1", "step 2", "step 3", "step 4", "log 3", "step 5", "step 6", "step 7", "log 6",
    ]  # fmt: skip


def test_a_loss_that_is_no_number_stops_and_names_its_rows(found: dict[str, Any]) -> None:
    library, ours = found["no number"]
    for said in (library, ours):
        assert said["failed"].startswith("the train loss is nan at step 4 (its rows: ")
    assert ours["bad"] == library["bad"]
    assert len(ours["bad"]["rows"]) == 4  # those of its two micro-batches, and not of the step after
    assert [row["step"] for row in ours["losses"]] == list("1234")
    assert math.isnan(float(ours["losses"][-1]["loss"]))
    assert ours["events"][-2:] == ["step 5", "log 4"]


def test_asking_for_what_is_already_so_goes_through_no_modules(found: dict[str, Any]) -> None:
    assert found["light"] == {
        "first": [True, True], "again": 1, "other": [False, False, False], "back": [True, True, True], "by hand": [True, True], "gradient": True, "behind": [],
    }  # fmt: skip


def test_a_head_that_is_told_what_is_learned_finds_what_trls_finds(found: dict[str, Any]) -> None:
    heads = found["heads"]
    assert heads["places"] == [3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17]
    assert heads["told"] == pytest.approx(heads["trl"], rel=1e-6)
    assert heads["not told"] == heads["behind"] == heads["trl"]
    assert heads["trl"][0] < 0 < min(heads["trl"][4:])
    assert heads["nothing"][0] == heads["nothing"][3] == 0
    assert set(heads["nothing"][4:]) == {0.0}  # gradients there are, for cards to add up
