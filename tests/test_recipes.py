"""The recipes that ship: all found, all sound, their settings those of the fine-tunings they follow."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medrecipes.recipe.load import load
from medrecipes.recipe.rules.names import TINY
from medrecipes.recipe.schema import Recipe
from tests.conftest import ROOT, Cli, children_seconds

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
BASES = sorted((ROOT / "recipes" / "base").glob("*.toml"))
NAMES = {path.stem for path in RECIPES}
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def recipe(name: str) -> Recipe:
    return load(ROOT / "recipes" / f"{name}.toml").recipe


def test_the_whole_matrix_is_there() -> None:
    assert len(RECIPES) >= 30
    families = ("mistral", "llama2", "llama3", "gemma")
    matrix = {f"{family}_{data}" for family in families for data in ("medquad", "wikidoc", "medical", "medical_short")}
    current = {f"{name}_medquad" for name in (*set(BASE) - {*families}, "qwen3_thinking")}
    assert len(current) >= 18
    others = {"demo", "mistral_healthcaremagic", "mistral_synthetic_qa", "llama32_ner_instruct", "mistral_bio_ner"}
    tiny = {base.replace("tiny:", "tiny_") for base in TINY}
    tiny |= {"tiny_medical", "tiny_ner_instruct", "tiny_healthcaremagic"}
    assert matrix | current | others | tiny | {"tiny_synthetic_qa", "tiny_sweep", "tiny_bio_ner"} <= NAMES


def test_all_pass_the_schema_check_together_in_ten_seconds_and_without_torch() -> None:
    code = (
        "import sys\nfrom medrecipes.commands import main\n"
        "code = main(['check', '--schema-only', *sys.argv[1:]])\n"
        "assert not {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)\nsys.exit(code)"
    )
    began = children_seconds()
    done = subprocess.run([sys.executable, "-c", code, *RECIPES], cwd=ROOT, capture_output=True, text=True)
    assert children_seconds() - began < 20
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("no problems found") == len(RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_head_says_what_it_makes_how_and_with_what(path: Path) -> None:
    text = path.read_text()
    schema, title, command, *rest = text.splitlines()
    if path.stem == "datasets":  # it builds, and trains nothing
        return
    assert schema == "#:schema ../docs/recipe.schema.json"
    assert re.fullmatch(r"# [A-Z].{30,}\.", title)
    expected = {
        "demo": "bash scripts/demo",
        "tiny_mistral": "bash scripts/demo --tiny",
        "tiny_sweep": "medrecipes sweep recipes/tiny_sweep.toml",
        "llama32_ner_instruct": "python -m medrecipes.run recipes/llama32_ner_instruct.toml --set data.path=FOLDER",
        "smollm2_135m_genmedgpt": "python -m medrecipes.run recipes/smollm2_135m_genmedgpt.toml --set data.path=GenMedGPT-5k.json",
        "mistral_bio_ner": "python -m medrecipes.run recipes/mistral_bio_ner.toml --set data.path=FOLDER",
        **{
            name: f"python -m medrecipes.run recipes/{name}.toml --set data.path=FOLDER"
            for name in (
                "smollm2_135m_bio_ner",
                "smollm2_135m_ner_instruct",
                "smollm2_135m_ncbi_disease",
                "gemma3_270m_ner_instruct",
            )
        },
    }
    assert command == f"#   {expected.get(path.stem, f'python -m medrecipes.run recipes/{path.name}')}"
    head = "\n".join(line for line in rest if line.startswith("#"))
    assert re.search(r"^# memory: .*\d+ GB .*\((estimate|measured)\)", head, re.M)
    if "tiny" not in recipe(path.stem).model.base:
        assert re.search(r"^# reference: ", head, re.M)


@pytest.mark.parametrize("path", [*RECIPES, *BASES], ids=lambda path: path.stem)
def test_a_recipe_is_short_and_holds_only_what_is_its_own(path: Path) -> None:
    settings = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert len(settings) <= 45
    assert len(path.read_text().splitlines()) <= 60


def test_two_recipes_are_never_the_same() -> None:
    keys = {path.stem: recipe(path.stem).key for path in RECIPES}
    del keys["tiny_sweep"]  # by itself it is tiny_mistral
    assert len(set(keys.values())) == len(keys)


def test_only_the_short_ones_and_the_sample_of_messages_are_limited() -> None:
    limits = {path.stem: recipe(path.stem).data.limit for path in RECIPES if recipe(path.stem).data.limit}
    short = {f"{family}_medical_short": 2000 for family in ("mistral", "llama2", "llama3", "gemma")}
    assert limits == {**short, "mistral_medquad_short": 400, "mistral_healthcaremagic": 5000, "mistral_bio_ner": 5000}


def test_the_readme_and_the_docs_are_what_the_recipes_say() -> None:
    done = subprocess.run([sys.executable, "scripts/readme", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


# --- the settings of five public fine-tunings, value by value

INSTRUCT: dict[str, Any] = {
    "model.bits": 4, "lora.rank": 16, "lora.alpha": 16, "lora.dropout": 0.0, "lora.targets": SEVEN,
    "train.batch": 8, "train.epochs": 1.0, "train.max_steps": None, "train.learning_rate": 2e-4,
    "train.scheduler": "linear", "train.warmup_steps": 5, "train.optim": "adamw_torch_fused", "train.weight_decay": 0.01,
    "data.max_tokens": 2048,
}  # fmt: skip
BASE = {
    "mistral": ("unsloth/mistral-7b-instruct-v0.2-bnb-4bit", "mistral-v1"),
    "llama2": ("unsloth/llama-2-7b-chat-bnb-4bit", "llama2"),
    "llama3": ("unsloth/llama-3-8b-Instruct-bnb-4bit", "llama3"),
    "gemma": ("unsloth/gemma-1.1-7b-it-bnb-4bit", "gemma"),
    "mistral_v03": ("unsloth/mistral-7b-instruct-v0.3-bnb-4bit", "mistral-v3"),
    "llama31": ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", "llama3"),
    "llama32": ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "llama3"),
    "gemma2": ("unsloth/gemma-2-9b-it-bnb-4bit", "gemma"),
    "gemma3": ("unsloth/gemma-3-4b-it-bnb-4bit", "gemma3"),
    "gemma3n": ("unsloth/gemma-3n-E4B-it-unsloth-bnb-4bit", "gemma3"),
    "gemma4": ("unsloth/gemma-4-E4B-it-unsloth-bnb-4bit", "gemma4"),
    "medgemma": ("unsloth/medgemma-4b-it-bnb-4bit", "gemma3"),
    "medgemma_27b": ("unsloth/medgemma-27b-text-it-bnb-4bit", "gemma3"),
    "qwen25": ("unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "qwen25"),
    "qwen3": ("unsloth/Qwen3-8B-bnb-4bit", "qwen3"),
    "smollm2": ("unsloth/SmolLM2-1.7B-Instruct-bnb-4bit", "smollm2"),
    "smollm3": ("HuggingFaceTB/SmolLM3-3B", None),
    "phi4": ("unsloth/phi-4-bnb-4bit", "phi4"),
    "mistral_small": ("unsloth/Mistral-Small-24B-Instruct-2501-bnb-4bit", "mistral-v7-tekken"),
    "ministral3": ("unsloth/Ministral-3-8B-Instruct-2512-bnb-4bit", "mistral-v7-tekken"),
    "llama4": ("unsloth/Llama-4-Scout-17B-16E-Instruct-unsloth-bnb-4bit", "llama4"),
    "gpt_oss": ("unsloth/gpt-oss-20b-unsloth-bnb-4bit", "gpt-oss"),
}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
DATA = {
    "medquad": (["medquad"], None),
    "wikidoc": (["wikidoc"], None),
    "medical": (["medquad", "wikidoc"], None),
    "medical_short": (["medquad", "wikidoc"], 2000),
}
HEALTHCAREMAGIC: dict[str, Any] = {
    "model.base": "unsloth/mistral-7b-bnb-4bit", "model.bits": 4, "model.quant_type": "nf4", "model.double_quant": True,
    "template.name": "patient-doctor", "data.source": "healthcaremagic", "data.limit": 5000, "data.split.train": 0.9,
    "data.split.dev": 0.1, "data.split.test": 0.0, "data.max_tokens": 512,
    "lora.rank": 32, "lora.alpha": 64, "lora.dropout": 0.05, "lora.targets": (*SEVEN, "lm_head"),
    "train.batch": 4, "train.max_steps": 500, "train.learning_rate": 2.5e-4, "train.optim": "paged_adamw_8bit",
    "train.keep_best": "loss",
}  # fmt: skip
SYNTHETIC: dict[str, Any] = {
    "model.base": "alecocc/mistral-7B-SFT-medqa-graph-cot", "model.bits": 8, "model.skip_modules": ("lm_head",),
    "model.cpu_offload": True, "template.name": "question-answer", "data.source": "synthetic_qa",
    "data.split.train": 0.8, "data.max_tokens": 1024,
    "lora.rank": 16, "lora.alpha": 32, "lora.dropout": 0.1, "lora.targets": SEVEN,
    "train.batch": 16, "train.micro_batch": 1, "train.learning_rate": 1e-4, "train.epochs": 3.0,
    "train.warmup_steps": 100, "train.max_grad_norm": 0.3, "train.precision": "fp32",
}  # fmt: skip
NER: dict[str, Any] = {
    "model.base": "unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "model.bits": 4, "model.quant_type": "nf4",
    "model.double_quant": True, "template.name": "llama3", "data.source": "ner_instruct", "data.limit": None,
    "data.split.train": 0.8, "data.split.dev": 0.1, "data.split.test": 0.1,
    "lora.rank": 16, "lora.alpha": 32, "lora.dropout": 0.05, "lora.targets": SEVEN,
    "train.batch": 16, "train.micro_batch": 4, "train.learning_rate": 2e-4, "train.epochs": 3.0,
    "train.warmup_steps": 100, "train.report_to": ("wandb",),
}  # fmt: skip
BIO: dict[str, Any] = {
    "task": "tag", "model.base": "unsloth/mistral-7b-instruct-v0.2-bnb-4bit", "model.bits": 4, "data.source": "bio_ner",
    "data.limit": 5000, "data.split.train": 0.8, "data.split.dev": 0.1, "data.split.test": 0.1,
    "lora.rank": 8, "lora.alpha": 16, "lora.targets": ("q_proj", "v_proj"),
    "train.learning_rate": 2e-5, "train.batch": 8, "train.epochs": 5.0, "train.weight_decay": 0.01,
    "sweep.grid": {
        "lora.rank": [4, 8, 16, 32], "lora.alpha": [8, 16, 32], "train.learning_rate": [1e-5, 2e-5, 3e-5],
    },
}  # fmt: skip
REFERENCE = {
    **{
        f"{family}_{data}": {**INSTRUCT, "model.base": BASE[family][0], "template.name": BASE[family][1]}
        for family in ("mistral", "llama2", "llama3", "gemma")
        for data in DATA
    },
    **{
        f"{family}_medquad": {
            **INSTRUCT,
            "model.base": base,
            "template.name": template,
            **({"lora.targets": ATTENTION} if family == "gpt_oss" else {}),
        }
        for family, (base, template) in BASE.items()
    },
    "mistral_healthcaremagic": HEALTHCAREMAGIC,
    "mistral_synthetic_qa": SYNTHETIC,
    "llama32_ner_instruct": NER,
    "mistral_bio_ner": BIO,
}


def value(of: Recipe, key: str) -> Any:
    found: Any = of
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", REFERENCE)
def test_the_settings_are_those_of_the_fine_tuning_it_follows(name: str) -> None:
    found = recipe(name)
    assert {key: value(found, key) for key in REFERENCE[name]} == REFERENCE[name]


@pytest.mark.parametrize("family", ["mistral", "llama2", "llama3", "gemma"])
@pytest.mark.parametrize("data", DATA)
def test_the_matrix_reads_what_its_names_say(family: str, data: str) -> None:
    found = recipe(f"{family}_{data}").data
    assert ([entry.source for entry in found.entries], found.limit) == DATA[data]
    assert all(entry.path is None for entry in found.entries)


@pytest.mark.parametrize("name", REFERENCE)
def test_the_mistakes_of_the_field_are_not_repeated(name: str) -> None:
    found = recipe(name)
    if found.task == "tag":
        assert (found.train.keep_best, found.model.attention, found.data.split.dev) == ("f1", "bidirectional", 0.1)
        return
    assert found.train.loss_on == "answers"
    assert found.train.keep_best in ("bits_per_byte", "loss")
    assert found.data.on_overflow == ("shorten_context" if name == "llama32_ner_instruct" else "shorten_answer")
    assert found.data.split.dev > 0


CORRECTED = {
    "base/instruct.toml": ["answers and their stop tokens", "held out", "before the split", "chat templates", "2 x 4", "not the last"],
    "base/medical_short.toml": ["200 steps where theirs was 250"],
    "mistral_healthcaremagic.toml": ["answers and their stop tokens", "before the split", "Chat Doctor", "lm_head whole", "nf4 beforehand"],
    "mistral_synthetic_qa.toml": ["answers and their stop tokens", "literal backslash and n", "halved", "before the split"],
    "mistral_bio_ner.toml": ["whole spans", "stay together", "first piece", "all of its sentence", "not the last"],
    "llama32_ner_instruct.toml": ["stay together", "one wording of relations", "never the cue", "no repetition penalty"],
}  # fmt: skip
FIGURES = {
    "mistral_medical_short.toml": "loss 1.099 in 2,362 s on a T4",
    "llama2_medical_short.toml": "loss 1.128 in 2,217 s on a T4",
    "llama3_medical_short.toml": "loss 1.228 in 2,083 s on a T4",
    "gemma_medical_short.toml": "loss 1.843 in 2,471 s on a T4",
    "mistral_healthcaremagic.toml": "evaluation loss 1.92 at step 275 of 500, 15 to 20 h on four T4",
    "mistral_bio_ner.toml": "claimed F1 about 0.90 on an 8 GB GPU (counted by word, O included, by its authors)",
    "llama32_ner_instruct.toml": "claimed F1 0.75 to 0.85; in its authors' own notebooks chemicals 0.495, diseases 0.575, relations never valid",
}  # fmt: skip


@pytest.mark.parametrize("name", CORRECTED)
def test_every_correction_is_noted_in_the_head(name: str) -> None:
    text = (ROOT / "recipes" / name).read_text()
    corrections = re.findall(r"^# differs: ((?:.|\n#   )+)", text, re.M)
    for words in CORRECTED[name]:
        assert sum(words in one for one in corrections) == 1, words


def test_the_reference_figures_are_in_the_heads_and_in_the_table() -> None:
    table = (ROOT / "docs" / "recipes.md").read_text()
    for name, figures in FIGURES.items():
        assert f"# reference: {figures}" in (ROOT / "recipes" / name).read_text()
        assert figures in table


def test_the_instruct_recipes_name_where_their_corrections_are() -> None:
    for family in ("mistral", "llama2", "llama3", "gemma"):
        for data in DATA:
            assert "# differs: see base/instruct.toml" in (ROOT / "recipes" / f"{family}_{data}.toml").read_text()


def test_every_recipe_that_trains_answers_the_cases_of_its_source() -> None:
    found = {}
    for path in RECIPES:
        if path.stem != "datasets":  # it builds, and trains nothing
            made = recipe(path.stem)
            if made.task == "tag":  # it answers no question
                continue
            if not any((ROOT / "data" / "cases" / f"{entry.source}.toml").exists() for entry in made.data.entries):
                continue  # a dataset that was just added has no cases yet
            assert made.eval.cases, path.stem
            assert made.eval.cases.parent == ROOT / "data" / "cases"  # from whichever file set it, and however deep
            assert made.eval.cases.stem in {entry.source for entry in made.data.entries}
            found[path.stem] = made.eval.cases.stem
    assert set(found.values()) == {"medquad", "wikidoc", "healthcaremagic", "synthetic_qa", "ner_instruct", "medqa"}
    assert (found["mistral_medical_short"], found["llama32_ner_instruct"]) == ("medquad", "ner_instruct")


# --- on the real data


@pytest.mark.slow
def test_ner_instruct_is_three_thousand_rows_and_the_official_test_articles(real_data: Path, tmp_path: Path) -> None:
    from medrecipes.data.split import prepare

    for file in (real_data / "bc5cdr").glob("*.PubTator.txt.gz"):
        (tmp_path / file.name).symlink_to(file)
    split = prepare(load(ROOT / "recipes" / "llama32_ner_instruct.toml", [f"data.path='{tmp_path}'"]).recipe)
    assert len(split.train) + len(split.dev) == 3000 - 201
    assert split.report["dropped"] == {"shares its answer with the official test set": 201}
    assert len(split.test) == 1500
    assert 0.09 < len(split.dev) / 3000 < 0.13
    assert split.report["leakage"]["grouped"]["test"]["article"] == 0


def test_the_docs_are_printed_by_the_schema_command(cli: Cli) -> None:
    assert cli("schema", "--markdown").stdout.rstrip("\n") + "\n" == (ROOT / "docs" / "recipe.md").read_text()
