"""Answers by vLLM, where the recipe asks for it: the same prompts by ids, stop tokens, limits and decoding, in a process of its own.

vLLM pins its own libraries, so it runs in whatever environment `MEDRECIPES_VLLM` names. It loads the base a second time,
beside the one that trains, and is given what the GPU has free then; where that is too little, leave eval.backend out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medrecipes.core import processes
from medrecipes.core.errors import EngineError
from medrecipes.core.extras import vllm_python
from medrecipes.core.files import read_json, write_json
from medrecipes.engines import Decoding
from medrecipes.engines.bases import Base
from medrecipes.engines.generation.sampling import row_seed
from medrecipes.recipe.schema import Recipe

WORKER = Path(__file__).with_name("vllm_worker.py")
BESIDE = 1.5e9  # bytes of the GPU that stay free for what another process has besides its weights and cache
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the limits that vLLM knows
SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class Answers:
    """What vLLM answered, and by which version."""

    ids: list[list[int]]
    version: str


def require(recipe: Recipe, device: torch.device) -> str:
    """The Python that has vLLM; raises where it is missing, or would not answer with the base as the recipe loads it."""
    if processes.size() > 1:
        raise EngineError(
            f"eval.backend = 'vllm' answers in one process, and {processes.size()} were started; leave it out"
        )
    if recipe.lora.use_dora:
        raise EngineError("eval.backend = 'vllm': vLLM has no DoRA; leave it out, or set lora.use_dora = false")
    if recipe.model.bits == 8 or (recipe.model.bits == 4 and device.type == "cpu"):
        where = " on a CPU" if recipe.model.bits == 4 else ""
        raise EngineError(f"eval.backend = 'vllm': vLLM{where} does not load a base in {recipe.model.bits} bits as training does; leave it out, or set model.bits = 16")  # fmt: skip
    return vllm_python()


@dataclass(frozen=True)
class Asked:
    """What is to be answered, how tokens are drawn, and at which an answer stops."""

    prompts: Sequence[Sequence[int]]
    decoding: Decoding
    stops: Sequence[int]


def answers(
    recipe: Recipe, base: Base, dtype: torch.dtype, device: torch.device, asked: Asked,
    save: Callable[[Path], None] | None,
) -> Answers:  # fmt: skip
    """Answers in the order of the prompts, the stop token included where one came; `save` writes the adapter, None: the base."""
    python = require(recipe, device)
    with tempfile.TemporaryDirectory(prefix="medrecipes-vllm-") as name:
        folder = Path(name)
        if save is not None:
            save(folder / "adapter")
        adapter = None if save is None else str(folder / "adapter")
        write_json(folder / "job.json", job(recipe, base, dtype, device, asked, adapter))
        shutil.copyfile(WORKER, folder / "worker.py")  # beside no modules whose names vLLM's could be taken for
        environment = {**SETTINGS, **os.environ}
        environment.pop("PYTHONPATH", None)
        if environment.get("OMP_NUM_THREADS") and device.type == "cuda":
            environment.pop("OMP_NUM_THREADS")
        with (folder / "log.txt").open("w+", encoding="utf-8", errors="replace") as log:
            done = subprocess.run([python, "worker.py"], cwd=folder, env=environment, stdout=log, stderr=log)
            log.seek(0)
            said = log.read()
        print(said)  # into the run's log, where the libraries' own lines go
        if done.returncode:
            why = (
                next((line.strip() for line in reversed(said.splitlines()) if "Error" in line), "") or "it said nothing"
            )
            raise EngineError(f"eval.backend = 'vllm': vLLM ended with exit code {done.returncode}: {why[:300]}; the run's log has all of it; leave eval.backend out for our own engine")  # fmt: skip
        found = read_json(folder / "answers.json")
    return Answers(found["answers"], found["version"])


def job(
    recipe: Recipe, base: Base, dtype: torch.dtype, device: torch.device, asked: Asked, adapter: str | None
) -> dict[str, Any]:
    """What the worker is told: vLLM's own arguments."""
    prompts, decoding = asked.prompts, asked.decoding
    engine: dict[str, Any] = {
        "model": base.name, "revision": base.revision if not Path(base.name).exists() else None, "skip_tokenizer_init": True,
        # of the base's own generation config nothing slips in
        "generation_config": "vllm", "dtype": str(dtype).removeprefix("torch."), "seed": 0,
        "max_model_len": max(map(len, prompts)) + decoding.max_new_tokens, "enforce_eager": device.type == "cpu",
        "trust_remote_code": recipe.model.trust_remote_code,
    }  # fmt: skip
    if device.type == "cuda":
        engine["gpu_memory_utilization"] = utilization(device)
    if recipe.model.bits == 4 and not base.config.get("quantization_config"):
        engine["quantization"] = "bitsandbytes"
    if adapter is not None:
        engine |= {"enable_lora": True, "max_lora_rank": next((r for r in RANKS if r >= recipe.lora.rank), recipe.lora.rank)}  # fmt: skip
    sampling = {
        "max_tokens": decoding.max_new_tokens, "temperature": decoding.temperature, "stop_token_ids": list(asked.stops),
        "top_p": decoding.top_p if decoding.temperature else 1.0, "repetition_penalty": decoding.repetition_penalty,
    }  # fmt: skip
    # by row, as the engine does, though the draws are vLLM's own
    each = [{"seed": row_seed(decoding, prompt) & 0x7FFFFFFF} if decoding.temperature else {} for prompt in prompts]
    rows = [list(prompt) for prompt in prompts]
    return {"engine": engine, "sampling": sampling, "each": each, "prompts": rows, "adapter": adapter}


def utilization(device: torch.device) -> float:
    """The share of the GPU that vLLM may take: what is free beside the model that is loaded here."""
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info(device)
    share = min(0.9, float((free - BESIDE) / whole))
    if share < 0.05:
        raise EngineError(f"eval.backend = 'vllm': {free / 1e9:.1f} GB of the GPU are free beside the model that trains, too little for another; leave eval.backend out")  # fmt: skip
    return round(share, 3)
