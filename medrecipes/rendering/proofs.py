"""What must hold for every row before a model sees one, shown over all of them: the masks, the tokens, the texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, groupby, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from medrecipes.core.errors import TemplateError
from medrecipes.core.progress import counted
from medrecipes.data.records import Conversation
from medrecipes.rendering.chat_template import MASKED, ChatTemplate, Example
from medrecipes.rendering.stored_examples import lengths_of, supervised_of
from medrecipes.rendering.template_shapes import Control, Parts, texts_of, until_answer_ends
from medrecipes.rendering.tokenizer import BLANK, Tokenizer, merge_pairs, parts

Ids = npt.NDArray[np.int32]
AT_ONCE = 2048  # rows that are looked at together
NAMED_ROWS = 5  # how many rows a failure names


@dataclass(frozen=True)
class Proof:
    """What was looked at and found right; counts of tokens are over all rows."""

    rows: int
    answers: int
    tokens: int
    supervised: int
    cut: int
    template_sha256: str
    tokenizer_sha256: str

    def __str__(self) -> str:
        share = self.supervised / self.tokens if self.tokens else 0.0
        cut = f" (but {self.cut:,}, which were cut short)" if self.cut else ""
        return (
            f"{self.rows:,} rows proved: {self.answers:,} answers{cut} end with a supervised stop token; "
            f"{self.supervised:,} of {self.tokens:,} tokens supervised ({share:.1%})"
        )

    def to_json(self) -> dict[str, Any]:
        """The counts as `run.json` keeps them."""
        return asdict(self)


def prove(
    template: ChatTemplate,
    conversations: Sequence[Conversation],
    examples: Sequence[Example],
    generation_stop_ids: Sequence[int],
) -> Proof:
    """Raise TemplateError with rows and percentages unless all examples are what the template makes of the rows.

    `conversations` are those that the examples show (`Fitted.conversations`), `generation_stop_ids` what the saved
    generation config stops at.
    """
    if len(conversations) != len(examples) or any(c.id != e.id for c, e in zip(conversations, examples, strict=True)):
        raise TemplateError("the examples are not those of the conversations; prove what fit() returned, in its order")
    problems = list(_settings(template, generation_stop_ids))
    failed: dict[str, list[str]] = {}
    answers = cut = 0
    rows = counted(conversations, len(conversations), "rows")
    for first in range(0, len(examples), AT_ONCE):
        some, shown = examples[first : first + AT_ONCE], list(islice(rows, AT_ONCE))
        answers += answers_of(template, shown)
        cut += sum(example.cut for example in some)
        for what, wrong in _checks(template, shown, some).items():
            failed.setdefault(what, []).extend(e.id for e, bad in zip(some, wrong, strict=True) if bad)
    problems += _failures(len(examples), failed)
    if problems:
        raise TemplateError("\n".join(f"template {template.name!r}: {problem}" for problem in problems))
    return Proof(
        rows=len(examples),
        answers=answers,
        tokens=int(lengths_of(examples).sum()),
        supervised=int(supervised_of(examples).sum()),
        cut=cut,
        template_sha256=template.sha256,
        tokenizer_sha256=template.tokenizer.hash,
    )


def _checks(
    template: ChatTemplate, conversations: Sequence[Conversation], examples: Sequence[Example]
) -> dict[str, Sequence[bool]]:
    """Everything that can be wrong with a row, and whether it is, of every row."""
    texts, literal, marked, answers = _texts(template, conversations)
    shapes = [template.parts(c.messages) for c in conversations]
    shapes = [until_answer_ends(s) if e.cut else s for s, e in zip(shapes, examples, strict=True)]
    found = _Rows(template, examples)
    return {
        "the text is not what plain Jinja renders": texts,
        "what is supervised is not what the template marks as its answer": marked,
        "a content holds a literal \\n; turn it into a line break": literal,
        "not exactly one BOS" + (" a user turn" if template.bos_every_turn else ""): found.wrong_bos(shapes),
        "control tokens that the template did not write": found.wrong_control(shapes),
        "tokens supervised that are no answer, or an answer that is masked": found.wrong_spans(shapes),
        "an answer's stop token is masked": found.wrong_stops(),
        "the learned tokens decode to another text than the answer": found.wrong_answers(answers),
        "other ids than the base's own apply_chat_template gives": _wrong_ids(template, conversations, examples),
    }


def answers_of(template: ChatTemplate, conversations: Sequence[Conversation]) -> int:
    """How many answers are supervised."""
    return sum(m.role == "assistant" and m.supervised for c in conversations for m in template.turns(c.messages))


def _settings(template: ChatTemplate, generation_stop_ids: Sequence[int]) -> Iterator[str]:
    """What is wrong with the pad token and the generation config."""
    token, pad = template.pad
    if pad == template.stop_id:
        yield f"{token} pads and stops: padding would hide the stop token; name another pad_token in the tokenizer"
    if missing := [t for t, id in zip(template.stops, template.stop_ids, strict=True) if id not in generation_stop_ids]:
        yield f"generation would not stop at {' '.join(missing)}; add it to eos_token_id of the generation config"


def _failures(count: int, failed: dict[str, list[str]]) -> Iterator[str]:
    """One line for each check that failed somewhere: how often, and in which rows."""
    for what, rows in failed.items():
        if rows:
            more = f" and {len(rows) - NAMED_ROWS:,} more" if len(rows) > NAMED_ROWS else ""
            yield f"{what}: {len(rows):,} of {count:,} rows ({len(rows) / count:.1%}), {', '.join(rows[:NAMED_ROWS])}{more}"


def _texts(
    template: ChatTemplate, conversations: Sequence[Conversation]
) -> tuple[list[bool], list[bool], list[bool], list[list[str]]]:
    """Which rows' text is not plain Jinja's, which hold a literal backslash-n, where what is supervised is not what plain
    Jinja marks, and the supervised texts, control tokens off."""
    wrong, literal, marked, answers = [], [], [], []
    whole = template.supervision.supervise == "reasoning_and_answer"
    for conversation in conversations:
        text, spans = template.render_answers(conversation.messages)
        filled = texts_of(template.turns(conversation.messages))
        parts = template.parts(conversation.messages)
        pieces = [(p.supervised, isinstance(p, Control), p.text if isinstance(p, Control) else p.fill(filled)) for p in parts]  # fmt: skip
        stretches = [list(stretch) for learned, stretch in groupby(pieces, key=lambda piece: piece[0]) if learned]
        ours = ["".join(piece for _, _, piece in stretch) for stretch in stretches]
        wrong.append("".join(piece for _, _, piece in pieces) != text)
        literal.append(any("\\n" in content for content in filled))
        # with the answer alone, what the template marks begins with the thought before it
        same = ours == spans if whole else all(map(str.endswith, spans, ours))
        marked.append(not template.own and not (same and len(ours) == len(spans)))
        answers.append(["".join(piece for _, control, piece in stretch if not control) for stretch in stretches])
    return wrong, literal, marked, answers


def _wrong_ids(
    template: ChatTemplate, conversations: Sequence[Conversation], examples: Sequence[Example]
) -> list[bool]:
    """Which rows a base's own template and tokenizer, left to themselves, would read otherwise; what looks like a control
    token in a content is text to us and a control token to them, and is left out."""
    if not template.own:
        return [False] * len(examples)
    added = {token["content"] for token in template.tokenizer.json["added_tokens"] if token["content"].strip()}
    looks = re.compile("|".join(map(re.escape, sorted(added))) or "(?!)")
    theirs = template.tokenizer.read_whole([template.render(c.messages) for c in conversations])
    return [
        not example.cut and example.input_ids != ids and not any(map(looks.search, texts_of(conversation.messages)))
        for conversation, example, ids in zip(conversations, examples, theirs, strict=True)
    ]


class _Rows:
    """All examples end to end in one array, so that each check is a few passes over it."""

    def __init__(self, template: ChatTemplate, examples: Sequence[Example]) -> None:
        self.template, self.examples = template, examples
        self.lengths = np.array([len(example.input_ids) for example in examples])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        total = int(self.starts[-1])
        self.ids: Ids = np.fromiter(chain.from_iterable(e.input_ids for e in examples), np.int32, total)
        self.labels: Ids = np.fromiter(chain.from_iterable(e.labels for e in examples), np.int32, total)
        self.row = np.repeat(np.arange(len(examples)), self.lengths)
        self.learned = self.labels != MASKED
        # a span of learned tokens begins where the token before is masked, or belongs to another row
        before = np.concatenate([[False], self.learned[:-1]])
        before[self.starts[:-1]] = False
        after = np.concatenate([self.learned[1:], [False]])
        after[self.starts[1:] - 1] = False
        self.begins = np.flatnonzero(self.learned & ~before)
        self.ends = np.flatnonzero(self.learned & ~after)
        self.cut = np.array([example.cut for example in examples])

    def _count(self, places: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return np.bincount(self.row[places], minlength=len(self.examples))

    def wrong_bos(self, shapes: Sequence[Parts]) -> list[bool]:
        """BOS comes first and once, or once a user turn where the template says so; never where the base has none."""
        bos = self.template.tokenizer.bos
        if bos is None:
            return [False] * len(self.examples)
        if self.template.bos_as_written:
            return self._unlike_shape(bos, shapes)
        found = self._count((self.ids == bos) & ~self.learned)
        first = self.ids[self.starts[:-1]] == bos
        turns = [_answers(shape) if self.template.bos_every_turn else 1 for shape in shapes]
        wrong: list[bool] = ((found != np.array(turns)) | ~first).tolist()
        return wrong

    def _unlike_shape(self, bos: int, shapes: Sequence[Parts]) -> list[bool]:
        """Where a base's BOS begins every turn, or is left out: as often as its template writes it, never twice in a row."""
        counts = {shape: sum(isinstance(part, Control) and part.id == bos for part in shape) for shape in set(shapes)}
        found = self._count(self.ids == bos)
        twice = (self.ids[1:] == bos) & (self.ids[:-1] == bos) & (self.row[1:] == self.row[:-1])
        again = self._count(np.append(twice, False))
        wrong: list[bool] = ((found != np.array([counts[shape] for shape in shapes])) | (again > 0)).tolist()
        return wrong

    def wrong_control(self, shapes: Sequence[Parts]) -> list[bool]:
        """The control tokens of a row are those of its shape, in their order."""
        table = np.zeros(max(int(self.ids.max()), *self.template.tokenizer.control.values()) + 1, bool)
        table[list(self.template.tokenizer.control.values())] = True
        places = np.flatnonzero(table[self.ids])
        found = np.split(self.ids[places], np.cumsum(self._count(places))[:-1])
        wanted: dict[Parts, list[int]] = {}
        for shape in shapes:
            wanted.setdefault(shape, [part.id for part in shape if isinstance(part, Control)])
        return [ids.tolist() != wanted[shape] for ids, shape in zip(found, shapes, strict=True)]

    def wrong_spans(self, shapes: Sequence[Parts]) -> list[bool]:
        """As many spans are learned as there are answers, and a learned label is the token itself."""
        other = self._count(np.flatnonzero(self.learned & (self.labels != self.ids))) > 0
        wrong: list[bool] = ((self._count(self.begins) != np.array([_answers(s) for s in shapes])) | other).tolist()
        return wrong

    def wrong_stops(self) -> list[bool]:
        """Every span ends with a stop token, but for the last one of a row that was cut."""
        ends = [self.template.tokenizer.control_id(token) for token in self.template.ends]
        stops = self._count(self.ends[np.isin(self.ids[self.ends], ends)])
        wrong: list[bool] = (stops != self._count(self.ends) - self.cut).tolist()
        return wrong

    def wrong_answers(self, answers: Sequence[Sequence[str]]) -> list[bool]:
        """Each span spells its answer, but for a blank that the tokenizer itself may put before a run of text."""
        spans = [self.ids[b : e + 1].tolist() for b, e in zip(self.begins, self.ends, strict=True)]
        spelled = iter(self.template.tokenizer.spell(spans))
        dummy = " " if self.template.tokenizer.prepends else ""
        wrong = []
        for answer, cut, count in zip(answers, self.cut, self._count(self.begins), strict=True):
            texts = [next(spelled) for _ in range(count)]
            wanted = [
                self.template.tokenizer.normalised(text).replace(BLANK, " ") for text in answer
            ]  # SentencePiece knows but one kind of blank
            if cut and wanted:
                wanted[-1] = wanted[-1].rstrip()
            same = len(texts) == len(wanted) and all(
                text in (want, dummy + want) for text, want in zip(texts, wanted, strict=True)
            )
            wrong.append(not same)
        return wrong


def _answers(shape: Parts) -> int:
    """How many answers a shape has: its learned stretches."""
    learned = [part.supervised for part in shape]
    return sum(now and not before for before, now in zip([False, *learned], learned, strict=False))


def template_notes(template: ChatTemplate) -> list[str]:
    """What a user should know of a template with this tokenizer that is no error."""
    notes = tokenizer_notes(template.tokenizer)
    shape = template.parts(Conversation.of("", "", "question", "answer").messages)
    spelled = [part for part in shape if not isinstance(part, Control) and not part.continuing]
    if template.tokenizer.prepends and any(str(part.pieces[0]).startswith(" ") for part in spelled):
        notes.append(
            f"the tokenizer puts a blank before every run of text and template {template.name!r} writes one too, so "
            "two blanks follow a control token where the maker's own tokenizer puts one"
        )
    return notes


def tokenizer_notes(tokenizer: Tokenizer) -> list[str]:
    """How a SentencePiece tokenizer of Llama's and Mistral's kind differs from its maker's, e.g. after a conversion."""
    vocab = tokenizer.json["model"].get("vocab", {})
    runs = [piece for piece in (BLANK * n for n in range(2, 17)) if piece in vocab]
    # these models learned their runs of blanks, after the bytes; Gemma's stand before the bytes and do go first
    if not runs or "<0xFF>" not in vocab or vocab[runs[0]] < vocab["<0xFF>"]:
        return []
    notes = []
    merges = merge_pairs(tokenizer.json)
    blank = [i for i, (left, right) in enumerate(merges) if not (left + right).strip(BLANK)]
    words = [i for i, (left, right) in enumerate(merges) if (left + right).strip(BLANK)]
    if blank and words and blank[0] < words[-1]:
        notes.append(
            "the tokenizer merges runs of blanks before words, where SentencePiece merges them last, so texts with "
            "double blanks get other ids than in the base's own training (transformers converts tokenizer.model so); "
            "use the tokenizer.json that the base's maker publishes"
        )
    steps = [*parts(tokenizer.json.get("normalizer")), *parts(tokenizer.json.get("pre_tokenizer"))]
    if not tokenizer.prepends and "[INST]" not in tokenizer.control:
        dummy = any(part.get("type") == "Metaspace" and part.get("prepend_scheme") == "always" for part in steps)
        if not dummy:
            notes.append(
                "the tokenizer puts no blank before a run of text, where SentencePiece and the published tokenizers of "
                "Mistral v0.1, v0.2 and Llama-2 do, so each turn's first word gets other ids than in the base's own "
                "training (transformers converts tokenizer.model so); use the tokenizer.json that the maker publishes"
            )
    return notes
