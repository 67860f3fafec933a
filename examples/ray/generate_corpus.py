"""Answers the prompts of a corpus on a Ray cluster, each as JSON by a schema: a folder of Parquet files in, the same files with
columns of texts and of why they ended out.

    python generate_corpus.py prompts/ answers/ --model 2b4t --schema answer.json --actors 8 --cpus 4

All rows have one seed: a run that is started again writes the same texts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from partitions import Work, arguments, carry_out

from bitnet_rust import Engine, Model


class Generate(Work):
    """Texts that continue the prompts of a column, all of a batch in one engine."""

    def __init__(self, model: str | None, column: str, schema: dict[str, Any] | None, tokens: int, threads: int) -> None:
        self.engine = Engine(Model(model, threads=threads))
        self.column = column
        self.options: dict[str, Any] = {"max_tokens": tokens}
        if schema is not None:
            form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
            self.options["response_format"] = form

    def table(self, rows: pa.Table) -> pa.Table:
        prompts = [prompt or "" for prompt in rows.column(self.column).to_pylist()]
        texts = list(self.engine.generate_all(prompts, seed=0, **self.options))
        rows = rows.append_column("answer", pa.array([text.text for text in texts], pa.string()))
        return rows.append_column("finish_reason", pa.array([text.finish_reason for text in texts], pa.string()))


def main() -> None:
    parser = arguments(__doc__, column="prompt", memory=3 << 30)
    parser.add_argument("--schema", type=Path, help="a JSON Schema that all answers follow")
    parser.add_argument("--tokens", type=int, default=128, help="the most tokens of an answer (default: 128)")
    options = parser.parse_args()
    schema = json.loads(options.schema.read_text()) if options.schema else None
    carry_out(options, Generate, schema=schema, tokens=options.tokens)


if __name__ == "__main__":
    main()
