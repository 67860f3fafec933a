"""Parquet files of the command, as Arrow writes and reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import bitnet

from bitnet_rust import Model

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return [{name: value for name, value in row.items() if value is not None} for row in found]


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_a_batch_of_rows_is_a_batch_of_lines(tmp_path: Path, compression: str) -> None:
    requests: list[dict[str, Any]] = [
        {"id": 1, "prompt": "Once upon a time", "max_tokens": 6},
        {"id": 2, "messages": [{"role": "user", "content": "What is 20 + 22?"}], "max_tokens": 12, "temperature": 0.0},
        {"id": 3, "tokens": [300, 301], "stop": ["."], "max_tokens": 8},
        {"id": 4},
    ]
    names = list(dict.fromkeys(name for request in requests for name in request))
    table = pa.table({name: [request.get(name) for request in requests] for name in names})
    pq.write_table(table, tmp_path / "in.parquet", compression=compression)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    for kind in ("parquet", "jsonl"):
        bitnet("batch", str(tmp_path / f"in.{kind}"), str(tmp_path / f"out.{kind}"))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for line in lines:
        line["id"] = str(line["id"])
        # It tells lines from others, and a row has its fields in another order.
        line.pop("input")
    found = rows(tmp_path / "out.parquet")
    assert [{name: value for name, value in row.items() if name != "input"} for row in found] == lines
    assert "42" in found[1]["text"]
    assert "expected one of prompt, messages and tokens" in found[3]["error"]
    first = (tmp_path / "out.parquet").read_bytes()
    # Complete, it is checked and written again, and no text is.
    bitnet("batch", str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"))
    assert (tmp_path / "out.parquet").read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.jsonl", "in.parquet", "out.jsonl", "out.parquet"]


def test_vectors_are_written_as_a_column(model: Model, tmp_path: Path) -> None:
    texts = [f"The cat saw {count} birds." for count in range(20)]
    pq.write_table(pa.table({"body": texts}), tmp_path / "in.parquet")
    source, target = str(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    bitnet("embed", "--file", source, "--column", "body", "--parquet", str(target))
    table = pq.read_table(target)
    assert table.column("text").to_pylist() == texts
    assert np.array_equal(np.array(table.column("embedding").to_pylist(), dtype=np.float32), model.embed(texts))
    with pytest.raises(AssertionError, match="row 1: expected a text in column text"):
        bitnet("embed", "--file", source, "--parquet", str(target))
    (tmp_path / "no.parquet").write_bytes(b"no such file")
    with pytest.raises(AssertionError, match="no.parquet"):
        bitnet("embed", "--file", str(tmp_path / "no.parquet"), "--json")
