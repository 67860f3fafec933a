"""What is measured: the same texts and prompts for ours and for the peers, by their numbers of tokens."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SHORTEST, LONGEST = 20, 400
GOLDEN = 0.618033988749894848


def lengths(texts: int) -> list[int]:
    """Tokens of texts: from 20 to 400, evenly, in an order that mixes them, so that a sample is like the whole."""
    return [SHORTEST + int(index * GOLDEN % 1 * (LONGEST - SHORTEST + 1)) for index in range(texts)]


def prompt(index: int, tokens: int, vocabulary: int) -> list[int]:
    """Token ids of a prompt; no two begin alike, so that nothing is read once for several."""
    return [3 + (index * 7919 + place * 104729) % (vocabulary - 3) for place in range(tokens)]


def options(*numbers: str, model: bool = True) -> argparse.Namespace:
    """The options of a module that `run_module` runs: a model file, and whole numbers."""
    parser = argparse.ArgumentParser()
    if model:
        parser.add_argument("--model", required=True)
    for name in numbers:
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_args()


def run_module(python: str | os.PathLike[str], name: str, **given: Any) -> Any:
    """Runs a module beside this one in a process of its own, whose last line is what it found, in JSON."""
    words: list[str] = []
    for key, value in given.items():
        words += [f"--{key}", str(value)]
    print(f"bench-python: {name} {' '.join(words)}", file=sys.stderr)
    threads = str(given.get("threads", 1))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    # These slow current libraries of linear algebra; none of what is measured here needs them.
    for slow in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        environment.pop(slow, None)
    command = [str(python), str(Path(__file__).with_name(f"{name}.py")), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])
