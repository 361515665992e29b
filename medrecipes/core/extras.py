"""How the libraries of an extra are installed: never by a name of this package that an index may give to somebody else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import sys

from medrecipes.core.errors import EngineError
from medrecipes.core.resources import PACKAGE

VLLM = "MEDRECIPES_VLLM"  # the Python of an environment that has vLLM, whose pins rarely go with ours


def install(extra: str) -> str:
    """What to type: in a checkout for its own extra, elsewhere for what the extra asks for."""
    if (PACKAGE.parent / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]'"
    asked = [text.partition(";") for text in importlib.metadata.requires("medrecipes") or ()]
    named = [what.strip() for what, _, when in asked if re.search(rf"extra == ['\"]{extra}['\"]", when)]
    return f"pip install {shlex.join(named)}"


def vllm_python() -> str:
    """The Python that has vLLM: the one that MEDRECIPES_VLLM names, or this one; raises where there is none."""
    if named := os.environ.get(VLLM):
        if shutil.which(named) is None:
            raise EngineError(f"{VLLM}={named}: is no program; name the python of an environment that has vLLM")
        return named
    if importlib.util.find_spec("vllm") is None:
        raise EngineError(f"vllm is not installed here; install it into an environment of its own (python -m venv vllm; vllm/bin/pip install vllm) and set {VLLM}=vllm/bin/python")  # fmt: skip
    return sys.executable
