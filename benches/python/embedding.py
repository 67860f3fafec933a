"""Ours: texts as vectors through Python, all in one call."""

from __future__ import annotations

import bisect
import json
import time

import plan

from bitnet_rust import Model


def corpus_of(model: Model, texts: int) -> list[str]:
    """Texts with these numbers of tokens, or where the tokenizer has no text of a number, with the next one that it has."""
    wanted = plan.lengths(texts)
    found: dict[int, str] = {}
    words = 0
    while max(found, default=0) < max(wanted):
        words += 1
        text = " a" * words
        found.setdefault(len(model.tokenizer.encode(text)), text)
    counts = sorted(found)
    return [found[counts[bisect.bisect_left(counts, tokens)]] for tokens in wanted]


def main() -> None:
    options = plan.options("texts", "threads")
    model = Model.open(options.model, threads=options.threads)
    corpus = corpus_of(model, options.texts)
    model.embed(corpus[:8])
    begin = time.perf_counter()
    vectors = model.embed(corpus)
    seconds = time.perf_counter() - begin
    assert vectors.shape == (options.texts, model.dimensions)
    tokens = sum(len(model.tokenizer.encode(text)) for text in corpus)
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


if __name__ == "__main__":
    main()
