"""Out of memory for real: under a limit that a batch does not fit into, training ends as if it had been smaller."""

from __future__ import annotations

import gc

import pytest

from tests.conftest import Train, need_gpus, rendered_rows

pytestmark = pytest.mark.cuda

SETTINGS = (
    "train.packing=true", "data.max_tokens=1024", "train.batch=8", "train.max_steps=3", "train.learning_rate=1e-3",
    "train.optim=adamw_torch", "train.checkpointing=false", "train.precision=bf16",
)  # fmt: skip


def test_a_card_that_is_too_small_gets_a_smaller_micro_batch(train: Train) -> None:
    need_gpus(1)
    import torch

    from medrecipes.runs.folder import RunDir, read_losses

    examples = rendered_rows(1024)

    def trained(micro_batch: int) -> tuple[int, RunDir, list[float], int]:
        """The memory that training took besides what was held before, the run, its losses, and its micro-batch."""
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_reserved()
        engine, rundir, _ = train(*SETTINGS, f"train.micro_batch={micro_batch}", examples=examples)
        losses = [float(row["loss"]) for row in read_losses(rundir.path / "loss.csv")]
        return torch.cuda.max_memory_reserved() - held, rundir, losses, engine.choices["micro_batch"].value

    trained(1)  # what a first run allocates once and for all
    most, _, _, _ = trained(8)
    least, _, expected, _ = trained(2)
    assert most > 1.5 * least
    gc.collect()
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved() + (most + least) // 2
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    try:
        _, rundir, losses, micro_batch = trained(8)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert micro_batch < 8
    assert rundir.state["out_of_memory"][0]["micro_batch"] == 8
    assert rundir.state["out_of_memory"][-1]["now"] == micro_batch
    assert losses == pytest.approx(expected, abs=5e-3)
