"""The simulation of many nodes, of which `benches/report/scale.md` tells."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benches/python"))

from plot import lines
from simulation import Assumptions, Parts, simulate

PARTS = Parts(start=2, load=0.5, row=0.01, spread=0, dispatch=0, redo=5, model_bytes=0)
CALM = Assumptions(slow_share=0, loss_hours=1e12)


def test_without_faults_all_nodes_work_to_the_end() -> None:
    for nodes in (1, 4, 50):
        outcome = simulate(PARTS, CALM, nodes, files=200, rows=100)
        assert math.isclose(outcome.seconds, 2.5 + 200 / nodes)
        assert math.isclose(outcome.efficiency, 200 / nodes / (2.5 + 200 / nodes))
        assert outcome.lost == 0


def test_one_driver_is_a_limit() -> None:
    outcome = simulate(replace(PARTS, dispatch=0.1), CALM, 1000, files=5000, rows=100)
    assert outcome.seconds >= 500 and outcome.waited > 0.98


def test_what_is_lost_is_done_again() -> None:
    often = replace(CALM, loss_hours=0.01, replace=1)
    outcome = simulate(PARTS, often, 10, files=500, rows=100, seed=3)
    calm = simulate(PARTS, CALM, 10, files=500, rows=100, seed=3)
    assert outcome.lost > 5 and outcome.seconds > calm.seconds
    assert outcome == simulate(PARTS, often, 10, files=500, rows=100, seed=3)


def test_slow_nodes_and_large_models_take_time() -> None:
    calm = simulate(PARTS, CALM, 20, files=400, rows=100).seconds
    assert simulate(PARTS, replace(CALM, slow_share=0.5), 20, files=400, rows=100).seconds > 1.2 * calm
    large = replace(PARTS, model_bytes=1_250_000_000)
    assert math.isclose(simulate(large, CALM, 20, files=400, rows=100).seconds, calm + 1)
    # The storage is shared by all.
    shared = simulate(large, replace(CALM, storage_bytes=1.25e9), 20, files=400, rows=100).seconds
    assert math.isclose(shared, calm + 20)


def test_a_plot_has_a_line_for_each_series() -> None:
    svg = lines("Rows <per> second", "nodes", "rows/s", {"a": [(1, 1), (1000, 900)], "b": [(1, 1), (1000, 500)]})
    assert svg.count("<polyline") == 2 and "&lt;per&gt;" in svg and "nan" not in svg
