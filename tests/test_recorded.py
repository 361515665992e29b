"""Recorded steps against the same steps launched kernel by kernel. The sizes are proved on any machine, the rest on a card."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What tests/recorded_cases.py finds."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA card")
    done = subprocess.run([sys.executable, "-m", "tests.recorded_cases"], cwd=ROOT, capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.cuda
def test_what_is_played_is_what_would_be_launched(found: dict[str, Any]) -> None:
    for case, apart in found["cases"].items():
        print(case, apart)
        assert apart["plays"] > 20, case
        assert apart["learned"] > 0.1, case  # weights that are updated are the ones that are played
        assert apart["losses"] < 0.02, case
        assert apart["gradients"] < 0.05, case


@pytest.mark.cuda
def test_a_recording_that_differs_is_told_and_not_used(found: dict[str, Any]) -> None:
    [told] = found["differing"]["told"]
    assert re.fullmatch(r"what was played lay \d+\.\d% from the step that it was recorded from", told)
    assert 0 < found["differing"]["loss"] < 10


def a_step(size: int) -> tuple[Any, ...]:
    import torch

    from medrecipes.engines.attention import Rows

    return (
        torch.zeros(1, size, 4),
        torch.zeros(1, size, 2),
        torch.zeros(1, size, 2),
        Rows(torch.tensor([0, size]), size),
    )


def test_recordings_hold_no_more_than_they_may(monkeypatch: pytest.MonkeyPatch, libraries: None) -> None:
    import torch

    from medrecipes.engines import recorded

    class Take:
        def __init__(self, layers: Any, inputs: Any, longest: int, gradients: Any, pool: Any, *, needs_x: bool) -> None:
            self.held = 1e6 * longest

    monkeypatch.setattr(recorded, "_Take", Take)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 1)
    monkeypatch.setattr(recorded.Recorded, "most", 0)
    records = recorded.Recorded([], allowed=1.5 * 4096e6, tell=print)
    made = [records._record(*a_step(size)) is not None for size in (2048, 3072, 2048, 1024, 128, 128)]
    assert made == [True, True, False, True, False, False]
    assert recorded.Recorded.most == 6144e6 == 1.5 * 4096e6


def test_where_recording_fails_it_is_told_and_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, libraries: None
) -> None:
    import torch

    from medrecipes.engines import recorded

    told, errors = (
        list[str](),
        [RuntimeError("CUDA error: operation not permitted\nmore"), torch.cuda.OutOfMemoryError()],
    )

    def fail(*_: Any, **__: Any) -> None:
        raise errors[0]

    monkeypatch.setattr(recorded, "_Take", fail)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 1)
    records = recorded.Recorded([], allowed=1e12, tell=told.append)
    assert records._record(*a_step(1024)) is None
    assert told == ["CUDA error: operation not permitted"]
    x, *rest = a_step(1000)
    assert records(x, *rest) is x  # as it is, not filled up
    errors.pop(0)
    with pytest.raises(torch.cuda.OutOfMemoryError):  # which is for a smaller micro-batch to mend
        recorded.Recorded([], allowed=1e12, tell=told.append)._record(*a_step(1024))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("played", "recorded_from", "differs"),
    [
        ([[1.0, 2.0], [3.0]], [[1.0, 2.01], [3.0]], ""),
        ([[1.0, 2.0], [0.0]], [[1.0, 2.0], [0.0]], ""),  # an update that begins at zero has no gradient
        ([[1.0, 2.0], [3.3]], [[1.0, 2.0], [3.0]], "what was played lay 10.0% from the step that it was recorded from"),
        ([[float("nan"), 2.0], [3.0]], [[1.0, 2.0], [3.0]], "what was played lay nan% "),
        ([[float("inf"), 2.0], [3.0]], [[float("inf"), 2.0], [3.0]], ""),  # half precision ran over, here and there
    ],
)
def test_what_is_played_is_held_against_what_was_recorded(
    played: list[list[float]], recorded_from: list[list[float]], differs: str, libraries: None
) -> None:
    import torch

    from medrecipes.engines import recorded

    take = object.__new__(recorded._Take)
    take.forth = take.back = SimpleNamespace(replay=lambda: None)  # type: ignore[assignment]
    take.out, *take.gradients = map(torch.tensor, played)
    expected = [torch.tensor(values) for values in recorded_from]
    if not differs:
        take._prove(expected)
        return
    with pytest.raises(RuntimeError, match=f"^{differs}"):
        take._prove(expected)


def test_sizes_are_few_and_near() -> None:
    pytest.importorskip("torch")
    from medrecipes.engines.recorded import filled
    from medrecipes.plan import FILLED, RECORDED

    sizes = [filled(tokens) for tokens in range(1, RECORDED + 1)]
    assert all(tokens <= size for tokens, size in enumerate(sizes, 1))
    assert len(set(sizes)) == 24
    assert max(sizes) == RECORDED
    likely = range(512, RECORDED + 1)
    assert sum(map(filled, likely)) / sum(likely) == pytest.approx(FILLED, abs=0.03)
