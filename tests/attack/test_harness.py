"""The harness of the attacks itself."""

from __future__ import annotations

import io
import logging
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


def test_what_another_test_left_of_its_logs_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """transformers logs to what stderr was when a test first imported it, which pytest closes behind that test."""
    handler = logging.StreamHandler(io.TextIOWrapper(io.BytesIO()))
    handler.flush = handler.stream.flush  # type: ignore[method-assign] # as transformers does it
    handler.stream.close()
    logger = logging.getLogger("some.library")
    monkeypatch.setattr(logger, "handlers", [handler])
    attack("show", "absent.toml", cwd=tmp_path)
    assert not handler.stream.closed
    capsys.readouterr()
    logger.warning("goes to the stderr of the test session, where nobody takes it for a command's")
    assert capsys.readouterr().err == ""  # where logging would report that the stream is closed


def spin(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_a_hang_is_found() -> None:
    for hang in (time.sleep, spin):  # that waits, that works
        with pytest.raises(AssertionError, match="hangs"), limited(0.25):
            hang(15)


def test_a_busy_machine_is_no_hang() -> None:
    with limited(0.25):
        time.sleep(0.5)
