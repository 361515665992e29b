"""OpenAI's chat completions as data: what a request's body asks for, and the JSON of answers and errors."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from medrecipes.core.bounded_reading import SURROGATE
from medrecipes.core.errors import shown
from medrecipes.data.reasoning import KEYS
from medrecipes.data.records import Message
from medrecipes.engines import Decoding

MOST_MESSAGES, MOST_STOPS, LONGEST_STOP = 1000, 4, 200
TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
# what asks for nothing beyond a plain answer, or says who asks; taken and not acted on
IGNORED = {
    "user", "store", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier",
    "parallel_tool_calls", "request_id", "priority",
}  # fmt: skip
# what is not done here, with the values that ask for nothing
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,), "top_logprobs": (0,),
    "logit_bias": ({},), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},), "modalities": (["text"],), "top_k": (-1, 0), "min_p": (0,),
    "use_beam_search": (False,), "add_generation_prompt": (True,),
}  # fmt: skip
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class BadRequest(Exception):  # noqa: N818 - it is the caller's error, not ours
    """Why a request is not answered: its HTTP status, the message, and the field that is meant."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """The JSON that OpenAI's clients read."""
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        type = TYPES.get(self.status, usual)
        return {"error": {"message": str(self), "type": type, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Wish:
    """A request that was read: what was said so far, and how it is to be answered."""

    model: str
    messages: list[Message]
    decoding: Decoding
    limited: bool  # whether the request itself says how long the answer may be
    stops: list[str] = field(default_factory=list)
    stream: bool = False
    usage_in_stream: bool = False


def read(body: bytes, usual: Decoding) -> Wish:
    """A request's body; what it leaves out is decoded as `usual` says."""
    try:
        asked = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadRequest(400, "the body is no JSON") from None
    if not isinstance(asked, dict):
        raise BadRequest(400, "the body is no JSON object")
    _refuse_unknown(asked)
    temperature = _number(asked, "temperature", 0, 2, usual.temperature)
    limits = [name for name in ("max_completion_tokens", "max_tokens") if asked.get(name) is not None]
    limit = _whole(asked, limits[0], 1, 1 << 20, 0) if limits else usual.max_new_tokens
    decoding = Decoding(
        limit, temperature, _number(asked, "top_p", 0, 1, usual.top_p) or 1e-6,
        _number(asked, "repetition_penalty", 0.01, 100, usual.repetition_penalty),
        # without a seed a drawn answer is another one each time, as callers expect
        _whole(asked, "seed", -(1 << 63), (1 << 64) - 1, secrets.randbits(31) if temperature else usual.seed),
        _flag(asked, "ignore_eos"),
    )  # fmt: skip
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict):
        raise BadRequest(400, "stream_options: must be an object", "stream_options")
    return Wish(
        _text(asked.get("model"), "model"), _messages(asked.get("messages")), decoding, bool(limits), _stops(asked.get("stop")),
        _flag(asked, "stream"), _flag(options, "include_usage"),
    )  # fmt: skip


def _refuse_unknown(asked: Mapping[str, Any]) -> None:
    """Raise for what would change the answer and is not done here."""
    known = {
        "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "stream",
        "stream_options", "repetition_penalty", "ignore_eos",
    }  # fmt: skip
    for name, value in asked.items():
        if name in known or name in IGNORED or value is None:
            continue
        neutral = NEUTRAL.get(name)
        if neutral is None:
            raise BadRequest(400, f"{shown(name)}: is not supported here; leave it out", shown(name), "unsupported_parameter")  # fmt: skip
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral):
            raise BadRequest(
                400, f"{name}: nothing but {json.dumps(neutral[0])} is supported here", name, "unsupported_value"
            )


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise BadRequest(400, "messages: must be a list of at least one message", "messages")
    if len(value) > MOST_MESSAGES:
        raise BadRequest(400, f"messages: {len(value):,} of them, and {MOST_MESSAGES:,} are taken", "messages")
    return [_message(one, f"messages[{number}]") for number, one in enumerate(value)]


def _message(value: Any, where: str) -> Message:
    role = ROLES.get(str(value.get("role"))) if isinstance(value, dict) else None
    if role is None:
        raise BadRequest(400, f"{where}: must be an object with role system, user or assistant, and content", where)
    if value.get("tool_calls") or value.get("function_call"):
        raise BadRequest(400, f"{where}: tool calls are not supported here", where, "unsupported_value")
    content = value.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"{where}.content") for part in content)
    thought = next((value[key] for key in KEYS if value.get(key) is not None), "") if role == "assistant" else ""
    return Message(role, _text(content, f"{where}.content"), _text(thought, f"{where}.{KEYS[0]}"))  # type: ignore[arg-type]


def _part(value: Any, where: str) -> str:
    if not isinstance(value, dict) or value.get("type") != "text":
        raise BadRequest(400, f"{where}: only parts of type text are supported here", where, "unsupported_value")
    return _text(value.get("text"), where)


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise BadRequest(400, f"stop: must be text, or a list of at most {MOST_STOPS}", "stop")
    for stop in stops:
        if not 0 < len(_text(stop, "stop")) <= LONGEST_STOP:
            raise BadRequest(400, f"stop: a text of 1 to {LONGEST_STOP} characters", "stop")
    return stops


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadRequest(400, f"{where}: must be a text", where)
    if not value.isascii() and SURROGATE.search(value):
        raise BadRequest(400, f"{where}: holds half of a surrogate pair, which is no text", where)
    return value


def _flag(asked: Mapping[str, Any], name: str) -> bool:
    value = asked.get(name)
    if not isinstance(value, bool | None):
        raise BadRequest(400, f"{name}: must be true or false", name)
    return bool(value)


def _number(asked: Mapping[str, Any], name: str, low: float, high: float, usual: float) -> float:
    value = asked.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BadRequest(400, f"{name}: must be a number from {low:g} to {high:g}", name)
    return float(value)


def _whole(asked: Mapping[str, Any], name: str, low: int, high: int, usual: int) -> int:
    value = asked.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequest(400, f"{name}: must be a whole number from {low:,} to {high:,}", name)
    return value


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def usage(prompt: int, completion: int, reasoning: int) -> dict[str, Any]:
    """How many tokens were read and written, the stop token included, and how many of these are reasoning, where some are."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {**counts, **({"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {})}


def model(name: str, created: int) -> dict[str, Any]:
    """An entry of the list of models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "medrecipes"}


@dataclass(frozen=True)
class Envelope:
    """What all pieces of one answer share."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, thought: str, finish: str, used: Mapping[str, Any]) -> dict[str, Any]:
        """An answer that is not streamed, with its reasoning beside it where it has some."""
        message = {"role": "assistant", "content": text, "refusal": None, **({KEYS[0]: thought} if thought else {})}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self._with("chat.completion", [choice], used)

    def piece(self, delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
        """A piece of an answer that is streamed."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._with("chat.completion.chunk", [choice])

    def used(self, used: Mapping[str, Any]) -> dict[str, Any]:
        """The last piece, where usage was asked for."""
        return self._with("chat.completion.chunk", [], used)

    def _with(self, kind: str, choices: Sequence[Any], used: Mapping[str, Any] | None = None) -> dict[str, Any]:
        usage = {} if used is None else {"usage": used}
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **usage,
        }
