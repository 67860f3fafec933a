import os
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

__all__ = [
    "Engine",
    "Model",
    "Reply",
    "Session",
    "SessionStream",
    "Tokenizer",
    "VERSION",
    "convert",
    "inspect",
    "run_command",
]

VERSION: Final[str]

def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    to: str,
    quantize: str | None = None,
    rotate: int | None = None,
) -> tuple[str, bool]: ...
def inspect(source: str | os.PathLike[str] | None = None) -> str: ...
def run_command(arguments: Sequence[str]) -> int: ...

@final
class Tokenizer:
    def encode(self, text: str, *, add_bos: bool | None = None, parse_special: bool = False) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def token_text(self, token: int) -> str | None: ...
    def token_id(self, text: str) -> int | None: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def pad(self) -> int | None: ...
    @property
    def stops(self) -> list[int]: ...
    def __len__(self) -> int: ...

@final
class Model:
    def __new__(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        threads: int | None = None,
        context: int | None = None,
        kv: str | None = None,
        memory_limit: int | None = None,
        copy: bool = False,
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def context(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def embeds_only(self) -> bool: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    def fingerprint(self) -> bytes: ...
    def embed(
        self,
        texts: Sequence[str],
        *,
        pooling: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        instruction: str | None = None,
    ) -> tuple[npt.NDArray[np.float32], int]: ...
    def logits(self, tokens: Sequence[int], *, last: bool = False) -> npt.NDArray[np.float32]: ...
    def likelihoods(
        self, tokens: Sequence[int], first: int = 1
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]: ...
    def session(self) -> Session: ...
    def restore(self, path: str | os.PathLike[str]) -> Session: ...

@final
class Engine:
    def __new__(
        cls,
        model: Model,
        *,
        max_running: int = 32,
        max_waiting: int = 4096,
        kv_bytes: int = ...,
        prefix_cache: bool = True,
    ) -> Self: ...
    def ask(self, path: str, body: str) -> Reply: ...
    def gauges(self) -> list[tuple[str, int]]: ...

@final
class Reply:
    def next(self) -> tuple[int, str] | None: ...
    def next_then(self, callback: Callable[[tuple[int, str] | None], object]) -> None: ...
    def close(self) -> None: ...

@final
class Session:
    @property
    def tokens(self) -> list[int]: ...
    @property
    def cache_bytes(self) -> int: ...
    def truncate(self, length: int) -> None: ...
    def fork(self) -> Session: ...
    def save(self, path: str | os.PathLike[str]) -> None: ...
    def stream(
        self,
        prompt: str | Sequence[int] | Sequence[tuple[str, str]] | Sequence[Any],
        *,
        max_tokens: int = 128,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int = 0,
        stop: Sequence[str] = ...,
        ignore_eos: bool = False,
    ) -> SessionStream: ...

@final
class SessionStream:
    def __iter__(self) -> Self: ...
    def __next__(self) -> str: ...
    def close(self) -> None: ...
