"""Recorded steps against the same steps launched kernel by kernel. The sizes are proved on any machine, the rest on a GPU."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from medrecipes.engines.plan.pace import FILLED, OCTAVES, Graphs, filled, sizes
from tests.conftest import need_gpus, work_out


def find(gpus: int) -> dict[str, Any]:
    """What tests/recorded_cases.py finds on so many GPUs."""
    need_gpus(gpus)
    result: dict[str, Any] = json.loads(work_out("tests.recorded_cases", processes=gpus).splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return find(1)


@pytest.mark.cuda
@pytest.mark.parametrize("gpus", [1, 2])
def test_what_is_played_is_what_would_be_launched(gpus: int, request: pytest.FixtureRequest) -> None:
    cases = request.getfixturevalue("found")["cases"] if gpus == 1 else find(2)["cases"]
    assert len(cases) == 4 * gpus
    for case, apart in cases.items():
        print(case, apart)
        assert apart["replays"] > 20, case
        assert apart["learned"] > 0.1, case  # weights that are updated are the ones that are replayed
        assert apart["losses"] < 0.02, case
        assert apart["gradients"] < 0.05, case


@pytest.mark.cuda
def test_a_recording_that_differs_is_told_and_not_used(found: dict[str, Any]) -> None:
    [told] = found["differing"]["told"]
    assert re.fullmatch(r"what was replayed lay \d+\.\d% from the step that it was captured from", told)
    assert 0 < found["differing"]["loss"] < 10


@pytest.mark.cuda
def test_what_does_not_fit_is_told_and_training_goes_on(found: dict[str, Any]) -> None:
    assert found["no_room"]["told"] == ["they do not fit beside all else"]
    assert 0 < found["no_room"]["loss"] < 10


@pytest.mark.cuda
def test_all_sizes_share_one_room(found: dict[str, Any]) -> None:
    print(found["room"])
    assert found["room"]["first"] >= 1
    assert (
        found["room"]["last"] < 1.6
    )  # sixteen sizes; by themselves they would take eight and a half times the largest


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("CUDA error: operation not permitted\nmore"), "CUDA error: operation not permitted"),
        ("memory", "they do not fit beside all else"),
    ],
)
def test_where_recording_fails_it_is_told_and_training_goes_on(
    error: Any, why: str, monkeypatch: pytest.MonkeyPatch, libraries: None
) -> None:
    import torch

    from medrecipes.engines.kernels import cuda_graphs
    from medrecipes.engines.kernels.varlen_attention import Rows

    def fail(*_: Any, **__: Any) -> None:
        raise torch.cuda.OutOfMemoryError if error == "memory" else error

    told = list[str]()
    monkeypatch.setattr(cuda_graphs, "_Studio", fail)
    records = cuda_graphs.Recorded([], lambda: None, graphs=Graphs(4096, 8, 6), room=1e12, tell=told.append)
    x, cos, sin = torch.zeros(1, 1000, 4), torch.zeros(1, 1000, 2), torch.zeros(1, 1000, 2)
    rows = Rows(torch.tensor([0, 1000]), 1000)
    assert records(x, cos, sin, rows).shape == x.shape
    records._record((), x, cos, sin, rows)
    assert told == [why]
    assert records(x, cos, sin, rows) is x  # as it is, not filled up


@pytest.mark.parametrize(
    ("played", "recorded_from", "differs"),
    [
        ([[1.0, 2.0], [3.0]], [[1.0, 2.01], [3.0]], ""),
        ([[1.0, 2.0], [0.0]], [[1.0, 2.0], [0.0]], ""),  # an update that begins at zero has no gradient
        (
            [[1.0, 2.0], [3.3]],
            [[1.0, 2.0], [3.0]],
            "what was replayed lay 10.0% from the step that it was captured from",
        ),
        # a gradient that matters little may be noise, but not all of it
        ([[1.0], [300.0, 0.0], [1.2, 0.0]], [[1.0], [300.0, 0.0], [1.0, 0.0]], ""),
        ([[1.0], [300.0, 0.0], [0.0, 1.0]], [[1.0], [300.0, 0.0], [1.0, 0.0]], "what was replayed lay 141.4% "),
        ([[float("nan"), 2.0], [3.0]], [[1.0, 2.0], [3.0]], "what was replayed lay nan% "),
        ([[float("inf"), 2.0], [3.0]], [[float("inf"), 2.0], [3.0]], ""),  # half precision ran over, here and there
    ],
)
def test_what_is_played_is_held_against_what_was_recorded(
    played: list[list[float]], recorded_from: list[list[float]], differs: str, libraries: None
) -> None:
    import torch

    from medrecipes.engines.kernels import cuda_graphs

    take = object.__new__(cuda_graphs._Take)
    take.forth = take.back = SimpleNamespace(replay=lambda: None)  # type: ignore[assignment]
    take.out, *take.gradients = map(torch.tensor, played)
    expected = [torch.tensor(values) for values in recorded_from]
    if not differs:
        take._prove(expected)
        return
    with pytest.raises(RuntimeError, match=f"^{differs}"):
        take._prove(expected)


def test_gradients_of_micro_batches_add_up_whoever_made_them(libraries: None) -> None:
    """One replayed, one replayed on top, a capture in between that writes over the places, and one that was launched."""
    import torch

    from medrecipes.engines.kernels import cuda_graphs

    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    studio = object.__new__(cuda_graphs._Studio)
    studio.weights, studio.gradients = weights, [torch.zeros_like(weight) for weight in weights]
    take = object.__new__(cuda_graphs._Take)
    take.weights, take.gradients = studio.weights, studio.gradients

    def work() -> None:
        for place, value in zip(studio.gradients, ([1.0, 2.0], [3.0]), strict=True):
            place.copy_(torch.tensor(value))

    take.back = SimpleNamespace(replay=work)  # type: ignore[assignment]
    for times in (1, 2):
        take.learn()
        assert [weight.grad.tolist() for weight in weights if weight.grad is not None] == [
            [times, 2 * times],
            [3 * times],
        ]
    studio.part()
    work()
    assert [weight.grad.tolist() for weight in weights if weight.grad is not None] == [[2, 4], [6]]
    (weights[0].sum() + weights[1].sum()).backward()  # type: ignore[no-untyped-call]
    take.learn()
    assert [weight.grad.tolist() for weight in weights] == [[4, 7], [10]]
    for weight in weights:
        weight.grad = None
    take.learn()
    assert [weight.grad.tolist() for weight in weights if weight.grad is not None] == [[1, 2], [3]]


def test_a_process_that_was_started_as_one_of_several_leaves_its_gradients_to_autograd(
    monkeypatch: pytest.MonkeyPatch, libraries: None
) -> None:
    import torch

    from medrecipes.engines.kernels import cuda_graphs

    for several in (False, True):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: several)  # noqa: B023 - asked at once
        records = cuda_graphs.Recorded([], lambda: None, graphs=Graphs(4096, 8, 6), room=1e9, tell=print)
        assert records._alone is not several


def test_a_row_that_fills_a_size_up_is_no_longer_than_attention_is_launched_for() -> None:
    for octave in OCTAVES:
        graphs = Graphs(16384, octave, 1, longest=300)
        for tokens in range(1, 16385, 7):
            size = graphs.filled(tokens)
            assert size - tokens <= graphs.longest_row(size) <= size
            assert graphs.longest_row(size) >= min(300, size)


@pytest.mark.parametrize(("octave", "many"), zip(OCTAVES, (24, 16, 10, 6), strict=True))
def test_sizes_are_few_and_near(octave: int, many: int) -> None:
    found = list(sizes(4096, octave))
    fill = Graphs(4096, octave, 1).filled
    assert [fill(tokens) for tokens in found] == found
    assert all(fill(tokens) in found and fill(tokens) >= tokens for tokens in range(1, 4097))
    assert (len(found), max(found)) == (many, 4096)
    likely = [round(512 * 2 ** (n / 100)) for n in range(300)]  # as likely within an octave as in another
    mean = sum(filled(tokens, octave) / tokens for tokens in likely) / len(likely)
    assert mean == pytest.approx(1 + FILLED / octave, abs=0.03)
