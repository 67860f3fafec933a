"""Turns a corpus into vectors on a Ray cluster: a folder of Parquet files in, the same files with a column of vectors out.

    python embed_corpus.py corpus/ vectors/ --model embeddings.gguf --actors 8 --cpus 4

Start it again with the same arguments after any fault: it goes on where it was.
"""

from __future__ import annotations

import pyarrow as pa
from partitions import Work, arguments, carry_out

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
    parser = arguments(__doc__, column="text", memory=1 << 30)
    parser.add_argument("--dimensions", type=int, help="keep so many numbers of each vector")
    options = parser.parse_args()
    carry_out(options, Embed, dimensions=options.dimensions)


if __name__ == "__main__":
    main()
