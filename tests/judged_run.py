"""A command by several processes as on a card each, but on a CPU: they meet, and Unsloth answers in every one of them."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from medrecipes import cli, engines, ranks
from medrecipes.engines import Choice

choose_engine = engines.choose_engine


def chosen(*arguments: Any, processes: int, **others: Any) -> Choice:
    """As for one process: Unsloth trains on one card, but here it only answers."""
    return choose_engine(*arguments, processes=1, **others)


if __name__ == "__main__":
    ranks.join = lambda: torch.distributed.init_process_group("gloo")
    engines.choose_engine = chosen
    code = cli.main()
    sys.stdout.flush()
    os._exit(code)  # Unsloth, which trains in one process, sometimes does not survive the end of one of several
