"""Embeddings and a chat model for LangChain. Needs ``langchain-core``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from bitnet_rust.model import Model

__all__ = ["BitnetChat", "BitnetEmbeddings"]


class BitnetEmbeddings(Embeddings):
    """Vectors of texts. Queries stand behind ``instruction``, as models of this kind are trained."""

    def __init__(self, model: Model, *, instruction: str | None = None, dimensions: int | None = None) -> None:
        self.model = model
        self.instruction = instruction
        self.dimensions = dimensions

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts that are searched."""
        vectors: list[list[float]] = self.model.embed(texts, dimensions=self.dimensions).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        vector = self.model.embed(text, dimensions=self.dimensions, instruction=self.instruction)
        numbers: list[float] = vector.tolist()
        return numbers


class BitnetChat(BaseChatModel):
    """A chat model. ``options`` are those of :meth:`Model.chat`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Model
    options: dict[str, Any] = {}

    @property
    def _llm_type(self) -> str:
        return "bitnet"

    def _asked(self, messages: list[BaseMessage], stop: list[str] | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        written = convert_to_openai_messages(messages)
        given = {**self.options, **({} if stop is None else {"stop": stop})}
        return written if isinstance(written, list) else [written], given

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        written, given = self._asked(messages, stop)
        reply = self.model.chat(written, **{**given, **kwargs})
        usage = {
            "input_tokens": reply.prompt_tokens,
            "output_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        }
        message = AIMessage(
            content=reply.text, additional_kwargs={"tool_calls": reply.tool_calls}, usage_metadata=usage
        ) if reply.tool_calls else AIMessage(content=reply.text, usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        written, given = self._asked(messages, stop)
        for delta in self.model.chat_stream(written, **{**given, **kwargs}):
            text = delta.get("content") or ""
            if run_manager is not None:
                run_manager.on_llm_new_token(text)
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))
