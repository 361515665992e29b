"""What `medrecipes run --gpus 2` starts, without GPUs and in place of a run: two processes that end in one way or another."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

from medrecipes import commands
from medrecipes.commands import check
from medrecipes.core import processes
from medrecipes.core.errors import EngineError

HOW, FOLDER = sys.argv[1], Path(sys.argv[2])


def start(_: argparse.Namespace) -> int:
    """As on a machine with two cards."""
    import torch

    torch.cuda.device_count = lambda: 2
    try:
        return processes.launch(["-m", "tests.launched_cases", HOW, str(FOLDER)], 2)
    finally:
        assert logging.root.manager.disable == logging.NOTSET, "of all that this process logs from now on"


def end(_: argparse.Namespace) -> int:
    """As one of the two."""
    if HOW == "asked":
        asked: list[int] = []
        signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
        (FOLDER / f"waits-{processes.rank()}").touch()
        while not asked:
            time.sleep(0.02)
        time.sleep(0.5)  # the step is finished and saved
        (FOLDER / f"saved-{processes.rank()}").touch()
        raise KeyboardInterrupt
    if HOW == "all":
        raise EngineError("all have met it")
    if not processes.leads():
        if HOW == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise EngineError("GPU 1 alone has met it")
    time.sleep(100)  # which waits for the other
    return 0


if __name__ == "__main__":
    check.do = start if processes.size() == 1 else end  # type: ignore[assignment]
    sys.exit(commands.main(["check", "-"]))
