"""The harness of the attacks itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.attack.harness import attack, fingerprint, limited, refused


def test_a_mistake_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    before = fingerprint(tmp_path)
    refused(attack("show", "absent.toml", cwd=tmp_path), "absent.toml")
    assert fingerprint(tmp_path) == before
    (tmp_path / "mine" / "thesis.txt").write_text("gone")
    assert fingerprint(tmp_path) != before


def test_a_hang_is_found() -> None:
    with pytest.raises(AssertionError, match="hangs"), limited(1):
        time.sleep(5)
