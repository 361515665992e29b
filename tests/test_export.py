"""`medrecipes export`: what is written says, token by token, what the adapter says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import digest_path
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Model
from medrecipes.release.export import building, export, held_out_prompts, merging, parity
from medrecipes.rendering.base_template import saved_template
from medrecipes.runs.folder import RunDir
from tests.conftest import ROOT, Cli

LLAMA = os.environ.get("MEDRECIPES_LLAMA_CPP")


@pytest.fixture(scope="module")
def silent() -> Any:
    from medrecipes.core.console import Console

    return Console()


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run: Mistral, untied embeddings, trained in 4 bits."""
    return copied(tiny_run, tmp_path_factory.mktemp("exported") / tiny_run.name)


@pytest.fixture(scope="module")
def merged(run: Path, cli: Cli) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Its merged form, as the command writes it, and what the command said."""
    done = cli("export", run, "--format", "merged-16bit")
    assert done.returncode == 0, done.stdout + done.stderr
    return run / "export" / "merged-16bit", done


def train(cli: Cli, runs: Path, recipe: str) -> Path:
    """A short run of another tiny recipe."""
    settings = (
        "train.max_steps=120",  # enough to learn to stop
        "train.save_steps=60",
        "train.eval_steps=60",
        "eval.rows=6",
        "eval.max_new_tokens=24",
    )
    done = cli("run", ROOT / "recipes" / f"{recipe}.toml", "--runs", runs, *(w for s in settings for w in ("--set", s)))
    assert done.returncode == 0, done.stdout + done.stderr
    return next(runs.glob(f"{recipe}-*"))


def exported(run: Path, name: str) -> tuple[Path, dict[str, Any]]:
    folder = run / "export" / name
    return folder, json.loads((folder / "export.json").read_text())


def copied(run: Path, target: Path) -> Path:
    """A copy of a run, for a test that changes it."""
    shutil.copytree(run, target, ignore=shutil.ignore_patterns("checkpoints", "export"))
    return target


Merged = tuple[Path, subprocess.CompletedProcess[str]]


def test_the_command_writes_the_whole_model_and_says_how_near_it_is(run: Path, merged: Merged) -> None:
    _, done = merged
    assert done.stderr == ""
    folder, said = exported(run, "merged-16bit")
    assert f"written          {folder}\n" in done.stdout
    assert "serve            vllm serve . " in done.stdout
    assert "100.00% of " in done.stdout
    assert {
        "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "SERVING.md",
    } == set(said["files"])  # fmt: skip
    assert {key: said[key] for key in ("format", "quant", "merged_on")} == {"format": "merged-16bit", "quant": None, "merged_on": "the 16-bit base"}  # fmt: skip
    found = said["parity"]
    assert found["greedy_agreement"] == 1.0
    assert found["mean_kl"] < 1e-7
    assert found["prompts"] == 64
    assert found["tolerance"] == {"near_agreement": 0.98, "mean_kl": 0.005, "prompts_read_alike": 0.98}
    assert found["passed"] is True
    for name, file in said["files"].items():
        assert file == {"sha256": digest_path(folder / name), "bytes": (folder / name).stat().st_size}
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [2]
    assert (folder / "chat_template.jinja").read_text() == (run / "adapter" / "chat_template.jinja").read_text()
    assert {p.name for p in (run / "export").iterdir()} <= {"merged-16bit", "merged-4bit", "adapter"}


def test_the_merged_model_is_used_without_this_project(merged: Merged) -> None:
    folder, _ = merged
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'What is asthma?'}], add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        "print(ids['input_ids'][0][:2].tolist(), model.generation_config.eos_token_id, model.generate(**ids, max_new_tokens=4).shape[0])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=folder)
    assert done.stdout.startswith("[1, "), done.stderr
    assert done.stdout.endswith(" [2] 1\n")


def test_an_adapter_is_copied_with_what_serves_it(run: Path, silent: Any) -> None:
    folder = export(run, "adapter", None, silent)
    _, said = exported(run, "adapter")
    assert said["parity"]["greedy_agreement"] == 1.0
    assert digest_path(folder / "adapter_model.safetensors") == digest_path(run / "adapter" / "adapter_model.safetensors")  # fmt: skip
    assert "--enable-lora --max-lora-rank 16" in (folder / "SERVING.md").read_text()


def test_four_bits_are_four_bits_and_stay_near(run: Path, merged: Merged, silent: Any) -> None:
    folder = export(run, "merged-4bit", None, silent)
    _, said = exported(run, "merged-4bit")
    assert 0.88 <= said["parity"]["greedy_agreement"] < 1
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert (config["load_in_4bit"], config["bnb_4bit_quant_type"]) == (True, "nf4")
    assert not (folder / "merged").exists()
    # embeddings and head stay whole; the rest takes an eighth of 32 bits
    assert said["files"]["model.safetensors"]["bytes"] < 0.35 * (run / "export" / "merged-16bit" / "model.safetensors").stat().st_size  # fmt: skip


@pytest.fixture(scope="module")
def four_bit_base(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base as it would be published in 4 bits, tokenizer and all."""
    base = Path(json.loads((tiny_run / "run.json").read_text())["base"])
    folder = tmp_path_factory.mktemp("bases") / "mistral-bnb-4bit"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    merging.quantise(base, folder, False)
    return folder


def on_four_bits(run: Path, base: Path, target: Path) -> Path:
    """The run as if its recipe had named a base that is published in 4 bits."""
    copied(run, target)
    recipe = target / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('base = "tiny:mistral"', f'base = "{base}"'))
    return target


def test_a_base_published_in_four_bits_is_dequantised_and_the_file_says_so(
    tiny_run: Path, merged: Merged, four_bit_base: Path, tmp_path: Path, silent: Any
) -> None:
    run = on_four_bits(tiny_run, four_bit_base, tmp_path / "run")
    folder = export(run, "merged-16bit", None, silent)
    _, said = exported(run, "merged-16bit")
    assert said["merged_on"] == "the dequantised 4-bit base"
    assert said["parity"]["greedy_agreement"] == 1.0
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    # what is inside is not the 16-bit base with an adapter: 4 bits have only 16 values a block
    whole = json.loads((merged[0] / "export.json").read_text())
    assert said["files"]["model.safetensors"]["sha256"] != whole["files"]["model.safetensors"]["sha256"]


def test_the_sixteen_bit_base_is_used_where_it_is_named(
    tiny_run: Path, merged: Merged, four_bit_base: Path, tmp_path: Path, silent: Any
) -> None:
    run = on_four_bits(tiny_run, four_bit_base, tmp_path / "run")
    base = json.loads((tiny_run / "run.json").read_text())["base"]
    export(run, "merged-16bit", None, silent, base)
    _, said = exported(run, "merged-16bit")
    assert (said["base"], said["merged_on"], said["reason"]) == (base, "the 16-bit base", "--base names it")
    whole = json.loads((merged[0] / "export.json").read_text())
    assert said["files"]["model.safetensors"]["sha256"] == whole["files"]["model.safetensors"]["sha256"]


def test_an_export_that_says_something_else_is_marked_failed(tiny_run: Path, tmp_path: Path, silent: Any) -> None:
    run = copied(tiny_run, tmp_path / "run")
    (run / "export").mkdir()
    strict = dict(parity.TOLERANCE)
    try:
        parity.TOLERANCE["merged-4bit"] = {"near_agreement": 1.0, "mean_kl": 0.0, "prompts_read_alike": 1.0}
        with pytest.raises(MedRecipesError, match="merged-4bit: is marked failed, for it is further from its adapter"):
            export(run, "merged-4bit", None, silent)
    finally:
        parity.TOLERANCE.update(strict)
    _, said = exported(run, "merged-4bit")
    assert said["parity"]["passed"] is False


def test_every_measure_of_parity_can_fail_it() -> None:
    likely = torch.log_softmax(torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), -1)
    reference = [parity.Spoken([1, 2], [0, 1], likely)]
    same = parity.compare(reference, lambda ids, n: likely, "gguf-f16", 1.0)
    assert (same.prompts, same.tokens, same.greedy_agreement, same.mean_kl, same.passed) == (1, 2, 1.0, 0.0, True)
    half = parity.compare(reference, lambda ids, n: likely[[0, 0]], "gguf-f16", 1.0)
    assert (half.greedy_agreement, half.near_agreement, half.passed) == (0.5, 0.5, False)
    tossed = torch.log_softmax(torch.tensor([[4.0, 0.0, 0.0], [3.8, 4.0, 0.0]]), -1)
    other = parity.compare(
        [parity.Spoken([1, 2], [0, 1], tossed)], lambda ids, n: tossed[:, [0, 0, 2]], "gguf-f16", 1.0
    )
    assert (other.greedy_agreement, other.near_agreement) == (0.5, 1.0)  # 3.8 or 4.0 is a toss-up
    flat = parity.compare(reference, lambda ids, n: likely / 2, "gguf-f16", 1.0)
    assert (flat.greedy_agreement, flat.passed) == (1.0, False)
    assert flat.mean_kl == pytest.approx(0.1329, abs=1e-4)
    misread = parity.compare(reference, lambda ids, n: likely, "gguf-f16", 0.9)
    assert (misread.greedy_agreement, misread.passed) == (1.0, False)
    seen: list[tuple[list[int], int]] = []
    parity.compare(reference, lambda ids, n: (seen.append((list(ids), n)), likely)[1], "gguf-f16", 1.0)
    assert seen == [([1, 2, 0], 2)]  # the last token is not asked for what follows it


def plain_adapter(base: Path, run: Path, target: Path, **settings: Any) -> Path:
    """A run with an adapter that peft itself made and saved, its updates far from zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    copied(run, target)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows := settings.pop("rows", None):
        model.resize_token_embeddings(rows, mean_resizing=False)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **settings))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(target / "adapter")
    return target


PLAIN = {
    "dora": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "rslora": {"target_modules": ["v_proj", "up_proj"], "use_rslora": True},
    "head and embeddings": {"target_modules": ["q_proj", "lm_head", "embed_tokens"]},
    "added tokens": {"target_modules": ["q_proj"], "rows": 1032, "modules_to_save": ["embed_tokens", "lm_head"]},
}


@pytest.mark.parametrize("kind", PLAIN)
def test_adapters_of_other_makes_are_merged_as_exactly(kind: str, tiny_run: Path, tmp_path: Path, silent: Any) -> None:
    base = Path(json.loads((tiny_run / "run.json").read_text())["base"])
    run = plain_adapter(base, tiny_run, tmp_path / "run", **PLAIN[kind])
    export(run, "merged-16bit", None, silent)
    found = exported(run, "merged-16bit")[1]["parity"]
    assert (found["greedy_agreement"], found["passed"]) == (1.0, True)
    config = json.loads((run / "export" / "merged-16bit" / "config.json").read_text())
    assert config["vocab_size"] == (1032 if kind == "added tokens" else 1024)


@pytest.fixture(scope="module")
def gemma_run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(cli, tmp_path_factory.mktemp("gemma-run"), "tiny_gemma")


@pytest.mark.slow
def test_tied_embeddings_stay_tied(gemma_run: Path, silent: Any) -> None:
    folder = export(gemma_run, "merged-16bit", None, silent)
    found = exported(gemma_run, "merged-16bit")[1]["parity"]
    assert (found["greedy_agreement"], found["prompts"]) == (1.0, 64)
    from safetensors import safe_open

    with safe_open(str(folder / "model.safetensors"), "pt") as file:
        assert "lm_head.weight" not in list(file.keys())
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [5, 1]


@pytest.mark.slow
@pytest.mark.parametrize("targets", [["q_proj", "lm_head"], ["q_proj", "embed_tokens"]], ids=["head", "embeddings"])
def test_an_update_of_one_of_two_tied_matrices_does_not_leak_into_the_other(
    targets: list[str], gemma_run: Path, tmp_path: Path, silent: Any
) -> None:
    base = Path(json.loads((gemma_run / "run.json").read_text())["base"])
    run = plain_adapter(base, gemma_run, tmp_path / "run", target_modules=targets)
    folder = export(run, "merged-16bit", None, silent)
    assert exported(run, "merged-16bit")[1]["parity"]["greedy_agreement"] == 1.0
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.slow
def test_llama_is_merged_as_exactly(cli: Cli, tmp_path: Path, silent: Any) -> None:
    run = train(cli, tmp_path, "tiny_llama3")
    export(run, "merged-16bit", None, silent)
    found = exported(run, "merged-16bit")[1]["parity"]
    assert (found["greedy_agreement"], found["prompts"]) == (1.0, 64)


def test_large_models_are_written_in_shards(tiny_run: Path, tmp_path: Path) -> None:
    run = RunDir(tiny_run)
    base = Path(run.state["base"])
    from medrecipes.engines.bases import Base

    model = merging.attach(
        merging.open_ground(merging.choose_ground(Base(str(base), base), None), Model()), run.adapter
    )
    whole, merging.SHARD = merging.SHARD, "4MB"
    try:
        merging.merge(model, tmp_path)
    finally:
        merging.SHARD = whole
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) == 3
    assert (tmp_path / "model.safetensors.index.json").exists()


def test_a_killed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    place = tmp_path / "export" / "adapter"
    with building(place, "adapter") as folder:
        (folder / "a").write_text("1")

    def killed() -> None:
        with building(place, "adapter") as folder:
            (folder / "a").write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert (place / "a").read_text() == "1"
    with building(place, "adapter") as folder:
        (folder / "b").write_text("3")
    assert [p.name for p in place.iterdir()] == ["b"]
    assert [p.name for p in place.parent.iterdir()] == ["adapter"]


def test_a_folder_that_is_no_export_is_left_as_it_is(tiny_run: Path, tmp_path: Path, silent: Any) -> None:
    run = copied(tiny_run, tmp_path / "run")
    place = run / "export" / "adapter"
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(MedRecipesError, match="adapter: stands in the way and is no export that medrecipes made"):
        export(run, "adapter", None, silent)
    (place / "export.json").write_text('{"files": {"adapter_model.safetensors": {}}}')
    with pytest.raises(MedRecipesError, match=r"thesis\.txt: is not of medrecipes and would be lost"):
        export(run, "adapter", None, silent)
    assert sorted(p.name for p in place.iterdir()) == ["export.json", "thesis.txt"]


def test_prompts_are_those_that_training_never_saw(tiny_run: Path) -> None:
    recipe = load(tiny_run / "recipe.toml").recipe
    from medrecipes.data.split import prepare

    template, split = saved_template(recipe, RunDir(tiny_run).adapter), prepare(recipe)
    asked = held_out_prompts(recipe, template)
    seen = {template.render(row.prompt(), ask=True) for row in split.train}
    assert len(asked) == 64
    assert not seen & {text for text, _ in asked}


def test_mistakes_are_one_line_each(tiny_run: Path, four_bit_base: Path, warm: Cli, tmp_path: Path) -> None:
    bare = copied(tiny_run, tmp_path / "bare")
    (bare / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    lost = copied(tiny_run, tmp_path / "lost")
    (lost / "adapter" / "chat_template.jinja").unlink()
    mistakes = [
        ([tmp_path, "--format", "adapter"], f"{tmp_path}: is no run folder; name one of those in runs/"),
        ([tiny_run, "--format", "adapter", "--quant", "f16"], "--quant f16 goes with --format gguf alone; leave it out"),
        ([tiny_run, "--format", "merged-16bit", "--base", four_bit_base], f"--base {four_bit_base}: is quantised itself; name the 16-bit form of "),
        ([tiny_run, "--format", "merged-16bit", "--base", tmp_path / "none"], f"{tmp_path}/none: no such folder"),
        ([bare, "--format", "adapter"], f"{bare}/adapter/adapter_model.safetensors: cannot be read"),
        ([lost, "--format", "adapter"], f"{lost}/adapter/chat_template.jinja: cannot be read"),
    ]  # fmt: skip
    for arguments, message in mistakes:
        done = warm("export", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith(message)
    assert not (bare / "export").exists()


def test_a_missing_converter_is_one_line_before_any_work(tiny_run: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("export", tiny_run, "--format", "gguf", env={**os.environ, "MEDRECIPES_LLAMA_CPP": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--format gguf needs " in done.stderr
    assert "pip install " in done.stderr or "git clone --depth 1 https://github.com/ggml-org/llama.cpp" in done.stderr


def has_llama() -> str:
    """What is missing of llama.cpp, or nothing."""
    from medrecipes.release.export.llamacpp import require

    try:
        require()
    except MedRecipesError as error:
        return str(error)
    return ""


GGUF = pytest.mark.skipif(bool(has_llama()), reason=has_llama())


def test_a_byte_level_tokenizer_that_claims_to_fall_back_on_bytes_is_not_taken_for_one_of_sentencepiece(
    tmp_path: Path,
) -> None:
    from medrecipes.release.export.llamacpp import _tokenizer_files

    # as transformers writes SmolLM2's out of its GGUF file
    spec = {
        "model": {"type": "BPE", "byte_fallback": True, "vocab": {"a": 0, "Ġa": 1}, "merges": []},
        "added_tokens": [],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    _tokenizer_files(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert json.loads((tmp_path / "tokenizer.json").read_text())["model"]["byte_fallback"] is False


@pytest.mark.slow
@GGUF
@pytest.mark.parametrize("recipe", ["tiny_mistral", "tiny_llama2", "tiny_gemma", "tiny_gemma2", "tiny_gemma3"])
def test_a_gguf_says_what_the_adapter_says_and_stops_by_itself(recipe: str, cli: Cli, tmp_path: Path) -> None:
    from medrecipes.release.export.llamacpp import open_gguf

    run = train(cli, tmp_path, recipe)
    done = cli("export", run, "--format", "gguf", "--quant", "f16")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    folder, said = exported(run, "gguf-f16")
    found = said["parity"]
    assert found["prompts"] == 64
    assert found["greedy_agreement"] >= 0.99
    assert found["prompts_read_alike"] == 1.0
    assert {"Modelfile", "SERVING.md", "model-f16.gguf"} == set(said["files"])
    asked = held_out_prompts(
        load(run / "recipe.toml").recipe, saved_template(load(run / "recipe.toml").recipe, RunDir(run).adapter)
    )
    model = open_gguf(folder / "model-f16.gguf", n_ctx=1024)
    answers = [model.create_completion(ids, max_tokens=400, temperature=0)["choices"][0] for _, ids in asked[:12]]
    ended = [answer["text"].strip() for answer in answers if answer["finish_reason"] == "stop"]
    assert len(ended) >= 6  # a model this small also repeats itself for ever, as its adapter does
    assert all(ended)
    print(f"{recipe}: {done.stdout}\n{asked[0][0]}\n{answers[0]}")


@pytest.mark.slow
@GGUF
@pytest.mark.parametrize("quant", ["q8_0", "q4_k_m"])
def test_a_quantised_gguf_stays_within_its_tolerance_and_llama_cpp_itself_answers(
    quant: str, tiny_run: Path, cli: Cli, tmp_path: Path
) -> None:
    run = copied(tiny_run, tmp_path / "run")
    done = cli("export", run, "--format", "gguf", "--quant", quant)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    folder, said = exported(run, f"gguf-{quant}")
    assert said["parity"]["passed"] is True
    tool = shutil.which("llama-completion", path=f"{os.environ['MEDRECIPES_LLAMA_CPP']}/build/bin:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("llama-completion is not built; the file was compared through the bindings")
    command = [
        tool,
        "-m",
        str(folder / f"model-{quant}.gguf"),
        "--jinja",
        "-st",
        "--temp",
        "0",
        "-n",
        "300",
        "-p",
        "What causes Asthma ?",
    ]
    answered = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert answered.returncode == 0, answered.stderr[-500:]
    assert "[INST]" in answered.stdout
    assert "[end of text]" in answered.stdout
    print(answered.stdout)
