"""A Jinja environment in which every template ends: its turns, the sizes of its values and its time are counted.

The sandbox of jinja2 keeps a template from Python's internals, but lets it loop, double its texts and print for ever.
It is counted where a template does its work, so it holds in any thread: at each turn of a loop and each call, and when a
value gets a name. What one expression does in between is bounded by the length of the template.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import wraps
from time import monotonic
from types import BuiltinMethodType, CodeType, FunctionType, MethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import LRUCache, Namespace

from medrecipes.core.errors import LimitError, TemplateError

LONGEST = 64_000  # characters of a template; the longest that makers publish have some 20,000
TURNS = 200_000  # of loops and calls together, and a thousand more for each message of the conversation
SECONDS = 1.0
# of a value, and eight times as many more as the conversation has characters
SIZE = 200_000  # characters of a text
LARGE = 512  # characters that are made or written at the price of a turn
ITEMS = 5_000  # items of a list or a dict, with the items and characters that lie in them
PRODUCT = 20_000_000  # of what a call works on, such as a text in which something is replaced and what by
BITS = 1 << 16
WIDTH = 10_000  # what a filter may be asked to indent or round by
WIDE = re.compile(r"\d{5}|\{[^{}]*\{|%[^a-zA-Z%]*\*")  # in a format: a width of five digits, or one that is a value
JOINED = 64  # texts that are put together in one expression; of more, each step is looked at
CODES: LRUCache = LRUCache(64)  # of compiled templates: a command opens the same one several times
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
HOLDERS: tuple[type, ...] = (list, tuple, dict, set, frozenset, *VIEWS)
SIZED = (str, bytes, range, *HOLDERS)
# those of jinja2 that make no more of a text than a template needs: without padding, batches, wrapping and links
FILTERS = {
    "abs", "attr", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "indent",
    "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace",
    "reverse", "round", "safe", "select", "selectattr", "sort", "string", "title", "tojson", "trim", "truncate", "unique",
    "upper",
}  # fmt: skip
PADDING = {"center", "expandtabs", "format_map", "from_bytes", "ljust", "rjust", "to_bytes", "translate", "zfill"}


class _Names(Namespace):
    """A namespace that prints as its kind alone: it may hold itself."""

    def __repr__(self) -> str:
        return "<namespace>"


NAMES = ("_loop_vars", "_block_vars")  # that jinja2 hands to every call, for functions that ask for the context
SMALL = frozenset({bool, float, type(None), _Names, Macro})  # and never too large; asked by kind, for speed


class _Counting(CodeGenerator):
    """Has loops, names and long lists counted; calls and filters pass through the environment anyway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._through: dict[int, str] = {}  # expressions whose values go through a method of the environment

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        method = self._through.pop(id(node), None)
        if method is None and isinstance(node, nodes.List | nodes.Tuple | nodes.Dict) and len(node.items) > JOINED:
            method = "held"
        if method is None or getattr(node, "ctx", "load") != "load":
            return super().visit(node, *args, **kwargs)
        self.write(f"environment.{method}(")
        super().visit(node, *args, **kwargs)
        self.write(")")
        return None

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - jinja2's own names
        self._through[id(node.iter)] = "turns"
        super().visit_For(node, frame)

    def visit_Assign(self, node: nodes.Assign, frame: Frame) -> None:  # noqa: N802
        self._through[id(node.node)] = "held"
        super().visit_Assign(node, frame)

    def visit_With(self, node: nodes.With, frame: Frame) -> None:  # noqa: N802
        self._through |= {id(value): "held" for value in node.values}
        super().visit_With(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        if len(node.nodes) > JOINED:
            self.fail(f"joins {len(node.nodes)} texts in one expression, more than {JOINED}", node.lineno)
        if "+" not in getattr(self.environment, "intercepted_binops", ()):
            super().visit_Concat(node, frame)
            return
        self.write("environment.held(")
        super().visit_Concat(node, frame)
        self.write(")")


class Bounded(ImmutableSandboxedEnvironment):
    """The sandbox with limits."""

    code_generator_class = _Counting

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=self.printed, **options)
        self.filters = {name: self.limited(do) for name, do in self.filters.items() if name in FILTERS}
        self.globals["namespace"] = _Names
        self.globals.pop("lipsum")
        self.concat = self._concat  # type: ignore[method-assign]
        self._lock = threading.Lock()  # one rendering at a time, or one would be counted for another
        self._begin(())

    def _begin(self, contents: Collection[str]) -> None:
        self._left, self._contents = TURNS + 1000 * len(contents), contents
        self._until, self._spent = time.monotonic() + SECONDS, 0.0

    def compiled(self, text: str) -> jinja2.Template:
        """A template of this environment; raises, in one line, where it is none."""
        if len(text) > LONGEST:
            raise LimitError(f"has {len(text):,} characters; {LONGEST:,} are enough for any, shorten it")
        many = text.count("+") + text.count("~") > JOINED
        with self._lock:
            self._begin(())
            self.intercepted_binops = frozenset(("*", "**", "%", "+") if many else ("*", "**", "%"))
            try:
                return self.template_class.from_code(self, self._code(text, many), self.make_globals(None))
            except TemplateError:
                raise
            except jinja2.TemplateSyntaxError as error:
                raise TemplateError(f"cannot be read, line {error.lineno}: {error.message}") from None
            except Exception as error:  # too deep for Python's own compiler, in several ways
                raise TemplateError(f"cannot be read: {error or type(error).__name__}") from None

    def _code(self, text: str, many: bool) -> CodeType:
        """The Python of a template, which is the same for all environments that are set up alike."""
        # filters too, for what they make of constants is worked out here
        filters = frozenset((name, getattr(do, "__wrapped__", do)) for name, do in self.filters.items())
        blanks = (self.trim_blocks, self.lstrip_blocks, self.keep_trailing_newline)
        key = (type(self), text, many, blanks, self.undefined, frozenset(self.extensions), filters)
        code: CodeType | None = CODES.get(key)
        if code is None:
            code = CODES[key] = self.compile(text)
        return code

    def rendered(self, template: jinja2.Template, contents: Collection[str], /, **variables: Any) -> str:
        """What a template makes of variables with these texts; raises, in one line, where it fails or does not end."""
        with self._lock:
            self._begin(contents)
            try:
                # as template.render does, without the search for a name through layers of globals
                context = template.new_context({**self.globals, **variables}, shared=True)
                return self._concat(template.root_render_func(context))
            except TemplateError:
                raise
            except RecursionError:
                raise TemplateError("cannot be rendered: it calls itself without end") from None
            except Exception as error:  # a template can fail in as many ways as a program
                raise TemplateError(f"cannot be rendered: {error or type(error).__name__}") from None

    # --- what is counted

    def spend(self, turns: int = 1) -> None:
        """Count turns, and look at the clock."""
        self._left -= turns
        if self._left < 0 or monotonic() > self._until:
            self._late()

    def _late(self) -> None:
        """Raise where the turns are used up, or the time: some seconds, and then as many of this thread's own."""
        if self._left < 0:
            raise LimitError(
                f"does not end: its loops and calls take more than {TURNS + 1000 * len(self._contents):,} turns; shorten them"
            )
        self._spent = self._spent or time.thread_time() + SECONDS
        self._until += SECONDS / 10  # that clock is slow to read
        if time.thread_time() > self._spent:
            raise LimitError(f"does not end: one conversation takes more than {2 * SECONDS:g} s; shorten its loops")

    def turns(self, items: Iterable[Any]) -> Iterator[Any]:
        """What a loop goes over, each turn counted."""
        for item in items:
            self._left -= 1
            if self._left < 0 or monotonic() > self._until:
                self._late()
            yield item

    def held(self, value: Any) -> Any:
        """A value that is made or gets a name, unless it is too large."""
        kind = type(value)
        if kind is str or (kind not in SMALL and isinstance(value, str | bytes)):
            if len(value) > LARGE:
                self._below(len(value), SIZE, "a text of more than {:,} characters")
                self.spend(len(value) // LARGE)
        elif kind not in SMALL:
            if isinstance(value, HOLDERS):
                self._weigh(value)
            elif isinstance(value, int) and value.bit_length() > BITS:
                raise LimitError(f"makes a number of more than {BITS:,} bits; shorten it")
        return value

    def printed(self, value: Any) -> Any:
        """What is written, which stays until all is: it is counted where it is large."""
        return value if type(value) is str and len(value) <= LARGE else self.held(value)

    def _below(self, size: int, most: int, what: str) -> None:
        """Raise for a size beyond what a value may have, and eight times as much more as the conversation's texts."""
        if size > most and size > (most := most + 8 * sum(map(len, self._contents))):
            raise LimitError(f"makes {what.format(most)}; shorten it")

    def _weigh(self, value: Any) -> None:
        """Raise for what would be too large as a text, e.g. a list of two lists of two lists of two …"""
        weight, left = 0, [value]
        while left:
            items = left.pop()
            weight += len(items)
            for item in [*items, *items.values()] if isinstance(items, Mapping) else items:
                if type(item) is str:
                    weight += len(item)
                elif type(item) not in SMALL and isinstance(item, SIZED):
                    weight += len(item) if isinstance(item, str | bytes | range) else 0
                    left += [item] if isinstance(item, HOLDERS) else []
            self._below(weight, ITEMS, "a list or dict of more than {:,} items and characters")
        self.spend(weight // LARGE)

    def _fits(self, values: Iterable[Any]) -> None:
        """Raise where one value worked on by another takes too long or too much, e.g. texts joined by a text."""
        *_, larger, largest = 0, 0, *sorted(map(_length, values))
        self._below(larger * largest, PRODUCT, "what takes more than {:,} steps, of two texts or lists")

    # --- where it is counted

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as jinja2 has it
        __self._left -= 1
        if __self._left < 0 or monotonic() > __self._until:
            __self._late()
        if args or kwargs:
            args = __self._asked(__obj, args, kwargs)
        # as the sandbox calls them, without what only other functions need
        if type(__obj) is BuiltinMethodType:
            if __obj.__name__ in PADDING:
                raise LimitError(f"pads a text ({__obj.__name__}); write it as it is")
            return __self.held(__obj(*args, **_own(kwargs)))
        if type(__obj) is MethodType and isinstance(__obj.__self__, Extension):
            return __obj(*args, **_own(kwargs))
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"{__obj!r} is not safely callable")
        return __self.held(__context.call(__obj, *args, **kwargs))

    def _asked(self, obj: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """What a function is called with, looked at."""
        if len(args) == 1 and not kwargs and type(args[0]) is str and len(args[0]) < JOINED:  # as most are
            return args
        for value in _own(kwargs).values():
            self.held(value)
        if type(obj) is FunctionType and hasattr(obj, "__wrapped__"):  # the sandbox's own way to format
            _narrow(str(getattr(obj.__wrapped__, "__self__", "")))
        if not args:
            return args
        for value in args:
            self.held(value)
        if isinstance(obj, LoopContext):  # a recursive loop
            return tuple(map(self.turns, args))
        self._fits((getattr(obj, "__self__", None), *args))
        return args

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.spend()
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(times, int):
                    self._below(_length(value) * times, SIZE, "a value of more than {:,} characters or items")
            if isinstance(left, int) and isinstance(right, int):
                self.held(1 << min(left.bit_length() + right.bit_length(), 2 * BITS))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.held(1 << min(left.bit_length() * abs(right), 2 * BITS))
        elif operator == "%" and isinstance(left, str):
            self._fits((_narrow(left), right))
        return self.held(super().call_binop(context, operator, left, right))

    def limited(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is counted, and not asked for too much."""

        @wraps(do)
        def limited(*args: Any, **kwargs: Any) -> Any:
            self.spend()
            values = (*args, *kwargs.values())
            if len(values) > 1:
                if any(isinstance(value, int) and abs(value) > WIDTH for value in values[1:]):
                    raise LimitError(f"asks a filter for more than {WIDTH:,}; ask for less")
                self._fits(values)
            return self.held(do(*args, **kwargs))

        return limited

    def _concat(self, pieces: Iterable[str]) -> str:
        """The pieces of an output as one text."""
        pieces = list(pieces)
        self._below(sum(map(len, pieces)), SIZE, "an output of more than {:,} characters")
        return "".join(pieces)


def _own(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a template itself writes of the keywords of a call."""
    return {name: value for name, value in kwargs.items() if name not in NAMES} if kwargs else kwargs


def _length(value: Any) -> int:
    """How much there is to work on; what is made as it is read may be long."""
    if isinstance(value, SIZED):
        size: int = len(value)  # type: ignore[arg-type]
        return size
    return ITEMS if hasattr(value, "__next__") else 0


def _narrow(format: str) -> str:
    """A format; raises where it pads."""
    if WIDE.search(format):
        raise LimitError(f"pads a text ({format[:40]!r}); write it as it is")
    return format
