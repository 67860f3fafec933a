"""The examples for Ray, in a cluster of three nodes on this machine: an actor that is killed and a node that is lost midway lose
nothing and double nothing, and the output has the bytes of a run in one process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
if not sys.platform.startswith("linux"):
    pytest.skip("processes are looked for in /proc", allow_module_level=True)

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import STORE
from partitions import rewrite
from ray.cluster_utils import Cluster

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/ray"


FILES = 8


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files of texts of many lengths."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for file in range(FILES):
        rows = 40 + file
        texts = [f"Story {file}.{row}: " + "the cat saw a bird. " * (1 + (row * 7 + file) % 20) for row in range(rows)]
        table = pa.table({"id": [f"{file}/{row}" for row in range(rows)], "text": texts})
        pq.write_table(table, folder / f"part-{file}.parquet")
    return folder


def example(name: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def actors() -> list[int]:
    """Processes that work on files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::") and b"MapBatches" in words:
            found.append(int(process.name))
    return found


def done(out: str) -> list[str]:
    """The files that a run says it wrote; Ray says things between."""
    return sorted(line for line in out.splitlines() if ".parquet: " in line)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_faults_lose_nothing_and_double_nothing(cluster: Cluster, corpus: Path, tmp_path: Path) -> None:
    import embed_corpus

    nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(2)]
    target = tmp_path / "vectors"
    arguments = ("embed_corpus.py", corpus, target, "--address", cluster.address, "--actors", 3, "--memory", 1 << 20)
    process = example(*arguments)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "rows" in first, process.communicate()[1]
    os.kill(actors()[0], signal.SIGKILL)
    cluster.remove_node(nodes[0], allow_graceful=False)
    rest, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert done(first + rest) == [f"part-{file}.parquet: {40 + file} rows" for file in range(FILES)]

    alone = tmp_path / "alone"
    alone.mkdir()
    work = embed_corpus.Embed(None, "text", None, threads=1)
    for part in corpus.iterdir():
        rewrite(str(part), str(alone / part.name), work.table)
    assert contents(target) == contents(alone)

    # A run that was stopped goes on where it was.
    for file in (1, 5):
        (target / f"part-{file}.parquet").unlink()
    out, err = example(*arguments).communicate(timeout=300)
    assert done(out) == [f"part-{file}.parquet: {40 + file} rows" for file in (1, 5)], err
    assert contents(target) == contents(alone)
    cluster.remove_node(nodes[1])


def test_answers_follow_a_schema(cluster: Cluster, tmp_path: Path) -> None:
    import generate_corpus

    source, target = tmp_path / "prompts", tmp_path / "answers"
    source.mkdir()
    prompts = [f"A person, number {row}: " for row in range(6)]
    pq.write_table(pa.table({"prompt": prompts}), source / "a.parquet")
    properties = {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "minimum": 1, "maximum": 99}}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    options = ("--schema", file, "--tokens", 60, "--memory", 1 << 20, "--address", cluster.address)
    process = example("generate_corpus.py", source, target, *options)
    out, err = process.communicate(timeout=300)
    assert done(out) == ["a.parquet: 6 rows"], err
    answers = pq.read_table(target / "a.parquet").to_pylist()
    assert [row["prompt"] for row in answers] == prompts
    assert all(set(json.loads(row["answer"])) == {"name", "age"} for row in answers)
    alone = tmp_path / "alone.parquet"
    work = generate_corpus.Generate(None, "prompt", schema, 60, threads=1)
    rewrite(str(source / "a.parquet"), str(alone), work.table)
    assert alone.read_bytes() == (target / "a.parquet").read_bytes()
