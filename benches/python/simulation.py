"""A cluster that turns a corpus into vectors, as `examples/ray/embed_corpus.py` does it, played through event by event.

What a part takes was measured on real ones (:class:`Parts`); what cannot be measured on one machine is assumed, and named
(:class:`Assumptions`). A file of the corpus is the unit of work: a node takes one after the other, one whose node is lost goes back
to the others, and a lost node comes back as a new machine. The driver hands out one file at a time.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """Measured."""

    start: float
    """Seconds from the demand for an actor until it opens its model."""
    load: float
    """Seconds in which a model is opened that is on the node's disk."""
    row: float
    """Seconds of a node for a row."""
    spread: float
    """The standard deviation of the logarithm of the time of a file."""
    dispatch: float
    """Seconds of the driver for a file."""
    redo: float
    """Seconds from the loss of a node until another one begins with its file."""
    model_bytes: int


@dataclass(frozen=True)
class Assumptions:
    """Not measured."""

    node_bytes: float = 1.25e9
    """Bytes per second that a node fetches the model with: 10 Gbit/s."""
    storage_bytes: float = 25e9
    """Bytes per second that the storage gives to all nodes together."""
    slow_share: float = 0.02
    """The share of nodes that are slow: a neighbour's load, a hot processor."""
    slow_factor: float = 2.0
    """How many times as long they take."""
    loss_hours: float = 100.0
    """Hours after which a node is lost, on average: spot machines."""
    replace: float = 180.0
    """Seconds until a new machine is there."""


@dataclass(frozen=True)
class Outcome:
    seconds: float
    """Until the last file is done."""
    efficiency: float
    """Of the seconds of all nodes, the share that went into rows that are in the output."""
    lost: int
    """Nodes that were lost."""
    waited: float
    """Of the seconds, those in which the driver was at work: near 1, the driver is the limit."""


def simulate(parts: Parts, assumed: Assumptions, nodes: int, files: int, rows: int, seed: int = 0) -> Outcome:
    """Works through ``files`` files of ``rows`` rows with ``nodes`` nodes."""
    chance = random.Random(seed)
    fetch = parts.model_bytes / min(assumed.node_bytes, assumed.storage_bytes / nodes)
    ready = parts.start + fetch + parts.load
    slow = max(0, round(nodes * assumed.slow_share))
    factors = [assumed.slow_factor if node < slow else 1.0 for node in range(nodes)]
    ends = [chance.expovariate(1 / (3600 * assumed.loss_hours)) for _ in range(nodes)]
    # When a node is free, in order; ties by number.
    free = [(ready, node) for node in range(nodes)]
    heapq.heapify(free)
    # When a file that was lost may be begun again.
    again: list[float] = []
    left, driver, busy, last, lost = files, 0.0, 0.0, 0.0, 0
    while left or again:
        now, node = heapq.heappop(free)
        if not left:
            # Only files that were lost are left: the node waits until the loss is noticed.
            now = max(now, again[0])
        begin = max(now, driver)
        driver = begin + parts.dispatch
        busy += parts.dispatch
        if again and again[0] <= begin:
            heapq.heappop(again)
        else:
            left -= 1
        taken = rows * parts.row * factors[node] * chance.lognormvariate(-parts.spread**2 / 2, parts.spread)
        end = driver + taken
        if ends[node] < end:
            # Lost with its file; one that was lost while it had none counts so, too.
            gone = max(ends[node], begin)
            lost += 1
            heapq.heappush(again, gone + parts.redo)
            back = gone + assumed.replace + ready
            ends[node] = back + chance.expovariate(1 / (3600 * assumed.loss_hours))
            heapq.heappush(free, (back, node))
            continue
        last = max(last, end)
        heapq.heappush(free, (end, node))
    return Outcome(
        seconds=last,
        efficiency=files * rows * parts.row / (nodes * last),
        lost=lost,
        waited=min(1.0, busy / last),
    )
