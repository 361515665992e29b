"""Out of memory: halved micro-batches train as if they had been so small from the beginning, and nothing done is lost."""

from __future__ import annotations

import ast
import importlib.util
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecipes.core.errors import EngineError
from medrecipes.rendering.chat_template import Example
from medrecipes.runs.folder import RunDir, read_losses
from tests.conftest import ENGINE, Train

SETTINGS = (
    "train.batch=8",
    "train.max_steps=8",
    "train.save_steps=2",
    "train.eval_steps=20",
    "train.learning_rate=1e-2",
)


class Memory:
    """A GPU of a CPU: a training batch of more than `tokens` does not fit, once `step` micro-batches did."""

    def __init__(self, tokens: int, since: int = 0) -> None:
        self._tokens, self._since, self.refused = tokens, since, 0

    def __call__(self, engine: Any) -> None:
        engine.model.register_forward_pre_hook(self._allocate, with_kwargs=True)

    def _allocate(self, model: Any, _: Any, inputs: dict[str, Any]) -> None:
        if not model.training or not torch.is_grad_enabled():  # what is proved before a step keeps nothing
            return
        self._since -= 1
        if self._since < 0 and inputs["input_ids"].numel() > self._tokens:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


class Heard:
    """A console that remembers."""

    def __init__(self) -> None:
        from medrecipes.core.console import Console

        self._console, self.lines = Console(), list[str]()

    def line(self, text: str = "") -> None:
        self.lines.append(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._console, name)


def losses(rundir: RunDir) -> list[tuple[str, ...]]:
    return [tuple(row[c] for c in ("step", "split", "loss", "grad_norm", "tokens")) for row in read_losses(rundir.path / "loss.csv")]  # fmt: skip


def learned(seen: Sequence[dict[str, Any]]) -> list[Any]:
    return [batch["input_ids"] for batch in seen if "labels" in batch]


def weights(engine: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in engine.model.named_parameters() if p.requires_grad}


def longest(rows: Sequence[Example]) -> int:
    return max(len(row.input_ids) for row in rows)


def same(one: Any, other: Any) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_it_trains_as_if_the_micro_batch_had_been_small_from_the_beginning(train: Train, rows: list[Example]) -> None:
    memory, heard = Memory(2 * longest(rows)), Heard()
    halved, rundir, seen = train(*SETTINGS, "train.micro_batch=8", dev=rows[:2], before=memory, console=heard)
    small, expected, wanted = train(*SETTINGS, "train.micro_batch=2", dev=rows[:2])
    assert memory.refused == 2
    assert learned(seen)[memory.refused :] == learned(wanted)
    assert losses(rundir) == losses(expected)
    assert [row[:2] for row in losses(rundir)] == [
        ("0", "dev"),
        *((str(step), "train") for step in range(1, 9)),
        ("8", "dev"),
    ]
    assert same(halved, small)
    said = [line for line in heard.lines if "out of memory" in line]
    assert said == [
        "memory           out of memory: the micro-batch is now 4 instead of 8, the batch stays 8; it goes on from the beginning",
        "memory           out of memory: the micro-batch is now 2 instead of 4, the batch stays 8; it goes on from the beginning",
    ]
    assert rundir.state["out_of_memory"] == [{"micro_batch": 8, "now": 4}, {"micro_batch": 4, "now": 2}]
    assert str(halved.choices["micro_batch"]) == "2 (halved when the GPU's memory ran out)"


def test_what_was_saved_before_is_not_done_again(train: Train, rows: list[Example]) -> None:
    memory, heard = Memory(longest(rows), since=5), Heard()  # five steps of one micro-batch each, the last saved is 4
    _, rundir, seen = train(*SETTINGS, "train.micro_batch=8", before=memory, console=heard)
    assert memory.refused > 0
    said = [line for line in heard.lines if "out of memory" in line]
    assert said[-memory.refused].endswith("the batch stays 8; it goes on from checkpoint-4")
    assert "resumed          from step 4 of 8" in heard.lines
    assert rundir.state["resumed_from_step"] == 4
    _, expected, wanted = train(*SETTINGS, "train.micro_batch=1")
    # steps 1 to 4, an epoch of 30 rows, by eight; then row by row: in all, the same rows in the same order
    done = 5 + memory.refused
    assert learned(seen)[done:] == learned(wanted)[30:]
    found, wished = losses(rundir), losses(expected)
    assert [(row[0], row[4]) for row in found] == [(row[0], row[4]) for row in wished]
    assert [float(row[2]) for row in found] == pytest.approx([float(row[2]) for row in wished], abs=2e-3)


def test_a_batch_that_two_does_not_divide_is_kept_whole(train: Train, rows: list[Example]) -> None:
    memory = Memory(3 * longest(rows))
    _, rundir, seen = train("train.batch=9", "train.max_steps=2", "train.micro_batch=9", before=memory)
    assert rundir.state["out_of_memory"] == [{"micro_batch": 9, "now": 3}]
    assert [len(batch) for batch in learned(seen)[memory.refused :]] == [3] * 6


@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_with_one_row_at_a_time_it_is_an_error_that_says_what_to_do(
    checkpointing: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(EngineError) as error:
        train(*SETTINGS, "train.micro_batch=2", f"train.checkpointing={checkpointing}", before=Memory(1), rundir=RunDir(tmp_path))  # fmt: skip
    how = (
        "and checkpointing on;" if checkpointing == "true" else "and checkpointing off; set train.checkpointing = true,"
    )
    assert str(error.value) == (
        f"out of memory with one row at a time {how} lower data.max_tokens, or choose a smaller base "
        f"(`medrecipes plan {tmp_path}/recipe.toml` says what fits)"
    )


def test_before_it_gives_up_all_layers_are_computed_again(tmp_path: Path) -> None:
    from medrecipes.engines import Choice
    from medrecipes.engines.trainer.attempt import Running, within_memory
    from medrecipes.recipe.schema import Recipe

    rundir, heard, model = RunDir(tmp_path), Heard(), torch.nn.Linear(2, 2)
    tried, begun, asked, choices = list[int](), list[Any](), list[bool](), dict[str, Choice]()

    def attempt(micro_batch: int) -> dict[str, Any]:
        tried.append(micro_batch)
        begun.append(model.weight.tolist())
        torch.nn.init.ones_(model.weight)
        if not asked:
            raise torch.cuda.OutOfMemoryError
        return {}

    def recompute() -> str:
        asked.append(True)
        return "all layers" if len(asked) == 1 else ""

    run = Running(Recipe(), rundir, heard, choices, torch.device("cpu"))  # type: ignore[arg-type]
    within_memory(attempt, model, 2, False, run, recompute)
    assert tried == [2, 1, 1]
    assert begun[0] == begun[1] == begun[2] != model.weight.tolist()
    assert heard.lines == [
        "memory           out of memory: the micro-batch is now 1 instead of 2, the batch stays 8; it goes on from the beginning",
        "memory           out of memory: gradient checkpointing in all layers from now on; it goes on from the beginning",
    ]
    assert str(choices["checkpointing"]) == "all layers (more was kept until the GPU's memory ran out)"

    def never(_: int) -> dict[str, Any]:
        raise torch.cuda.OutOfMemoryError

    asked.clear()
    with pytest.raises(
        EngineError, match=r"^out of memory with one row at a time and checkpointing on; lower data\.max"
    ):
        within_memory(never, model, 1, False, run, recompute)


def test_of_one_row_at_a_time_half_as_many_layers_are_kept_until_it_fits(
    train: Train, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrecipes.engines.choices import Setting
    from medrecipes.engines.trainer import chat

    monkeypatch.setattr(chat, "choose_setting", lambda *_, **__: Setting("flat", True, 1, 0, decode_once=False))
    settings = ("train.max_steps=2", "train.batch=2", "model.bits=16")
    few = rows[:8]
    _, wanted, _ = train(*settings, examples=few)
    short = list[int]()

    def refuse(engine: Any) -> None:
        def allocate(model: Any, *_: Any) -> None:
            if model.training and torch.is_grad_enabled() and len(short) < 2:
                short.append(1)
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        engine.model.register_forward_pre_hook(allocate)

    engine, rundir, _ = train(*settings, examples=few, before=refuse)
    layers = engine.model.config.num_hidden_layers
    assert len(rundir.state["out_of_memory"]) == 2
    kept = layers // 2 // 2
    said = f"{layers - kept} of {layers} layers" if kept else "all layers"
    assert str(engine.choices["checkpointing"]) == f"{said} (more was kept until the GPU's memory ran out)"
    assert losses(rundir) == losses(wanted)


def its_own(*names: str, **known: Any) -> dict[str, Any]:
    """Functions of Unsloth's that a machine without a GPU cannot import, for triton that stands beside them."""
    spec = importlib.util.find_spec("unsloth")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / "models" / "_utils.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    space: dict[str, Any] = {"os": os, **known}
    exec(compile(tree, "unsloth", "exec"), space)
    return space


def test_under_unsloth_too_all_layers_are_computed_again(train: Train, rows: list[Example]) -> None:
    if ENGINE != "unsloth":
        pytest.skip("it is Unsloth's own mark that is taken off")
    from medrecipes.engines.unsloth import recompute

    engine, _, _ = train("train.max_steps=1", "train.checkpointing=true", examples=rows[:8])
    layers = engine.model.get_base_model().get_decoder().layers
    kind, usual = type(layers[0]), vars(type(layers[0])).copy()
    for layer in layers:
        layer.gradient_checkpointing = True
    assert not recompute(engine.model)  # they do already
    skip = its_own(
        "skip_checkpointing", "_skip_aware_flag", "_gc_keep_layers_env", find_decoder_layers=lambda _: layers
    )
    try:
        assert len(skip["skip_checkpointing"](engine.model, 1)) == 1
        assert [layer.gradient_checkpointing for layer in layers].count(False) == 1
        assert recompute(engine.model)
        assert all(layer.gradient_checkpointing for layer in layers)
        assert not recompute(engine.model)
    finally:  # other tests train layers of this kind
        for name in ("gradient_checkpointing", "_unsloth_skip_aware"):
            delattr(kind, name)
            if name in usual:
                setattr(kind, name, usual[name])


def test_the_peak_is_that_of_the_training_and_of_its_last_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.engines.kernels.cuda_graphs import Recorded
    from medrecipes.engines.trainer.callbacks import count_peak_anew, peak_gb

    cpu, held = torch.device("cpu"), mmap.mmap(-1, 600_000_000)  # as the base's answers may have taken
    held.write(b"x" * len(held))
    before = peak_gb(cpu)
    held.close()
    assert peak_gb(cpu) == before
    count_peak_anew(cpu)
    assert peak_gb(cpu) < before - 0.5

    # a GPU's counters are torch's own, and what CUDA graphs held is ours
    counted = {"max": 5_000_000_000}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: counted["max"])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: counted.update(max=2_000_000_000))
    monkeypatch.setattr(Recorded, "most", 1_000_000_000)
    gpu = torch.device("cuda", 0)
    assert peak_gb(gpu) == 6
    count_peak_anew(gpu)
    assert peak_gb(gpu) == 2


def test_each_attempt_counts_its_peak_anew(train: Train, rows: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    from medrecipes.engines.trainer import attempt

    counted: list[str] = []
    monkeypatch.setattr(attempt, "count_peak_anew", lambda device: counted.append(device.type))
    memory = Memory(2 * longest(rows))
    train(*SETTINGS, "train.micro_batch=8", before=memory)
    assert len(counted) == memory.refused + 1 == 3
