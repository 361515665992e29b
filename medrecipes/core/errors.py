"""What goes wrong on the user's side, each shown as one line: what, where, and the next move."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any

LONGEST = 2000  # characters of a problem that anybody reads


class MedRecipesError(Exception):
    """Something the user can mend; the command line prints it without a traceback and exits with 2."""


class RecipeError(MedRecipesError):
    """A recipe that cannot be used; `problems` holds one line each, all that were found."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        said = [problems] if isinstance(problems, str) else problems
        self.problems = [visible(short(problem, LONGEST)) for problem in said]
        super().__init__("\n".join(self.problems))


class DataError(MedRecipesError):
    """Data that is missing, damaged or unusable; in one line, whatever names and texts of strangers it bears."""

    def __init__(self, text: str) -> None:
        super().__init__(visible(short(text, LONGEST)))


class TemplateError(MedRecipesError):
    """A chat template or tokenizer that cannot be used together, or a conversation that they cannot render."""


class LimitError(TemplateError):
    """A chat template that does not end, or makes more of a conversation than any needs."""


class EngineError(MedRecipesError):
    """A training engine that is missing, or a setting that it would not honour."""


class RunError(MedRecipesError):
    """A run folder that is missing, unfinished or of another kind than asked for."""


class SpoiledError(RunError):
    """A file of a run that is damaged, or not what the run wrote."""


class TrustError(MedRecipesError):
    """Code of others that nobody allowed on the command line."""


class HubError(MedRecipesError):
    """Something that the Hub refused, lacks or did not finish."""


class UnreachableError(HubError):
    """The Hub does not answer, and what is asked for was never fetched before: nothing can be said of it."""


def reason(error: BaseException) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


# what steers a terminal: control characters, separators of lines, reversed writing; and halves of characters
STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text without what steers a terminal, each such character as JSON and TOML write it, e.g. `\\u001b`."""
    return STEERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def visible(text: str) -> str:
    """A line of a message in which every character can be seen: line ends, blanks of other kinds and the like as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(text: str, longest: int) -> str:
    """A text whose middle is left out where it is long."""
    return text if len(text) <= longest else f"{text[: longest * 2 // 3]} … {text[-longest // 3 :]}"


def shown(value: Any, longest: int = 100) -> str:
    """A value as a message bears it."""
    return short(repr(value), longest)


def uncompiled(error: RuntimeError) -> str | None:
    """What to say of kernels that torch cannot compile on this machine; None of another error."""
    dynamo = sys.modules.get("torch._dynamo.exc")
    if dynamo is None or not isinstance(error, dynamo.BackendCompilerFailed):
        return None
    return (
        f"torch cannot compile this engine's kernels here ({reason(error).strip(': ')}); install a C compiler where that is what is missing, else "
        "set model.engine to the other one, trl or unsloth, or TORCHDYNAMO_DISABLE=1 in the environment to go without "
        "(--debug shows the whole error)"
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that an unknown one is most likely meant as, in letters of either case."""
    words, word = {name.lower(): name for name in sorted(set(known), reverse=True)}, word[:100].lower()
    close = difflib.get_close_matches(word, sorted(words), n=1, cutoff=0.6)
    if close:
        return words[close[0]]
    # the last part alone too: `lora.rnak` is as near to `lora.rank` as `rnak` to `rank`
    tails = {name.rsplit(".", 1)[-1]: known for name, known in words.items()}
    close = difflib.get_close_matches(word.rsplit(".", 1)[-1], list(tails), n=1, cutoff=0.7)
    return tails[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown word, e.g. `; did you mean lora.rank?`, or the short list of what exists."""
    known = sorted(set(known))
    if near := nearest(word, known):
        return f"; did you mean {near}?"
    return f"; known: {', '.join(known)}" if 0 < len(known) <= 24 else ""
