"""The seal of a finished run: every file's hash in run.json, and what a later change of any of them comes to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medrecipes.core.errors import SpoiledError
from medrecipes.runs import file_hashes
from medrecipes.runs.folder import RunDir

FILES = ("README.md", "report.html", "adapter/adapter_config.json", "checkpoints/checkpoint-6/optimizer.pt", "checkpoints/checkpoint-12/optimizer.pt", "eval/report.json", "loss.csv")  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A folder like a run's, sealed."""
    for name in (*FILES, "log.txt", "export/gguf/model.gguf", "eval-12345678/report.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    rundir = RunDir(tmp_path)
    rundir.update(state="training", name="demo", peak_gb=1.5)
    file_hashes.finish(rundir)
    return RunDir(tmp_path)


def test_a_finished_run_is_sealed_whole_but_for_what_later_commands_write(run: RunDir) -> None:
    assert run.finished
    assert sorted(run.state["seal"]["files"]) == sorted(FILES)
    assert file_hashes.broken(run) == ([], [])
    run.update(releases=[{"repo": "ann/demo"}])
    (run.path / "log.txt").write_text("more")
    (run.path / "export/gguf/model.gguf").write_text("another")
    (run.path / "notes.txt").write_text("mine")
    assert file_hashes.broken(RunDir(run.path)) == ([], ["notes.txt"])


def test_every_change_is_named(run: RunDir) -> None:
    (run.path / "loss.csv").write_text("other")
    (run.path / "README.md").unlink()
    (run.path / "adapter/more.safetensors").write_text("foreign")
    state = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**state, "peak_gb": 0.5}))
    wrong, more = file_hashes.broken(RunDir(run.path))
    assert more == []
    assert [line.split(" is ")[0] for line in wrong] == ["run.json", "README.md", "loss.csv", "adapter/more.safetensors"]  # fmt: skip


def test_a_checkpoint_may_be_deleted_whole_and_not_in_part(run: RunDir) -> None:
    shutil.rmtree(run.path / "checkpoints/checkpoint-6")
    assert file_hashes.broken(run) == ([], [])
    (run.path / "checkpoints/checkpoint-12/optimizer.pt").unlink()
    assert file_hashes.broken(run)[0] == ["checkpoints/checkpoint-12/optimizer.pt is missing"]


def test_what_a_command_rewrites_is_sealed_anew_and_nothing_else(run: RunDir) -> None:
    (run.path / "eval/report.json").write_text("edited")
    (run.path / "loss.csv").write_text("edited")
    with file_hashes.mending(run, run.path / "eval"):
        pass
    assert len(file_hashes.broken(run)[0]) == 2  # what the command did not touch stays as it was sealed
    with file_hashes.mending(run, run.path / "eval"):
        (run.path / "eval/report.json").write_text("written by the command")
        (run.path / "report.html").write_text("and its page, which it did not name")
    assert [line.split(" is ")[0] for line in file_hashes.broken(RunDir(run.path))[0]] == ["loss.csv", "report.html"]
    (run.path / "report.html").write_text("report.html")
    with file_hashes.mending(run, run.path / "eval", run.path / "report.html"):
        (run.path / "report.html").write_text("which it named")
    assert [line.split(" is ")[0] for line in file_hashes.broken(RunDir(run.path))[0]] == ["loss.csv"]


def test_a_page_that_is_not_sealed_is_not_the_runs(run: RunDir) -> None:
    files = {name: value for name, value in run.state["seal"]["files"].items() if name != "report.html"}
    run.update(seal={**run.state["seal"], "files": files})
    [wrong] = file_hashes.broken(RunDir(run.path))[0]
    assert wrong == "report.html is not of the run, which has sealed all that it wrote there"


def test_a_run_without_a_seal_gets_none_later(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    rundir.update(state="finished")
    with file_hashes.mending(rundir, tmp_path / "eval"):
        (tmp_path / "eval").mkdir()
        (tmp_path / "eval/report.json").write_text("new")
    assert "seal" not in RunDir(tmp_path).state


def test_an_adapter_that_lacks_a_tensor_is_not_opened(tmp_path: Path) -> None:
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from safetensors.torch import load_file, save_file
    from transformers import MistralConfig, MistralForCausalLM

    from medrecipes.engines.lora import open_adapter

    torch.manual_seed(0)
    config = MistralConfig(vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1)  # fmt: skip

    def base() -> MistralForCausalLM:
        return MistralForCausalLM(config)

    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(base(), lora).save_pretrained(str(tmp_path))
    assert open_adapter(base(), tmp_path).peft_config
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    name = next(name for name in tensors if "v_proj.lora_B" in name)
    for spoiled in (
        {key: value for key, value in tensors.items() if key != name},
        {**tensors, name.replace("v_proj", "k_proj"): tensors[name].clone()},
        {**tensors, name: tensors[name].repeat(2, 1)},
    ):
        save_file(spoiled, tmp_path / "adapter_model.safetensors")
        with pytest.raises(SpoiledError, match=r"the adapter (cannot be loaded|lacks|has)"):
            open_adapter(base(), tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(SpoiledError, match="the adapter cannot be loaded"):
        open_adapter(base(), tmp_path)
