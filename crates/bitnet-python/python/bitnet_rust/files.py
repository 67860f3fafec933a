"""Model files: what is in them, and their conversion."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from bitnet_rust import _native

__all__ = ["Conversion", "convert", "inspect"]


class Conversion(NamedTuple):
    """What became of a model."""

    summary: str
    """In sentences."""
    lossless: bool
    """Whether every weight has the value it had."""


def inspect(source: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Tells what is in a model file and what it needs to run, also of one that cannot be run. Without ``source``: of the demo
    model."""
    found: dict[str, Any] = json.loads(_native.inspect(source))
    return found


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    to: str,
    *,
    quantize: str | None = None,
    rotate: int | None = None,
) -> Conversion:
    """Converts a model to ``i2_s``, ``tq1_0``, ``tq2_0``, ``q2_0``, ``ptq1_0`` or ``pq2_0`` (a GGUF file), or to ``safetensors`` (a
    folder). Ternary codes are carried exactly and never quantized again. ``quantize`` makes floating-point weights ternary, by
    ``absmean`` or ``least-squares``, which a model that was not trained for it does not survive unharmed; ``rotate`` rotates blocks of so
    many columns first (0: the largest that fits; qwen3 only)."""
    return Conversion(*_native.convert(source, output, to, quantize, rotate))
