"""`medrecipes verify REPO|RUN`: what a release or a run claims, held against what its files give and its source says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from medrecipes.core.console import Console
from medrecipes.core.errors import MedRecipesError, SpoiledError, TrustError
from medrecipes.core.files import scratch, thorough
from medrecipes.evaluation.finished_run import open_run
from medrecipes.recipe.local_bases import is_local
from medrecipes.release.verify import adapter, files, model, rows, texts, training
from medrecipes.release.verify.claims import DIFFERS, OK, UNKNOWN, Claim, Found, settle
from medrecipes.release.verify.evidence import Evidence
from medrecipes.runs.folder import holding
from medrecipes.scoring.tables import aligned

Look = Callable[[Evidence], Found]
# what needs no model, in the order in which it is told
SHARED: dict[str, Look] = {
    "files": files.files, "recipe": files.key, "split": rows.split, "data.json": rows.data, "tokenizer": texts.tokenizer,
    "adapter": adapter.adapter, "training": training.training, "run.json": files.facts,
}  # fmt: skip
WRITTEN: dict[str, Look] = {
    "report": texts.report, "report.md": texts.markdown, "report.html": texts.page, "figures in the card": texts.table, "card": texts.card,
}  # fmt: skip
CHAT: dict[str, Look] = {
    **SHARED,
    "template": texts.template,
    "stop tokens": texts.stops,
    "predictions": rows.predictions,
}
TAG: dict[str, Look] = {**SHARED, "labels": texts.labels, "predictions": rows.taggings}


@thorough()
def verify(name: str, overrides: Sequence[str], console: Console, revision: str | None = None) -> list[Claim]:
    """Print every claim with its verdict."""
    claims: list[Claim] = []
    refused = None
    if (Path(name) / "run.json").exists():
        with holding(Path(name)):  # or another command changes what is looked at
            refused = _collect(claims, _run(Evidence(open_run(name).rundir, overrides), console))
    elif Path(name).exists() or is_local(name):
        raise MedRecipesError(f"{name}: is neither a run folder nor a repository; name a run, OWNER/NAME or datasets/OWNER/NAME")  # fmt: skip
    else:
        from medrecipes.release.verify.repository import repository

        with scratch("verify", Path(tempfile.gettempdir())) as work:
            refused = _collect(claims, repository(name, revision, overrides, work, console))
            if refused:  # its recipe is gone in a moment
                refused = TrustError(f"{name}: {str(refused).replace(f'{work}/run/', '')}")
    for line in aligned([["claim", "", ""], *([c.what, c.verdict, c.found] for c in claims)]):
        console.line(line)
    of = {verdict: [claim.what for claim in claims if claim.verdict == verdict] for verdict in (OK, DIFFERS, UNKNOWN)}
    names = f" ({', '.join(of[UNKNOWN])})" if of[UNKNOWN] else ""
    console.line(", ".join(f"{len(those)} {verdict}" for verdict, those in of.items()) + names)
    if refused:
        raise refused
    return claims


def holds(claims: Sequence[Claim], *, strict: bool) -> bool:
    """Whether none of the claims differs, and, `strict`, all of them could be checked."""
    bad = (DIFFERS, UNKNOWN) if strict else (DIFFERS,)
    return not any(claim.verdict in bad for claim in claims)


def _collect(claims: list[Claim], found: Iterator[Claim]) -> TrustError | None:
    """Gather claims as they come; why the rest did not, where the base's own code may not run."""
    try:
        for claim in found:
            claims.append(claim)
    except TrustError as error:
        return error
    return None


def _run(e: Evidence, console: Console) -> Iterator[Claim]:
    """The claims of a run of this machine."""
    with console.stage("source") as stage, console.quiet(e.rundir.log):
        claims = list(by_files(e))
        stage.says(f"{len(claims)} claims held against the source and the files")
    yield from claims
    yield from model.with_model(e, console) if e.own.task == "chat" else model.with_tagger(e, console)


def by_files(e: Evidence) -> Iterator[Claim]:
    """The claims that need no model."""
    looks = {**(CHAT if e.own.task == "chat" else TAG), **WRITTEN}
    if e.own.eval.cases:
        looks["cases"] = rows.cases
    with suppress(SpoiledError):  # which its own claim tells
        if "suites" in e.report:
            looks["benchmarks"] = texts.suites
    for what, look in looks.items():
        yield settle(what, partial(look, e))
