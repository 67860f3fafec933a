"""What a corpus takes on 1, 2 and 3 nodes of Ray on this machine, the parts that this is made of, and from these a simulation of up to
1 000 nodes: `cargo xtask bench-scale`."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES = Path(__file__).resolve().parents[2] / "examples/ray"
sys.path.insert(0, str(EXAMPLES))

import ray
from embed_corpus import Embed
from partitions import pending, rewrite
from plot import lines
from ray.cluster_utils import Cluster
from report import Report
from simulation import Assumptions, Outcome, Parts, simulate

STORE = 80 << 20
MEASURED = (1, 2, 3)
SIMULATED = (8, 16, 32, 64, 125, 250, 500, 1000)


class Noted(Embed):
    """The worker of the example. It notes when it began, when its model was open, and when each file began and ended."""

    def __init__(self, notes: str, **options: Any) -> None:
        self.notes = Path(notes) / f"{os.getpid()}.jsonl"
        self.node = ray.get_runtime_context().get_node_id()
        begin = time.time()
        super().__init__(**options)
        self.note("open", begin, "")

    def note(self, what: str, begin: float, file: str) -> None:
        line = {"what": what, "begin": begin, "end": time.time(), "file": file, "node": self.node}
        with self.notes.open("a") as notes:
            notes.write(json.dumps(line) + "\n")

    def __call__(self, files: dict[str, Any]) -> dict[str, list[Any]]:
        begin = time.time()
        self.note("begin", begin, str(files["target"][0]))
        done = super().__call__(files)
        self.note("file", begin, str(files["target"][0]))
        return done


@dataclass(frozen=True)
class Run:
    """A corpus worked through."""

    begin: float
    end: float
    notes: list[dict[str, Any]]

    def of(self, what: str) -> list[dict[str, Any]]:
        return [note for note in self.notes if note["what"] == what]

    @property
    def steady(self) -> tuple[float, int]:
        """Seconds from when all models were open until the last file ended, and files that ended meanwhile."""
        ready = max(note["end"] for note in self.of("open"))
        ended = [note["end"] for note in self.of("file") if note["end"] > ready]
        return max(ended) - ready, len(ended)


def write_corpus(folder: Path, files: int, rows: int, words: int) -> None:
    """Files alike: the same texts, from a few words to twice ``words``."""
    folder.mkdir()
    texts = ["the cat saw a bird and " * (1 + (row * 7) % (2 * words) // 6) for row in range(rows)]
    for file in range(files):
        ids = [f"{file}/{row}" for row in range(rows)]
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"part-{file:04}.parquet")


def work(cluster: Cluster, corpus: Path, folder: Path, model: str | None, actors: int, lose: Sequence[Any] = ()) -> Run:
    """Turns the corpus into vectors with actors of one core, each on a node of its own. One of the nodes ``lose`` that has an actor goes
    when half of the files are done."""
    notes = folder / "notes"
    notes.mkdir(parents=True)
    ray.init(address=cluster.address, runtime_env={"working_dir": str(EXAMPLES)}, log_to_driver=False)
    try:
        todo = pending(corpus, folder / "out")
        begin = time.time()
        done = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
            Noted,
            fn_constructor_kwargs={"notes": str(notes), "model": model, "column": "text", "dimensions": None, "threads": 1},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=actors, max_size=actors),
            num_cpus=1,
        )
        for count, _ in enumerate(done.iter_rows(), start=1):
            if lose and count == len(todo) // 2:
                working = {note["node"] for note in read_notes(notes)}
                node = next(node for node in lose if node.node_id in working)
                line = {"what": "lost", "begin": time.time(), "end": 0, "node": node.node_id}
                (notes / "lost.jsonl").write_text(json.dumps(line) + "\n")
                cluster.remove_node(node, allow_graceful=False)
        end = time.time()
    finally:
        ray.shutdown()
    return Run(begin, end, read_notes(notes))


def read_notes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in folder.iterdir() for line in file.read_text().splitlines()]


def redo_seconds(run: Run) -> float | None:
    """From the loss of a node until its file was begun again elsewhere; none if it had no file just then."""
    (lost,) = run.of("lost")
    ended = {note["file"]: note["end"] for note in run.of("file")}
    begun = [note for note in run.of("begin") if note["node"] == lost["node"] and note["begin"] < lost["begin"]]
    held = [note["file"] for note in begun if ended[note["file"]] > lost["begin"]]
    again = [note["begin"] for note in run.of("begin") if note["file"] in held and note["begin"] > lost["begin"]]
    return min(again) - lost["begin"] if again else None


def dispatch_seconds(cluster: Cluster, items: int) -> float:
    """The driver's time for a unit of work that does nothing."""

    class Nothing:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            return {"at": [time.time()] * len(batch["item"])}

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        data = ray.data.from_items([{"item": item} for item in range(items)], override_num_blocks=items)
        strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=1)
        times = [row["at"] for row in data.map_batches(Nothing, batch_size=1, compute=strategy, num_cpus=1).iter_rows()]
    finally:
        ray.shutdown()
    # Without the beginning, in which actors start.
    late = sorted(times)[items // 4 :]
    return float((late[-1] - late[0]) / (len(late) - 1))


def alone(corpus: Path, folder: Path, model: str | None) -> list[float]:
    """Seconds for each file in one process without Ray, with one thread."""
    folder.mkdir()
    worker = Embed(model, "text", None, threads=1)
    seconds = []
    for file in sorted(corpus.iterdir()):
        begin = time.perf_counter()
        rewrite(str(file), str(folder / file.name), worker.table)
        seconds.append(time.perf_counter() - begin)
    # The first one meets cold caches.
    return seconds[1:]


SHARING = """
import sys
from bitnet_rust import Model
model = Model(sys.argv[1] or None, threads=1)
model.embed(["a cat"] * 4)
print(model.weight_bytes, flush=True)
sys.stdin.read()
"""


def sharing(model: str | None, processes: int = 2) -> tuple[int, list[int], list[int]]:
    """Bytes of the weights, and of each process that has the model open: what it sees, and what nobody else does."""
    started = [
        subprocess.Popen([sys.executable, "-c", SHARING, model or ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        for _ in range(processes)
    ]
    try:
        weights = [int(process.stdout.readline()) for process in started if process.stdout]
        maps = [Path(f"/proc/{process.pid}/smaps_rollup").read_text() for process in started]
    finally:
        for process in started:
            process.communicate("")

    def size(text: str, name: str) -> int:
        return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(f"{name}:"))

    private = [size(text, "Private_Clean") + size(text, "Private_Dirty") for text in maps]
    return weights[0], [size(text, "Rss") for text in maps], private


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, required=True, help="the folder of the report")
    parser.add_argument("--command", default="cargo xtask bench-scale", help="as the report names it")
    parser.add_argument("--model", help="a model file; without it the demo model")
    parser.add_argument("--files", type=int, default=24, help="files of the measured corpus")
    parser.add_argument("--rows", type=int, default=32, help="rows of each")
    parser.add_argument("--words", type=int, default=60, help="words of a row, on average")
    options = parser.parse_args()
    report = Report("A corpus on many nodes", options.command)
    with TemporaryDirectory() as name:
        measure(Path(name), options, report)


def measure(folder: Path, options: argparse.Namespace, report: Report) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    corpus = folder / "corpus"
    write_corpus(corpus, options.files, options.rows, options.words)
    print("bench-scale: one process without Ray", file=sys.stderr)
    seconds = alone(corpus, folder / "alone", options.model)
    weights, seen, private = sharing(options.model)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE})
    runs: dict[int, Run] = {}
    try:
        nodes: list[Any] = []
        for count in MEASURED:
            print(f"bench-scale: nodes: {count}", file=sys.stderr)
            nodes.append(cluster.add_node(num_cpus=1, object_store_memory=STORE))
            runs[count] = work(cluster, corpus, folder / f"run-{count}", options.model, count)
        dispatch = dispatch_seconds(cluster, 300)
        print("bench-scale: a node is lost", file=sys.stderr)
        # The third one takes the place of the one that is lost.
        loss = work(cluster, corpus, folder / "loss", options.model, 2, lose=nodes)
    finally:
        cluster.shutdown()
    # Before and after, since the machine may have been busier at one time.
    seconds += alone(corpus, folder / "again", options.model)
    opened = [note["end"] - note["begin"] for run in runs.values() for note in run.of("open")]
    starts = [note["begin"] - run.begin for run in runs.values() for note in run.of("open")]
    logs = [math.log(second) for second in seconds]
    redo = redo_seconds(loss)
    parts = Parts(
        start=statistics.median(starts),
        load=statistics.median(opened),
        row=statistics.mean(seconds) / options.rows,
        spread=statistics.pstdev(logs),
        dispatch=dispatch,
        redo=redo if redo is not None else statistics.median(starts),
        model_bytes=weights,
    )
    tell(report, options, parts, runs, loss)
    report.notes.append(
        f"Page cache: the model has weights of {weights / 1e6:.0f} MB. A process that has it open sees {max(seen) / 1e6:.0f} MB; where two have it "
        f"open, {max(private) / 1e6:.0f} MB are each one's own, and all else is there once. So a node needs memory for the weights once, however "
        "many actors it has."
    )
    pictured(report, options.report, parts)
    print(report.text())
    print(f"report: {report.write(options.report, 'scale')}")


def tell(report: Report, options: argparse.Namespace, parts: Parts, runs: dict[int, Run], loss: Run) -> None:
    """The measured part of the report."""
    cores = len(os.sched_getaffinity(0))
    report.notes += [
        f"{Path(options.model).name if options.model else 'The demo model'}: {options.files} files of {options.rows} rows, by `embed_corpus.py`; "
        "a node is a process group of Ray with one core's worth of work: one actor with one thread.",
        f"All nodes, the driver and Ray itself share the {cores} cores of this machine: with more nodes than cores, nothing can become faster.",
    ]
    ideal = options.rows * parts.row
    rows = []
    for count, run in runs.items():
        steady, files = run.steady
        rate = files * options.rows / steady
        most = min(count, cores) / parts.row
        rows.append((count, f"{run.end - run.begin:.1f}", f"{rate:.1f}", f"{rate / most:.2f}", f"{simulated(parts, options, count).seconds:.1f}"))
    report.table(
        "Measured: 1, 2, 3 nodes",
        "Rows per second count from when all models are open. Their share is of what as many processes without Ray do, at most one for each "
        "core. The last column is the simulation of the same run, with as many cores as nodes and no faults.",
        ["nodes", "seconds in all", "rows/s", "share", "simulated, s"],
        rows,
    )
    ends = loss.end - loss.begin
    report.table(
        "Measured parts",
        "What the simulation is made of.",
        ["part", "value"],
        [
            ("an actor starts, s", f"{parts.start:.2f}"),
            ("it opens the model, s", f"{parts.load:.2f}"),
            ("a row, ms", f"{parts.row * 1e3:.2f}"),
            (f"a file of {options.rows} rows, s", f"{ideal:.2f}"),
            ("spread of that (standard deviation of the logarithm)", f"{parts.spread:.3f}"),
            ("the driver, for each file, ms", f"{parts.dispatch * 1e3:.1f}"),
            ("a node is lost: until its file is begun again, s", f"{parts.redo:.2f}"),
            ("the run of two actors, one of which is lost half-way with its node, s", f"{ends:.1f}"),
        ],
    )


def simulated(parts: Parts, options: argparse.Namespace, nodes: int) -> Outcome:
    """The measured run, without what goes wrong."""
    calm = Assumptions(node_bytes=math.inf, storage_bytes=math.inf, slow_share=0, loss_hours=1e9)
    return simulate(parts, calm, nodes, options.files, options.rows)


ROWS = 4096
"""Rows of a file of the simulated corpora."""
FILES = 20_000
"""Files of the corpus that stays the same."""
EACH = 100
"""Files for each node of the one that grows."""


def pictured(report: Report, folder: Path, parts: Parts) -> None:
    """The simulated part of the report, and its plot."""
    assumed = Assumptions()
    same = {nodes: simulate(parts, assumed, nodes, FILES, ROWS) for nodes in SIMULATED}
    grows = {nodes: simulate(parts, assumed, nodes, EACH * nodes, ROWS) for nodes in SIMULATED}
    report.table(
        "Simulated: 8 to 1 000 nodes",
        f"A corpus of {FILES * ROWS / 1e6:.0f} million rows in files of {ROWS}, and one that grows with {EACH} files for each node. Efficiency is "
        "the share of all nodes' time that went into rows of the output; the driver's share is that of its time in which it hands out files.\n\n"
        f"Assumed, since one machine cannot show it: nodes as fast as one core here; the model is fetched at {assumed.node_bytes * 8 / 1e9:.0f} Gbit/s "
        f"by a node and at {assumed.storage_bytes * 8 / 1e9:.0f} Gbit/s by all together; {assumed.slow_share:.0%} of the nodes take "
        f"{assumed.slow_factor:g} times as long; each node is lost once in {assumed.loss_hours:g} hours on average, and a new one is there after "
        f"{assumed.replace:g} s; storage for rows is never the limit; one driver, whose time for a file is as here.",
        ["nodes", "hours", "rows/s", "efficiency", "driver's share", "nodes lost", "growing corpus: hours", "efficiency"],
        [
            (
                nodes,
                f"{same[nodes].seconds / 3600:.2f}",
                f"{FILES * ROWS / same[nodes].seconds:.0f}",
                f"{same[nodes].efficiency:.3f}",
                f"{same[nodes].waited:.3f}",
                same[nodes].lost,
                f"{grows[nodes].seconds / 3600:.2f}",
                f"{grows[nodes].efficiency:.3f}",
            )
            for nodes in SIMULATED
        ],
    )

    def rates(outcomes: dict[int, Outcome], files: Any) -> Sequence[tuple[float, float]]:
        return [(nodes, files(nodes) * ROWS / outcome.seconds) for nodes, outcome in outcomes.items()]

    svg = lines(
        "Rows per second, simulated from measured parts",
        "nodes",
        "rows/s",
        {
            "without loss": [(nodes, nodes / parts.row) for nodes in SIMULATED],
            "same corpus": rates(same, lambda _: FILES),
            "growing corpus": rates(grows, lambda nodes: EACH * nodes),
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.svg").write_text(svg, encoding="utf-8")
    report.sections.append("![Rows per second by nodes](scale.svg)")


if __name__ == "__main__":
    main()
