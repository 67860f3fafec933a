"""The options of a text, by the names that OpenAI's interface has for them, or else those of vLLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from bitnet_rust.errors import ArgumentError

__all__ = ["ChatOptions", "TextOptions", "check"]


class SamplingOptions(TypedDict, total=False):
    """How each token is chosen, and when a text ends."""

    max_tokens: int
    """The most tokens of the text."""
    temperature: float
    """0 takes the likeliest token, more is livelier; 0.8 unless it is said."""
    top_p: float
    """Choose among the likeliest tokens that together have this probability; 0.95 unless it is said."""
    top_k: int
    """Choose among so many of the likeliest tokens, 0 for all; 40 unless it is said."""
    min_p: float
    """Leave out tokens less likely than this share of the likeliest."""
    typical_p: float
    """Choose among the tokens about as surprising as is to be expected that together have this probability."""
    xtc_probability: float
    """In this share of the draws leave out the likeliest tokens."""
    xtc_threshold: float
    """The probability from which a token counts as one of the likeliest."""
    repetition_penalty: float
    """Makes tokens that occurred less likely; 1 for no difference."""
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[str, float]
    """Numbers that are added to the logits of token ids; -100 rules a token out."""
    seed: int
    """The same seed gives the same text, on every machine and whoever else is served. Without it, another each time."""
    stop: str | Sequence[str]
    """Texts that end the text; they are not part of it."""
    ignore_eos: bool
    """Go on after the model's own end of text."""
    priority: int
    """Texts of higher priority run first."""


class TextOptions(SamplingOptions, total=False):
    """How a text is continued."""

    logprobs: int
    """How many alternatives to each token come with their probabilities; 0 for the token alone."""
    echo: bool
    """Whether the prompt is part of the text."""
    response_format: Mapping[str, Any]
    """The form of the text, such as ``{"type": "json_schema", "json_schema": {"schema": …}}``."""


class ChatOptions(SamplingOptions, total=False):
    """How a conversation is answered."""

    tool_choice: str | Mapping[str, Any]
    parallel_tool_calls: bool
    logprobs: bool
    top_logprobs: int
    reasoning_effort: str
    thinking_budget: int
    """The most tokens that the model thinks before it answers."""
    chat_template_kwargs: Mapping[str, Any]


def check(options: Mapping[str, Any]) -> None:
    """Refuses options of OpenAI's interface that are other methods here."""
    for name, advice in (
        ("model", "the model is the object that is called"),
        ("n", "give the prompt so often, with a seed for each"),
        ("stream", "use stream, agenerate or chat_stream"),
        ("stream_options", "the counts of tokens come with the end of each text"),
    ):
        if name in options:
            raise ArgumentError(f"{name}: expected none ({advice}), found {options[name]!r}")
