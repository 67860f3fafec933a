"""A corpus as Ray Data sees it here: a folder of Parquet files, each of which becomes one file of the same name.

A file is a unit of work. It is written under another name and renamed when it is whole, so that one whose worker was killed,
or whose node was lost, is simply worked on again: nothing is lost, and nothing is there twice. What is there already is left
alone: a run that was stopped goes on where it was. The files have the same bytes whoever wrote them.
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

ROWS = 4096
"""Rows that are in memory at a time."""


def pending(source: Path, target: Path) -> list[dict[str, Any]]:
    """The files that have yet to be written: one row for each."""
    names = sorted(file.name for file in source.glob("*.parquet"))
    if not names:
        raise FileNotFoundError(f"{source}: expected Parquet files, found none")
    target.mkdir(parents=True, exist_ok=True)
    todo = [name for name in names if not (target / name).exists()]
    return [{"source": str(source / name), "target": str(target / name)} for name in todo]


def rewrite(source: str, target: str, work: Callable[[pa.Table], pa.Table]) -> int:
    """Writes what ``work`` makes of the rows of a file, as many as it has, and returns their number."""
    partial = f"{target}.{uuid.uuid4().hex}.partial"
    rows = 0
    try:
        with pq.ParquetFile(source) as file:
            # A file without rows has a table without rows.
            first = work(file.schema_arrow.empty_table())
            with pq.ParquetWriter(partial, first.schema, compression="zstd") as writer:
                for batch in file.iter_batches(batch_size=ROWS):
                    table = pa.Table.from_batches([batch])
                    made = work(table)
                    if made.num_rows != table.num_rows:
                        raise ValueError(f"{source}: expected {table.num_rows} rows, found {made.num_rows}")
                    writer.write_table(made.cast(first.schema))
                    rows += made.num_rows
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)
    return rows


class Work:
    """What runs in an actor: makes its engine once, then takes files."""

    def table(self, rows: pa.Table) -> pa.Table:
        """The rows of the output for some of the input, one for each."""
        raise NotImplementedError

    def __call__(self, files: dict[str, Any]) -> dict[str, list[Any]]:
        pairs = list(zip(files["source"], files["target"], strict=True))
        return {
            "target": [str(target) for _, target in pairs],
            "rows": [rewrite(str(source), str(target), self.table) for source, target in pairs],
        }


def run(
    source: Path,
    target: Path,
    worker: type[Work],
    arguments: dict[str, Any],
    *,
    actors: int,
    cpus: int,
    memory: int,
) -> Iterator[tuple[str, int]]:
    """Works on all files that have yet to be written, and gives the name of each and its rows when it is there. Each of at most
    ``actors`` actors has ``cpus`` cores and ``memory`` bytes, by which Ray places them on nodes."""
    todo = pending(source, target)
    if not todo:
        return
    files = ray.data.from_items(todo, override_num_blocks=len(todo))
    done = files.map_batches(
        worker,
        fn_constructor_kwargs={**arguments, "threads": cpus},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(actors, len(todo)))),
        num_cpus=cpus,
        memory=memory,
    )
    for row in done.iter_rows():
        yield Path(row["target"]).name, int(row["rows"])
    # Of workers that were killed.
    for leftover in target.glob("*.partial"):
        leftover.unlink(missing_ok=True)


def arguments(description: str | None, *, column: str, memory: int) -> argparse.ArgumentParser:
    """The arguments that all programs over a corpus have. ``column`` and ``memory`` are what counts where nothing is said."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder of the corpus, Parquet files")
    parser.add_argument("target", type=Path, help="the folder of the output, on storage that all nodes see")
    parser.add_argument("--model", help="a path, an address or a short name; without it the demo model")
    parser.add_argument("--column", default=column, help=f"the column of the texts (default: {column})")
    parser.add_argument("--actors", type=int, default=1, help="the most actors (default: 1)")
    parser.add_argument("--cpus", type=int, default=1, help="cores of each (default: 1)")
    parser.add_argument("--memory", type=int, default=memory, help=f"bytes of each (default: {memory >> 30} GiB)")
    parser.add_argument("--address", help="the cluster; without it, the one of RAY_ADDRESS, or one on this machine")
    return parser


def carry_out(options: argparse.Namespace, worker: type[Work], **more: Any) -> None:
    """Runs ``worker`` as the arguments say, with ``more`` of its own, and prints each file when it is there."""
    ray.init(address=options.address, runtime_env={"working_dir": str(Path(__file__).parent)})
    done = run(
        options.source,
        options.target,
        worker,
        {"model": options.model, "column": options.column, **more},
        actors=options.actors,
        cpus=options.cpus,
        memory=options.memory,
    )
    for name, rows in done:
        print(f"{name}: {rows} rows", flush=True)
