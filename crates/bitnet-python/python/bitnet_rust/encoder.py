"""An encoder in the shape of ``sentence_transformers.SentenceTransformer``, for programs that take one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_rust.errors import ArgumentError
from bitnet_rust.model import Model

__all__ = ["SentenceEncoder"]


class SentenceEncoder:
    """Turns sentences into vectors by the methods that ``SentenceTransformer`` has. Vectors are arrays of NumPy."""

    def __init__(self, model: Model | str, *, prompts: dict[str, str] | None = None, truncate_dim: int | None = None) -> None:
        """``prompts`` are instructions by name: ``{"query": "Given a question, retrieve …"}``."""
        self.model = Model.open(model) if isinstance(model, str) else model
        self.prompts = prompts or {}
        self.truncate_dim = truncate_dim

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
    ) -> npt.NDArray[np.float32]:
        """The vectors of some sentences, or the vector of one. ``batch_size`` and ``show_progress_bar`` change nothing: the engine
        sorts sentences by length and batches them itself."""
        if convert_to_tensor or not convert_to_numpy:
            raise ArgumentError("convert_to_tensor: expected False (vectors are arrays of NumPy), found True")
        if prompt_name is not None and prompt_name not in self.prompts:
            names = ", ".join(sorted(self.prompts)) or "none"
            raise ArgumentError(f"prompt_name: expected one of the prompts ({names}), found {prompt_name!r}")
        instruction = prompt if prompt_name is None else self.prompts[prompt_name]
        return self.model.embed(
            sentences, normalize=normalize_embeddings, dimensions=self.truncate_dim, instruction=instruction
        )

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """The vectors of queries, behind the prompt ``query`` if there is one."""
        if "query" in self.prompts:
            options.setdefault("prompt_name", "query")
        return self.encode(sentences, **options)

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> npt.NDArray[np.float32]:
        """The vectors of texts that are searched."""
        return self.encode(sentences, **options)

    def similarity(self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The cosine of each of the first vectors with each of the second."""

        def directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            rows = np.atleast_2d(vectors)
            lengths: npt.NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
            divided: npt.NDArray[np.float32] = rows / np.maximum(lengths, np.float32(1e-12))
            return divided

        cosines: npt.NDArray[np.float32] = directions(first) @ directions(second).T
        return cosines

    def get_sentence_embedding_dimension(self) -> int:
        """Numbers of a vector."""
        return self.truncate_dim or self.model.dimensions

    @property
    def max_seq_length(self) -> int:
        """Tokens of the longest sentence; longer ones are cut."""
        return self.model.context
