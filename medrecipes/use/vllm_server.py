"""`medrecipes serve RUN --backend vllm`: vLLM's own server, with the arguments that a run asks for."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from medrecipes.core.extras import vllm_python
from medrecipes.core.notes import note
from medrecipes.evaluation.finished_run import Run, open_run
from medrecipes.recipe.schema import Recipe
from medrecipes.release.export.serving import vllm_arguments
from medrecipes.rendering.base_template import saved_template

MODULE = "vllm.entrypoints.openai.api_server"
MERGED = "merged-16bit"


def serve(path: Path, overrides: Sequence[str], name: str, host: str, port: int, key: str | None) -> None:
    """Become vLLM's server: signals and the exit code are its own from here on."""
    python = vllm_python()
    run = open_run(path).require_chat("which holds no conversation; tag")
    recipe = run.pinned(run.with_eval(overrides, "eval.temperature=0.7"))
    words = command(run, recipe, name, host, port)
    if system := recipe.template.system:
        note(
            f"vLLM does not add the system message that the run was trained with; send it with each conversation: {system}"
        )
    if key is not None:
        os.environ["VLLM_API_KEY"] = key  # as an argument every user of this machine could read it
    print(f"starting {' '.join(words)}", flush=True)
    sys.stdout.flush()
    os.execvp(python, [python, *words])


def command(run: Run, recipe: Recipe, name: str, host: str, port: int) -> list[str]:
    """What Python is called with: merged weights where the run has exported them, else the adapter on its base."""
    merged = run.path / "export" / MERGED
    base = run.base(recipe)
    if (merged / "export.json").exists():
        kind, folder = MERGED, merged
    else:
        kind, folder = "adapter", run.adapter()
    template = saved_template(recipe, run.adapter())
    model, *options = vllm_arguments(kind, recipe, template, base, name, str(folder.resolve()))
    # a base that the run loaded in 4 bits, and that is not quantised on disk, is quantised as it is loaded
    if kind == "adapter" and recipe.model.bits == 4 and not base.config.get("quantization_config"):
        options += ["--quantization", "bitsandbytes"]
    return [
        "-m", MODULE, "--model", model, *options, "--max-model-len", str(recipe.data.max_tokens), "--dtype", "auto",
        "--host", host, "--port", str(port),
    ]  # fmt: skip
