"""Many texts at once."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from bitnet_rust import _native, errors
from bitnet_rust.options import ChatOptions, TextOptions, check

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from bitnet_rust.model import Model

__all__ = ["ChatReply", "ChatStream", "Completion", "CompletionStream", "Engine", "Prompt"]

Prompt = str | Sequence[int]
"""A text, or the ids of its tokens."""

_TEXTS = "/v1/completions"
_CHAT = "/v1/chat/completions"
_AHEAD = 512
"""The most requests of one call that are with the engine at a time."""


@dataclass(frozen=True)
class Completion:
    """A text that continues a prompt."""

    text: str
    finish_reason: str
    """``stop`` at an end that the model or ``stop`` chose, ``length`` where the tokens or the context were used up."""
    seed: int
    """Gives the same text again."""
    prompt_tokens: int
    completion_tokens: int
    logprobs: dict[str, Any] | None = None
    """As OpenAI's interface for completions has them."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ChatReply:
    """An answer in a conversation."""

    message: dict[str, Any]
    """The answer as the next message of the conversation: append it to go on."""
    finish_reason: str
    """``stop``, ``length`` or ``tool_calls``."""
    seed: int
    prompt_tokens: int
    completion_tokens: int
    logprobs: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """What the answer says, without thinking and calls."""
        return self.message.get("content") or ""

    @property
    def reasoning(self) -> str:
        """What the model thought before."""
        return self.message.get("reasoning_content") or ""

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls that the model asks for, as OpenAI's interface has them."""
        return self.message.get("tool_calls") or []

    def __str__(self) -> str:
        return self.text


def _checked(answer: tuple[int, str]) -> dict[str, Any]:
    """The object of an answer; an error is raised."""
    status, text = answer
    found: dict[str, Any] = json.loads(text)
    error = found.get("error")
    if error is None:
        return found
    kinds: dict[str | None, type[errors.BitnetError]] = {
        "context_length_exceeded": errors.ContextError,
        "rate_limit_exceeded": errors.OverloadedError,
        "unsupported_parameter": errors.UnsupportedError,
        "invalid_value": errors.ArgumentError,
    }
    usual = errors.ArgumentError if 400 <= status < 500 else errors.BackendError
    raise kinds.get(error.get("code"), usual)(error["message"])


def _completion(found: Mapping[str, Any]) -> Completion:
    choice, usage = found["choices"][0], found["usage"]
    return Completion(
        text=choice["text"],
        finish_reason=choice["finish_reason"],
        seed=found["seed"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        logprobs=choice["logprobs"],
    )


def _reply(found: Mapping[str, Any]) -> ChatReply:
    choice, usage = found["choices"][0], found["usage"]
    message = {name: value for name, value in choice["message"].items() if name != "refusal"}
    return ChatReply(
        message=message,
        finish_reason=choice["finish_reason"],
        seed=found["seed"],
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        logprobs=choice["logprobs"],
    )


T = TypeVar("T")


class _Stream(Generic[T]):
    """An answer as it comes, for threads (``for``) and tasks (``async for``). One that is dropped or closed ends its text."""

    def __init__(self, asked: _native.Reply) -> None:
        self._asked = asked
        self._ended = False
        self.finish_reason: str | None = None
        """Why the text ended; ``None`` while it goes on."""
        self.seed: int | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def _piece(self, choice: Mapping[str, Any]) -> T | None:
        raise NotImplementedError

    def _take(self, answer: tuple[int, str]) -> T | None:
        try:
            found = _checked(answer)
        except errors.BitnetError:
            self._ended = True
            raise
        self.seed = found["seed"]
        usage = found.get("usage")
        if usage is not None:
            self.prompt_tokens = usage["prompt_tokens"]
            self.completion_tokens = usage["completion_tokens"]
        for choice in found["choices"]:
            if choice["finish_reason"] is not None:
                self.finish_reason = choice["finish_reason"]
            return self._piece(choice)
        return None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while not self._ended:
            try:
                answer = self._asked.next()
            except BaseException:
                # Ctrl-C ends the text, too.
                self.close()
                raise
            if answer is None:
                self._end()
                break
            piece = self._take(answer)
            if piece is not None:
                return piece
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._ended:
            try:
                answer = await _next(self._asked)
            except BaseException:
                self.close()
                raise
            if answer is None:
                self._end()
                break
            piece = self._take(answer)
            if piece is not None:
                return piece
        raise StopAsyncIteration

    def _end(self) -> None:
        self._ended = True
        if self.finish_reason is None:
            raise errors.StoppedError("the text ended before its end: its engine has stopped, or the stream was closed")

    def close(self) -> None:
        """Ends the text."""
        self._ended = True
        self._asked.close()

    async def aclose(self) -> None:
        """Ends the text."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CompletionStream(_Stream[str]):
    """The pieces of a text that continues a prompt."""

    def _piece(self, choice: Mapping[str, Any]) -> str | None:
        return choice["text"] or None


class ChatStream(_Stream[dict[str, Any]]):
    """The pieces of an answer, as the deltas of OpenAI's chunks: with ``content``, ``reasoning_content`` or ``tool_calls``."""

    def _piece(self, choice: Mapping[str, Any]) -> dict[str, Any] | None:
        delta: dict[str, Any] = choice["delta"]
        said = any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls"))
        return delta if said else None


async def _next(asked: _native.Reply) -> tuple[int, str] | None:
    """The next text of an answer, without blocking the loop."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[int, str] | None] = loop.create_future()

    def settle(answer: tuple[int, str] | None) -> None:
        if not future.done():
            future.set_result(answer)

    def tell(answer: tuple[int, str] | None) -> None:
        # A loop that was closed meanwhile waits for nothing.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, answer)

    asked.next_then(tell)
    return await future


def _is_one(prompt: Prompt | Iterable[Prompt]) -> bool:
    return isinstance(prompt, str) or (
        isinstance(prompt, Sequence) and len(prompt) > 0 and all(isinstance(token, int) for token in prompt)
    )


class Engine:
    """Runs the texts of many callers together, on all cores: threads and tasks share one. No text depends on the others.

    ``max_running`` texts run together, ``max_waiting`` more may wait, and keys and values take at most ``kv_bytes`` of memory.
    Prompts that begin alike are read once, unless ``prefix_cache`` is false.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_running: int = 32,
        max_waiting: int = 4096,
        kv_bytes: int = 2 << 30,
        prefix_cache: bool = True,
    ) -> None:
        self._ahead = min(_AHEAD, max_running + max_waiting)
        self._native = _native.Engine(
            model._native,
            max_running=max_running,
            max_waiting=max_waiting,
            kv_bytes=kv_bytes,
            prefix_cache=prefix_cache,
        )

    def _ask(self, path: str, body: Mapping[str, Any]) -> _native.Reply:
        try:
            return self._native.ask(path, json.dumps(body, allow_nan=False))
        except (TypeError, ValueError) as error:
            if isinstance(error, errors.BitnetError):
                raise
            raise errors.ArgumentError(f"options: expected values that JSON can say, found others: {error}") from error

    def _text_body(self, prompt: Prompt, options: Mapping[str, Any]) -> dict[str, Any]:
        check(options)
        given = prompt if isinstance(prompt, str) else [int(token) for token in prompt]
        return {"max_tokens": 128, **options, "prompt": given}

    def _chat_body(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        response_format: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        check(options)
        given = {"messages": list(messages), "tools": tools, "response_format": response_format}
        return {**options, **{name: value for name, value in given.items() if value is not None}}

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[TextOptions]) -> Completion: ...  # type: ignore[overload-overlap]

    @overload
    def generate(self, prompt: Iterable[Prompt], **options: Unpack[TextOptions]) -> list[Completion]: ...

    def generate(
        self, prompt: Prompt | Iterable[Prompt], **options: Unpack[TextOptions]
    ) -> Completion | list[Completion]:
        """Continues a prompt, or each of several; these run together. A text ends after 128 tokens unless it is said."""
        if _is_one(prompt):
            asked = self._ask(_TEXTS, self._text_body(prompt, options))  # type: ignore[arg-type]
            return _completion(_whole(asked))
        return list(self.generate_all(prompt, **options))  # type: ignore[arg-type]

    def generate_all(self, prompts: Iterable[Prompt], **options: Unpack[TextOptions]) -> Iterator[Completion]:
        """Continues each of many prompts, and gives the texts in their order while others still run. ``prompts`` may be without
        end: so many are taken at a time as keep the engine busy."""
        waiting: deque[_native.Reply] = deque()
        try:
            for prompt in prompts:
                waiting.append(self._ask(_TEXTS, self._text_body(prompt, options)))
                if len(waiting) >= self._ahead:
                    yield _completion(_whole(waiting.popleft()))
            while waiting:
                yield _completion(_whole(waiting.popleft()))
        finally:
            # An exception that somebody holds on to would hold the others.
            for asked in waiting:
                asked.close()

    def stream(self, prompt: Prompt, **options: Unpack[TextOptions]) -> CompletionStream:
        """Continues a prompt piece by piece: ``for piece in engine.stream(…)``."""
        return CompletionStream(self._ask(_TEXTS, _streamed(self._text_body(prompt, options))))

    def agenerate(self, prompt: Prompt, **options: Unpack[TextOptions]) -> CompletionStream:
        """Continues a prompt piece by piece, in a task: ``async for piece in engine.agenerate(…)``."""
        return self.stream(prompt, **options)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatReply:
        """Answers the last of ``messages``, which are as in OpenAI's interface, and so are ``tools`` and ``response_format``."""
        return _reply(_whole(self._ask(_CHAT, self._chat_body(messages, tools, response_format, options))))

    async def achat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatReply:
        """As :meth:`chat`, in a task."""
        asked = self._ask(_CHAT, self._chat_body(messages, tools, response_format, options))
        return _reply(_given(await _next(asked)))

    def chat_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatStream:
        """As :meth:`chat`, piece by piece, for threads (``for``) and tasks (``async for``)."""
        body = self._chat_body(messages, tools, response_format, options)
        return ChatStream(self._ask(_CHAT, _streamed(body)))

    async def forward(self, path: str, body: str) -> AsyncIterator[tuple[int, str]]:
        """Answers a request as ``bitnet serve`` does, for gateways: ``body`` is JSON in the interface of OpenAI (``/v1/…``),
        Anthropic or Ollama. Gives the status of HTTP with each text in JSON: one, or many if ``stream`` is set in the body."""
        asked = self._native.ask(path, body)
        try:
            while (answer := await _next(asked)) is not None:
                yield answer
        finally:
            asked.close()

    def gauges(self) -> dict[str, int]:
        """Counts of the engine's work: texts that run and wait, tokens, bytes of keys and values."""
        return dict(self._native.gauges())


def _streamed(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def _whole(asked: _native.Reply) -> dict[str, Any]:
    """The whole answer."""
    try:
        return _given(asked.next())
    finally:
        asked.close()


def _given(answer: tuple[int, str] | None) -> dict[str, Any]:
    if answer is None:
        raise errors.StoppedError("the engine has stopped: start another one")
    return _checked(answer)
