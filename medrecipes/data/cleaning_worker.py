"""The second process of a large cleaning: makes every second shard of a dataset, and ends with the process that began it."""

from __future__ import annotations

import os
import pickle
import sys

from medrecipes.core.errors import MedRecipesError
from medrecipes.data.cleaned import make_shards


def main() -> None:
    """Make the shards that standard input names; whoever began it looks at the shards, and tells what is wrong with the data."""
    parent = os.getppid()

    def stop_if_left() -> None:
        if os.getppid() != parent:
            raise SystemExit(1)

    try:
        make_shards(pickle.load(sys.stdin.buffer), stop_if_left)
    except MedRecipesError:
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
