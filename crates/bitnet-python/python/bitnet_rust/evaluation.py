"""A model for lm-evaluation-harness. Needs ``lm_eval``; importing this module makes ``--model bitnet`` known.

>>> import lm_eval, bitnet_rust.evaluation  # doctest: +SKIP
>>> lm_eval.simple_evaluate("bitnet", model_args="source=model.gguf", tasks=["arc_easy"])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from bitnet_rust.errors import ArgumentError
from bitnet_rust.model import Model

__all__ = ["Evaluated"]


@register_model("bitnet")
class Evaluated(TemplateLM):
    """A model as the harness asks it: log-likelihoods, and texts up to a stop."""

    def __init__(self, source: str | Model | None = None, max_length: int | None = None, **options: Any) -> None:
        """``source`` is a model, or what :meth:`Model.open` takes; the demo model without it. ``options`` are those of
        :meth:`Model.open`, of which the harness's ``device`` and ``batch_size`` are left to the engine."""
        super().__init__()
        for left_to_the_engine in ("device", "batch_size", "max_batch_size"):
            options.pop(left_to_the_engine, None)
        self.model = source if isinstance(source, Model) else Model(source, **options)
        self.max_length = min(max_length or self.model.context, self.model.context)

    @property
    def eot_token_id(self) -> int:
        tokenizer = self.model.tokenizer
        found = tokenizer.bos if tokenizer.bos is not None else tokenizer.eos
        if found is None:
            raise ArgumentError("model: expected one with a token that begins or ends a text, found one without")
        return found

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return self.model.tokenizer.encode(string, add_bos=add_special_tokens)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        found = []
        for _texts, context, continuation in requests:
            # What does not fit is left out at the beginning, as the harness does.
            tokens = (context + continuation)[-(self.max_length + 1) :]
            score = self.model.score_tokens(tokens, len(tokens) - len(continuation))
            found.append((score.logprob, score.is_greedy))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        found = []
        for request in requests:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=1,
            )
            parts = [(("", ""), *make_disjoint_window(window)) for window in windows]
            found.append(sum(logprob for logprob, _ in self._loglikelihood_tokens(parts)))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        texts = []
        for request in requests:
            prompt, asked = request.args
            most = int(asked.get("max_gen_toks", 256))
            until = asked.get("until") or []
            tokens = self.tok_encode(prompt)[-(self.max_length - most) :]
            text = self.model.generate(
                tokens,
                max_tokens=most,
                temperature=float(asked.get("temperature", 0)) if asked.get("do_sample") else 0.0,
                stop=[until] if isinstance(until, str) else list(until),
                seed=0,
            )
            texts.append(text.text)
        return texts
