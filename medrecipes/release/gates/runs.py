"""What the run tells: whether its adapter still answers as it was evaluated, where answers stop, and its base's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, reason
from medrecipes.core.files import digest, digest_path, read_json, stage
from medrecipes.evaluation.reopen import loss_again
from medrecipes.evaluation.reopen_tags import f1_again
from medrecipes.recipe.schema import Recipe
from medrecipes.release.base_licences import NOTICE, begins, terms_of, tiny
from medrecipes.rendering.base_template import saved_template

# bits per byte of answer: a reload on other hardware stays well within it, another adapter does not
TOLERANCE = 0.005
F1_TOLERANCE = 0.01  # strict micro F1 of a tagging run, likewise


def reload_differs(run: Path, state: Mapping[str, Any], console: Console | None) -> Iterator[str]:
    """The saved adapter on its base must answer as likely as the model that was evaluated; computed once an adapter."""
    tags = state.get("task") == "tag"
    weights, answers = run / "adapter" / "adapter_model.safetensors", run / "eval" / "predictions.jsonl"
    what = "scores" if tags else "loss"
    for path in (weights, answers):
        if not path.exists():
            yield f"{path.relative_to(run).as_posix()}: is missing, so the {what} cannot be recomputed"
            return

    def compute(folder: Path) -> dict[str, Any]:
        recorded, again = (f1_again if tags else loss_again)(run, console or Console())
        return {"recorded": recorded, "again": again}

    of = [digest_path(weights), digest_path(answers), state.get("base"), state.get("base_revision"), state.get("key")]
    try:
        found = read_json(stage("reload", digest(of), compute) / "manifest.json")
    except MedRecipesError as error:
        yield f"adapter: its {what} cannot be recomputed ({reason(error)})"
        return
    if abs(found["recorded"] - found["again"]) <= (F1_TOLERANCE if tags else TOLERANCE):
        return
    if tags:
        yield f"adapter: strict F1 {found['again']:.4f} after a reload, {found['recorded']:.4f} as reported; at most {F1_TOLERANCE} may lie between"  # fmt: skip
    else:
        yield (
            f"adapter: {found['again']:.4f} bits per byte of answer after a reload, {found['recorded']:.4f} when it was "
            f"evaluated; at most {TOLERANCE} may lie between"
        )


def stops_missing(run: Path, files: Mapping[str, Path], recipe: Recipe) -> Iterator[str]:
    """Every stop token of the template must stand in every generation config that is released."""
    if recipe.task != "chat" or not (run / "adapter" / "tokenizer.json").exists():
        return
    template = saved_template(recipe, run / "adapter")
    configs = {name: path for name, path in files.items() if path.name == "generation_config.json"}
    weights = [name for name in files if name.endswith(".safetensors")]
    if weights and not configs:
        yield "generation_config.json: is not among the files"
    for name, path in configs.items():
        ids = read_json(path).get("eos_token_id")
        known = ids if isinstance(ids, list) else [ids]
        for token, id in zip(template.stops, template.stop_ids, strict=True):
            if id not in known:
                yield f"{name}: {token} (id {id}) is missing"


def terms_unmet(files: Mapping[str, Path], recipe: Recipe, repo_id: str, declared: str | None) -> Iterator[str]:
    """What the base's licence asks of the name, the NOTICE and the card."""
    base = recipe.model.base
    if tiny(base):
        return
    terms = terms_of(base, declared)
    if terms is None:
        yield f"{base}: its licence is not known"
        return
    name = repo_id.rpartition("/")[2]
    if terms.prefix and not begins(name, terms.prefix):
        yield f"{repo_id}: the {terms.name} asks for a name that begins with {terms.prefix!r}"
    for file, words in ((NOTICE, terms.notice), ("README.md", terms.credit)):
        if words and file in files and words not in files[file].read_text(encoding="utf-8"):
            yield f"{file}: does not say {words!r}, as the {terms.name} asks"
    if terms.notice and NOTICE not in files:
        yield f"{NOTICE}: is not among the files; the {terms.name} asks for one that says {terms.notice!r}"
