"""The claims of a run as a whole: the hashes of its files, the key of its recipe, and what run.json says of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medrecipes import seal
from medrecipes.plan.dimensions import capped
from medrecipes.rules.names import TINY
from medrecipes.trust import named
from medrecipes.verify.claims import Found, as_json, unlike
from medrecipes.verify.evidence import Evidence

KEYED = re.compile(r"-([0-9a-f]{8})(?:-\d+)?$")  # how the folder of a run ends


def files(e: Evidence) -> Found:
    """Every file as run.json sealed it."""
    if seal.KEY not in e.state:
        return Found(unknown="run.json has no hashes: the run is older than they are, or they were taken out")
    wrong, more = seal.broken(e.rundir)
    besides = f"; not of the run: {', '.join(more)}" if more else ""
    return Found(f"{len(e.state[seal.KEY]['files'])} files by their sha256{besides}", wrong)


def key(e: Evidence) -> Found:
    """The key again, from recipe.toml, the template's text and the data's content."""
    said = e.state["key"]
    wrong = (
        [f"run.json is of {e.state['name']!r}, recipe.toml of {e.own.name!r}"] if e.state["name"] != e.own.name else []
    )
    if (named := KEYED.search(e.path.resolve().name)) and named[1] != said[:8]:
        wrong.append(f"the folder is named after {named[1]}, run.json says {said[:8]}")
    if wrong:
        return Found(wrong=wrong)
    differs = [f"recipe.toml and its data have the key {e.given.key[:12]}, run.json says {said[:12]}"]
    return e.by_code(differs if e.given.key != said else [], f"{said[:12]}, the key of recipe.toml and its data")


def facts(e: Evidence) -> Found:
    """What run.json says of base and proofs; hardware, versions and times are as they were noted, and sealed."""
    base, state = e.base, e.state
    made: dict[str, Any] = {"base": Path(base.name).name if e.own.model.base in TINY else base.name}
    said: dict[str, Any] = {"base": Path(state["base"]).name if e.own.model.base in TINY else state["base"]}
    made |= {"base_revision": base.revision, "split_key": e.data["key"]}
    if e.own.task == "chat":
        made |= {"base_licence": base.licence, "base_caps": capped(base.config), "template_sha256": e.template.sha256}
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
        "answers": sum(sum(m.role == "assistant" for m in c.messages) for c in fitted.conversations),
        "tokens": sum(len(example.input_ids) for example in fitted.examples),
        "supervised": sum(example.supervised for example in fitted.examples),
        "cut": sum(example.cut for example in fitted.examples),
        "template_sha256": e.template.sha256,
        "tokenizer_sha256": e.template.tokenizer.hash,
    }
