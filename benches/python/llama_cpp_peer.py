"""The peer: llama-cpp-python on the same file, one prompt after the other, as its interface for Python has it."""

from __future__ import annotations

import itertools
import json
import time

import llama_cpp
import plan


def main() -> None:
    options = plan.options("prompts", "prompted", "tokens", "threads")
    room = options.prompted + options.tokens + 8
    model = llama_cpp.Llama(
        options.model, n_ctx=room, n_batch=512, n_threads=options.threads, n_threads_batch=options.threads, verbose=False
    )
    prompts = [plan.prompt(index, options.prompted, model.n_vocab()) for index in range(options.prompts)]
    list(itertools.islice(model.generate(prompts[0], temp=0.0), 2))
    tokens = 0
    begin = time.perf_counter()
    for ids in prompts:
        written = list(itertools.islice(model.generate(ids, temp=0.0), options.tokens))
        tokens += len(written)
    seconds = time.perf_counter() - begin
    assert tokens == options.prompts * options.tokens, tokens
    print(json.dumps({"seconds": seconds, "tokens": tokens, "version": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
