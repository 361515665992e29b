"""Several processes that train together: who leads, what they tell each other, and how they are started.

The first of all (the leader) writes and speaks; the first of each machine prepares what the others wait for.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from medrecipes.core.errors import EngineError

T = TypeVar("T")
R = TypeVar("R")
PATIENCE = timedelta(hours=12)  # the leader may be evaluating the base while the others wait
GRACE_S = 600  # to finish the step and save it, when asked to stop
PRECEDENCE_S = 3


def size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this one among all."""
    return int(os.environ.get("RANK", "0"))


def leads() -> bool:
    """Whether this process writes and speaks."""
    return rank() == 0


def prepares() -> bool:
    """Whether this process makes what all on its machine need."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def join() -> None:
    """Take this process's GPU and meet the others."""
    if size() == 1:
        return
    import torch

    if not torch.cuda.is_available():
        raise EngineError(
            f"{size()} processes, but no NVIDIA GPU; several processes train on a GPU each, start one here"
        )
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)


def part() -> None:
    """Leave the others, all together."""
    if size() > 1:
        share(None)
        from torch.distributed import destroy_process_group

        destroy_process_group()


def alone() -> None:
    """Of several GPUs, let a process that trains by itself see the first alone; asked for before the GPUs are touched."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    if size() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[0]


def share(value: T) -> T:
    """The leader's value, for all."""
    if size() == 1:
        return value
    from torch.distributed import broadcast_object_list

    values = [value]
    broadcast_object_list(values, src=0)
    return values[0]


def gather(value: T) -> list[T]:
    """Everybody's value, for all, in order."""
    if size() == 1:
        return [value]
    from torch.distributed import all_gather_object

    values: list[Any] = [None] * size()
    all_gather_object(values, value)
    return values


def total(*counts: int) -> list[int]:
    """The sums of everybody's counts, for all; cheaper than to gather them."""
    if size() == 1:
        return list(counts)
    import torch

    sums = torch.tensor([int(count) for count in counts])
    torch.distributed.all_reduce(sums)
    return [int(count) for count in sums]


def spread(rows: Sequence[T], work: Callable[[list[T]], Sequence[R]]) -> list[R]:
    """What `work` makes of rows, a value a row, in order and for all; everybody does a share, and all shares are equal in size."""
    if size() == 1 or not rows:
        return list(work(list(rows)))
    whole = -(-len(rows) // size()) * size()
    # where they do not come out even, some do a row that another does as well: in step, nobody may do less
    values = gather(list(work([rows[i] if i < len(rows) else rows[0] for i in range(rank(), whole, size())])))
    return [values[i % size()][i // size()] for i in range(len(rows))]


def launch(command: Sequence[str], gpus: int) -> int:
    """Run this command of Python's on so many GPUs of this machine; the exit code of the first that failed."""
    # torchrun's own is half a minute, too little for a step of many tokens to be finished and saved; torch 2.12 on heeds it
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(GRACE_S))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or a mistake is followed by a warning of its consequences
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if gpus > (here := torch.cuda.device_count()):
        raise EngineError(f"--gpus {gpus}: this machine has {here}; ask for at most that many")
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=gpus, max_restarts=0, rdzv_backend="c10d", rdzv_endpoint="localhost:0"
    )
    before = logging.root.manager.disable
    logging.disable()  # what went wrong is said by the process that knows it
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException:
        return 130  # by which all have ended, and the leader has said so
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise EngineError(
                f"the process of GPU {number} was ended by {signal.Signals(-failure.exitcode).name}; if that was not you, "
                "main memory ran out: `dmesg` says so. The same command goes on from the last checkpoint"
            ) from None
        return int(failure.exitcode)
    finally:
        logging.disable(before)
    return 0


def let_the_leader_speak() -> None:
    """Wait for the leader to tell a mistake that all have met, which ends the others; go on where it met none."""
    if not leads():
        time.sleep(PRECEDENCE_S)
