"""Ours: prompts continued through Python, all in one call."""

from __future__ import annotations

import argparse
import json
import time

from plan import prompt

from bitnet_rust import Engine, Model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=int, required=True)
    parser.add_argument("--prompted", type=int, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    model = Model.open(options.model, threads=options.threads)
    engine = Engine(model, max_running=options.prompts)
    prompts = [prompt(index, options.prompted, model.vocabulary) for index in range(options.prompts)]
    engine.generate(prompts[:1], max_tokens=2, temperature=0, ignore_eos=True)
    begin = time.perf_counter()
    texts = engine.generate(prompts, max_tokens=options.tokens, temperature=0, ignore_eos=True)
    seconds = time.perf_counter() - begin
    tokens = sum(text.completion_tokens for text in texts)
    assert tokens == options.prompts * options.tokens, tokens
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


if __name__ == "__main__":
    main()
