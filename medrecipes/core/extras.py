"""How the libraries of an extra are installed: never by a name of this package that an index may give to somebody else."""

from __future__ import annotations

import importlib.metadata
import re
import shlex

from medrecipes.core.resources import PACKAGE


def install(extra: str) -> str:
    """What to type: in a checkout for its own extra, elsewhere for what the extra asks for."""
    if (PACKAGE.parent / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]'"
    asked = [text.partition(";") for text in importlib.metadata.requires("medrecipes") or ()]
    named = [what.strip() for what, _, when in asked if re.search(rf"extra == ['\"]{extra}['\"]", when)]
    return f"pip install {shlex.join(named)}"
