"""Ours: prompts continued through Python, all in one call."""

from __future__ import annotations

import json
import time

import plan

from bitnet_rust import Engine, Model


def main() -> None:
    options = plan.options("prompts", "prompted", "tokens", "threads")
    model = Model.open(options.model, threads=options.threads)
    engine = Engine(model, max_running=options.prompts)
    prompts = [plan.prompt(index, options.prompted, model.vocabulary) for index in range(options.prompts)]
    engine.generate(prompts[:1], max_tokens=2, temperature=0, ignore_eos=True)
    begin = time.perf_counter()
    texts = engine.generate(prompts, max_tokens=options.tokens, temperature=0, ignore_eos=True)
    seconds = time.perf_counter() - begin
    tokens = sum(text.completion_tokens for text in texts)
    assert tokens == options.prompts * options.tokens, tokens
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


if __name__ == "__main__":
    main()
