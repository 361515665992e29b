"""The loop in one file: it learns, and what it trains on is what the library trains on."""

from __future__ import annotations

import json

from tests.conftest import work_out


def test_the_minimal_example_learns_from_the_ids_and_labels_of_the_library() -> None:
    found = json.loads(work_out("tests.minimal_cases").splitlines()[-1])
    assert found["rows"] == 327
    assert found["same"] == 327
    assert found["shared subjects"] == 0
    assert found["after"] < found["before"] - 0.05
    assert found["lines"] < 200
