"""From `pip install` of the wheel to the first token of the demo model, in a new environment."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

FIRST = "from bitnet_rust import Model; next(iter(Model.demo().stream('Once upon a time')))"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--others", type=Path, required=True, help="a folder with the wheel of NumPy")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        subprocess.run([sys.executable, "-m", "venv", name], check=True)
        python = f"{name}/bin/python"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
        # NumPy by itself: most have it.
        begin = time.perf_counter()
        subprocess.run([*pip, "--find-links", str(options.others), "numpy"], check=True)
        numpy = time.perf_counter() - begin
        begin = time.perf_counter()
        subprocess.run([*pip, str(options.wheel)], check=True)
        installed = time.perf_counter() - begin
        subprocess.run([python, "-c", FIRST], check=True)
        first = time.perf_counter() - begin
    print(json.dumps({"numpy": numpy, "installed": installed, "first": first, "bytes": options.wheel.stat().st_size}))


if __name__ == "__main__":
    main()
