"""Turns a corpus into vectors on a Ray cluster: a folder of Parquet files in, the same files with a column of vectors out.

    python embed_corpus.py corpus/ vectors/ --model embeddings.gguf --actors 8 --cpus 4

Start it again with the same arguments after any fault: it goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from partitions import Work, run

from bitnet_rust import Model


class Embed(Work):
    """Vectors of the texts of a column. The engine sorts texts by length and uses all cores of its actor."""

    def __init__(self, model: str | None, column: str, dimensions: int | None, threads: int) -> None:
        self.model = Model(model, threads=threads)
        self.column = column
        self.dimensions = dimensions

    def table(self, rows: pa.Table) -> pa.Table:
        texts = [text or "" for text in rows.column(self.column).to_pylist()]
        vectors = self.model.embed(texts, dimensions=self.dimensions)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return rows.append_column("embedding", column)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder of the corpus, Parquet files")
    parser.add_argument("target", type=Path, help="the folder of the output, on storage that all nodes see")
    parser.add_argument("--model", help="a path, an address or a short name; without it the demo model")
    parser.add_argument("--column", default="text", help="the column of the texts (default: text)")
    parser.add_argument("--dimensions", type=int, help="keep so many numbers of each vector")
    parser.add_argument("--actors", type=int, default=1, help="the most actors (default: 1)")
    parser.add_argument("--cpus", type=int, default=1, help="cores of each (default: 1)")
    parser.add_argument("--memory", type=int, default=1 << 30, help="bytes of each (default: 1 GiB)")
    parser.add_argument("--address", help="the cluster; without it, the one of RAY_ADDRESS, or one on this machine")
    options = parser.parse_args()
    here: dict[str, Any] = {"working_dir": str(Path(__file__).parent)}
    ray.init(address=options.address, runtime_env=here)
    arguments = {"model": options.model, "column": options.column, "dimensions": options.dimensions}
    done = run(
        options.source,
        options.target,
        Embed,
        arguments,
        actors=options.actors,
        cpus=options.cpus,
        memory=options.memory,
    )
    for name, rows in done:
        print(f"{name}: {rows} rows", flush=True)


if __name__ == "__main__":
    main()
