"""Code of strangers: a base, a run folder, a repository or a data set that brings its own never has it run unasked.

Every poisoned file writes to a marker when its code runs; that it would is shown by the one run that is allowed to.
"""

from __future__ import annotations

import builtins
import io
import json
import pickle
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medrecipes.core.errors import MedRecipesError, TemplateError, TrustError
from medrecipes.core.trust import Grant, granted, trusts
from medrecipes.rendering.bounded_jinja import Bounded
from tests import families
from tests.attack.harness import LIMIT_S, Outcome, attack, limited, refused
from tests.conftest import ROOT
from tests.hub import Hub, Repo

OPTION = "--trust-remote-code"
OWNER = "mallory/Custom-Mistral"
CODE = """
open({marker!r}, "a").write({name!r} + "\\n")
import transformers
class Config(transformers.MistralConfig):
    model_type = "custom"
class Model(transformers.MistralForCausalLM):
    config_class = Config
class Words(transformers.PreTrainedTokenizerFast):
    pass
def generate(*_, **__): ...
"""
AUTO = {
    "AutoConfig": "evil.Config",
    "AutoModelForCausalLM": "evil.Model",
    "AutoModelForTokenClassification": "evil.Model",
}
RECIPE = """
{task}
[model]
base = "{base}"
bits = 16
trust_remote_code = {trust}
{template}
[data]
source = "{source}"
path = "{root}/data/{path}"
{limit}
[train]
optim = "adamw_torch"
warmup_steps = 0
batch = 64
epochs = 2
eval_steps = "epoch"
save_steps = "epoch"
{rest}
"""
CHAT = {
    "task": "", "template": '[template]\nname = "mistral-v1"\nforeign = true', "source": "medquad", "path": "medquad", "limit": "limit = 60",
    "rest": "[eval]\nrows = 4\nmax_new_tokens = 4",
}  # fmt: skip
TAG = {
    "task": 'task = "tag"',
    "template": "",
    "source": "bio_ner",
    "path": "bio",
    "limit": "",
    "rest": 'keep_best = "f1"',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trust")


@pytest.fixture(scope="module")
def marker(place: Path) -> Path:
    return place / "marker"


@pytest.fixture(autouse=True)
def _nobody_is_asked(marker: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No command asks at the terminal, and after every test nothing of a stranger's has run."""

    def ask(*words: object) -> str:
        raise AssertionError(f"asked at the terminal: {words}")

    monkeypatch.setattr(builtins, "input", ask)
    yield
    assert not marker.exists(), marker.read_text()


@pytest.fixture(scope="module")
def plain(place: Path, libraries: None) -> Path:
    """A small base without any code, with the tokenizer of its family cut short."""
    import torch
    import transformers

    torch.manual_seed(1)
    spec = cut_short(json.loads((families.folder("mistral-v1") / "tokenizer.json").read_text()), merges=400)
    config = transformers.MistralConfig(
        vocab_size=len(spec["model"]["vocab"]), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    folder = place / "plain"
    transformers.MistralForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    shutil.copy(families.folder("mistral-v1") / "tokenizer_config.json", folder)
    return folder


def cut_short(spec: dict[str, Any], merges: int) -> dict[str, Any]:
    """A tokenizer with the first of its merges alone and the tokens that these make: opened dozens of times, quickly."""
    model = spec["model"]
    kept = model["merges"][:merges]
    whole = {piece for pair in kept for piece in (*pair, "".join(pair))} | {t["content"] for t in spec["added_tokens"]}
    pieces = [
        p for p in model["vocab"] if p in whole or (p.isascii() and len(p) == 1) or p == "▁" or p.startswith("<0x")
    ]
    ids = {piece: number for number, piece in enumerate(pieces)}
    added = [{**token, "id": ids[token["content"]]} for token in spec["added_tokens"]]
    return {**spec, "added_tokens": added, "model": {**model, "vocab": ids, "merges": kept}}


class Poison:
    """Makes poisoned copies of a base, and recipes that name them."""

    def __init__(self, place: Path, plain: Path, marker: Path) -> None:
        self.place, self.plain, self.marker = place, plain, marker

    def code(self, name: str) -> str:
        return CODE.format(marker=str(self.marker), name=name)

    def base(self, name: str, files: dict[str, Any] | None = None, lost: tuple[str, ...] = ()) -> Path:
        """A copy of the base: objects are laid over its JSON files, texts and bytes are written as they are."""
        folder = self.place / "bases" / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.plain, folder)
        (folder / "evil.py").write_text(self.code(name))
        for path in lost:
            (folder / path).unlink()
        lay(folder, files or {})
        return folder

    def custom(self) -> Path:
        """A base of an architecture that transformers does not have."""
        return self.base("custom", {"config.json": {"model_type": "custom", "auto_map": AUTO}})

    def recipe(self, base: object, *, trust: bool = True, name: str = "r", **more: str) -> Path:
        path = self.place / f"{name}.toml"
        path.write_text(RECIPE.format(root=ROOT, base=base, trust=str(trust).lower(), **{**CHAT, **more}))
        return path

    def pickled(self) -> bytes:
        """A pickle that writes the marker when it is opened by whoever lets it."""
        return pickle.dumps(Bomb(f"open({str(self.marker)!r}, 'a').write('pickle')"))


class Bomb:
    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return exec, (self.code,)


def lay(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, dict):
            before = json.loads(path.read_text()) if path.exists() else {}
            content = json.dumps({**before, **content})
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def poison(place: Path, plain: Path, marker: Path) -> Poison:
    return Poison(place, plain, marker)


@pytest.fixture(scope="module")
def run(poison: Poison) -> Path:
    """A finished run of a base that brings every poison which transformers can do without, and was run in spite of it."""
    base = poison.base("laden", {
        "config.json": {"auto_map": AUTO},
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Words", "evil.Words"]}, "chat_template": ENDLESS},
        "generation_config.json": {"penalty_alpha": 0.6, "top_k": 4, "no_repeat_ngram_size": 1, "suppress_tokens": [1, 2, 3]},
        "chat_template.jinja": ENDLESS,
        "custom_generate/generate.py": poison.code("custom_generate"),
        "additional_chat_templates/tool_use.jinja": ENDLESS,
        "setup.py": poison.code("setup"), "__init__.py": poison.code("init"), "conftest.py": poison.code("conftest"),
    })  # fmt: skip
    done = attack(
        "run", poison.recipe(base, trust=False, name="laden"), "--runs", poison.place / "laden", cwd=poison.place
    )
    assert done.code == 0, done
    [folder] = (poison.place / "laden").iterdir()
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the run as it may come from elsewhere, anew each time."""

    def copy() -> Path:
        shutil.rmtree(tmp_path / "theirs", ignore_errors=True)
        shutil.copytree(run, tmp_path / "theirs")
        return tmp_path / "theirs"

    return copy


def asking(run: Path, **changes: str) -> Path:
    """The run's recipe, which now asks for code."""
    text = (run / "recipe.toml").read_text()
    assert "trust_remote_code = false" in text
    text = text.replace("trust_remote_code = false", "trust_remote_code = true")
    for old, new in changes.items():
        text = text.replace(old, new)
    (run / "recipe.toml").write_text(text)
    return run


def told(outcome: Outcome, *words: object) -> None:
    """A refusal: one line."""
    refused(outcome, *map(str, words))
    assert len([line for line in outcome.said if not line.startswith("note ")]) == 1, outcome.err


# --- a base


def test_a_base_that_asks_is_refused_by_every_command_that_opens_it(
    poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    base = poison.custom()
    asks, quiet = poison.recipe(base), poison.recipe(base, trust=False, name="quiet")
    commands: list[tuple[object, ...]] = [
        ("check",),
        ("plan", "--gpu", "24GB"),
        ("preview",),
        ("run",),
        ("run", "--fresh"),
    ]
    for command, *more in commands:
        outcome = attack(command, asks, *more, cwd=poison.place)
        told(outcome, f"{asks}:6: model.trust_remote_code = true", base, f"{OPTION} {base}")
    swept = poison.recipe(base, rest='[sweep]\n"lora.rank" = [2, 4]', name="swept")
    outcome = attack("sweep", swept, cwd=poison.place)
    refused(outcome, f"{swept}:6: model.trust_remote_code = true", f"{OPTION} {base}")
    tagged = poison.recipe(base, name="tagged", **TAG)
    for command in ("check", "run"):
        told(attack(command, tagged, cwd=poison.place), f"{tagged}:6: model.trust_remote_code", f"{OPTION} {base}")
    # a recipe that does not say it needs code gets none either, and says what is missing
    told(
        attack("run", quiet, cwd=poison.place),
        "transformers knows no 'custom'",
        "model.trust_remote_code = true",
        OPTION,
    )
    told(attack("run", quiet, "--set", "model.trust_remote_code=true", cwd=poison.place), "--set: model.trust_remote_code", OPTION)  # fmt: skip
    quiet_tag = poison.recipe(base, trust=False, name="quiet_tag", **TAG)
    told(attack("run", quiet_tag, cwd=poison.place), "transformers knows no 'custom'", OPTION)
    record_property("attacks", ("bases and runs that bring code", 11))


def test_only_the_command_line_grants_and_only_what_it_names(
    poison: Poison, record_property: Callable[[str, object], None], tmp_path: Path
) -> None:
    base = poison.custom()
    other = poison.base("other")
    recipe = poison.recipe(base)
    sha = "0123456789abcdef0123456789abcdef01234567"
    for word in (
        OWNER,
        f"{OWNER}@main",
        f"{OWNER}@{sha[:12]}",
        f"@{sha}",
        f"{OWNER}@{sha.upper()}",
        str(tmp_path / "gone"),
        "",
    ):
        told(
            attack("check", recipe, OPTION, word, cwd=poison.place),
            "is neither a folder nor a repository with its whole commit",
        )
    for word in (other, f"{base}/..", f"{base.name}@{sha}", f"{OWNER}@{sha}"):
        told(attack("check", recipe, OPTION, word, cwd=poison.place), f"{OPTION} {base}")
    # whatever a file says of it
    (poison.place / "sly.toml").write_text(f'extends = "r.toml"\ntrust_remote_code = ["{base}"]\n')
    refused(attack("check", poison.place / "sly.toml", cwd=poison.place), "trust_remote_code is unknown")
    with granted([f"{OWNER}@{sha}", str(base)]):
        assert trusts(OWNER, sha)
        assert trusts(str(base), None)
        assert not trusts(OWNER, sha.replace("0", "1"))
        assert not trusts(OWNER, None)
        assert not trusts(str(base), sha)
        assert not trusts(str(other), None)
    assert not trusts(str(base), None)
    assert Grant.parse(str(base / ".." / base.name)) == Grant(str(base), None)
    record_property("attacks", ("bases and runs that bring code", 12))


@pytest.mark.slow
def test_a_run_with_code_that_was_granted_says_so(poison: Poison, marker: Path) -> None:
    base = poison.custom()
    recipe = poison.recipe(base, name="granted")
    outcome = attack("run", recipe, "--runs", poison.place / "granted", OPTION, base, cwd=poison.place)
    assert marker.read_text() == "custom\n"
    marker.unlink()
    assert outcome.code == 0, outcome
    [run] = (poison.place / "granted").iterdir()
    assert json.loads((run / "run.json").read_text())["base_code"] == str(base)
    assert "brings Python code of its own" in (run / "README.md").read_text()


def test_code_runs_where_the_command_line_says_so(poison: Poison, marker: Path, tmp_path: Path) -> None:
    theirs = tagged(poison, tmp_path)
    attack("tag", theirs, "Naloxone.", OPTION, poison.base("other"), cwd=tmp_path)
    assert not marker.exists()
    attack("tag", theirs, "Naloxone.", OPTION, poison.custom(), cwd=tmp_path)  # whose adapter is none
    assert marker.read_text() == "custom\n"
    marker.unlink()


def tagged(poison: Poison, folder: Path) -> Path:
    """What looks like a tagging run of a base with code of its own."""
    theirs = folder / "theirs"
    lay(theirs, {
        "run.json": {"state": "finished", "task": "tag", "base": str(poison.custom()), "base_revision": None},
        "adapter/adapter_config.json": {"peft_type": "LORA"}, "adapter/tagging.json": {"labels": ["O"]},
    })  # fmt: skip
    shutil.copy(poison.recipe(poison.custom(), name="tags", **TAG), theirs / "recipe.toml")
    return theirs


BROUGHT: dict[str, tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = {
    "code of another repository": ({"config.json": {"model_type": "custom", "auto_map": {"AutoConfig": "eve/code--evil.Config"}}}, (), ("eve/code", "takes its code from")),
    "an adapter of a poisoned base": ({"adapter_config.json": {"base_model_name_or_path": "../custom", "peft_type": "LORA"}}, (), ("adapter_config.json",)),
    "a kernel": ({"config.json": {"attn_implementation": "eve/kernel"}}, (), ("eve/kernel", "kernels")),
    "a kernel under its inner name": ({"config.json": {"_attn_implementation_internal": "eve/kernel"}}, (), ("eve/kernel",)),
    "a kernel of a part": ({"config.json": {"text_config": {"_attn_implementation": {"": "eve/kernel@main"}}}}, (), ("eve/kernel",)),
    "kernels of experts": ({"config.json": {"experts_implementation": "eve/kernel:moe"}}, (), ("eve/kernel",)),
    "weights in a pickle": ({"pytorch_model.bin": b"PICKLE"}, ("model.safetensors",), ("pytorch_model.bin", "safetensors")),
    "weights in several pickles": ({"pytorch_model-00001-of-00002.bin": b"PICKLE", "pytorch_model-00002-of-00002.bin": b"PICKLE"}, ("model.safetensors",), ("pytorch_model-00001-of-00002.bin",)),
    "weights in a checkpoint": ({"model.ckpt": b"PICKLE"}, ("model.safetensors",), ("model.ckpt",)),
    "a config that is a list": ({"config.json": "[]"}, (), ("config.json", "no JSON object")),
}  # fmt: skip


def test_a_base_that_brings_more_than_a_base_is_named(
    poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    for what, (files, lost, words) in BROUGHT.items():
        files = {name: poison.pickled() if content == b"PICKLE" else content for name, content in files.items()}
        base = poison.base("brought", files, lost)
        recipe = poison.recipe(base, trust="code" in what, name="brought")
        for command in (("check",), ("run",), ("plan", "--gpu", "24GB")):
            outcome = attack(
                command[0], recipe, *command[1:], *((OPTION, base) if "code" in what else ()), cwd=poison.place
            )
            told(outcome, *words)
    record_property("attacks", ("bases and runs that bring code", 3 * len(BROUGHT)))


def test_weights_under_a_false_name_are_one_line(
    poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    base = poison.base("false", {"model.safetensors": poison.pickled()})
    told(attack("run", poison.recipe(base, trust=False, name="false"), cwd=poison.place), base, "cannot be opened")
    record_property("attacks", ("bases and runs that bring code", 1))


# --- a run folder from elsewhere

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("chat",), ("eval",), ("eval", "--fresh"), ("export", "--format", "adapter"), ("export", "--format", "merged-16bit"), ("verify",),
)  # fmt: skip


def test_what_a_laden_base_brought_did_not_run_and_the_run_is_whole(run: Path) -> None:
    state = json.loads((run / "run.json").read_text())
    assert state["state"] == "finished"
    assert state["base_code"] is None
    saved = json.loads((run / "adapter" / "tokenizer_config.json").read_text())
    assert "auto_map" not in saved
    assert "chat_template" not in saved


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_laden_base_is_opened_by_every_command_without_its_code(command: tuple[str, ...], copied: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(builtins, "input", lambda *_: (_ for _ in ()).throw(EOFError))
    outcome = attack(command[0], copied(), *command[1:], cwd=copied().parent)
    assert outcome.code == 0, outcome


def test_a_run_whose_recipe_was_made_to_ask_is_refused(
    copied: Callable[..., Path], poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    base = poison.custom()
    for command, *more in COMMANDS:
        theirs = asking(copied(), laden="custom")
        outcome = attack(command, theirs, *more, cwd=theirs.parent)
        told(outcome, f"{theirs}/recipe.toml:", "model.trust_remote_code = true", f"{OPTION} {base}")
        told(attack(command, theirs, *more, OPTION, poison.plain, cwd=theirs.parent), f"{OPTION} {base}")
    theirs = asking(copied(), laden="custom")
    refused(attack("publish", theirs, cwd=theirs.parent), "gate reload", f"{OPTION} {base}")
    # where a base lies that was built on the spot, run.json says
    theirs = asking(copied(), **{str(poison.place / "bases" / "laden"): "tiny:mistral"})
    lay(theirs, {"run.json": {"base": str(base)}})
    refused(attack("chat", theirs, cwd=theirs.parent), "trust_remote_code")
    record_property("attacks", ("bases and runs that bring code", 2 * len(COMMANDS) + 2))


def test_a_tagging_run_that_asks_is_refused(
    poison: Poison, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    base, theirs = poison.custom(), tagged(poison, tmp_path)
    told(attack("tag", theirs, "Naloxone.", cwd=tmp_path), f"{theirs}/recipe.toml:6", f"{OPTION} {base}")
    record_property("attacks", ("bases and runs that bring code", 1))


ADAPTERS: dict[str, tuple[dict[str, Any], str]] = {
    "prompts that are tokenized": ({"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "TEXT", "tokenizer_name_or_path": "LADEN", "tokenizer_kwargs": {"trust_remote_code": True}}, "LoRA"),
    "another adapter": ({"peft_type": "XLORA", "adapters": {"0": "LADEN"}}, "LoRA"),
    "no kind": ({"peft_type": None}, "LoRA"),
    "a module to import": ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "megatron_config"),
    "a cache in a pickle": ({"corda_config": {"cache_file": "PICKLE", "covariance_file": "PICKLE"}}, "corda_config"),
    "gradients in a pickle": ({"lora_ga_config": {"cache_file": "PICKLE"}}, "lora_ga_config"),
    "eigenvectors": ({"eva_config": {"rho": 2.0}}, "eva_config"),
}  # fmt: skip


def test_an_adapter_that_would_have_more_opened_is_named(
    copied: Callable[..., Path], poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    count = 0
    (poison.place / "cache.pt").write_bytes(poison.pickled())
    laden = poison.place / "bases" / "laden"
    for config, word in ADAPTERS.values():
        said = json.loads(
            json.dumps(config).replace("PICKLE", str(poison.place / "cache.pt")).replace("LADEN", str(laden))
        )
        theirs = copied()
        lay(theirs, {"adapter/adapter_config.json": said})
        for command, *more in (COMMANDS[0], COMMANDS[1], COMMANDS[3]):
            told(attack(command, theirs, *more, cwd=theirs.parent), "adapter_config.json", word)
            count += 1
    for name in ("adapter_model.bin", "adapter_model.pt"):
        theirs = copied()
        (theirs / "adapter" / "adapter_model.safetensors").unlink()
        lay(theirs, {f"adapter/{name}": poison.pickled()})
        for command, *more in (COMMANDS[0], COMMANDS[1], COMMANDS[3]):
            told(attack(command, theirs, *more, cwd=theirs.parent), name, "pickle")
            count += 1
    record_property("attacks", ("bases and runs that bring code", count))


def test_classes_that_an_adapter_names_are_not_looked_up(
    copied: Callable[..., Path],
    poison: Poison,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """peft and transformers would import these for whoever loads an adapter by itself."""
    theirs = copied()
    lay(theirs, {
        "adapter/adapter_config.json": {"auto_mapping": {"base_model_class": "Model", "parent_library": "evil"}, "base_model_name_or_path": "mallory/evil"},
        "adapter/tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Words", "evil.Words"]}, "tokenizer_class": "Words"},
        "adapter/config.json": {"model_type": "custom", "auto_map": AUTO}, "adapter/evil.py": poison.code("adapter"),
    })  # fmt: skip
    monkeypatch.setattr(builtins, "input", lambda *_: "/quit")
    monkeypatch.syspath_prepend(theirs / "adapter")
    outcome = attack("chat", theirs, cwd=theirs / "adapter")
    assert outcome.code == 0, outcome
    record_property("attacks", ("bases and runs that bring code", 2))


STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def test_pickles_of_a_checkpoint_are_one_line(
    copied: Callable[..., Path], poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    resumed(copied(), poison, STATES[0])
    record_property("attacks", ("bases and runs that bring code", 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STATES[1:], "training_args.bin"])
def test_any_pickle_of_a_checkpoint_is_one_line(name: str, copied: Callable[..., Path], poison: Poison) -> None:
    resumed(copied(), poison, name)


def resumed(theirs: Path, poison: Poison, name: str) -> None:
    """A run that goes on from a checkpoint whose state is a pickle with code, as torch writes them, without hashes."""
    import torch

    runs = theirs.parent / "runs"
    folder = runs / next((poison.place / "laden").iterdir()).name
    shutil.rmtree(runs, ignore_errors=True)
    shutil.copytree(theirs, folder)
    lay(folder, {"run.json": {"state": "training"}})
    # with a step to go: where there is none, nobody reads the random state
    checkpoint, last = (folder / "checkpoints" / f"checkpoint-{step}" for step in (1, 2))
    shutil.rmtree(last)
    (checkpoint / "manifest.json").unlink()
    torch.save(Bomb(f"open({str(poison.marker)!r}, 'a').write('pickle')"), checkpoint / name)
    outcome = attack("run", poison.place / "laden.toml", "--runs", runs, cwd=poison.place)
    if name == "training_args.bin":  # which nobody reads
        assert outcome.code == 0, outcome
    else:
        told(outcome, f"{checkpoint}: its optimizer, scheduler or random state")


TASKS: dict[str, tuple[str, str]] = {
    "a function": ("t.yaml", "task: t\nprocess_docs: !function evil.generate\n"),
    "a class": ("t.yaml", "class: !function evil.Model\n"),
    "a function in a list": ("t.yaml", "task: t\nmetric_list:\n  - metric: acc\n    aggregation: !function evil.generate\n"),
    "Python's own tag": ("t.yaml", "task: !!python/object/apply:os.system ['true']\n"),
    "another tag": ("t.yaml", "task: !eve x\n"),
    "a metric that is a file": ("t.yaml", "task: t\nmetric_list:\n  - metric: ./evil\n"),
    "a metric of the Hub": ("t.yaml", "task: t\nmetric_list:\n  - metric: eve/metric\n"),
    "a metric that is fetched": ("t.yaml", "task: t\nmetric_list:\n  - metric: acc\n    hf_evaluate: true\n"),
    "a prompt of another library": ("t.yaml", "task: t\nuse_prompt: promptsource:*\n"),
    "a file elsewhere": ("t.yaml", "include: ../evil.yaml\ntask: t\n"),
    "a file at the root": ("t.yaml", "include: [/etc/evil.yaml]\ntask: t\n"),
    "a file of another ending": ("t.yaml", "include: evil.txt\ntask: t\n"),
    "deeper": ("a/b/t.yml", "task: t\nprocess_results: !function ../../evil.generate\n"),
    "by another name": ("t.yaml", "a: &x\n  b: !function evil.generate\ntask: *x\n"),
    "in a second document": ("t.yaml", "task: t\n---\ntask: !function evil.generate\n"),
}  # fmt: skip


def test_task_files_that_run_code_want_the_same_word(
    run: Path, poison: Poison, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for number, (name, text) in enumerate(TASKS.values()):
        folder = tmp_path / f"tasks-{number}"
        lay(folder, {name: text, "evil.py": poison.code("tasks"), "evil.txt": "task: !function evil.generate"})
        outcome = attack("eval", run, "--suite", "lm-eval:t", "--include", folder, cwd=tmp_path)
        told(outcome, folder / name, f"{OPTION} {shlex.quote(str(folder))}")
    for text in ("task: [", "task: \x00", "a: " + "[" * 20_000):
        lay(tmp_path / "broken", {"t.yaml": text})
        told(
            attack("eval", run, "--suite", "lm-eval:t", "--include", tmp_path / "broken", cwd=tmp_path),
            "cannot be read as YAML",
        )
    told(attack("eval", run, "--suite", "lm-eval:t", "--include", tmp_path / "gone", cwd=tmp_path), "no such folder")
    record_property("attacks", ("task files that bring code", len(TASKS) + 4))


def test_task_files_of_plain_words_need_no_word(tmp_path: Path) -> None:
    from medrecipes.evaluation.benchmarks import allow_include

    plain = "task: t\ninclude: sub/more.yaml\ndataset_kwargs: &k\n  data_files: {test: q.jsonl}\nother: *k\nmetric_list:\n  - metric: exact_match\n    hf_evaluate: false\n"
    lay(tmp_path, {"t.yaml": plain, "sub/more.yaml": "doc_to_text: '{{question}}'\n", "utils.py": "", "empty.yaml": ""})
    allow_include(tmp_path)
    lay(tmp_path, {"f.yaml": "task: !function utils.f\n"})
    with pytest.raises(TrustError):
        allow_include(tmp_path)
    with granted([str(tmp_path)]):
        allow_include(tmp_path)


# --- the Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub on loopback, for the clients of this process."""
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import disable_progress_bars

    with Hub() as made:
        disable_progress_bars()  # which this harness would take for what a command says
        for name, value in {
            "ENDPOINT": made.url, "HUGGINGFACE_CO_URL_TEMPLATE": made.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(tmp_path / "hub"),
        }.items():  # fmt: skip
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", made.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield made


def offered(hub: Hub, folder: Path, name: str = OWNER) -> Repo:
    """The files of a folder as a repository."""
    repo = hub.store.create(name)
    repo.put({path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    return repo


def test_a_base_of_the_hub_is_trusted_at_its_commit_alone(
    hub: Hub, poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    repo = offered(hub, poison.custom())
    first = repo.resolve("main").sha
    recipe = poison.recipe(OWNER, name="hub")
    for command, *more in (("check",), ("plan", "--gpu", "24GB"), ("preview",), ("run",)):
        outcome = attack(command, recipe, *more, cwd=poison.place)
        told(
            outcome,
            f"{recipe}:6: model.trust_remote_code = true",
            f"{OPTION} {OWNER}@{first}",
            f"{hub.url}/{OWNER}/tree/{first}",
        )
    assert "no problems found" in attack("check", recipe, OPTION, f"{OWNER}@{first}", cwd=poison.place).out
    repo.put({"evil.py": poison.code("later").encode()})  # the branch moves
    later = repo.resolve("main").sha
    assert later != first
    told(attack("check", recipe, OPTION, f"{OWNER}@{first}", cwd=poison.place), f"{OPTION} {OWNER}@{later}")
    pinned = ("--set", f"model.revision={first}")
    assert "no problems found" in attack("check", recipe, *pinned, OPTION, f"{OWNER}@{first}", cwd=poison.place).out
    told(attack("check", recipe, *pinned, cwd=poison.place), f"{OPTION} {OWNER}@{first}")
    record_property("attacks", ("bases and runs that bring code", 6))


def test_pickles_of_the_hub_are_not_even_fetched(
    hub: Hub, poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    repo = offered(hub, poison.base("bin", {"pytorch_model.bin": poison.pickled()}, ("model.safetensors",)))
    for command in ("check", "run"):
        told(
            attack(command, poison.recipe(OWNER, trust=False, name="bin"), cwd=poison.place), OWNER, "pytorch_model.bin"
        )
    assert not [request for request in hub.requests if "pytorch_model.bin" in request]
    assert repo.name == OWNER
    record_property("attacks", ("bases and runs that bring code", 2))


def test_verify_of_a_strangers_release_runs_nothing(
    hub: Hub, run: Path, poison: Poison, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """A release as `publish` makes them, whose recipe asks for the code of its own base."""
    from medrecipes.recipe.load import load
    from medrecipes.release.publish.release import of_run
    from medrecipes.runs.folder import RunDir

    base = offered(hub, poison.custom()).resolve("main").sha
    release = of_run(
        RunDir(run), load(run / "recipe.toml").recipe, "adapter", "mallory/model", (), tmp_path / "release"
    )
    files = {name: path.read_bytes() for name, path in release.files.items()}
    text = files["recipe.toml"].decode().replace("trust_remote_code = false", "trust_remote_code = true")
    files["recipe.toml"] = "\n".join(f'base = "{OWNER}"' if line.startswith("base = ") else line for line in text.splitlines()).encode()  # fmt: skip
    files["evil.py"] = files["modeling_evil.py"] = poison.code("release").encode()
    hub.store.create("mallory/model").put(files)
    outcome = attack("verify", "mallory/model", "--set", f"data.path={ROOT}/data/medquad", cwd=poison.place)
    told(outcome, "mallory/model: recipe.toml:", "model.trust_remote_code = true", f"{OPTION} {OWNER}@{base}")
    assert "evaluation loss" not in outcome.out
    record_property("attacks", ("bases and runs that bring code", 1))


def test_a_loading_script_of_a_data_set_is_no_data(
    hub: Hub, poison: Poison, record_property: Callable[[str, object], None]
) -> None:
    sample = ROOT / "data/medquad_hub/train-00000-of-00001.parquet"
    scripts = {
        name: poison.code("script").encode() for name in ("MedQuAD.py", "medquad.py", "lavita.py", "data/medquad.py")
    }
    hub.store.create("lavita/MedQuAD", "dataset").put({f"data/{sample.name}": sample.read_bytes(), **scripts})
    recipe = poison.place / "data.toml"
    recipe.write_text(f'extends = "{ROOT}/recipes/base/tiny.toml"\n[data]\nsource = "medquad"\n')
    outcome = attack("build", recipe, "--out", poison.place / "built", cwd=poison.place)
    assert outcome.code == 0, outcome
    assert not [request for request in hub.requests if request.endswith(".py")]
    record_property("attacks", ("bases and runs that bring code", len(scripts)))


# --- templates

ENDLESS = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
S = "{% set s = 'x' * 200000 %}"
NS = "{% set ns = namespace(x=[1], s='xx', n=9) %}"
TEMPLATES: dict[str, str] = {
    "nested loops": ENDLESS,
    "a range without end": "{% for i in range(10**9) %}{% endfor %}",
    "loops after loops": "{% for i in range(100000) %}{% endfor %}" * 3,
    "a loop over a filter": "{% for i in range(100000) %}{{ range(100000)|map('string')|list|length }}{% endfor %}",
    "calls that branch": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a block that calls itself": "{% block a %}{{ self.a() }}{{ self.a() }}{% endblock %}",
    "a loop within itself": "{% for x in [[1, 1]] recursive %}{{ loop([x, x]) }}{% endfor %}",
    "ranges within a loop": "{% for x in [1] recursive %}{% if loop.depth < 50 %}{{ loop(range(100000)) }}{% endif %}{% endfor %}",
    "doubled": NS + "{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "doubled by ~": NS + "{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "doubled without a loop": "{% set s = 'xxxxxxxx' %}" + "{% set s = s + s %}" * 60 + "{{ s }}",
    "many in one expression": S + "{{ " + "~".join(["s"] * 5000) + " }}",
    "some in one expression": S + "{% set t = " + "+".join(["s"] * 100) + " %}",
    "times": "{{ 'x' * 10**10 }}",
    "times the other way": "{{ 10**10 * 'x' }}",
    "a list times": "{{ [0] * 10**9 }}",
    "a power": "{% set n = 9**9 %}{{ n**n }}",
    "squares": NS + "{% for i in range(50) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "sums": NS + "{% for i in range(100000) %}{% set ns.n = ns.n + ns.n %}{% endfor %}",
    "center": "{{ 'x'|center(10**9) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "tabs": "{{ '\\t'.expandtabs(10**9) }}",
    "bytes of a number": "{{ (1).to_bytes(10**9, 'big') }}",
    "a format": "{{ '{:1000000000}'.format(1) }}",
    "a format with a value": "{{ '{:{w}}'.format(1, w=10**9) }}",
    "a format by name": "{{ '{x:1000000000}'.format(x=1) }}",
    "a format of a dict": "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
    "a format that is looked up": "{{ ('{:1000000000}'|attr('format'))(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent with a value": "{{ '%*d' % (10**9, 1) }}",
    "percent of marked text": "{% autoescape true %}{{ ('%1000000000d'|safe) % 1 }}{% endautoescape %}",
    "replaced": S + "{{ s.replace('x', s) }}",
    "replaced by a filter": S + "{{ s|replace('x', s) }}",
    "joined": S + "{{ range(100000)|join(s) }}",
    "a text joined": S + "{{ s.join(s) }}",
    "translated": S + "{{ s.translate({120: s}) }}",
    "indented": "{{ 'a\\nb'|indent(10**9) }}",
    "JSON": "{{ [[[1]]]|tojson(indent=10**9) }}",
    "batches": "{{ [1]|batch(10**9, 'x')|list }}",
    "slices": "{{ [1]|slice(10**9)|list }}",
    "rounded": "{{ 1.5|round(10**9, 'ceil') }}",
    "filler": "{% for i in range(1000) %}{{ lipsum(n=100000) }}{% endfor %}",
    "lists of lists": NS + "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "dicts of dicts": NS + "{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
    "tuples as keys": NS + "{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
    "lists through calls": "{% macro f(x, n) %}{% if n %}{{ f([x, x], n-1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f([1], 60) }}",
    "lists by name through calls": "{% macro f(x, n) %}{% if n %}{{ f(x=[x, x], n=n-1) }}{% else %}{{ x }}{% endif %}{% endmacro %}{{ f(x=[1], n=60) }}",
    "lists through loops": "{% for a in [[1]] recursive %}{% if loop.depth < 60 %}{{ loop([[a, a]]) }}{% else %}{{ a }}{% endif %}{% endfor %}",
    "lists with": "{% with a=[1] %}" + "{% with a=[a, a] %}" * 19 + "{{ a }}" + "{% endwith %}" * 20,
    "lists added": NS + "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "a long output": S + "{% for i in range(100000) %}{{ s }}{% endfor %}",
    "a long block": S + "{% set t %}{% for i in range(100000) %}{{ s }}{% endfor %}{% endset %}",
    "many outputs": S + "{% for i in range(100000) %}" + "{{ s }}" * 5000 + "{% endfor %}",
    "many lists": "{% set l = range(4000)|list %}{% for i in range(100000) %}" + "{{ l }}" * 5000 + "{% endfor %}",
    "many pieces": S + "{% for i in range(100000) %}" + "{{ s[1:] }}" * 2000 + "{% endfor %}",
    "many sums": S + "{% for i in range(100000) %}" + "{{ s[1:] + 'x' }}" * 60 + "{% endfor %}",
    "turned round": S + "{% for i in range(100000) %}{{ s|reverse }}{% endfor %}",
    "escaped": "{% autoescape true %}{% set ns = namespace(s='<') %}{% for i in range(60) %}{% set ns.s = (ns.s|string)|e %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{% endautoescape %}",
    "brackets": "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "lists in lists": "{{ " + "[" * 2000 + "]" * 2000 + " }}",
    "loops in loops": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "ifs in ifs": "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "a long template": "x" * 70_000,
    "another file": "{% include '/etc/passwd' %}",
    "another module": "{% import 'os' as o %}{{ o }}",
    "a digit too many": "{{ ('9' * 5000)|int }}{{ ''.foo.bar }}",
}  # fmt: skip
# that jinja2's sandbox keeps from Python's internals, and the limits must not open again
ESCAPES = (
    "{{ ''.__class__.__mro__ }}", "{{ raise_exception.__globals__ }}", "{{ (''|attr('__class__')) }}", "{{ _marks.__class__ }}",
    "{{ self.__init__ }}", "{{ namespace.__init__.__globals__ }}", "{{ cycler.__init__.__globals__ }}", "{{ ['__class__']|map(attribute='__class__')|list }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}", "{{ ''['__class__'] }}", "{{ messages.append(1) }}", "{{ messages.__reduce__() }}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}", "{{ (1).__class__ }}", "{{ joiner.__call__.__globals__ }}", "{{ environment }}{{ ''.__doc__ }}",
)  # fmt: skip


def render(text: str) -> str:
    environment = Bounded(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = lambda _: None
    environment.globals["_marks"] = object()
    return environment.rendered(environment.compiled(text), ["a"], messages=[{"role": "user", "content": "a"}])


def test_a_template_ends_or_is_told_in_one_line_in_any_thread(record_property: Callable[[str, object], None]) -> None:
    found: dict[str, str] = {}

    def look() -> None:
        for name, text in TEMPLATES.items():
            began = time.thread_time()
            try:
                found[name] = f"rendered {render(text)[:50]!r}"
            except TemplateError as error:
                found[name] = str(error)
            assert time.thread_time() - began < 4, name

    with limited(3 * LIMIT_S):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert found.keys() == TEMPLATES.keys()
    for name, said in found.items():
        assert not said.startswith("rendered"), (name, said)
        assert "\n" not in said, (name, said)
    record_property("attacks", ("templates", len(TEMPLATES)))


def test_the_sandbox_holds(record_property: Callable[[str, object], None]) -> None:
    for text in ESCAPES:
        try:
            said = render(text)
        except TemplateError:
            continue
        assert not any(word in said for word in ("class", "builtin", "globals", "object at", "function")), (text, said)
    record_property("attacks", ("templates", len(ESCAPES)))


def test_a_template_is_compiled_once_for_environments_that_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile = Bounded.compile
    monkeypatch.setattr(Bounded, "compile", lambda self, text: (compiled.append(text), compile(self, text))[1])
    text = "{% for i in range(3) %}\n{{ ' a ' | trim }}{{ i }}\n{% endfor %}{# compiled once #}"
    alike, other, spaced = Bounded(trim_blocks=True), Bounded(trim_blocks=True), Bounded()
    stand_in = Bounded(trim_blocks=True)
    stand_in.filters["trim"] = stand_in.limited(str.upper)
    said = [e.rendered(e.compiled(text), []) for e in (alike, other, alike, spaced, stand_in)]
    assert said == ["a0\na1\na2\n"] * 3 + ["\na0\n\na1\n\na2\n", " A 0\n A 1\n A 2\n"]
    assert compiled == [text] * 3
    # what is counted is counted by the environment that renders
    endless = [e.compiled(ENDLESS) for e in (alike, other)]
    for environment, template in zip((alike, other), endless, strict=True):
        with pytest.raises(TemplateError, match="does not end"):
            environment.rendered(template, [])


def test_honest_templates_are_not_held_up() -> None:
    """What templates of makers do: tools as JSON, cut lists, macros, namespaces, long conversations."""
    text = (
        "{%- macro said(m) -%}{{ m.role|upper }}: {{ m['content'].strip().replace('\\r', '') | trim }}{%- endmacro -%}"
        "{%- set ns = namespace(last=-1, parts=[]) -%}{%- for m in messages[::-1] -%}{%- set ns.last = loop.index0 if m.role == 'user' and ns.last < 0 else ns.last -%}{%- endfor -%}"
        "{%- for m in messages -%}{{ said(m) }}{%- if not loop.last -%}\n{%- endif -%}{%- set ns.parts = ns.parts + [m.role] -%}{%- endfor -%}"
        "{{ {'a': [1, 2, {'b': none}]} | tojson(indent=4) }}{{ '%s-%d' % ('a', 3) }}{{ '{} {:>3}'.format('x', 1) }}{{ ns.parts | unique | join(', ') }}{{ ns.last }}"
    )
    environment = Bounded(trim_blocks=True, lstrip_blocks=True)
    template = environment.compiled(text)
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": f" line {i} " * 50} for i in range(1000)]
    said = environment.rendered(template, [m["content"] for m in messages], messages=messages)
    assert said.startswith("USER: line 0")
    assert said.endswith("a-3x   1user, assistant1")
    long = [{"role": "user", "content": "word " * 400_000}]
    assert len(environment.rendered(template, [long[0]["content"]], messages=long)) > 1_900_000


def test_a_template_without_end_is_named_by_the_command(
    copied: Callable[..., Path], record_property: Callable[[str, object], None], plain: Path, tmp_path: Path
) -> None:
    marks = "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}{{ m.content + eos_token }}{%- endgeneration -%}{%- else -%}{{ m.content }}{%- endif -%}{%- endfor -%}"
    head = "{#- control: bos_token eos_token\nstop: eos_token -#}"
    for text in (head + ENDLESS + marks, head + marks + "{% if add_generation_prompt %}" + ENDLESS + "{% endif %}"):
        theirs = copied()
        (theirs / "adapter" / "chat_template.jinja").write_text(text)
        for command in (("export", "--format", "adapter"),):
            told(
                attack(command[0], theirs, *command[1:], cwd=theirs.parent),
                theirs / "adapter" / "chat_template.jinja",
                "does not end",
            )
    record_property("attacks", ("templates", 2))


# --- one line

CONFIGS: dict[str, str] = {
    "no JSON": "{broken", "nothing": "", "NUL": "\x00", "a list": "[1]", "a text": '"x"', "a number": "1e999", "nested": "[" * 100_000,
    "a token that is a list": '{"bos_token": ["a"]}', "a token that is a number": '{"eos_token": 5}', "a token without a text": '{"pad_token": {"x": 1}}',
    "half of a surrogate": '{"bos_token": "\\ud800"}', "a token that is nowhere": '{"bos_token": "<nowhere>", "eos_token": "<nowhere>"}',
}  # fmt: skip


def test_a_broken_tokenizer_config_is_one_line(poison: Poison, record_property: Callable[[str, object], None]) -> None:
    for text in CONFIGS.values():
        base = poison.base("broken", {"tokenizer_config.json": text})
        recipe = poison.recipe(base, trust=False, name="broken")
        told(attack("check", recipe, cwd=poison.place), base)
    base = poison.base("latin", {"tokenizer_config.json": b"\xff\xfe\x00"})
    told(attack("check", poison.recipe(base, trust=False, name="latin"), cwd=poison.place), base)
    record_property("attacks", ("broken tokenizers", len(CONFIGS) + 1))


def test_a_broken_tokenizer_is_one_line(poison: Poison, record_property: Callable[[str, object], None]) -> None:
    texts = (
        "{}",
        "[]",
        "{",
        "[" * 100_000,
        '{"model": {}}',
        '{"model": {"type": "BPE"}, "added_tokens": 1}',
        '{"added_tokens": [], "model": {"type": "X"}}',
    )
    for text in texts:
        base = poison.base("torn", {"tokenizer.json": text})
        told(attack("check", poison.recipe(base, trust=False, name="torn"), cwd=poison.place), base / "tokenizer.json")
    record_property("attacks", ("broken tokenizers", len(texts)))


def test_a_port_that_is_none_is_one_line(
    run: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    ports = ("99999999", "65536", "0", "-1", "x", "80.5", "1" * 5000)
    for port in ports:
        refused(attack("chat", run, "--web", "--port", port, cwd=tmp_path), "--port")
    record_property("attacks", ("ports", len(ports)))


def test_the_words_reach_every_process_of_a_command(monkeypatch: pytest.MonkeyPatch, poison: Poison) -> None:
    """With --gpus N the same words are run again, on a GPU each."""
    from medrecipes.core import processes

    base = poison.custom()
    started: list[list[str]] = []
    monkeypatch.setattr(processes, "launch", lambda command, gpus: started.append([*command, str(gpus)]) or 0)
    outcome = attack("run", poison.recipe(base), "--gpus", "2", OPTION, base, cwd=poison.place)
    assert outcome.code == 0, outcome
    assert started == [["-m", "medrecipes", "run", str(poison.place / "r.toml"), "--gpus", "2", OPTION, str(base), "2"]]


def test_an_error_is_of_a_kind_that_the_command_line_prints() -> None:
    assert issubclass(TrustError, MedRecipesError)
