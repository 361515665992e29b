"""`medrecipes export RUN`: the trained model in the form that its user runs, held against the adapter before it counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError
from medrecipes.core.files import Made, digest, digest_path, replacing, require_ours, write_json, writing
from medrecipes.core.notes import labelled
from medrecipes.core.trust import admit, inspect_adapter
from medrecipes.data.split import prepare
from medrecipes.evaluation.finished_run import open_run
from medrecipes.evaluation.reopen import at_work
from medrecipes.recipe.schema import Recipe
from medrecipes.release.export import llamacpp, merging, parity, serving
from medrecipes.rendering.base_template import saved_template
from medrecipes.rendering.chat_template import ChatTemplate, generation_config, save_tokenizer

FORMATS = ("adapter", "merged-16bit", "merged-4bit", "gguf")
QUANTS = ("q4_k_m", "q8_0", "f16")


@at_work
def export(path: Path, kind: str, quant: str | None, console: Console, wanted: str | None = None) -> Path:
    """Write `RUN/export/<format>/`, whole or not at all, with its parity in export.json; a failed one is kept, marked."""
    if quant and kind != "gguf":
        raise MedRecipesError(f"--quant {quant} goes with --format gguf alone; leave it out")
    quant = (quant or QUANTS[0]) if kind == "gguf" else None
    name = f"{kind}-{quant}" if quant else kind
    run = open_run(path).require_chat(f"whose one form is its adapter, in {path}/adapter; tag")
    rundir = run.rundir
    inspect_adapter(rundir.adapter)
    require_ours(path / "export" / name, "export", made)
    if kind == "gguf":
        llamacpp.require()
    recipe = run.recipe
    template = saved_template(recipe, rundir.adapter)
    with console.stage("prompts") as stage:
        asked = held_out_prompts(recipe, template)
        texts, prompts = [text for text, _ in asked], [ids for _, ids in asked]
        stage.says(f"{len(prompts)} that training never saw")
    base = run.base(recipe)
    ground = merging.choose_ground(base, wanted)
    trusted = admit(recipe.model, ground.base)
    with console.stage("base") as stage, console.quiet(rundir.log):
        model = merging.attach(merging.open_ground(ground, recipe.model), rundir.adapter)
        stage.says(f"{ground.base.name}: {ground.merged_on} ({ground.reason})")
    with console.stage("adapter") as stage, console.quiet(rundir.log):
        reference = parity.spoken(model, template, prompts)
        stage.says(f"answered {len(prompts)} prompts")
    with building(path / "export" / name, name) as folder:
        with console.stage("export") as stage, console.quiet(rundir.log):
            merged = folder if kind == "merged-16bit" else folder / "merged"
            if kind == "adapter":
                shutil.copytree(rundir.adapter, folder, dirs_exist_ok=True)
            else:
                merging.merge(model, merged)
                _dress(template, merged)
            del model
            merging.tidy()  # one model in memory at a time
            if kind == "adapter":
                logits = parity.torch_logits(merging.attach(merging.open_ground(ground, recipe.model), folder))
            elif quant:
                longest = max(map(len, prompts)) + parity.TOKENS
                logits = llamacpp.export(merged, folder, quant, template, longest)
                shutil.rmtree(merged)
            else:
                if kind == "merged-4bit":
                    merging.quantise(merged, folder, trusted)
                    _dress(template, folder)
                    shutil.rmtree(merged)
                logits = parity.torch_logits(merging.open_saved(folder, trusted))
            stage.says(f"{name}, {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e9:.3g} GB")
        with console.stage("parity") as stage, console.quiet(rundir.log):
            alike = read_alike(folder, quant, template, texts, prompts)
            found = parity.compare(reference, logits, name, alike)
            stage.says(str(found))
        gguf = llamacpp.file_name(quant) if quant else None
        commands = serving.write(folder, serving.Served(kind, gguf, rundir.path.name), recipe, template, ground.base)
        value = {
            "format": kind,
            "quant": quant,
            "base": ground.base.name,
            "merged_on": ground.merged_on,
            "reason": ground.reason,
            "parity": found.to_json(),
            "files": {
                file.relative_to(folder).as_posix(): {"sha256": digest_path(file), "bytes": file.stat().st_size}
                for file in sorted(folder.rglob("*")) if file.is_file()
            },
        }  # fmt: skip
        write_json(folder / "export.json", value)
    place = path / "export" / name
    console.line(labelled("written", str(place)))
    if not found.passed:
        raise MedRecipesError(f"{place}: is marked failed, for it is further from its adapter than rounding explains; see parity in export.json")  # fmt: skip
    for command in commands:
        console.line(labelled("serve", command))
    return place


def made(folder: Path) -> Made | None:
    """Which files of an export's folder we made: those that its export.json names, and itself."""
    try:
        said = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        return {"export.json", *said["files"]}.__contains__
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def held_out_prompts(recipe: Recipe, template: ChatTemplate) -> list[tuple[str, list[int]]]:
    """Prompts of test and dev rows, as text and as ids: the same ones each time, as many as a comparison takes."""
    split = prepare(recipe)
    rows = sorted([*split.test, *split.dev], key=lambda row: digest(f"{recipe.seed}:{row.id}"))
    asked = [row.prompt() for row in rows[: 2 * parity.PROMPTS]]
    both = zip((template.render(messages, ask=True) for messages in asked), template.prompts(asked), strict=True)
    fitting = [(text, ids) for text, ids in both if len(ids) + parity.TOKENS <= recipe.data.max_tokens]
    if not fitting:
        raise MedRecipesError("no held-out prompt is short enough to compare answers on; raise data.max_tokens")
    return fitting[: parity.PROMPTS]


def read_alike(
    folder: Path, quant: str | None, template: ChatTemplate, texts: Sequence[str], ids: Sequence[list[int]]
) -> float:
    """The share of prompts that the export's own tokenizer, left to itself, reads as the ids of training."""
    if quant:  # llama.cpp and Ollama put BOS before a prompt themselves
        bos = serving.bos_of(template)
        return llamacpp.read_alike(folder / llamacpp.file_name(quant), [text.removeprefix(bos) for text in texts], ids)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    read = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return float(sum(one == other for one, other in zip(read, ids, strict=True)) / len(ids))


@contextmanager
def building(place: Path, name: str) -> Iterator[Path]:
    """A folder beside its place that is renamed into it when all went well; an earlier export stands until then."""
    with writing(place), replacing(place) as work:
        yield work


def _dress(template: ChatTemplate, folder: Path) -> None:
    """Tokenizer, template and every stop token beside the weights."""
    save_tokenizer(template, folder)
    write_json(folder / "generation_config.json", generation_config(template))
