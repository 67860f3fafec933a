"""The engine behind Ray Serve, in OpenAI's interface, streaming included.

    serve run serve_app:app

Replicas are added while requests wait for places in their engines, and taken away when nobody asks.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bitnet_rust import Engine, Model

CPUS = int(os.environ.get("BITNET_CPUS", "1"))
"""Cores of a replica."""


def by_waiting(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """One replica more while requests wait in engines; one less while nothing runs or waits."""
    metrics = context.aggregated_metrics or {}
    waiting = sum((metrics.get("waiting") or {}).values())
    running = sum((metrics.get("running") or {}).values())
    wanted = context.current_num_replicas
    if waiting > 0:
        wanted += 1
    elif running == 0:
        wanted -= 1
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return max(least, min(most, wanted)), {}


class Bitnet:
    """A replica: one engine with all its cores."""

    def __init__(self, model: str | None, max_running: int = 32) -> None:
        self.engine = Engine(Model(model, threads=CPUS), max_running=max_running)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What :func:`by_waiting` decides by."""
        gauges = self.engine.gauges()
        return {"waiting": gauges["waiting"], "running": gauges["running"]}

    async def __call__(self, request: Request) -> Response:
        """Answers as ``bitnet serve`` does. A client that goes away ends its text."""
        body = (await request.body()).decode()
        answers = self.engine.forward(request.url.path, body)
        status, first = await anext(answers)
        if status >= 400 or not json.loads(body).get("stream"):
            return Response(first, status, media_type="application/json")

        async def events() -> AsyncIterator[str]:
            yield f"data: {first}\n\n"
            async for _, text in answers:
                yield f"data: {text}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), status, media_type="text/event-stream")


deployment = serve.deployment(
    ray_actor_options={"num_cpus": CPUS},
    # More than run together, so that the engine knows who waits.
    max_ongoing_requests=256,
    autoscaling_config=AutoscalingConfig(
        min_replicas=1,
        max_replicas=int(os.environ.get("BITNET_REPLICAS", "1")),
        policy=AutoscalingPolicy(policy_function=by_waiting),
    ),
)(Bitnet)
app = deployment.bind(os.environ.get("BITNET_MODEL"))
