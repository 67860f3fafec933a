"""Models."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from bitnet_rust import _native, errors
from bitnet_rust.engine import ChatReply, ChatStream, Completion, CompletionStream, Engine, Prompt
from bitnet_rust.options import ChatOptions, TextOptions
from bitnet_rust.session import Session

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Model", "Score"]


@dataclass(frozen=True)
class Score:
    """How well a model predicts a text."""

    logprob: float
    """The natural logarithm of the text's probability: the sum of those of its tokens."""
    is_greedy: bool
    """Whether each token was the likeliest where it stands."""
    tokens: list[int]
    """The tokens that were predicted."""
    token_logprobs: npt.NDArray[np.float64]
    """The logarithm of the probability of each."""


class Model:
    """A model ready to run. Threads share one; what it is asked runs in one engine, together.

    It is pickled as what it was opened from: another process opens it again. A file that is mapped is in memory once, however
    many processes have it open.
    """

    def __init__(self, source: str | os.PathLike[str] | None, **options: Any) -> None:
        """As :meth:`open`, or :meth:`demo` without a source."""
        self._source = None if source is None else os.fspath(source)
        self._options = options
        self._native = _native.Model(self._source, **options)
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        context: int | None = None,
        kv: str | None = None,
        memory_limit: int | None = None,
        copy: bool = False,
    ) -> Model:
        """Opens a model: a path (a GGUF file, or a folder of safetensors), an address, ``hf:owner/repo[/file][@revision]`` or a
        short name such as ``2b4t``. What is not here yet is downloaded once.

        ``threads`` is one for each core unless it is said, ``context`` the model's own, at most 4096 tokens; ``kv`` is the type of
        keys and values, ``f16``, ``f32`` or ``int8``; ``memory_limit`` is in bytes; ``copy`` reads files into memory instead of
        mapping them.
        """
        return cls(
            source,
            device=device,
            threads=threads,
            context=context,
            kv=kv,
            memory_limit=memory_limit,
            copy=copy,
        )

    @classmethod
    def demo(cls, *, threads: int | None = None, context: int | None = None, kv: str | None = None) -> Model:
        """Opens the small model that is part of this package: it tells stories, answers questions about them and adds two-digit
        numbers."""
        return cls(None, threads=threads, context=context, kv=kv)

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_again, (type(self), self._source, self._options)

    def __repr__(self) -> str:
        return f"<bitnet_rust.Model {self.name!r} on {self.device}>"

    @property
    def name(self) -> str:
        """The file's name."""
        return self._native.name

    @property
    def device(self) -> str:
        """The backend that it runs on, in one line."""
        return self._native.device

    @property
    def context(self) -> int:
        """Positions that a text can have, its prompt included."""
        return self._native.context

    @property
    def vocabulary(self) -> int:
        """Logits of a position."""
        return self._native.vocabulary

    @property
    def dimensions(self) -> int:
        """Numbers of a vector that :meth:`embed` makes."""
        return self._native.dimensions

    @property
    def parameters(self) -> int:
        """Weights in all its matrices."""
        return self._native.parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of its matrices."""
        return self._native.weight_bytes

    @property
    def embeds_only(self) -> bool:
        """Whether it was made to embed texts alone."""
        return self._native.embeds_only

    @property
    def tokenizer(self) -> _native.Tokenizer:
        """Its tokenizer."""
        return self._native.tokenizer

    @property
    def engine(self) -> Engine:
        """The engine of this model, started when it is first used. For other limits than the usual make an :class:`Engine`."""
        with self._lock:
            if self._engine is None:
                self._engine = Engine(self)
            return self._engine

    def fingerprint(self) -> bytes:
        """SHA-256 of what the model computes, whatever its file is called."""
        return bytes(self._native.fingerprint())

    @overload
    def generate(self, prompt: Prompt, **options: Unpack[TextOptions]) -> Completion: ...  # type: ignore[overload-overlap]

    @overload
    def generate(self, prompt: Iterable[Prompt], **options: Unpack[TextOptions]) -> list[Completion]: ...

    def generate(
        self, prompt: Prompt | Iterable[Prompt], **options: Unpack[TextOptions]
    ) -> Completion | list[Completion]:
        """Continues a prompt, or each of several; these run together. A text ends after 128 tokens unless it is said."""
        return self.engine.generate(prompt, **options)

    def generate_all(self, prompts: Iterable[Prompt], **options: Unpack[TextOptions]) -> Iterator[Completion]:
        """Continues each of many prompts, and gives the texts in their order while others still run."""
        return self.engine.generate_all(prompts, **options)

    def stream(self, prompt: Prompt, **options: Unpack[TextOptions]) -> CompletionStream:
        """Continues a prompt piece by piece: ``for piece in model.stream(…)``. A stream that is dropped ends its text."""
        return self.engine.stream(prompt, **options)

    def agenerate(self, prompt: Prompt, **options: Unpack[TextOptions]) -> CompletionStream:
        """Continues a prompt piece by piece, in a task: ``async for piece in model.agenerate(…)``."""
        return self.engine.agenerate(prompt, **options)

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatReply:
        """Answers the last of ``messages``, which are as in OpenAI's interface, and so are ``tools`` and ``response_format``."""
        return self.engine.chat(messages, tools=tools, response_format=response_format, **options)

    async def achat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatReply:
        """As :meth:`chat`, in a task."""
        return await self.engine.achat(messages, tools=tools, response_format=response_format, **options)

    def chat_stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        response_format: Mapping[str, Any] | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatStream:
        """As :meth:`chat`, piece by piece, for threads (``for``) and tasks (``async for``)."""
        return self.engine.chat_stream(messages, tools=tools, response_format=response_format, **options)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        normalize: bool = True,
        dimensions: int | None = None,
        pooling: str | None = None,
        instruction: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """The vectors of some texts, ``[texts, dimensions]``, or the vector of one. Texts of a length run together; none depends on
        the others. Longer ones than the context are cut to it.

        ``dimensions`` keeps the first numbers, ``pooling`` is ``last``, ``mean`` or ``first`` where the model is not to say it, and
        ``instruction`` is the task that the texts are queries for.
        """
        one = isinstance(texts, str)
        vectors, _ = self._native.embed(
            [texts] if isinstance(texts, str) else list(texts),
            pooling=pooling,
            normalize=normalize,
            dimensions=dimensions,
            instruction=instruction,
        )
        return vectors[0] if one else vectors

    def logits(self, tokens: Sequence[int], *, last: bool = False) -> npt.NDArray[np.float32]:
        """The logits behind each of the tokens, ``[tokens, vocabulary]``, or behind the last one alone, ``[1, vocabulary]``. The
        same bits on every processor."""
        return self._native.logits(list(tokens), last=last)

    def score(self, texts: Sequence[str], continuations: Sequence[str] | None = None) -> list[Score]:
        """How well the model predicts each text, but for a first token that nothing predicts; or, if ``continuations`` are given,
        what follows each text."""
        if isinstance(texts, str) or isinstance(continuations, str):
            raise errors.ArgumentError("texts: expected a list of texts, found one text")
        if continuations is not None and len(continuations) != len(texts):
            raise errors.ArgumentError(
                f"continuations: expected one for each of {len(texts)} texts, found {len(continuations)}"
            )
        encode = self.tokenizer.encode
        scores = []
        for index, text in enumerate(texts):
            if continuations is None:
                scores.append(self.score_tokens(encode(text)))
            else:
                whole = encode(text + continuations[index])
                scores.append(self.score_tokens(whole, max(len(encode(text)), 1)))
        return scores

    def score_tokens(self, tokens: Sequence[int], first: int = 1) -> Score:
        """How well the model predicts the tokens from place ``first`` on, each by those before it."""
        logprobs, likeliest = self._native.likelihoods(list(tokens), first)
        return Score(
            logprob=float(logprobs.sum()),
            is_greedy=bool(likeliest.all()),
            tokens=list(tokens[first:]),
            token_logprobs=logprobs,
        )

    def session(self) -> Session:
        """An empty context that goes on from text to text."""
        return Session(self._native.session())

    def restore(self, path: str | os.PathLike[str]) -> Session:
        """The session that :meth:`Session.save` wrote: nothing is read again."""
        return Session(self._native.restore(path))


def _open_again(cls: type[Model], source: str | None, options: dict[str, Any]) -> Model:
    return cls(source, **options)
