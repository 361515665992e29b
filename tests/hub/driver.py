"""Delivers releases as `medrecipes publish` does, a list of jobs a line from standard input, all jobs of a line at once.

A process of its own, for the client reads HF_ENDPOINT when it is imported; one process for all, for that takes seconds.
Its clock is hurried: what the client and the project do between two attempts is what they always do, only sooner.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError
from medrecipes.release.publish.delivery import Target, deliver, same_bytes

HURRY = 20  # seconds of waiting that pass in one


def push(job: dict[str, Any]) -> dict[str, Any]:
    """One delivery, read back; what came of it."""
    folder = Path(job["folder"])
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        target = Target(**job["target"])
        done = deliver(target, files, "the new release", Console())
        with tempfile.TemporaryDirectory() as back:
            same_bytes(target, done, files, Path(back))
    except MedRecipesError as error:
        return {"error": str(error)}
    return {"commit": done.commit, "pushed": done.pushed, "revision": done.revision, "foreign": done.foreign}


def main() -> None:
    out, sleep = sys.stdout, time.sleep
    time.sleep = lambda seconds: sleep(seconds / HURRY)
    sys.stdout = sys.stderr  # what is said while waiting is not an outcome
    for line in sys.stdin:
        with ThreadPoolExecutor(64) as threads:
            print(json.dumps(list(threads.map(push, json.loads(line)))), file=out, flush=True)


if __name__ == "__main__":
    main()
