"""The engine behind Ray Serve, asked by the official client, and `bitnet serve` asked by Ray Data."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")
if not sys.platform.startswith("linux"):
    pytest.skip("clusters are tried on Linux", allow_module_level=True)

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from conftest import STORE
from openai import BadRequestError, OpenAI
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from bitnet_rust import Model

EXAMPLES = Path(__file__).resolve().parents[3] / "examples/ray"
QUESTION: list[Any] = [{"role": "user", "content": "What is 20 + 22?"}]
OPTIONS: dict[str, Any] = {"model": "demo model", "max_tokens": 24, "temperature": 0}


@pytest.fixture
def serving(cluster: Cluster) -> Iterator[OpenAI]:
    """Ray Serve at a port of its own, and a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.init(address=cluster.address, runtime_env={"working_dir": str(EXAMPLES)}, log_to_driver=False)
    serve.start(http_options={"port": port})
    try:
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    finally:
        serve.shutdown()
        ray.shutdown()


def test_serve_answers_the_official_client(serving: OpenAI, model: Model) -> None:
    import serve_app

    serve.run(serve_app.app, route_prefix="/")
    whole = serving.chat.completions.create(messages=QUESTION, **OPTIONS)
    assert whole.choices[0].message.content == model.chat(QUESTION, max_tokens=24, temperature=0).text
    chunks = list(serving.chat.completions.create(messages=QUESTION, stream=True, **OPTIONS))
    assert len(chunks) > 3
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    with pytest.raises(BadRequestError, match="temperature"):
        serving.chat.completions.create(messages=QUESTION, **{**OPTIONS, "temperature": -1})


def test_replicas_come_and_go_with_those_who_wait(serving: OpenAI, cluster: Cluster, model: Model) -> None:
    import serve_app

    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    scaling = AutoscalingConfig(
        min_replicas=1,
        max_replicas=2,
        policy=AutoscalingPolicy(policy_function=serve_app.by_waiting),
        metrics_interval_s=0.2,
        look_back_period_s=1,
        upscale_delay_s=0.5,
        downscale_delay_s=1,
    )
    deployment = serve_app.deployment.options(autoscaling_config=scaling)
    # One text at a time: whoever else asks meanwhile waits.
    serve.run(deployment.bind(None, max_running=1), route_prefix="/")
    options = {**OPTIONS, "max_tokens": 200, "extra_body": {"ignore_eos": True}}
    expected = model.chat(QUESTION, max_tokens=200, temperature=0, ignore_eos=True).text
    # Where all processes of Ray share a core or two, a connection may break off.
    client = serving.with_options(max_retries=8)
    stop = threading.Event()
    faults: list[BaseException] = []

    def user() -> None:
        try:
            while not stop.is_set():
                answer = client.chat.completions.create(messages=QUESTION, **options)
                assert answer.choices[0].message.content == expected
        except BaseException as fault:
            faults.append(fault)

    users = [threading.Thread(target=user) for _ in range(6)]
    for thread in users:
        thread.start()
    try:
        wait_until(lambda: bool(faults) or replicas() == 2)
    finally:
        stop.set()
        for thread in users:
            thread.join()
    assert not faults
    wait_until(lambda: replicas() == 1)
    # Ray Serve ends before the node does.
    serve.delete("default")
    cluster.remove_node(node)


def replicas() -> int:
    """Those that answer."""
    states = serve.status().applications["default"].deployments["Bitnet"].replica_states
    return sum(count for state, count in states.items() if state == "RUNNING")


def wait_until(holds: Callable[[], bool]) -> None:
    """A machine that is busy may take its time."""
    for _ in range(3000):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("expected a change, found none in five minutes")


@pytest.fixture
def server() -> Iterator[str]:
    """The address of `bitnet serve`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bitnet_rust", "serve", "--port=0", "--threads=1"],
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    try:
        begin = "serving at "
        line = next(line for line in process.stderr if line.startswith(begin))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.removeprefix(begin).split()[0]
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_ray_data_asks_a_server(cluster: Cluster, server: str, model: Model, tmp_path: Path) -> None:
    # One core for those who ask, and one for those who read and write files.
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE)
    source, target = tmp_path / "prompts", tmp_path / "answers"
    source.mkdir()
    prompts = [f"Story {row}: the cat" for row in range(30)]
    ids = [str(row) for row in range(30)]
    pq.write_table(pa.table({"id": ids, "prompt": prompts}), source / "a.parquet")
    asking = [sys.executable, str(EXAMPLES / "ask_corpus.py"), str(source), str(target), "--url", server, "--tokens=12"]
    options = ["--workers=2", "--address", cluster.address]
    done = subprocess.run([*asking, *options], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    rows = sorted(pq.read_table(target).to_pylist(), key=lambda row: int(row["id"]))
    assert [row["prompt"] for row in rows] == prompts
    texts = model.generate(prompts, max_tokens=12, seed=0)
    assert [row["answer"] for row in rows] == [text.text for text in texts]
    cluster.remove_node(node)
