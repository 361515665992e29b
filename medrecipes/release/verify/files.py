"""The claims of a run as a whole: the hashes of its files, the key of its recipe, and what run.json says of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medrecipes.core.files import digest
from medrecipes.core.trust import named
from medrecipes.engines.plan.dimensions import capped
from medrecipes.recipe.local_bases import made_here
from medrecipes.recipe.schema import DEFAULTS
from medrecipes.release.verify.claims import Found, as_json, unlike
from medrecipes.release.verify.evidence import Evidence
from medrecipes.rendering.proofs import answers_of
from medrecipes.runs import file_hashes

KEYED = re.compile(r"-([0-9a-f]{8})(?:-\d+)?$")  # how the folder of a run ends


def files(e: Evidence) -> Found:
    """Every file as run.json sealed it."""
    if file_hashes.KEY not in e.state:
        return Found(unknown="run.json has no hashes: the run is older than they are, or they were taken out")
    wrong, more = file_hashes.broken(e.rundir)
    besides = f"; not of the run: {', '.join(more)}" if more else ""
    return Found(f"{len(e.state[file_hashes.KEY]['files'])} files by their sha256{besides}", wrong)


def key(e: Evidence) -> Found:
    """The key again, and what it is of, from recipe.toml, the template's text and the data's content."""
    said, identity = e.state["key"], e.state.get("identity")
    wrong = (
        [f"run.json is of {e.state['name']!r}, recipe.toml of {e.own.name!r}"] if e.state["name"] != e.own.name else []
    )
    if (named := KEYED.search(e.path.resolve().name)) and named[1] != said[:8]:
        wrong.append(f"the folder is named after {named[1]}, run.json says {said[:8]}")
    if identity and digest(identity) != said:
        wrong.append(f"what run.json calls the recipe has the key {digest(identity)[:12]}, claimed {said[:12]}")
    told = f"{said[:12]}, the key of recipe.toml and its data"
    if wrong or e.given.key == said:
        return Found(told, wrong)
    if identity and identity["defaults"] == DEFAULTS:
        return Found(told, list(unlike(as_json(e.given.identity), identity, "recipe.toml")))
    return e.by_code([f"recipe.toml and its data have the key {e.given.key[:12]}, run.json says {said[:12]}"], told)


def released_key(e: Evidence) -> Found:
    """The settings of a release's recipe.toml, which leaves out paths, and names commits where the run named branches."""
    said, identity = e.state["key"], e.state.get("identity")
    if not identity:
        return Found(unknown="the release does not say what its key is of")
    if digest(identity) != said:
        return Found(wrong=[f"what release.json calls the recipe has the key {digest(identity)[:12]}, claimed {said[:12]}"])  # fmt: skip
    if identity["defaults"] != DEFAULTS:
        return Found(unknown="another version of medrecipes made the key, whose defaults were others")
    made = as_json(e.given.identity)
    wrong = list(unlike(_branches(made["settings"]), _branches(identity["settings"]), "recipe.toml"))
    wrong += unlike(made["template"], identity["template"], "template")
    wrong += [
        f"the data at hand is {here[:12]}, and was {there[:12]}"
        for here, there in zip(made["content"], identity["content"], strict=True)
        if here and there and here != there
    ]
    return Found(f"{said[:12]}, the key of these settings", wrong)


def _branches(settings: Any) -> Any:
    """Settings without the revisions in them."""
    if isinstance(settings, list):
        return [_branches(value) for value in settings]
    if not isinstance(settings, dict):
        return settings
    left = {name: _branches(value) for name, value in settings.items() if name != "revision"}
    return {name: value for name, value in left.items() if value != {}}


def facts(e: Evidence) -> Found:
    """What run.json says of base and proofs; hardware, versions and times are as they were noted, and sealed."""
    base, state = e.base, e.state
    # what is made on the spot lies in a folder of this machine's, whose last name says what it was made of
    names = [Path(name).name if made_here(e.own.model.base) else name for name in (base.name, state["base"])]
    made, said = ({"base": name} for name in names)
    made |= {"base_revision": base.revision, "split_key": e.data["key"]}
    every = {"task": e.own.task, "base_licence": base.licence, "base_caps": capped(base.config)}
    older = {"chat": {"task"}, "tag": {"base_licence", "base_caps"}}[e.own.task]  # what older runs do not say
    made |= {name: value for name, value in every.items() if name in state or name not in older}
    if e.own.task == "chat":
        made["template_sha256"] = e.template.sha256
    if "base_code" in state:  # older runs asked nobody
        made["base_code"] = named(base) if e.own.model.trust_remote_code else None
    if not e.manifest:  # which states neither
        made["peak_gb"] = e.stats["peak_gb"]
        made["proofs"] = {name: _proof(e, name) for name in e.fitted} if e.own.task == "chat" else as_json(
            {name: proof.to_json() for name, proof in e.proved.items()}
        )  # fmt: skip
    said = {name: state.get(name) for name in made} | said
    return e.by_code(list(unlike(made, said)), "base, proofs and peak as they are worked out again")


def _proof(e: Evidence, name: str) -> dict[str, Any]:
    """What the proof of a part counted."""
    fitted = e.fitted[name]
    return {
        "rows": len(fitted.examples),
        "answers": answers_of(e.template, fitted.conversations),
        "tokens": sum(len(example.input_ids) for example in fitted.examples),
        "supervised": sum(example.supervised for example in fitted.examples),
        "cut": sum(example.cut for example in fitted.examples),
        "template_sha256": e.template.sha256,
        "tokenizer_sha256": e.template.tokenizer.hash,
    }
