"""Ours: batches of 64 texts as vectors, by calls, and through Ray Data by an actor on this machine."""

from __future__ import annotations

import json
import os
import time
from statistics import median
from typing import Any

import plan
import ray
from embedding import corpus_of

from bitnet_rust import Model

ROWS = 64


class Embed:
    """An actor with all cores. It tells of each batch when it began and ended."""

    def __init__(self, path: str, threads: int) -> None:
        self.model = Model.open(path, threads=threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        begin = time.time()
        vectors = self.model.embed([str(text) for text in batch["text"]])
        rows = len(vectors)
        return {"vector": vectors, "begin": [begin] * rows, "end": [time.time()] * rows}


def main() -> None:
    options = plan.options("texts", "threads")
    embed = Embed(options.model, options.threads)
    corpus = corpus_of(embed.model, options.texts)
    batches = [corpus[at : at + ROWS] for at in range(0, len(corpus), ROWS)]
    embed({"text": batches[0][:8]})
    begin = time.perf_counter()
    for batch in batches:
        embed({"text": batch})
    calls = time.perf_counter() - begin
    del embed

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=options.threads, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    try:
        # One batch more than is counted: the first one meets cold caches.
        rows = ray.data.from_items([{"text": text} for text in [*batches[0], *corpus]], override_num_blocks=1)
        strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=1)
        arguments = {"path": options.model, "threads": options.threads}
        done = rows.map_batches(
            Embed, fn_constructor_kwargs=arguments, batch_size=ROWS, compute=strategy, num_cpus=options.threads
        )
        found = sorted((row["begin"], row["end"]) for row in done.iter_rows())
    finally:
        ray.shutdown()
    spans = sorted(set(found))[1:]
    through = spans[-1][1] - spans[0][0]
    between = [later[0] - earlier[1] for earlier, later in zip(spans, spans[1:], strict=False)]
    print(json.dumps({"calls": calls, "ray": through, "between": median(between) if between else 0.0, "batches": len(spans)}))


if __name__ == "__main__":
    main()
