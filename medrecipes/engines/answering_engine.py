"""A loaded base with, once trained or opened, its adapter: what it answers, and how likely it finds what others say."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medrecipes.core import processes
from medrecipes.core.files import write_json
from medrecipes.core.notes import note
from medrecipes.data.records import Message
from medrecipes.engines import Choice, Decoding, cpu_weights, generation, lora
from medrecipes.engines.bases import Base
from medrecipes.engines.generation import AtOnce, Generator, Loaded, Request, Shared, spoken, vllm_backend
from medrecipes.engines.multi_gpu.shared_layers import Shards
from medrecipes.recipe.schema import Recipe
from medrecipes.rendering.answer_text import written_by
from medrecipes.rendering.chat_template import ChatTemplate, Example, generation_config, save_tokenizer
from medrecipes.rendering.stored_examples import bytes_of, stored, supervised_of
from medrecipes.scoring.text_overlap import bits

STORED = 8192  # rows that are on disk are read so many at a time
LIBRARY_BATCH = 8  # rows that are padded to one another
UNLIKELY = 2.0  # times the nats of chance
AT_ONCE = 256  # rows that each of several processes answers before they are put together again


@dataclass(frozen=True)
class LoadedBase:
    """A base as an engine loaded it: by which, in which number format, what was chosen, and which layers GPUs share."""

    engine: str
    model: Any
    dtype: torch.dtype
    choices: dict[str, Choice]
    shards: Shards | None = None


class Speaker:
    """A model that answers and is evaluated; with several processes, all of them do."""

    def __init__(self, recipe: Recipe, template: ChatTemplate, loaded: LoadedBase) -> None:
        self.name, self.recipe, self.template, self.model = loaded.engine, recipe, template, loaded.model
        self.dtype, self.choices, self._shards = loaded.dtype, loaded.choices, loaded.shards
        self.device, self._usual = generation.device_of(self.model), self.model.config._attn_implementation
        self.source: Base | None = None  # what was loaded, for those who load it again
        self._packed: bool | None = None
        self._unlike = False  # whether continuous batching was seen to answer otherwise than the library
        # what stays open for one answer after the other, and whether with an adapter
        self._talking: tuple[Shared, bool] | None = None

    @contextmanager
    def _attention(self, name: str) -> Iterator[None]:
        """Inside, attention is this function; Unsloth brings its own on a GPU, and the library's on a CPU."""
        before = self.model.config._attn_implementation
        switched = name != before and (self.name == "trl" or self.device.type == "cpu")
        if switched:
            self.model.set_attn_implementation(name)
        try:
            yield
        finally:
            if switched:
                self.model.set_attn_implementation(before)

    def base(self) -> AbstractContextManager[None]:
        """Inside, the model answers as the base does."""
        if hasattr(self.model, "disable_adapter"):
            context: AbstractContextManager[None] = self.model.disable_adapter()
            return context
        return nullcontext()

    def generate(self, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Answers in the order of the prompts, drawn as the recipe says; several processes share them."""
        decoding = Decoding.of(self.recipe)
        if self.recipe.eval.backend == "vllm":
            yield from self._by_vllm(prompts, decoding)
            return

        def answers(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
            return self._answers(rows, decoding)

        with self._attention(self._usual):
            if processes.size() == 1:
                yield from answers(prompts)
                return
            at_once = AT_ONCE * processes.size()
            for start in range(0, len(prompts), at_once):
                yield from processes.spread(prompts[start : start + at_once], lambda rows: list(answers(rows)))

    def _by_vllm(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> list[list[int]]:
        """The same by vLLM, which loads the base again, and the adapter as it is now."""
        if not prompts:
            return []
        assert self.source is not None
        save = self.save if lora.answers(self.model) else None
        asked = vllm_backend.Asked(prompts, decoding, self.template.stop_ids)
        found = vllm_backend.answers(self.recipe, self.source, self.dtype, self.device, asked, save)
        self.choices["answers"] = Choice(
            f"vllm {found.version}", "the recipe says so; prompts by ids, the same stop tokens and limits"
        )
        return found.ids

    def _answers(self, prompts: Sequence[Sequence[int]], decoding: Decoding) -> Iterator[list[int]]:
        """The same on this process: by continuous batching, or by the library where that was not seen to agree with it."""
        if not prompts:
            return
        asked = [Request(prompt, decoding) for prompt in prompts]
        with self._generator(prompts[0]) as generator:
            if generator is not None:
                ended, place = generator.answers(asked), 0
                for _ in ended:
                    while place < len(asked) and asked[place].ended:
                        yield asked[place].said
                        place += 1
                return
        at_once = AtOnce(self.recipe.eval.at_once(LIBRARY_BATCH), self.dtype, in_step=self._shards is not None)
        yield from generation.generate(self.model, self.template, prompts, decoding, at_once)

    def _loaded(self) -> Loaded:
        return Loaded(self.model, self.dtype, self.device, self.template.stop_ids, lora.answers(self.model))

    @contextmanager
    def _generator(self, ids: Sequence[int]) -> Iterator[Generator | None]:
        """What answers many prompts at once, with the adapter as it is switched now; None where the library answers."""
        if self._shards is not None or self._unlike:
            yield None
            return
        rows = None if self.recipe.eval.batch == "auto" else self.recipe.eval.batch
        generator = Generator(self._loaded(), rows, note)
        try:
            far = generator.open(ids)
            if not generator.opened:
                self._unlike = True
                self.choices["answers"] = Choice(
                    "transformers", f"our own batching lies {far:.1%} from its logits for this base"
                )
                note(f"answers: {self.choices['answers']}")
                yield None
                return
            self.choices["answers"] = Choice("continuous batching", f"{far:.2%} from transformers' logits on a probe")
            yield generator
        finally:
            generator.close()

    def stream(self, prompt: Sequence[int], decoding: Decoding, stop: threading.Event | None = None) -> Iterator[int]:
        """One answer, id by id as it is written; ends early once `stop` is set."""
        self.model.eval()
        held = self._talking
        if held is not None and held[1] == lora.answers(self.model):
            yield from held[0].spoken(prompt, decoding, stop)
            return

        def write(tell: Callable[[int], None], over: Callable[[], bool]) -> None:
            with self._attention(self._usual), self._generator(prompt) as generator:
                if generator is None:
                    for token in next(iter(self._answers([prompt], decoding))):
                        tell(token)
                    return

                def listen(token: int) -> None:
                    tell(token)
                    if over():
                        generator.cancel(request)

                request = Request(prompt, decoding, listen)
                for _ in generator.answers([request]):
                    pass

        yield from spoken(write, stop)

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Inside, what is streamed comes from a model that is opened once, as long as its adapter is switched as it is now."""
        speaking = self.shared(1)
        speaking.start()
        self._talking = speaking, lora.answers(self.model)
        try:
            yield
        finally:
            self._talking = None
            speaking.close()

    def shared(self, rows: int) -> Shared:
        """The model behind a thread of its own, for so many requests at once that come and go."""

        [ids] = self.template.prompts([[Message("user", "What causes asthma?")]])

        @contextmanager
        def open() -> Iterator[Generator | None]:
            self.model.eval()
            with self._attention(self._usual), self._generator(ids) as generator:
                yield generator

        def alone(prompt: Sequence[int], decoding: Decoding) -> list[int]:
            return next(iter(self._answers([prompt], decoding)))

        return Shared(open, alone, rows, self.recipe.data.max_tokens)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Answers to plain questions, as text."""
        self.model.eval()
        prompts = self.template.prompts([Message("user", question)] for question in questions)
        return [written_by(self.template, ids).text for ids in self.generate(prompts)]

    def answer_nats(self, examples: Sequence[Example]) -> list[float]:
        """The negative log-likelihood of each row's answer text."""
        found = self._nats(examples)
        if processes.leads():
            self._tell_of_stops(examples, sum(end for _, end in found))
        return [text for text, _ in found]

    def _tell_of_stops(self, examples: Sequence[Example], nats: float) -> None:
        """Say so where the model holds what ends an answer for far less likely than any token by chance."""
        chance = math.log(self.template.tokenizer.size)
        if nats <= UNLIKELY * chance * len(examples):  # a row has an end or more: not to be counted in most runs
            return
        ends = sum(id in self.template.stop_ids for row in examples for id in row.labels)
        if nats > UNLIKELY * chance * ends:
            note(
                f"the model holds {self.template.stops[0]}, which ends answers, for far less likely than chance ({nats / ends:.0f} "
                f"nats, chance {chance:.0f}): a short training may not teach it to stop; a base that knows no dialogue learns sooner "
                "from an end of text that it knows, as template.name = 'question-answer' has it"
            )

    def _nats(self, examples: Sequence[Example]) -> list[tuple[float, float]]:
        batch, in_step = self.recipe.eval.at_once(LIBRARY_BATCH), self._shards is not None

        def some(rows: Sequence[Example]) -> list[tuple[float, float]]:
            if not rows or not self._packs(rows[0].input_ids):
                return generation.nats(self.model, self.template, rows, batch, self.dtype, in_step=in_step)
            body = generation.LibraryBody(self.model)
            with generation.inference(self.device, self.dtype), body.opened():
                return generation.packed_nats(body, rows, self.template.stop_ids, self.device)

        with self._attention(self._usual):
            if stored(examples) is None:
                return processes.spread(examples, some)
            parts = (examples[first : first + STORED] for first in range(0, len(examples), STORED))
            return [each for part in parts for each in processes.spread(part, some)]

    def _packs(self, ids: Sequence[int]) -> bool:
        """Whether the base's layers were seen to keep packed rows apart on this GPU; with shared layers nobody looks."""
        if self._packed is None:
            self._packed = False
            if self._shards is None and self.device.type == "cuda" and self.name == "trl":
                generator = Generator(self._loaded())
                self._packed = generator.flash and generator.packs(ids)
        return self._packed

    def _evaluate_dev(self, dev: Sequence[Example], learned: Sequence[Example]) -> dict[str, float]:
        """The dev rows' loss on the tokens that training learns, and the bits per byte of their answers."""
        self.model.eval()
        texts = self._nats(dev)
        whole = texts if self.recipe.train.loss_on == "answers" else self._nats(learned)
        return {
            "eval_loss": sum(text + end for text, end in whole) / int(supervised_of(learned).sum()),
            "eval_bits_per_byte": bits(sum(text for text, _ in texts)) / int(bytes_of(dev).sum()),
        }

    def _row_loss(self, ids: list[int], labels: list[int]) -> float:
        """The loss of a row by itself."""
        self.model.eval()
        row = Example("", "", ids, labels)
        with self._attention(self._usual):
            [(text, end)] = generation.nats(self.model, self.template, [row], 1, self.dtype)
        return (text + end) / row.supervised

    def open_adapter(self, folder: Path) -> None:
        """Put a saved adapter on the base, to answer with."""
        self.model = cpu_weights.add_in_place(lora.open_adapter(self.model, folder))

    def save(self, folder: Path) -> None:
        """Write the adapter with the tokenizer, the template inside, and every stop token."""
        lora.save_adapter(self.model, folder)
        save_tokenizer(self.template, folder)
        write_json(folder / "generation_config.json", generation_config(self.template))
