"""The bases that are built on the spot: the real control tokens of each family, and every tiny recipe walked to its end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medrecipes import engines
from medrecipes.data.records import Conversation
from medrecipes.recipe.load import load
from medrecipes.recipe.rules.names import TINY
from tests import forked
from tests.conftest import HASTY, ROOT, Cli

WALK = """
import sys
from pathlib import Path
from medrecipes.core.console import Console
from medrecipes import engines
from medrecipes.data.records import Conversation
from medrecipes.recipe.load import load
from medrecipes.pipeline.walk import run
short = ["train.max_steps=4", "train.eval_steps=2", "train.save_steps=2", "eval.rows=2", "eval.max_new_tokens=4"]
for name in sys.argv[2:]:
    run(load(f"recipes/{name}.toml", short).recipe, Path(sys.argv[1]), Console())
"""
QUICK = ("tiny_llama2", "tiny_llama3", "tiny_gemma", "tiny_ner_instruct")
TINY_RECIPES = {path.stem for path in (ROOT / "recipes").glob("tiny_*.toml")}
OTHERS = tuple(sorted(TINY_RECIPES - {*QUICK, "tiny_sweep", "tiny_bio_ner"}))  # test_sweep and test_tagline walk those


def walk(runs: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Run recipes one after the other in a process of their own, cut short; the folder of each."""
    done = forked.run("-c", WALK, runs, *names, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {name: next(runs.glob(f"{name}-*")) for name in names}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return walk(tmp_path_factory.mktemp("runs"), QUICK)


def test_there_is_a_tiny_recipe_for_every_family_and_task() -> None:
    found = [load(ROOT / "recipes" / f"{name}.toml").recipe for name in (*QUICK, *OTHERS)]
    assert {recipe.model.base for recipe in found} == set(TINY)
    sources = {entry.source for recipe in found for entry in recipe.data.entries}
    assert sources >= {"medquad", "wikidoc", "ner_instruct", "healthcaremagic", "synthetic_qa"}


def finished(folder: Path, bits: int = 4, rows: int = 15) -> tuple[dict[str, Any], dict[str, Any]]:
    state = json.loads((folder / "run.json").read_text())
    assert state["state"] == "finished"
    assert state["proofs"]["train"]["rows"] >= rows
    assert f"4-bit = {bits == 4}" in (folder / "log.txt").read_text()
    config = json.loads((folder / "adapter" / "tokenizer_config.json").read_text())
    return state, config


# family, the control tokens that the saved tokenizer names, and where the saved model stops
NAMED = {
    "tiny_llama2": ({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}, ["</s>"]),
    "tiny_llama3": (
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|finetune_right_pad_id|>"},
        ["<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"],
    ),
    "tiny_gemma": (
        {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"},
        ["<end_of_turn>", "<eos>"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_a_family_trains_with_its_own_control_tokens(name: str, walked: dict[str, Path]) -> None:
    _, config = finished(walked[name])
    named, stops = NAMED[name]
    assert {key: value for key, value in config.items() if key.endswith("_token") and key != "add_bos_token"} == named
    tokens = json.loads((walked[name] / "adapter" / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    saved = json.loads((walked[name] / "adapter" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [ids[stop] for stop in stops]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [("tiny_llama2", "llama"), ("tiny_llama3", "llama"), ("tiny_gemma", "gemma")]
)
def test_the_base_is_one_of_its_family(name: str, kind: str, walked: dict[str, Path]) -> None:
    state, _ = finished(walked[name])
    config = json.loads((Path(state["base"]) / "config.json").read_text())
    assert config["model_type"] == kind
    assert config["tie_word_embeddings"] is (kind == "gemma")
    assert config["max_position_embeddings"] == 1024


@pytest.mark.slow
def test_lists_are_learned_and_scored_as_lists(walked: dict[str, Path]) -> None:
    finished(walked["tiny_ner_instruct"])
    data = json.loads((walked["tiny_ner_instruct"] / "data.json").read_text())
    assert sum(data["rows"].values()) == 36
    assert data["overflow"]["train"]["dropped"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))  # a process has its time
def test_the_other_tiny_recipes_reach_their_end(part: int, tmp_path: Path) -> None:
    for name, folder in walk(tmp_path, OTHERS[part::3]).items():
        # the sample of MedQA has twelve questions
        finished(folder, load(ROOT / "recipes" / f"{name}.toml").recipe.model.bits, 9 if name == "tiny_medqa" else 15)


# --- the tokenizers, without a model


CODE = """
import json, sys, tempfile
from pathlib import Path
from medrecipes.engines import tiny_tokenizers
from medrecipes.rendering.chat_template import ChatTemplate
from medrecipes.data.records import Conversation
from medrecipes.rendering.tokenizer import Tokenizer
texts = [p.read_text() for p in sorted(Path("data/medquad").rglob("*.xml"))[:60]]
found = {}
for family, template in (("mistral", "mistral-v1"), ("llama2", "llama2"), ("llama3", "llama3"), ("gemma", "gemma"), ("gemma", "gemma3"), ("qwen25", "qwen25"), ("qwen3", "qwen3"), ("smollm2", "smollm2"), ("phi4", "phi4"), ("ministral3", "mistral-v7-tekken"), ("gemma4", "gemma4"), ("llama4", "llama4"), ("gpt_oss", "gpt-oss")):
    spec = tiny_tokenizers.FAMILIES[family]
    with tempfile.TemporaryDirectory() as folder:
        tiny_tokenizers.save(spec, tiny_tokenizers.learned(spec, texts, tiny_tokenizers.Size()), Path(folder))
        tokenizer = Tokenizer(Path(folder))
        [example] = ChatTemplate(template, tokenizer).examples([Conversation.of("x", "", "Ünïcode </s> <eos> <|eot_id|>?", "Ja, 7 mg.\\n\\nμ")])
        whole = tokenizer.decode([example.input_ids])[0]
        found[template] = {"control": sorted(ChatTemplate(template, tokenizer).tokenizer.control), "text": whole, "size": tokenizer.size}
print(json.dumps(found))
"""


def test_each_tokenizer_keeps_any_text_as_text_and_knows_its_real_control_tokens() -> None:
    done = forked.run("-c", CODE)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    llama2 = ["</s>", "<s>", "<unk>"]
    gemma = ["<bos>", "<end_of_turn>", "<eos>", "<pad>", "<start_of_turn>", "<unk>"]
    assert {name: one["control"] for name, one in found.items()} == {
        "mistral-v1": llama2, "llama2": llama2, "gemma": gemma, "gemma3": gemma,
        "llama3": ["<|begin_of_text|>", "<|end_header_id|>", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>",
                   "<|finetune_right_pad_id|>", "<|start_header_id|>"],
        "llama4": ["<|begin_of_text|>", "<|end_of_text|>", "<|eom|>", "<|eot|>", "<|finetune_right_pad|>", "<|header_end|>",
                   "<|header_start|>"],
        "qwen25": ["</tool_call>", "<tool_call>", "<|endoftext|>", "<|fim_pad|>", "<|im_end|>", "<|im_start|>"],
        "qwen3": ["</think>", "</tool_call>", "<think>", "<tool_call>", "<|endoftext|>", "<|fim_pad|>", "<|im_end|>",
                  "<|im_start|>"],
        "smollm2": ["<|endoftext|>", "<|im_end|>", "<|im_start|>"],
        "phi4": ["<|dummy_87|>", "<|endoftext|>", "<|im_end|>", "<|im_sep|>", "<|im_start|>"],
        "mistral-v7-tekken": ["</s>", "<pad>", "<s>", "<unk>", "[/INST]", "[/SYSTEM_PROMPT]", "[INST]", "[SYSTEM_PROMPT]"],
        "gemma4": ["<bos>", "<channel|>", "<eos>", "<pad>", "<turn|>", "<unk>", "<|channel>", "<|think|>", "<|turn>"],
        "gpt-oss": ["<|call|>", "<|channel|>", "<|endoftext|>", "<|end|>", "<|message|>", "<|return|>", "<|startoftext|>",
                    "<|start|>"],
    }  # fmt: skip
    for one in found.values():
        assert "Ünïcode </s> <eos> <|eot_id|>?" in one["text"]
        assert re.search(r"Ja, 7 mg\.\n\nμ", one["text"])
        assert 500 < one["size"] <= 1100


SAME = """
from medrecipes.data.split import prepare
from medrecipes.engines import recipe_base, tokenizer_base, tiny_bases
from medrecipes.recipe.load import load
result = []
for name in names:
    recipe = load(f"recipes/tiny_{name}.toml", ["data.limit=48"]).recipe
    split = prepare(recipe)
    whole, alone = recipe_base(recipe, split).folder, tokenizer_base(recipe, split).folder
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    result.append([whole != alone, [(whole / file).read_bytes() == (alone / file).read_bytes() for file in files], (alone / "model.safetensors").exists()])
tiny_bases.build = tiny_bases.build.func  # as it was, for whoever is next in this process
"""


def test_a_tokenizer_that_is_learned_alone_is_that_of_the_base(warm: Cli) -> None:
    from tests.shell import Shell

    shell = warm.shell  # type: ignore[attr-defined]
    assert isinstance(shell, Shell)
    assert shell.python(HASTY + SAME, names=["mistral", "gemma3"]) == [[True, [True] * 3, False]] * 2


FEW = """
import math, sys
from dataclasses import replace
import torch
from medrecipes.engines import tiny_bases
from medrecipes.core.errors import EngineError
torch.set_num_threads(3)
base = tiny_bases.build("mistral", ["Fever is a sign.", "Rest helps."], 1, replace(tiny_bases.TINY, max_steps=60))
assert torch.get_num_threads() == 3, "as before"
from medrecipes.core.files import read_json
assert all(math.isfinite(loss) for _, loss in read_json(base.folder / "manifest.json")["dev_loss"])
try:
    tiny_bases.build("mistral", ["Fever is a sign."], 1)
except EngineError as error:
    print(error)
"""


def test_a_handful_of_rows_makes_a_base_and_one_is_an_error_rather_than_a_loop_without_end() -> None:
    done = forked.run("-c", FEW)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == (
        "model.base = 'tiny:mistral' learns from the training rows, which are too few; use more"
    )


@pytest.mark.parametrize(
    ("most", "expected"), [(9, ["q0\na0\nq3\na3", "q1\na1\nq4\na4", "q2\na2"]), (3, ["q0\na0", "q2\na2", "q4\na4"])]
)
def test_of_large_data_a_tiny_base_learns_from_some_rows(
    most: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "TINY_ROWS", most)
    rows = [Conversation.of(f"r{i}", group, f"q{i}", f"a{i}") for i, group in enumerate("abcab")]
    assert engines._texts(SimpleNamespace(train=rows)) == expected  # type: ignore[arg-type]
