"""Sessions: one context, which goes on from text to text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from bitnet_rust import _native

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Session"]


class SessionOptions(TypedDict, total=False):
    """How a text is generated in a session."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int
    stop: Sequence[str]
    ignore_eos: bool


class Session:
    """A context of its own over a model: the tokens so far, and their keys and values."""

    def __init__(self, native: _native.Session) -> None:
        self._native = native

    @property
    def tokens(self) -> list[int]:
        """The tokens so far, prompts and texts."""
        return self._native.tokens

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values."""
        return self._native.cache_bytes

    def generate(
        self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], **options: Unpack[SessionOptions]
    ) -> str:
        """Appends a text or tokens to the context, or the messages of a conversation of which it may hold the beginning, and
        returns what follows."""
        return "".join(self.stream(prompt, **options))

    def stream(
        self, prompt: str | Sequence[int] | Sequence[Mapping[str, str]], **options: Unpack[SessionOptions]
    ) -> Iterator[str]:
        """As :meth:`generate`, piece by piece. The session can be used again at the end, or when the stream is closed or dropped."""
        if isinstance(prompt, str):
            return self._native.stream(prompt, **options)
        given = [(part["role"], part["content"]) if isinstance(part, Mapping) else part for part in prompt]
        return self._native.stream(given, **options)

    def truncate(self, length: int) -> None:
        """Forgets the tokens from place ``length`` on."""
        self._native.truncate(length)

    def fork(self) -> Session:
        """Another session that begins with the same tokens, and shares their memory."""
        return Session(self._native.fork())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the session to a file, which :meth:`Model.restore` reads."""
        self._native.save(path)
