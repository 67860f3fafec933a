"""What the tests share: the demo model, open once, and a cluster of Ray."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bitnet_rust import Model

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples/ray"))

STORE = 80 << 20
"""Bytes of each node for objects: the least that Ray takes, or about so."""


@pytest.fixture(scope="session")
def model() -> Model:
    return Model.demo(threads=2)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster of one node, to which tests add others for a while."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # What else runs on this machine is no reason to end workers.
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE}
    )
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
