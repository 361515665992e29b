"""Whether an export says what the adapter says: the same held-out prompts, the same answers, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from medrecipes.core.progress import counted
from medrecipes.engines import Decoding
from medrecipes.rendering.chat_template import ChatTemplate

PROMPTS = 64  # held-out prompts that are asked, where there are as many
TOKENS = 32  # tokens of each answer that are compared
GREEDY = Decoding(max_new_tokens=TOKENS, temperature=0.0, top_p=1.0, repetition_penalty=1.0, seed=0)
# how far an export may be from its adapter: what rounding to its number format costs, and no more
TOLERANCE = {
    "adapter": {"near_agreement": 0.999, "mean_kl": 0.0001, "prompts_read_alike": 0.98},
    "merged-16bit": {"near_agreement": 0.98, "mean_kl": 0.005, "prompts_read_alike": 0.98},
    "merged-4bit": {"near_agreement": 0.88, "mean_kl": 0.08, "prompts_read_alike": 0.98},
    "gguf-f16": {"near_agreement": 0.99, "mean_kl": 0.005, "prompts_read_alike": 0.98},
    "gguf-q8_0": {"near_agreement": 0.97, "mean_kl": 0.01, "prompts_read_alike": 0.98},
    "gguf-q4_k_m": {"near_agreement": 0.88, "mean_kl": 0.08, "prompts_read_alike": 0.98},
}
# nats between two tokens that the adapter itself hardly tells apart: half precision flips a coin between such
TIE = 0.25
# ids in, the logits of the last `n` of their positions out: `logits(ids, n)`
Logits = Callable[[Sequence[int], int], Any]


@dataclass(frozen=True)
class Spoken:
    """A prompt, what the adapter answers to it, and how likely it finds every token at each place (log-probabilities)."""

    prompt: list[int]
    answer: list[int]
    likely: Any


@dataclass(frozen=True)
class Parity:
    """How near an export is to its adapter: what export.json says of it."""

    prompts: int
    tokens: int
    greedy_agreement: float  # the same token as the adapter's own choice
    near_agreement: float  # that, or one that the adapter finds as likely but for TIE
    mean_kl: float
    prompts_read_alike: float  # whose text the export's own tokenizer reads as the ids of training
    tolerance: dict[str, float]
    passed: bool

    def __str__(self) -> str:
        return (
            f"{self.greedy_agreement:.2%} of {self.tokens:,} tokens on {self.prompts} held-out prompts are the adapter's "
            f"own choice, {self.near_agreement:.2%} that or as likely to it within {TIE:g} nats "
            f"(at least {self.tolerance['near_agreement']:.1%}), mean KL {self.mean_kl:.2g} nats "
            f"(at most {self.tolerance['mean_kl']:g}); {self.prompts_read_alike:.0%} of the prompts are read alike"
        )

    def to_json(self) -> dict[str, Any]:
        """The same for a file."""
        return asdict(self)


def torch_logits(model: Any) -> Logits:
    """The logits of a model of transformers, one row at a time: no padding that could blur a comparison."""
    import torch

    from medrecipes.engines.generation import device_of

    device = device_of(model)

    def logits(ids: Sequence[int], n: int) -> Any:
        with torch.no_grad():
            return model(input_ids=torch.tensor([list(ids)], device=device), logits_to_keep=n).logits[0].float().cpu()

    return logits


def spoken(model: Any, template: ChatTemplate, prompts: Sequence[Sequence[int]]) -> list[Spoken]:
    """What the adapter answers greedily, with its certainty at every token: what exports are held against."""
    import torch

    from medrecipes.engines.generation import AtOnce, generate

    logits, found = torch_logits(model), []
    answers = generate(model, template, prompts, GREEDY, AtOnce(8, next(model.parameters()).dtype))
    for prompt, answer in zip(counted(prompts, len(prompts), "prompts"), answers, strict=True):
        ids = [*prompt, *answer]
        found.append(Spoken(list(prompt), answer, torch.log_softmax(logits(ids[:-1], len(answer)), -1)))
    return found


def compare(reference: Sequence[Spoken], logits: Logits, name: str, read_alike: float) -> Parity:
    """Let an export read the adapter's answers; at each token, would it have said the same, and how much less surely?"""
    import torch

    same, near, kl, tokens = 0, 0, 0.0, 0
    for row in counted(reference, len(reference), "prompts"):
        seen = torch.log_softmax(torch.as_tensor(logits([*row.prompt, *row.answer][:-1], len(row.answer))).float(), -1)
        # converters may pad the vocabulary; ids that the adapter never knew have no place in the comparison
        known = row.likely[:, : seen.shape[-1]]
        seen = seen[:, : known.shape[-1]]
        choice, best = seen.argmax(-1, keepdim=True), known.max(-1, keepdim=True)
        same += int((choice == best.indices).sum())
        near += int((known.gather(-1, choice) >= best.values - TIE).sum())
        kl += float((known.exp() * (known - seen)).double().sum())
        tokens += len(row.answer)
    tolerance = TOLERANCE[name]
    figures = {"near_agreement": near / tokens, "mean_kl": max(0.0, kl / tokens), "prompts_read_alike": read_alike}
    passed = all(
        value <= tolerance[which] if which == "mean_kl" else value >= tolerance[which]
        for which, value in figures.items()
    )
    return Parity(len(reference), tokens, same / tokens, **figures, tolerance=tolerance, passed=passed)
