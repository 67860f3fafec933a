"""Asks a server about each row of a corpus: Ray Data's own stage for HTTP, against ``bitnet serve`` or a gateway before several.

    python ask_corpus.py prompts/ answers/ --url http://127.0.0.1:8080

Where the workers have cores for models of their own, ``generate_corpus.py`` needs no server.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor

RETRIES = 8
"""A full queue (429), or a server that ends (503), is asked again after 1, 2, 4 … seconds."""
WORKERS = 16
"""A worker has one request with the server at a time: as many as the server runs texts together keep it busy."""
SHARE = 0.05
"""Of a core, for a worker that waits for answers."""


def ask(rows: Any, url: str, column: str, tokens: int, *, workers: int = WORKERS, key: str | None = None) -> Any:
    """The rows with columns ``answer`` and ``finish_reason``. All have one seed: asked again, they get the same texts."""
    config = HttpRequestProcessorConfig(
        url=f"{url.rstrip('/')}/v1/completions",
        headers={"Authorization": f"Bearer {key}"} if key else None,
        concurrency=workers,
        http_request_stage={"num_cpus": SHARE},
        max_retries=RETRIES,
    )

    def request(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "payload": {"prompt": row[column] or "", "max_tokens": tokens, "seed": 0}}

    def answer(row: dict[str, Any]) -> dict[str, Any]:
        response = row.pop("http_response")
        row.pop("payload", None)
        if "error" in response:
            raise ValueError(f"{row[column]!r}: {response['error']['message']}")
        (choice,) = response["choices"]
        return {**row, "answer": choice["text"], "finish_reason": choice["finish_reason"]}

    return build_processor(config, preprocess=request, postprocess=answer)(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder of the corpus, Parquet files")
    parser.add_argument("target", type=Path, help="the folder of the output, Parquet files")
    parser.add_argument("--url", required=True, help="the server; its key is in BITNET_API_KEY")
    parser.add_argument("--column", default="prompt", help="the column of the prompts (default: prompt)")
    parser.add_argument("--tokens", type=int, default=128, help="the most tokens of an answer (default: 128)")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes that ask (default: {WORKERS})")
    parser.add_argument("--address", help="the cluster; without it, the one of RAY_ADDRESS, or one on this machine")
    options = parser.parse_args()
    ray.init(address=options.address)
    rows = ray.data.read_parquet(str(options.source))
    key = os.environ.get("BITNET_API_KEY")
    ask(rows, options.url, options.column, options.tokens, workers=options.workers, key=key).write_parquet(str(options.target))


if __name__ == "__main__":
    main()
