"""The section of a GPU on merged weights and GGUF: what the adapter was merged on, and how near the result is to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medrecipes.core.markup import code, plain
from medrecipes.release.cards.facts import Facts
from medrecipes.release.cards.text import table


def conversion(facts: Facts) -> Iterator[str]:
    """What the adapter was merged on, and how near the result is to it."""
    yield from dict.fromkeys(_ground(made) for made in facts.exports if made.get("merged_on"))
    body = [_nearness(made) for made in facts.exports if "greedy_agreement" in made.get("parity", {})]
    if body:
        yield (
            "Held against the adapter, unmerged and on that same base: the answers that it gives greedily to held-out prompts, "
            "read token by token. Figures above were taken from the adapter on the base that it was trained on."
        )
        yield table(
            (
                "form",
                "prompts",
                "tokens",
                "same choice",
                "or nearly as likely",
                "mean KL, nats a token",
                "prompts read alike",
            ),
            body,
        )


def _ground(made: Mapping[str, Any]) -> str:
    base, reason = str(made.get("base") or ""), made.get("reason")
    named = f", {code(base)}" if "/" in base else ""  # a folder's name tells nobody anything
    return f"Merged on {plain(str(made['merged_on']))}{named}{f' ({plain(str(reason))})' if reason else ''}."


def _nearness(made: Mapping[str, Any]) -> tuple[Any, ...]:
    found = made["parity"]
    most = found.get("tolerance", {})

    def figure(name: str, shape: str, limit: str) -> str:
        known = f"{found[name]:{shape}}" if name in found else ""
        return known + (f" ({limit} {most[name]:{shape}})" if name in most else "")

    form = " ".join(str(made[name]) for name in ("format", "quant") if made.get(name))
    return (
        form, found.get("prompts", ""), found.get("tokens", ""), figure("greedy_agreement", ".1%", "at least"),
        figure("near_agreement", ".1%", "at least"), figure("mean_kl", ".2g", "at most"), figure("prompts_read_alike", ".0%", "at least"),
    )  # fmt: skip
