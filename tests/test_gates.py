"""Every gate closes on what it is there for, names the row or file, and opens by its name alone."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from safetensors.numpy import load_file, save_file

from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import read_json
from medrecipes.data.split import prepare
from medrecipes.data.tagged_split import prepare_tagged
from medrecipes.pipeline.build import build
from medrecipes.recipe.load import load
from medrecipes.recipe.repository_names import base_name, fill
from medrecipes.recipe.schema import Model, Recipe
from medrecipes.release.base_licences import terms_of
from medrecipes.release.gates import ADVICE, NAMES, Gate, check_dataset, check_run
from medrecipes.release.gates.files import pickled
from medrecipes.release.gates.rows import personal_rows, rows_of_run, trained
from medrecipes.release.gates.runs import F1_TOLERANCE, TOLERANCE, terms_unmet
from medrecipes.release.gates.secrets import SHAPES, secrets_of
from tests.conftest import ROOT


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be spoiled."""
    return Path(shutil.copytree(tiny_run, tmp_path / tiny_run.name, ignore=shutil.ignore_patterns("checkpoints")))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A built dataset that may be spoiled."""
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml").recipe
    return next(iter(build(recipe, tmp_path, ["parquet"]))).folder


def released(run: Path) -> dict[str, Path]:
    """What a release of the adapter would hold."""
    own = [
        run / name for name in ("README.md", "recipe.toml", "data.json", "loss.csv", "loss.png", "trainer_stats.json")
    ]
    adapter = sorted((run / "adapter").iterdir())
    return {path.name: path for path in (*adapter, *own) if path.exists()}


def gates(run: Path, repo: str = "me/demo", waived: Sequence[str] = (), **model: Any) -> dict[str, Gate]:
    """The gates of a run; the slow one is waived unless asked for."""
    recipe = load(run / "recipe.toml").recipe
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update=model)})
    skip = [] if "-reload" in waived else ["reload"]
    names = [name for name in waived if name != "-reload"]
    return {gate.name: gate for gate in check_run(run, released(run), recipe, repo, [*names, *skip])}


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# --- a run


def test_a_clean_run_passes_every_gate_its_adapter_reloaded(run: Path) -> None:
    found = gates(run, waived=["-reload"])
    assert list(found) == list(NAMES) == list(ADVICE)
    assert [(gate.name, gate.passed, gate.found) for gate in found.values()] == [(name, True, []) for name in NAMES]
    assert str(found["reload"]) == "reload         passed"


def test_an_adapter_that_does_not_reproduce_its_loss_is_kept_back(run: Path) -> None:
    path = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: value * (8 if "lora_B" in name else 1) for name, value in weights.items()}, path, {"format": "pt"})
    gate = gates(run, waived=["-reload"])["reload"]
    assert (gate.passed, gate.waived) == (False, False)
    [line] = gate.found
    assert "bits per byte of answer after a reload" in line
    assert f"at most {TOLERANCE} may lie between" in line
    assert "--waive reload passes it, and the card says so" in str(gate)


def test_a_reload_that_cannot_be_done_says_so(run: Path) -> None:
    (run / "eval" / "predictions.jsonl").unlink()
    assert gates(run, waived=["-reload"])["reload"].found == [
        "eval/predictions.jsonl: is missing, so the loss cannot be recomputed"
    ]


def test_the_score_of_a_tagging_run_is_recomputed(tag_run: tuple[Path, str], tmp_path: Path) -> None:
    run = Path(shutil.copytree(tag_run[0], tmp_path / tag_run[0].name, ignore=shutil.ignore_patterns("checkpoints")))
    gate = gates(run, waived=["-reload"])["reload"]
    assert (gate.passed, gate.found) == (True, [])
    path = run / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({name: -value if "score" in name else value for name, value in weights.items()}, path, {"format": "pt"})
    [line] = gates(run, waived=["-reload"])["reload"].found
    assert line.startswith("adapter: strict F1 0.")
    assert f"at most {F1_TOLERANCE} may lie between" in line


def test_a_waived_gate_stays_closed_but_lets_through(run: Path) -> None:
    gate = gates(run)["reload"]
    assert (gate.passed, gate.waived, gate.open, gate.found) == (False, True, True, ["not recomputed, for it is waived"])  # fmt: skip
    assert str(gate) == "reload         WAIVED\n               not recomputed, for it is waived"
    with pytest.raises(MedRecipesError, match=r"^--waive licences: no gate has that name; did you mean licence\?$"):
        gates(run, waived=["licences"])


def test_sources_without_a_licence_are_named(run: Path) -> None:
    sources = json.loads((run / "data.json").read_text())["sources"]
    nameless = {**sources[0], "name": "healthcaremagic", "title": "HealthCareMagic-100k", "licence": "unknown", "redistributable": "unknown"}  # fmt: skip
    bound = {**nameless, "name": "bound", "title": "Bound", "licence": "CC-BY-NC-ND-4.0", "redistributable": "no"}
    change(run / "data.json", sources=[*sources, nameless, bound])
    assert gates(run)["licence"].found == [
        "HealthCareMagic-100k (healthcaremagic): no licence is stated",
        "Bound (bound): CC-BY-NC-ND-4.0 says that it may not be passed on",
    ]


def test_a_run_without_its_data_report_proves_nothing(run: Path) -> None:
    (run / "data.json").unlink()
    found = gates(run)
    assert found["licence"].found == ["data.json: is missing or names no sources, so no licence is known"]
    assert found["leakage"].found == ["data.json: is missing or has no leakage report"]


def test_leaks_that_the_run_counted_are_told(run: Path) -> None:
    leakage = json.loads((run / "data.json").read_text())["leakage"]
    leakage["grouped"]["test"]["document"] = 3
    change(run / "data.json", leakage=leakage)
    assert gates(run)["leakage"].found == ["data.json: 3 test rows share their document with train"]


def test_a_run_that_is_judged_by_what_it_learned_is_kept_back_until_the_benchmark_is_kept_out(run: Path) -> None:
    sources = json.loads((run / "data.json").read_text())["sources"]
    change(run / "data.json", sources=[{**sources[0], "name": "medical_o1_reasoning", "title": "medical-o1"}])
    change(run / "eval" / "report.json", suites=[{"tasks": ["medqa_4options", "hellaswag"]}])
    gate = gates(run)["benchmarks"]
    assert (gate.passed, gate.open) == (False, False)
    assert gate.found == ["medqa_4options: judged the run, and medical-o1 is made of medqa, whose test questions were not kept out of training"]  # fmt: skip
    assert gates(run, waived=["benchmarks"])["benchmarks"].open
    change(run / "data.json", benchmarks={"medqa": {"questions": 1273, "rows": 4}})
    assert gates(run)["benchmarks"].passed


def test_a_stop_token_that_the_generation_config_lacks(run: Path) -> None:
    change(run / "adapter" / "generation_config.json", eos_token_id=[7])
    assert gates(run)["stop-tokens"].found == ["generation_config.json: </s> (id 2) is missing"]
    (run / "adapter" / "generation_config.json").unlink()
    assert gates(run)["stop-tokens"].found == ["generation_config.json: is not among the files"]


def test_secrets_and_personal_data_in_any_file_of_the_release(run: Path) -> None:
    token = "hf_" + "aB3" * 12
    (run / "README.md").write_text(f"# card\n\nwritten by jane.doe@hospital.example\nexport HF_TOKEN={token}\n")
    found = gates(run)
    assert found["secrets"].found == ["README.md: Hugging Face token, line 4"]
    assert found["personal-data"].found == ["README.md: e-mail ja**.***@********.******…"]
    assert token not in str(found["secrets"])


def planted(run: Path, tmp_path: Path, text: str) -> Recipe:
    """The recipe of a run whose training rows hold a text, and its data report made to fit."""
    data = tmp_path / "data"
    shutil.copytree(ROOT / "data" / "medquad", data)
    recipe = load(run / "recipe.toml").recipe
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(data)})})
    first = prepare(recipe).train[0].meta["document"]
    file = data / f"{first.partition('/')[2]}.xml"
    file.write_text(file.read_text().replace("</Answer>", f" {text}</Answer>", 1))
    change(run / "data.json", key=prepare(recipe).key)
    return recipe


def test_the_rows_that_an_adapter_was_trained_on_are_looked_at(run: Path, tmp_path: Path) -> None:
    recipe = planted(run, tmp_path, "Ask Dr. Harold Whitfield, 212-555-0147.")
    found = {gate.name: gate for gate in check_run(run, released(run), recipe, "me/demo", ["reload"])}
    gate = found["personal-data"]
    assert not gate.open
    [line] = gate.found
    assert line.startswith("train row ")
    assert line.endswith(": telephone 21*-***-****, name Dr. ****** *********")
    assert "looked: medrecipes' rules" in str(gate)


def test_rows_that_are_not_at_hand_are_an_open_question(run: Path, tmp_path: Path) -> None:
    recipe = load(run / "recipe.toml").recipe
    gone = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(tmp_path / "gone")})})
    for waived in ([], ["personal-data"]):
        found = {g.name: g for g in check_run(run, released(run), gone, "me/demo", ["reload", *waived])}
        gate = found["personal-data"]
        assert (gate.passed, gate.open) == (False, bool(waived))
        [line] = gate.found
        assert line.startswith("training rows: not looked at (")
        assert "gone" in line


def test_the_rows_of_a_tag_run_are_looked_at_as_texts(tag_run: tuple[Path, str], tmp_path: Path) -> None:
    recipe, data = load(tag_run[0] / "recipe.toml").recipe, read_json(tag_run[0] / "data.json")
    rows, silence = rows_of_run(recipe, data)
    assert silence == ""
    assert len(rows) == sum(data["rows"].values())
    assert {row.part for row in rows} == {"train", "dev", "test"}
    assert all(row.texts[0] for row in rows)
    found = {gate.name: gate for gate in check_run(tag_run[0], {}, recipe, "me/tagger", ["reload"])}
    assert (found["personal-data"].passed, found["personal-data"].found) == (True, [])
    folder = tmp_path / "bio"
    shutil.copytree(ROOT / "data" / "bio", folder)
    words = ["Dr", ".", "John", "Smith", ",", "jane", ".", "doe", "@", "mail", ".", "com", ",", "gave"]
    lines = "".join(f"{word}\tO\n" for word in words) + "aspirin\tB-Chemical\n\n"
    (folder / "train.tsv").write_text(lines + (folder / "train.tsv").read_text())
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": str(folder)})})
    rows, _ = rows_of_run(recipe, {"key": prepare_tagged(recipe).key})
    [line] = list(personal_rows(trained(rows)))
    assert line.startswith("train row train:")
    assert line.endswith(": e-mail ja**.***@****.***, name Dr.**** *****")


def test_weights_are_safetensors_inside_too(run: Path) -> None:
    (run / "adapter" / "adapter_model.safetensors").write_bytes(pickle.dumps({"lora": [1.0] * 50}, protocol=4))
    (run / "adapter" / "extra.bin").write_bytes(b"anything")
    assert gates(run)["pickles"].found == [
        "adapter_model.safetensors: is no safetensors file inside, but a pickle",
        "extra.bin: .bin files may hold code",
    ]


# base, what its card declares, repository, NOTICE, what is found
TERMS = [
    ("unsloth/llama-3-8b-Instruct-bnb-4bit", None, "me/Llama-3-8B-medical", "Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.", []),
    ("unsloth/llama-3-8b-Instruct-bnb-4bit", None, "me/medical-8b", None, [
        "me/medical-8b: the Meta Llama 3 Community License asks for a name that begins with 'Llama 3'",
        "NOTICE: is not among the files; the Meta Llama 3 Community License asks for one that says 'Meta Llama 3 is licensed under the Meta Llama 3 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.'",
        "README.md: does not say 'Built with Meta Llama 3', as the Meta Llama 3 Community License asks",
    ]),
    ("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", None, "me/Meta-Llama-3.1-medical", "", [
        "NOTICE: does not say 'Llama 3.1 is licensed under the Llama 3.1 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.', as the Llama 3.1 Community License asks",
        "README.md: does not say 'Built with Llama', as the Llama 3.1 Community License asks",
        "me/Meta-Llama-3.1-medical: the Llama 3.1 Community License asks for a name that begins with 'Llama'",
    ]),
    ("unsloth/gemma-1.1-7b-it-bnb-4bit", None, "me/anything", None, [
        "NOTICE: is not among the files; the Gemma Terms of Use asks for one that says 'Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms'",
    ]),
    ("unsloth/mistral-7b-instruct-v0.2-bnb-4bit", None, "me/anything", None, []),
    ("unsloth/medgemma-4b-it-bnb-4bit", None, "me/anything", None, [
        "NOTICE: is not among the files; the Health AI Developer Foundations Terms of Use asks for one that says 'HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at https://developers.google.com/health-ai-developer-foundations/terms'",
    ]),
    ("google/medgemma-27b-text-it", "health-ai-developer-foundations", "me/anything", "", [
        "NOTICE: does not say 'HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at https://developers.google.com/health-ai-developer-foundations/terms', as the Health AI Developer Foundations Terms of Use asks",
    ]),
    ("unsloth/Llama-4-Scout-17B-16E-Instruct-unsloth-bnb-4bit", None, "me/scout", "Llama 4 is licensed under the Llama 4 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.", [
        "README.md: does not say 'Built with Llama', as the Llama 4 Community License asks",
        "me/scout: the Llama 4 Community License asks for a name that begins with 'Llama'",
    ]),
    *((base, None, "me/anything", None, []) for base in (
        "unsloth/Qwen2.5-7B-Instruct-bnb-4bit", "Qwen/Qwen3-8B", "HuggingFaceTB/SmolLM3-3B", "unsloth/phi-4-bnb-4bit",
        "unsloth/Ministral-3-8B-Instruct-2512-bnb-4bit", "openai/gpt-oss-20b", "unsloth/gemma-4-E4B-it-unsloth-bnb-4bit",
    )),
    ("unsloth/Qwen2.5-3B-Instruct-bnb-4bit", None, "me/anything", None, ["unsloth/Qwen2.5-3B-Instruct-bnb-4bit: its licence is not known"]),
    ("alecocc/mistral-7B-SFT-medqa-graph-cot", None, "me/anything", None, ["alecocc/mistral-7B-SFT-medqa-graph-cot: its licence is not known"]),
    ("alecocc/mistral-7B-SFT-medqa-graph-cot", "mit", "me/anything", None, []),
    ("somebody/llama-medical", "llama3.2", "me/medical", "Llama 3.2 is licensed under the Llama 3.2 Community License, Copyright © Meta Platforms, Inc. All Rights Reserved.", [
        "README.md: does not say 'Built with Llama', as the Llama 3.2 Community License asks",
        "me/medical: the Llama 3.2 Community License asks for a name that begins with 'Llama'",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("base", "declared", "repo", "notice", "found"), TERMS, ids=[f"{t[0]} {t[2]}" for t in TERMS])
def test_the_terms_of_the_base(
    base: str, declared: str | None, repo: str, notice: str | None, found: list[str], run: Path
) -> None:
    change(run / "run.json", base_licence=declared)
    if notice is not None:
        (run / "adapter" / "NOTICE").write_text(notice)
    if not found:
        (run / "README.md").write_text("Built with Meta Llama 3")
    assert sorted(gates(run, repo, base=base)["base-terms"].found) == sorted(found)


def test_every_recipe_of_this_project_stands_on_a_base_of_known_terms() -> None:
    bases = {load(path).recipe.model.base for path in (ROOT / "recipes" / "base").glob("*.toml")}
    known = {base: terms_of(base) for base in bases if not base.startswith("tiny:")}
    assert len(known) >= 8
    assert [base for base, terms in known.items() if terms is None] == []


def test_every_recipe_of_this_project_names_its_release_as_its_base_asks() -> None:
    values = {"user": "me", "recipe": "recipe", "timestamp": "20261121_101500"}
    recipes = [load(path).recipe for path in sorted((ROOT / "recipes").glob("*.toml"))]
    bound = [recipe for recipe in recipes if (terms := terms_of(recipe.model.base)) and terms.prefix]
    assert len(bound) >= 7
    for recipe in bound:
        name = fill("publish.repo", recipe.publish.repo, {**values, "base": base_name(recipe.model.base)})
        found = list(terms_unmet({"NOTICE": ROOT / "LICENSE"}, recipe, name, None))
        assert not [line for line in found if "asks for a name" in line], found


# --- a dataset


def test_a_built_dataset_passes_every_gate_it_has(dataset: Path) -> None:
    found = check_dataset(dataset)
    assert [gate.name for gate in found] == ["licence", "personal-data", "leakage", "secrets", "pickles"]
    assert [gate for gate in found if not gate.passed] == []


def spoil(folder: Path, part: str, **columns: Any) -> None:
    """Change the first row of a part, on the disk."""
    data = load_from_disk(str(folder))
    rows = {name: list(rows) for name, rows in data.items()}
    rows[part][0] |= columns
    changed = {name: Dataset.from_list(rows[name], features=data[name].features) for name in data}
    shutil.copy(folder / "data.json", folder.parent / "data.json")
    shutil.rmtree(folder)
    DatasetDict(changed).save_to_disk(folder)
    shutil.copy(folder.parent / "data.json", folder / "data.json")


def test_personal_data_and_secrets_are_told_by_their_rows(dataset: Path) -> None:
    token = "hf_" + "x7Q" * 12
    id = load_from_disk(str(dataset))["test"][0]["meta"]["id"]
    spoil(dataset, "test", output=f"Write to jane.doe@hospital.example, token {token}")
    found = {gate.name: gate for gate in check_dataset(dataset, ["personal-data"])}
    assert found["personal-data"].found == [f"test row {id}: e-mail ja**.***@********.******…"]
    assert (found["personal-data"].waived, found["personal-data"].open) == (True, True)
    assert f"test row {id}: Hugging Face token" in found["secrets"].found
    assert not found["secrets"].open


def test_test_rows_inside_train_are_told_by_both_ids(dataset: Path) -> None:
    data = load_from_disk(str(dataset))
    train, test = data["train"][0], data["test"][0]
    spoil(dataset, "test", input=train["input"].upper(), output=train["output"], group="elsewhere")
    [gate] = [gate for gate in check_dataset(dataset) if not gate.passed]
    assert (gate.name, gate.found) == (
        "leakage", [f"test row {test['meta']['id']}: stands in train as row {train['meta']['id']}"]
    )  # fmt: skip
    spoil(dataset, "test", input="another question", group=train["group"])
    [gate] = [gate for gate in check_dataset(dataset) if not gate.passed]
    first = next(row["meta"]["id"] for row in reversed(list(data["train"])) if row["group"] == train["group"])
    assert gate.found == [f"test row {test['meta']['id']}: its group is in train too (row {first})"]


def test_removed_answers_that_were_filled_in_again_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "11_MPlusDrugs_QA"
    shutil.copytree(ROOT / "data" / "medquad", tmp_path / "data")
    folder.mkdir()
    text = (tmp_path / "data" / "1_CancerGov_QA" / "0000001.xml").read_text()
    (folder / "0000001.xml").write_text(text.replace("CancerGov", "MPlusDrugs").replace("</Answer>", " again</Answer>"))
    recipe = load(ROOT / "recipes" / "tiny_mistral.toml", [f"data.path={tmp_path / 'data'}"]).recipe
    built = next(iter(build(recipe, tmp_path)))
    gate = check_dataset(built.folder)[0]
    assert (gate.name, gate.passed) == ("licence", False)
    assert gate.found[0].startswith("row 11_MPlusDrugs_QA/0000001#")
    assert all(line.endswith("an answer that MedQuAD's publisher removed for copyright") for line in gate.found)


def test_a_folder_that_is_no_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MedRecipesError, match=r"is no dataset; make one with `medrecipes build RECIPE`$"):
        check_dataset(tmp_path)


# --- what is looked for in files

SECRETS = {
    "Hugging Face token": "hf_" + "Ab1" * 11 + "z",
    "API key (sk-…)": "sk-proj-" + "aB3_" * 8,
    "AWS access key": "AKIA" + "ABCD1234" * 2,
    "AWS secret key": 'aws_secret_access_key = "' + "aB3/" * 10 + '"',
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "GitHub token": "ghp_" + "aB3d" * 9,
    "GitLab token": "glpat-" + "aB3d" * 5,
    "Slack token": "xoxb-" + "1234567890-abc",
    "Google API key": "AIza" + "aB3d5" * 7,
    "Stripe key": "sk_live_" + "aB3d" * 6,
    "npm token": "npm_" + "aB3d" * 9,
    "PyPI token": "pypi-AgE" + "aB3d" * 13,
    "Weights & Biases key": "WANDB_API_KEY=" + "0123456789" * 4,
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijkl",
    "password in a URL": "https://jane:hunter22@db.example/records",
    "password or key": 'password: "correct4horse9battery"',
}


def test_every_kind_of_token_is_known_by_its_line(tmp_path: Path) -> None:
    assert set(SECRETS) == set(SHAPES)
    for kind, token in SECRETS.items():
        path = tmp_path / "notes.txt"
        path.write_text(f"first\nsecond {token} third\n")
        assert list(secrets_of(path)) == [f"{kind}, line 2"], kind


def test_a_token_across_the_edge_of_a_large_file_is_found_once(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_bytes(b"\n" * ((1 << 22) - 10) + b" " + SECRETS["Hugging Face token"].encode() + b"\n" * (1 << 22))
    assert list(secrets_of(path)) == [f"Hugging Face token, line {(1 << 22) - 9}"]


def test_tokenizers_and_cards_of_this_project_hold_no_secret(tiny_run: Path) -> None:
    paths = [p for p in tiny_run.rglob("*") if p.is_file()]
    assert len(paths) > 15
    assert [found for path in paths for found in secrets_of(path)] == []


def test_pickles_of_every_protocol_are_known_whatever_their_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Recipe().model_dump_json, protocol) if protocol > 1 else pickle.dumps(Model, protocol))  # fmt: skip
        assert pickled(path) == "is no safetensors file inside, but a pickle", protocol
        other = tmp_path / "notes.md"
        other.write_bytes(path.read_bytes())
        assert pickled(other) == "is a pickle inside", protocol
    with zipfile.ZipFile(tmp_path / "model", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    assert pickled(tmp_path / "model") == "is a zip archive with a pickle inside"
    for name, content in {"a.json": b'{"a": 1}', "b.md": b"# Notes\n", "c": b"", "d.txt": b"N.", "e.png": b"\x89PNG\r\n"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert pickled(tmp_path / name) == ""
