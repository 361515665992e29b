"""Planted mistakes, each with the very line that a person reads; and what check says of bases and data at hand or not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medrecipes.core.console import Console
from medrecipes.core.errors import RecipeError
from medrecipes.engines.bases import MODULES, contradictions, read_facts, tiny_facts
from medrecipes.pipeline.check import check_all
from medrecipes.recipe.load import load
from medrecipes.recipe.overlay import read_layers
from medrecipes.recipe.rules.names import OPTIMISERS, SCHEDULERS, TINY
from medrecipes.recipe.schema import Recipe
from tests import families
from tests.conftest import ROOT, Cli
from tests.hub import Fault, Harm, Hub

QUANTISED = '[model]\nbase = "owner/model-bnb-4bit"\n'
TAG = "task = 'tag'\n[train]\nkeep_best = 'f1'\n"
HAND = (
    "leave it out, or set publish.push = false and release by hand with `medrecipes publish RUN --push --waive licence`"
)
SEVEN = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, embed_tokens, lm_head"

# the wrong recipe, and what is said of it
WRONG: list[tuple[str, str]] = [
    # how answers are drawn
    ("[eval]\ntemperature = -0.5\n", "x.toml:2: eval.temperature = -0.5: must be greater than or equal to 0"),
    ("[eval]\ntop_p = 0.0\n", "x.toml:2: eval.top_p = 0.0: must be greater than 0"),
    ("[eval]\nrepetition_penalty = 0.0\n", "x.toml:2: eval.repetition_penalty = 0.0: must be greater than or equal to 0.01"),
    ("[eval]\ntop_p = 0.9\n", "x.toml:2: eval.top_p is read when tokens are drawn; set eval.temperature above 0, or leave it out"),
    # names of keys and sections
    ("[lora]\nrnak = 8\n", "x.toml:2: lora.rnak is unknown; did you mean lora.rank?"),
    ("[train]\nlearning_rat = 1e-4\n", "x.toml:2: train.learning_rat is unknown; did you mean train.learning_rate?"),
    ("[model]\nload_in_7bit = true\nbits = 4\n", "x.toml:2: model.load_in_7bit is unknown; did you mean model.bits?"),
    ("[tarin]\nbatch = 8\n", "x.toml:1: tarin is unknown; did you mean train?"),
    ("sed = 1\n", "x.toml:1: sed is unknown; did you mean seed?"),
    ("[data]\nsplit = { train = 0.8, dev = 0.1, tset = 0.1 }\n", "x.toml:2: data.split.tset is unknown; did you mean data.split.test?"),
    ("[[data.mix]]\nsorce = 'medquad'\nsource = 'wikidoc'\n", "x.toml:2: data.mix.0.sorce is unknown; did you mean data.mix.source?"),
    ("[[data.mix]]\nlimit = 5\n", "x.toml:1: data.mix.0.source is missing; set it"),
    # names of values
    ("task = 'tagg'\n", "x.toml:1: task = 'tagg' is not one of chat, tag; did you mean tag?"),
    ("[model]\nengine = 'unslot'\n", "x.toml:2: model.engine = 'unslot' is not one of auto, unsloth, trl; did you mean unsloth?"),
    ("[model]\nquant_type = 'nf5'\n", "x.toml:2: model.quant_type = 'nf5' is not one of nf4, fp4; did you mean nf4?"),
    ("[model]\nbase = 'tiny:mistrel'\n", "x.toml:2: model.base = 'tiny:mistrel' is unknown; did you mean tiny:mistral?"),
    ("[model]\nbase = 'tinny:gemma'\n", "x.toml:2: model.base = 'tinny:gemma' is neither OWNER/NAME on the Hub, nor a folder, nor tiny:FAMILY; did you mean tiny:gemma?"),
    ("[model]\nbase = 'https://huggingface.co/a/b'\n", "x.toml:2: model.base = 'https://huggingface.co/a/b' is neither OWNER/NAME on the Hub, nor a folder, nor tiny:FAMILY; known: tiny:gemma, tiny:gemma2, tiny:gemma3, tiny:gemma3n, tiny:gemma4, tiny:gpt_oss, tiny:llama2, tiny:llama3, tiny:llama4, tiny:ministral3, tiny:mistral, tiny:phi4, tiny:qwen25, tiny:qwen3, tiny:smollm2, tiny:smollm3"),
    ("[template]\nname = 'lama3'\n", "x.toml:2: template.name = 'lama3' is unknown; did you mean llama3?"),
    ("[data]\nsource = 'medquda'\n", "x.toml:2: data.source = 'medquda' is unknown; did you mean medquad?"),
    ("[[data.mix]]\nsource = 'wikidocs'\n", "x.toml:2: data.mix.0.source = 'wikidocs' is unknown; did you mean wikidoc?"),
    ("[data]\non_overflow = 'shorten'\n", "x.toml:2: data.on_overflow = 'shorten' is not one of drop, shorten_context, shorten_answer, error; did you mean shorten_answer?"),
    ("[train]\noptim = 'adamw_8bits'\n", "x.toml:2: train.optim = 'adamw_8bits' is unknown; did you mean adamw_8bit?"),
    ("[train]\nscheduler = 'cosin'\n", "x.toml:2: train.scheduler = 'cosin' is unknown; did you mean cosine?"),
    ("[train]\ncheckpointing = 'maybe'\n", "x.toml:2: train.checkpointing = 'maybe' is not one of auto, true, false, a whole number"),
    ("[model]\nshard = 'maybe'\n", "x.toml:2: model.shard = 'maybe' is not one of auto, true, false"),
    ("[train]\nprecision = 'bfp16'\n", "x.toml:2: train.precision = 'bfp16' is not one of auto, bf16, fp16, fp32; did you mean fp16?"),
    ("[train]\nreport_to = ['wandbb']\n", "x.toml:2: train.report_to = 'wandbb' is not one of tensorboard, wandb, trackio, mlflow; did you mean wandb?"),
    ("[build.models]\nllama = 'lama2'\n[[build.sets]]\nname = '{model}'\n", "x.toml:2: build.models.llama = 'lama2' is unknown; did you mean llama2?"),
    # kinds and bounds of values
    ("[model]\nbits = 7\n", "x.toml:2: model.bits = 7: must be one of 4, 8, 16"),
    ("[lora]\nrank = 0\n", "x.toml:2: lora.rank = 0: must be greater than or equal to 1"),
    ("[lora]\ndropout = 1.0\n", "x.toml:2: lora.dropout = 1.0: must be less than 1"),
    ("[lora]\ntargets = 'q_proj'\n", "x.toml:2: lora.targets = 'q_proj': must be a list"),
    ("[train]\nlearning_rate = '2e-4'\n", "x.toml:2: train.learning_rate = '2e-4': must be a number"),
    ("[train]\nepochs = 0\n", "x.toml:2: train.epochs = 0: must be greater than 0"),
    ("[data]\nnear_duplicate = 1.5\n", "x.toml:2: data.near_duplicate = 1.5: must be less than or equal to 1"),
    ("data = 'medquad'\n", "x.toml:1: data = 'medquad': must be a table"),
    ("extends = 3\n", "x.toml:1: extends = 3: must be a file, or a list of files"),
    # values that do not go together
    ("[train]\nepochs = 1\nmax_steps = 5\n", "x.toml:3: train.max_steps contradicts x.toml:2: train.epochs; set one of them"),
    ("[train]\nwarmup_steps = 5\nwarmup_fraction = 0.1\n", "x.toml:3: train.warmup_fraction contradicts x.toml:2: train.warmup_steps; set one of them"),
    ("[train]\nmax_steps = 50\nwarmup_steps = 100\n", "x.toml:3: train.warmup_steps = 100 leaves nothing of x.toml:2: train.max_steps = 50, so the learning rate never reaches its peak; lower it"),
    ("[train]\nbatch = 8\nmicro_batch = 3\n", "x.toml:3: train.micro_batch = 3 does not divide train.batch = 8; choose a divisor"),
    ("[train]\neval_steps = 50\nsave_steps = 25\n", "x.toml:3: train.save_steps = 25 must be a multiple of train.eval_steps = 50, so that the best checkpoint was evaluated; change one, or set train.keep_best = 'last'"),
    ("[train]\neval_steps = 'often'\n", "x.toml:2: train.eval_steps = 'often' is not one of auto, epoch, a whole number"),
    ("[train]\neval_steps = 'epoch'\nsave_steps = 25\n", "x.toml:3: train.save_steps = 25 must be a multiple of train.eval_steps = 'epoch', so that the best checkpoint was evaluated; change one, or set train.keep_best = 'last'"),
    ("[train]\nsave_steps = 25\n", "x.toml:2: train.save_steps = 25 needs evaluations at the same steps, and train.eval_steps = 'auto' chooses its own; set both, or set train.keep_best = 'last'"),
    ("[train]\neval_rows = 'some'\n", "x.toml:2: train.eval_rows = 'some' is not one of all, a whole number"),
    ("[train]\neval_rows = 0\n", "x.toml:2: train.eval_rows = 0: must be greater than or equal to 1"),
    ("[train]\nkeep_best = 'last'\nearly_stopping = 3\n", "x.toml:3: train.early_stopping contradicts x.toml:2: train.keep_best = 'last', which measures nothing; leave one out"),
    ("[data]\nsplit = { train = 0.9, dev = 0.0, test = 0.1 }\n[train]\nearly_stopping = 3\n", "x.toml:4: train.early_stopping needs dev rows; raise data.split.dev, or set train.keep_best = 'last'"),
    ("[data]\nsplit = { train = 0.8, dev = 0.1, test = 0.2 }\n", "x.toml:2: data.split: train, dev and test must sum to 1, train above 0"),
    ("[data]\npath = 'nowhere'\n", "x.toml:2: data.path = '{folder}/nowhere' does not exist; correct it, or leave it out"),
    ("[data]\nsource = 'jsonl'\n", "x.toml:1: data.path is missing; source jsonl reads a file of your own, name it, or a dataset of the Hub as data.repo"),
    ("[data]\nsource = 'wikidoc'\nlicence = 'MIT'\n", "x.toml:3: data.licence is read by source jsonl only; leave it out, or change the source"),
    ("[data]\nsource = 'jsonl'\npath = '.'\nrepo = 'owner/name'\n", "x.toml:4: data.repo contradicts x.toml:3: data.path; set one of them"),
    ("[data]\nsource = 'jsonl'\nrepo = 'name'\n", "x.toml:3: data.repo = 'name' is no OWNER/NAME of the Hub; correct it"),
    ("[data]\nsource = 'jsonl'\npath = '.'\nlicence = '[x](y)'\n", "x.toml:4: data.licence = '[x](y)' is no short name of a licence; write it as SPDX does, such as 'CC-BY-4.0'"),
    ("[data]\nsource = 'jsonl'\nrepo = 'a/b'\nmax_tokens = 512\n[publish]\npush = true\n", "x.toml:6: publish.push contradicts x.toml:2: data.source = 'jsonl': a/b states no licence; state it as data.licence, such as 'CC-BY-4.0', or set publish.push = false and release by hand with `medrecipes publish RUN --push --waive licence`"),
    ("[data]\nsource = 'wikidoc'\ncolumns = { question = 'q' }\n", "x.toml:3: data.columns is read by source jsonl only; leave it out, or change the source"),
    ("[data]\nsource = 'wikidoc'\nmix = [{ source = 'medquad' }]\n", "x.toml:2: data.source contradicts x.toml:3: data.mix; set it within the mixture"),
    ("[data]\nmix = [{ source = 'medquad', weight = 1.0 }, { source = 'wikidoc' }]\n", "x.toml:2: data.mix: some entries have a weight and some have none; give all one, or none"),
    ("[eval]\ncases = 'none.toml'\n", "x.toml:2: eval.cases = '{folder}/none.toml' does not exist; correct it, or leave it out"),
    ("[[build.sets]]\nname = 'one'\nsources = ['wikidoc']\n", "x.toml:3: build.sets.0.sources: 'wikidoc' is none of the recipe's own data; known: medquad"),
    ("[model]\nbits = 8\nquant_type = 'fp4'\n", "x.toml:3: model.quant_type is for 4 bits and contradicts x.toml:2: model.bits = 8; set one"),
    ("[model]\ncpu_offload = true\n", "x.toml:2: model.cpu_offload works with model.bits = 8 only; set that, or leave it out"),
    ("[model]\nbits = 8\ncpu_offload = true\n[train]\noptim = 'paged_adamw_8bit'\n", "x.toml:5: train.optim = 'paged_adamw_8bit' updates what lies on the GPU only, and x.toml:3: model.cpu_offload keeps layers on the CPU; set train.optim = 'adamw_torch'"),
    ("[model]\nbits = 16\nskip_modules = ['lm_head']\n", "x.toml:3: model.skip_modules means nothing with model.bits = 16; leave it out"),
    (f"{QUANTISED}bits = 16\n", "x.toml:3: model.bits = 16 contradicts x.toml:2: model.base, whose weights are published in 4 bits; name owner/model instead, or set 4"),
    (f"{QUANTISED}quant_type = 'fp4'\n", "x.toml:3: model.quant_type = 'fp4' contradicts x.toml:2: model.base, whose weights are published in nf4; name its 16-bit form instead, or set nf4"),
    ("[lora]\ninit = 'pissa'\n", "x.toml:2: lora.init = 'pissa' takes the weights apart, which quantised ones do not allow; set model.bits = 16, or lora.init = 'default'"),
    ("[model]\nrevision = 'v2'\nbase = 'tiny:mistral'\n", "x.toml:2: model.revision is read for bases of the Hub only; leave it out"),
    ("[lora]\ntargets = []\n", "x.toml:2: lora.targets is empty, so nothing would be trained; name modules, or 'all-linear'"),
    ("[lora]\ntargets = ['all-linear', 'lm_head']\n", "x.toml:2: lora.targets: 'all-linear' stands for all of them; leave the other names out"),
    ("[lora]\ntargets = ['q_proj', 'q_proj']\n", "x.toml:2: lora.targets: 'q_proj' stands there twice; leave one out"),
    ("[model]\nengine = 'trl'\n[lora]\ntargets = ['q_proj', 'lm_head']\n", "x.toml:4: lora.targets: 'lm_head' cannot be trained with x.toml:2: model.engine = 'trl', whose loss reads the head's weights past an adapter; set model.engine = 'unsloth', which trains the head whole, or leave it out"),
    ("[model]\nbase = 'a/b'\nengine = 'unsloth'\n[lora]\nuse_dora = true\n", "x.toml: lora.use_dora = true: Unsloth does not honour it; set model.engine = 'trl' (needs an NVIDIA GPU)"),
    # tag recipes
    (f"{TAG}[template]\nname = 'llama3'\n", "x.toml:5: template.name: a tag recipe has no chat template, for it trains on words; leave it out, or set another task than 'tag'"),
    (f"{TAG}[template]\nsystem = 'Be brief.'\n", "x.toml:5: template.system: a tag recipe has no chat template, for it trains on words; leave it out, or set another task than 'tag'"),
    (f"{TAG}packing = true\n", "x.toml:4: train.packing: a tag recipe has no use for it; leave it out, or set another task than 'tag'"),
    (f"{TAG}[eval]\nrows = 9\n", "x.toml:5: eval.rows: a tag recipe has no use for it; leave it out, or set another task than 'tag'"),
    ("task = 'tag'\n", "x.toml: train.keep_best = 'bits_per_byte' is not measured when task = 'tag'; set one of f1, loss, last"),
    (f"{TAG}[model]\nengine = 'unsloth'\n", "x.toml:5: model.engine = 'unsloth' has no tagging head; leave it out, or set 'trl'"),
    (f"{TAG}[tag]\nfocal_gamma = 1.0\n", "x.toml:5: tag.focal_gamma is read with tag.loss = 'focal' only; set that, or leave it out"),
    (f"{TAG}[tag]\noverlap = 1024\n", "x.toml:5: tag.overlap = 1024 must be less than half of data.max_tokens = 2048; lower it"),
    (f"{TAG}[lora]\ntargets = ['lm_head']\n[data]\nmax_tokens = 512\n", f"x.toml: lora.targets: 'lm_head' matches no module of this base (it has {SEVEN.removesuffix(', lm_head')})"),
    ("[model]\nbase = './mxfp4'\n[lora]\ntargets = ['q_proj']\n", "x.toml: model.base is published in mxfp4, on which LoRA does not train here; name a form of it in 16 bits, or in bitsandbytes' 4 bits, as Unsloth publishes it (unsloth/…-bnb-4bit)"),
    (f"{TAG}[model]\nbase = './gemma3'\n", "x.toml: model.base is a Gemma3, for which transformers has no token classification; choose a Mistral, Llama or Gemma (1 or 2)"),
    ("[train]\nkeep_best = 'f1'\n", "x.toml:2: train.keep_best = 'f1' is not measured when task = 'chat'; set one of bits_per_byte, loss, last"),
    ("[model]\nattention = 'bidirectional'\n", "x.toml:2: model.attention: a chat recipe has no use for it; leave it out, or set another task than 'chat'"),
    ("[tag]\nunit = 'document'\n", "x.toml:2: tag.unit: a chat recipe has no use for it; leave it out, or set another task than 'chat'"),
    # what could not be released in the end
    ("[data]\nsource = 'healthcaremagic'\nmax_tokens = 512\n[publish]\npush = true\n", f"x.toml:5: publish.push contradicts x.toml:2: data.source = 'healthcaremagic': HealthCareMagic-100k states no licence; {HAND}"),
    ("[data]\nmax_tokens = 512\n[[data.mix]]\nsource = 'medquad'\n[[data.mix]]\nsource = 'wikidoc'\n[publish]\npush = true\n", f"x.toml:8: publish.push contradicts x.toml:6: data.mix.1.source = 'wikidoc': Medical Meadow WikiDoc states no licence; {HAND}"),
    # sweeps
    ("[sweep]\n'lora.rnak' = [8]\n", "x.toml:2: sweep.lora.rnak matches no key of a recipe; did you mean lora.rank?"),
    ("[sweep]\n'lora.rank' = 8\n", "x.toml:2: sweep.lora.rank = 8: must be a list"),
    ("[sweep]\nlora.rank = []\n", "x.toml:2: sweep.lora.rank is empty; give the values to try"),
    ("[sweep]\nsamples = 3\n", "x.toml:2: sweep.samples draws from nothing; name a key to try, such as \"lora.rank\" = [8, 16]"),
    ("[sweep]\n'eval.rows' = [5, 6]\n", "x.toml:2: sweep.eval.rows cannot be swept: it changes no training, or what runs are compared by; leave it out"),
    ("[train]\nkeep_best = 'last'\n[sweep]\n'lora.rank' = [8]\n", "x.toml:2: train.keep_best = 'last' measures nothing on dev rows to choose a run by; set a measure"),
    ("[train]\nkeep_best = 'loss'\n[sweep]\n'model.base' = ['a/b', 'c/d']\n", "x.toml:4: sweep.model.base: the losses of different tokenizers do not compare; set train.keep_best = 'bits_per_byte'"),
    # the base's own config
    ("[model]\nbase = 'tiny:llama3'\n[data]\nmax_tokens = 4096\n", "x.toml: data.max_tokens = 4096 is beyond the base's context of 1024 tokens; lower it"),
    ("[model]\nbase = 'tiny:gemma'\n[data]\nmax_tokens = 64\n[lora]\ntargets = ['q_porj']\n", f"x.toml: lora.targets: 'q_porj' matches no module of this base; did you mean q_proj? (it has {SEVEN})"),
    ("[model]\nbase = './empty'\n", "x.toml: {folder}/empty: holds no config.json, so it is no base model; correct model.base"),
    ("[model]\nbase = './quantised'\nbits = 16\n", "x.toml: model.bits = 16, but the base is published in 4 bits; set that, or name its 16-bit form"),
    ("[model]\nbase = './encoder'\n", "x.toml: model.base is a BertForMaskedLM, which writes no text; choose another base"),
    ("[model]\nbase = './quantised'\nskip_modules = ['score']\n", f"x.toml: model.skip_modules: 'score' matches no module of this base (it has {SEVEN})"),
    # the file itself
    ("[train\n", "x.toml:1: broken TOML (Expected ']' at the end of a table declaration (at line 1, column 7)); correct this line"),
    ("[train]\nbatch = 8\nbatch = 9\n", "x.toml:3: broken TOML (Cannot overwrite a value (at line 3, column 10)); correct this line"),
    ("extends = 'base/mistrel.toml'\n", "x.toml: extends base/mistrel.toml: no such recipe; did you mean base/mistral.toml?"),
    ("extends = ['base/a.toml', 'base/b.toml']\n", "base/b.toml:2: lora.rank contradicts base/a.toml:2: lora.rank; say in x.toml which of them holds"),
    ("extends = ['base/epochs.toml', 'base/steps.toml']\n", "base/steps.toml:2: train.max_steps contradicts base/epochs.toml:2: train.epochs; set one of them"),
    ("extends = 'x.toml'\n", "x.toml: extends x.toml, which extends it in turn; break the circle"),
]  # fmt: skip
BESIDE = {
    "base/mistral.toml": "",
    "base/a.toml": "[lora]\nrank = 8\n",
    "base/b.toml": "[lora]\nrank = 16\n",
    "base/epochs.toml": "[train]\nepochs = 2\n",
    "base/steps.toml": "[train]\nmax_steps = 5\n",
    "quantised/config.json": json.dumps(
        {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "quantization_config": {"load_in_4bit": True},
        }
    ),
    "mxfp4/config.json": json.dumps(
        {
            "architectures": ["GptOssForCausalLM"],
            "model_type": "gpt_oss",
            "quantization_config": {"quant_method": "mxfp4"},
        }
    ),
    "gemma3/config.json": json.dumps({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}),
    "encoder/config.json": json.dumps({"architectures": ["BertForMaskedLM"], "model_type": "bert"}),
    "empty/README.md": "",
}


def said(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that `check --schema-only x.toml` finds, run in a folder with the files above."""
    for name, content in BESIDE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    (folder / "x.toml").write_text(text)
    monkeypatch.chdir(folder)
    found = check_all(["x.toml"], [], Console(), schema_only=True).problems
    return [line.replace(str(folder), "{folder}") for line in found]


def test_there_are_enough_of_them() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_a_planted_mistake_is_one_exact_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(text, tmp_path, monkeypatch) == [message]


def test_all_mistakes_are_told_at_once_whichever_layer_they_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "extends = ['base/a.toml', 'base/b.toml']\n[data]\nsource = 'medquda'\n[train]\nbatch = '8'\nepohcs = 2\n"
        "optim = 'adam'\nsave_steps = 3\n[model]\nbase = 'tiny:x'\n"
    )
    assert said(text, tmp_path, monkeypatch) == [
        "base/b.toml:2: lora.rank contradicts base/a.toml:2: lora.rank; say in x.toml which of them holds",
        "x.toml:5: train.batch = '8': must be an integer",
        "x.toml:6: train.epohcs is unknown; did you mean train.epochs?",
        "x.toml:10: model.base = 'tiny:x' is unknown; did you mean tiny:phi4?",
        "x.toml:3: data.source = 'medquda' is unknown; did you mean medquad?",
        "x.toml:7: train.optim = 'adam' is unknown; did you mean ademamix?",
        "x.toml:8: train.save_steps = 3 needs evaluations at the same steps, and train.eval_steps = 'auto' chooses its own; "
        "set both, or set train.keep_best = 'last'",
    ]


def test_a_rule_is_silent_about_a_key_that_was_not_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[train]\nbatch = 'x'\nmicro_batch = 3\n"  # the default batch of 8 is no multiple of 3
    assert said(text, tmp_path, monkeypatch) == ["x.toml:2: train.batch = 'x': must be an integer"]


def test_problems_are_grouped_by_file_and_a_shared_one_is_told_once(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "base.toml").write_text("[lora]\nrnak = 8\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(f"extends = 'base.toml'\n[train]\nbatch = '{name}'\n")
    done = cli("check", "--schema-only", tmp_path / "a.toml", tmp_path / "b.toml")
    assert done.returncode == 2
    at = f"{tmp_path}/"
    assert done.stderr.splitlines() == [
        f"{at}base.toml:2: lora.rnak is unknown; did you mean lora.rank? (in 2 recipes: {at}a.toml, {at}b.toml)",
        f"{at}a.toml:3: train.batch = 'a': must be an integer",
        f"{at}b.toml:3: train.batch = 'b': must be an integer",
    ]
    assert done.stdout.count("  result    2 problems found\n") == 2


# --- files laid over each other


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)


def test_what_two_extended_files_dispute_the_recipe_decides(tmp_path: Path) -> None:
    write(tmp_path, a="[lora]\nrank = 8\nalpha = 4\n", b="[lora]\nrank = 16\nalpha = 4\n")
    write(tmp_path, x="extends = ['a.toml', 'b.toml']\n[lora]\nrank = 32\n", y="extends = ['a.toml', 'b.toml']\n")
    assert load(tmp_path / "x.toml").recipe.lora.rank == 32
    with pytest.raises(
        RecipeError, match=r"b\.toml:2: lora\.rank contradicts .*a\.toml:2: lora\.rank; say in .*y\.toml"
    ):
        load(tmp_path / "y.toml")
    assert load(tmp_path / "y.toml", ["lora.rank=64"]).recipe.lora.rank == 64


def test_extending_goes_eight_files_deep_and_no_deeper(tmp_path: Path) -> None:
    for number in range(11):
        write(tmp_path, **{f"f{number}": f"extends = 'f{number + 1}.toml'\n" if number < 10 else "seed = 7\n"})
    assert load(tmp_path / "f2.toml").recipe.seed == 7
    with pytest.raises(RecipeError, match=r"f0\.toml: extends files more than 8 deep, down to .*f9\.toml; flatten"):
        load(tmp_path / "f0.toml")


def test_a_file_that_two_parents_share_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path, root="seed = 7\n", a="extends = 'root.toml'\n", b="extends = 'root.toml'\n[lora]\nrank = 8\n")
    write(tmp_path, x="extends = ['a.toml', 'b.toml']\n")
    layers = read_layers(tmp_path / "x.toml")
    assert layers.values == {"seed": 7, "lora": {"rank": 8}}
    assert str(layers.origins["seed"]) == f"{tmp_path}/root.toml:1"


def test_set_takes_the_place_of_what_it_excludes(tmp_path: Path) -> None:
    write(tmp_path, x="[train]\nepochs = 3\nwarmup_steps = 7\n")
    train = load(tmp_path / "x.toml", ["train.max_steps=9", "train.warmup_fraction=0.1"]).recipe
    assert (train.train.max_steps, train.train.warmup_fraction, train.unsaid) == (9, 0.1, {"epochs", "warmup_steps"})
    (tmp_path / "y.toml").write_text(train.to_toml())
    assert load(tmp_path / "y.toml").recipe.key == train.key


# --- bases: what their config alone tells


def test_the_names_of_optimisers_and_schedulers_are_transformers_own() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert set(OPTIMISERS) <= {name.value for name in OptimizerNames}
    assert set(SCHEDULERS) <= {name.value for name in SchedulerType}


def test_the_modules_of_every_known_architecture_are_those_that_transformers_builds() -> None:
    import torch
    from transformers import AutoConfig

    from medrecipes.engines.opening import auto_class

    assert set(TINY.values()) <= set(MODULES)
    # what leads into the layers of Gemma 4, and Llama 4's choice of experts, is theirs alone
    aside = {
        "gemma4": {"per_layer_projection", "per_layer_model_projection", "per_layer_input_gate", "embed_tokens_per_layer"},
        "gemma3n": {
            "per_layer_projection", "per_layer_model_projection", "per_layer_input_gate", "embed_tokens_per_layer", "modality_router",
            "linear_left", "linear_right", "prediction_coefs", "correction_coefs",
        },
        "llama4": {"router"},
    }  # fmt: skip
    for kind, modules in MODULES.items():
        if kind == "gemma3n":  # the half that sees is of the package timm
            continue
        one = {
            "num_hidden_layers": 1,
            "layer_types": ["full_attention"],
            "num_kv_shared_layers": 0,
            "activation_sparsity_pattern": None,
        }
        config = AutoConfig.for_model(kind, **(one if kind == "gemma3n_text" else {}))
        text = getattr(config, "text_config", config)
        for name in ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"):
            few: int | list[int] = {"num_hidden_layers": 1, "vocab_size": 64}.get(name, 256)
            setattr(text, name, [256] if isinstance(getattr(text, name), list) else few)
        text.pad_token_id = None
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:1]
        with torch.device("meta"):
            model = auto_class({"model_type": kind}).from_config(config)
        kinds = (torch.nn.Linear, torch.nn.Embedding)
        inside = [*model.get_decoder().named_modules(), ("lm_head", model.lm_head)]
        found = {name.rsplit(".", 1)[-1] for name, module in inside if isinstance(module, kinds)}
        found = {name for name in found if not name.isdigit()}  # places in a list
        assert found - aside.get(kind.removesuffix("_text"), set()) == set(modules), kind


def test_facts_of_a_model_that_also_sees_are_those_of_its_language_half() -> None:
    facts = read_facts({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": {"max_position_embeddings": 131072}, "quantization_config": {"load_in_4bit": True},
    })  # fmt: skip
    assert str(facts) == "Gemma3ForConditionalGeneration, context of 131,072 tokens, published in 4 bits"
    assert "q_proj" in facts.modules
    assert list(contradictions(Recipe(), facts)) == []


def test_an_unknown_architecture_is_not_guessed_at() -> None:
    facts = read_facts({"architectures": ["NewForCausalLM"], "model_type": "new"})
    assert (facts.modules, list(contradictions(Recipe(), facts))) == ((), [])
    assert tiny_facts("tiny:gemma").architecture == "GemmaForCausalLM"
    assert tiny_facts("tiny:gemma3").architecture == "Gemma3ForConditionalGeneration"


@pytest.fixture
def folder_base(tmp_path: Path) -> Path:
    """A base in a folder, without weights: config and the real tokenizer of Mistral v0.2."""
    folder = tmp_path / "mistral"
    shutil.copytree(families.folder("mistral-v1"), folder)
    config = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "max_position_embeddings": 32768}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def checked(folder: Path, text: str, *overrides: str) -> tuple[list[str], str]:
    """What a full check finds, and what it prints."""
    (folder / "r.toml").write_text(text)
    command = [sys.executable, "-m", "medrecipes", "check", str(folder / "r.toml")]
    command += [word for override in overrides for word in ("--set", override)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == (2 if done.stderr else 0)
    return done.stderr.splitlines(), done.stdout


def test_a_base_in_a_folder_is_proved_over_every_row_without_its_weights(folder_base: Path, tmp_path: Path) -> None:
    text = f'[model]\nbase = "{folder_base}"\n[data]\npath = "{ROOT}/data/medquad"\n'
    problems, printed = checked(tmp_path, text)
    assert problems == []
    assert "MistralForCausalLM, context of 32,768 tokens" in printed
    assert len(re.findall(r"(train|dev|test) +\d+ rows proved", printed)) == 3


def test_everything_wrong_with_base_template_and_data_is_told_in_one_go(folder_base: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.xml").write_text("<Document")
    text = f'[model]\nbase = "{folder_base}"\n[data]\npath = "broken"\nmax_tokens = 65536\n[lora]\ntargets = ["qkv_proj"]\n'
    problems, _ = checked(tmp_path, text)
    assert [line.removeprefix(f"{tmp_path}/r.toml: ") for line in problems] == [
        f"lora.targets: 'qkv_proj' matches no module of this base; did you mean v_proj? (it has {SEVEN})",
        "data.max_tokens = 65536 is beyond the base's context of 32768 tokens; lower it",
        "broken/1.xml: line 1: broken XML (unclosed token: line 1, column 0); fetch the file again",
    ]


def test_a_template_of_another_family_is_refused_before_any_weight_is_loaded(folder_base: Path, tmp_path: Path) -> None:
    text = f'[model]\nbase = "{folder_base}"\n[template]\nname = "llama3"\n[data]\npath = "{ROOT}/data/medquad"\n'
    problems, _ = checked(tmp_path, text)
    assert len(problems) == 1
    assert "r.toml: template 'llama3' needs the control token <|begin_of_text|>, " in problems[0]
    assert "choose the template of this base's family" in problems[0]


# --- the Hub: asked once, quickly, and done without


def run_check(recipe: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "medrecipes", "check", *recipe.split()]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**settings, **environment}
    )


@pytest.mark.parametrize(("strict", "code"), [("", 0), (" --strict", 1)])
def test_a_hub_that_is_switched_off_is_one_line_and_no_problem(strict: str, code: int, tmp_path: Path) -> None:
    done = run_check(f"recipes/mistral_medquad.toml{strict}", tmp_path, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines() == [
        "recipes/mistral_medquad.toml",
        "  base      not looked at: unsloth/mistral-7b-instruct-v0.2-bnb-4bit@main: cannot be had from the Hub "
        "(HF_HUB_OFFLINE is set) and was never fetched before; check the network, or give a folder as model.base",
        "  data      not looked at: lavita/MedQuAD@main: cannot be had from the Hub (HF_HUB_OFFLINE is set) and was never "
        "fetched whole before; check the network, or set data.path to a local copy",
        "  template  not proved: it needs the base's tokenizer",
        "  result    no problems found; 3 checks skipped: base, data, template",
    ]


class Silent(BaseHTTPRequestHandler):
    """Accepts a connection and never answers."""

    asked: list[str] = []  # noqa: RUF012 - shared by all requests on purpose

    def handle(self) -> None:
        self.asked.append("")
        threading.Event().wait(30)


def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    Silent.asked.clear()
    yield from served(Silent)


@pytest.fixture
def hub(folder_base: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in folder_base.iterdir() if path.name != "manifest.json"}
    with Hub() as made:
        made.store.create("open/mistral").put({**files, "model.safetensors": b"weights that nobody asks for"})
        made.store.create("a/gated", gated=True).put(files)
        yield made


def test_a_hub_that_never_answers_costs_seconds_once(silent: str, tmp_path: Path) -> None:
    code = (
        "import time; from medrecipes.core.hub import hub_silence as ask\n"
        "began = time.monotonic(); print(ask()); ask(); ask(); print(time.monotonic() - began)"
    )
    settings = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": silent}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=settings)
    why, seconds = done.stdout.splitlines()
    assert why == f"{silent} does not answer"
    assert float(seconds) < 10  # it is connected, and may yet answer
    assert len(Silent.asked) == 1


@pytest.mark.parametrize("listens", [False, True])
def test_a_hub_that_cannot_be_reached_costs_less(listens: bool) -> None:
    code = "import time; began = time.monotonic(); from medrecipes.core.hub import hub_silence; print(hub_silence()); print(time.monotonic() - began)"
    with socket.socket() as door, contextlib.ExitStack() as stack:
        door.bind(("127.0.0.1", 0))
        if listens:  # and takes nobody in: who comes now is kept waiting for a connection
            door.listen(0)
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(door.getsockname())
        endpoint = f"http://127.0.0.1:{door.getsockname()[1]}"
        settings = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=settings)
    why, seconds = done.stdout.splitlines()
    assert why == f"{endpoint} does not answer"
    assert float(seconds) < 7  # with the client's own import


def test_a_slow_hub_is_no_silent_one(hub: Hub) -> None:
    hub.faults.add(Fault("^HEAD /$", Harm(slow=4)))
    code = "from medrecipes.core.hub import hub_silence; print([hub_silence()])"
    settings = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=settings)
    assert done.stdout == "['']\n", done.stderr


def test_the_truth_about_a_base_of_the_hub_comes_without_its_weights(hub: Hub, tmp_path: Path) -> None:
    sha = hub.store.repos["model", "open/mistral"].resolve("main").sha
    recipe = tmp_path / "r.toml"
    recipe.write_text('[model]\nbase = "open/mistral"\n[data]\nmax_tokens = 40000\n[lora]\ntargets = ["q_porj"]\n')
    done = run_check(str(recipe), tmp_path, HF_ENDPOINT=hub.url)
    assert f"open/mistral@{sha[:12]}: MistralForCausalLM, context of 32,768 tokens" in done.stdout
    assert "lora.targets: 'q_porj' matches no module of this base; did you mean q_proj?" in done.stderr
    assert "data.max_tokens = 40000 is beyond the base's context of 32768 tokens; lower it" in done.stderr
    assert not [line for line in hub.requests if "safetensors" in line]
    assert hub.requests.count("HEAD /") == 1
    # fetched once, it is known without the Hub, and a template is proved on an example where the rows are not at hand
    again = run_check(str(recipe), tmp_path, HF_HUB_OFFLINE="1")
    assert f"open/mistral@{sha[:12]}: MistralForCausalLM" in again.stdout
    assert "template  1 rows proved: 2 answers end with a supervised stop token" in again.stdout


def test_a_gated_base_and_an_unknown_one_are_each_one_line(hub: Hub, tmp_path: Path) -> None:
    for name, expected in (
        ("a/gated", "a/gated: the base is gated; accept its terms on its Hub page, then log in with `hf auth login`"),
        ("a/unknown", "a/unknown@main: cannot be had from the Hub ("),
    ):
        recipe = tmp_path / "r.toml"
        recipe.write_text(f'[model]\nbase = "{name}"\n[data]\npath = "{ROOT}/data/medquad"\n')
        done = run_check(str(recipe), tmp_path, HF_ENDPOINT=hub.url)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert f"{recipe}: {expected}" in done.stderr
