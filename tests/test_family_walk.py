"""Bases of other families, from `check` to `verify`: one of Qwen3's shape, two of SmolLM2's, and one that nobody knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medrecipes.core.errors import MedRecipesError
from medrecipes.recipe.load import load
from medrecipes.release.export.llamacpp import require
from medrecipes.release.export.serving import bos_of, go_template, modelfile
from medrecipes.rendering.base_template import saved_template
from medrecipes.rendering.chat_template import OWN
from tests import families, gotemplate
from tests.conftest import ROOT
from tests.hub import Hub, Token
from tests.shell import Done, Shell
from tests.test_base_template import STYLES, base
from tests.test_serving import TALKS, handed

WRITE = "hf_plantedWRITEtoken543210"
DATA = "lavita/MedQuAD"
RECIPE = """
extends = "{root}/recipes/base/tiny.toml"
[model]
base = "open/{name}"
[template]
system = "Answer truthfully."
[data]
source = "medquad"
[train]
max_steps = 3
warmup_steps = 0
eval_steps = 3
save_steps = 3
[eval]
rows = 4
max_new_tokens = 6
"""
# weights that nobody trained, under a tokenizer of the family
MAKE_BASE = """
import torch, transformers
torch.manual_seed(1)
shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=32)
if large:  # SmolLM2-135M with six of its thirty layers: enough for a CPU to decode the 4-bit weights once
    shape = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=9, num_key_value_heads=3)
config = getattr(transformers, kind + "Config")(vocab_size=size, max_position_embeddings=1024, **shape, **ids)
getattr(transformers, kind + "ForCausalLM")(config).save_pretrained(folder)
result = True
"""
# name: transformers' class, and the template that a run on it gets
BASES = {
    "small-qwen3": ("Qwen3", "qwen3"),
    "small-smollm2": ("Llama", "smollm2"),
    "large-smollm2": ("Llama", "smollm2"),
    "small-unknown": ("Qwen2", OWN),
}


@dataclass(frozen=True)
class Walk:
    """A base's commands in their order, each with what it printed, and the run's folder."""

    template: str
    done: dict[str, Done]
    run: Path


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as made:
        made.store.tokens[WRITE] = Token("ann")
        sample = ROOT / "data/medquad_hub/train-00000-of-00001.parquet"
        made.store.create(DATA, "dataset").put({f"data/{sample.name}": sample.read_bytes()})
        yield made


@pytest.fixture(scope="module")
def shell(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    home = tmp_path_factory.mktemp("hf")
    with Shell(home, hub.environment(home, WRITE, HF_HUB_ETAG_TIMEOUT="60", HF_HUB_DISABLE_PROGRESS_BARS="1")) as made:
        yield made


# the small SmolLM2 goes the ways of the small Qwen3 and of the large SmolLM2
SLOW = ("small-smollm2",)


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BASES]
)
def walk(request: pytest.FixtureRequest, hub: Hub, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    name, (kind, template) = request.param, BASES[request.param]
    work = tmp_path_factory.mktemp(name)
    tokenizer = work / "tokenizer"
    if template == OWN:
        base(tokenizer, STYLES["a macro, and a system text with a date"])
    else:
        tokenizer = families.folder(template)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    spec = json.loads((tokenizer / "tokenizer.json").read_text())
    known = {token["content"]: token["id"] for token in spec["added_tokens"]}
    ids = {f"{end}_token_id": known.get(config.get(f"{end}_token", "")) for end in ("bos", "eos", "pad")}
    size = max(*known.values(), *spec["model"]["vocab"].values()) + 1
    shell.python(MAKE_BASE, folder=work / "base", kind=kind, size=size, ids=ids, large=name.startswith("large"))
    files = {path.name: path.read_bytes() for folder in (tokenizer, work / "base") for path in folder.iterdir()}
    card = b"---\nlicense: apache-2.0\n---\nA small base.\n"
    hub.store.create(f"open/{name}").put({**files, "README.md": card})
    recipe = work / f"{name}.toml"
    recipe.write_text(RECIPE.format(root=ROOT, name=name))
    done = {
        "check": shell("check", recipe),
        "plan": shell("plan", recipe, "--gpu", "t4"),
        "preview": shell("preview", recipe, "-n", "1"),
        "run": shell("run", recipe, "--runs", work / "runs"),
    }
    assert done["run"].code == 0, done["run"].err
    [run] = (work / "runs").iterdir()
    done["chat"] = shell("chat", run, input="What causes asthma ?\n/quit\n")
    done["export"] = shell("export", run, "--format", "merged-16bit")
    done["publish"] = shell("publish", run, "--push")
    done["verify"] = shell("verify", f"ann/{name}-medical")
    return Walk(template, done, run)


def test_every_command_does_its_work(walk: Walk) -> None:
    assert {name: (done.code, done.err) for name, done in walk.done.items()} == dict.fromkeys(walk.done, (0, ""))
    said = {name: done.out for name, done in walk.done.items()}
    assert len(re.findall(r"(train|dev|test) +\d+ rows proved", said["check"])) == 3
    assert "engine unsloth" in said["plan"]
    assert re.search(r"^learned .+«<\|im_end\|>»$", said["preview"], re.M)
    assert f"template {walk.template}" in said["chat"] or "the base's own chat template" in said["chat"]
    assert len(said["chat"].split("\n> ")) == 3
    assert re.search(r"^release +http", said["publish"], re.M)
    assert not re.search(r"^ *(differs|wrong)\b", said["verify"], re.M)


def test_run_and_report_say_how_the_base_computed(walk: Walk) -> None:
    report = json.loads((walk.run / "eval" / "report.json").read_text())
    state = json.loads((walk.run / "run.json").read_text())
    assert report["computed"] == state["computed"]
    assert f"Base: {report['computed']}." in (walk.run / "eval" / "report.md").read_text().splitlines()
    large = walk.run.name.startswith("large")
    assert report["computed"].startswith("4 bits, decoded once, computed in " if large else "4 bits, fp32 (a CPU gains")
    assert state["choices"]["layers"]["value"] == ("fused" if large else "unsloth")


def test_a_merged_model_is_read_as_it_was_trained(walk: Walk) -> None:
    parity = json.loads((walk.run / "export" / "merged-16bit" / "export.json").read_text())["parity"]
    assert parity["prompts_read_alike"] == 1.0
    assert parity["greedy_agreement"] >= 0.99


def test_ollama_asks_as_training_did(walk: Walk) -> None:
    recipe = load(walk.run / "recipe.toml").recipe
    template = saved_template(recipe.model_copy(update={"template": recipe.template.model_copy(update={"system": None})}), walk.run / "adapter")  # fmt: skip
    assert template.name == walk.template
    for messages in TALKS:
        asked = template.render(messages, ask=True).removeprefix(bos_of(template))
        assert gotemplate.render(go_template(template), handed(messages)) == asked
    assert 'PARAMETER stop "<|im_end|>"' in modelfile("model-f16.gguf", recipe, template)


def _missing() -> str:
    try:
        require()
    except MedRecipesError as error:
        return str(error)
    return ""


@pytest.mark.skipif(bool(_missing()), reason=_missing())
def test_a_gguf_is_made_or_its_tokenizer_is_refused_in_one_line(walk: Walk, shell: Shell) -> None:
    done = shell("export", walk.run, "--format", "gguf", "--quant", "f16")
    assert (done.code, len(done.err.splitlines())) in ((0, 0), (2, 1))  # llama.cpp knows published tokenizers by a hash
