"""Look at what a run needs of this machine: GPU, driver, stack, memory, disk, Hub; with what to do."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from medrecipes.commands import _options as options

EXAMPLE = """example:
  medrecipes doctor
  medrecipes doctor --json"""


def add(parser: argparse.ArgumentParser) -> None:
    """What can be typed."""
    options.runs(parser)
    options.as_json(parser)


def do(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 where no run would get far."""
    from medrecipes.core.console import Console
    from medrecipes.core.notes import labelled
    from medrecipes.pipeline.doctor import examine

    console, found = Console(), []
    for finding in examine(arguments.runs):
        found.append(finding)
        if not arguments.json:
            mark = "!" if finding.stops else "?" if finding.cure else " "
            console.line(labelled(f"{mark} {finding.what}", str(finding)))
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
        return int(any(finding.stops for finding in found))
    if worst := [finding.what for finding in found if finding.stops]:
        console.line(labelled("result", f"no run would get far before this is mended: {', '.join(dict.fromkeys(worst))}"))  # fmt: skip
    else:
        console.line(labelled("result", "ready; `medrecipes run demo` tries it all"))
    return int(bool(worst))
