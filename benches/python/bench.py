"""The Python package beside what people would use in its place, and beside the engine itself: `cargo xtask bench-python`."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from plan import prompt, run_module
from report import Report

from bitnet_rust import Model

SPEED = re.compile(r"([\d.]+) tok/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, required=True, help="the folder of the report")
    parser.add_argument("--command", default="cargo xtask bench-python", help="as the report names it")
    parser.add_argument("--bitnet", type=Path, required=True, help="the command")
    parser.add_argument("--wheel", type=Path, required=True, help="the package")
    parser.add_argument("--others", type=Path, required=True, help="a folder with the wheel of NumPy")
    parser.add_argument("--embedding", type=Path, required=True, help="a model file in the shape of BitNet-embedding 0.6B")
    parser.add_argument("--language", type=Path, required=True, help="a model file that llama.cpp knows, TQ2_0 in the shape of 2B-4T")
    parser.add_argument("--peers", type=Path, help="the Python that has the peers; without it they are left out")
    parser.add_argument("--peers-note", default="left out", help="how the peers were installed, or why they were not")
    parser.add_argument("--texts", type=int, default=2000, help="texts that are embedded (default: 2000)")
    parser.add_argument("--prompts", type=int, default=64, help="prompts that are continued (default: 64)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer (default: 64)")
    parser.add_argument("--rounds", type=int, default=3, help="turns in which overheads are measured (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of all (default: 2)")
    options = parser.parse_args()
    report = Report("BitNet-Rust from Python", options.command)
    report.notes.append(f"All with {options.threads} threads, one after the other. Peers: {options.peers_note}.")
    embedded(options, report)
    generated(options, report)
    over_engine(options, report)
    through_ray(options, report)
    installed(options, report)
    print(report.text())
    print(f"report: {report.write(options.report, 'python')}")


def peer(options: argparse.Namespace, report: Report, name: str, **more: Any) -> Any:
    """What a peer found, or nothing if it is not there or fails, which is noted."""
    if options.peers is None:
        return None
    try:
        return run_module(options.peers, name, **more)
    except subprocess.CalledProcessError as error:
        report.notes.append(f"{name} failed (status {error.returncode}) and is left out.")
        return None


def ratio(report: Report, what: str, least: float, theirs: Any, ours: Any) -> None:
    """How many times as fast as the peer for the same tokens."""
    if theirs is None:
        report.target(what, f"≥ {least:g}×", "", None)
        return
    times = theirs["seconds"] / theirs["tokens"] / (ours["seconds"] / ours["tokens"])
    speeds = f"{ours['tokens'] / ours['seconds']:.1f} / {theirs['tokens'] / theirs['seconds']:.1f} tokens/s"
    report.target(what, f"≥ {least:g}×", f"{times:.2f}× ({speeds})", times >= least)


def embedded(options: argparse.Namespace, report: Report) -> None:
    both = {"texts": options.texts, "threads": options.threads}
    ours = run_module(sys.executable, "embedding", model=options.embedding, **both)
    theirs = peer(options, report, "sentence_transformers_peer", **both)
    what = f"embed {options.texts} texts of 20 to 400 tokens (0.6B), against sentence-transformers over torch in f32"
    ratio(report, what, 6, theirs, ours)
    whole = 2000
    if options.texts < whole:
        times = [found["seconds"] * whole / options.texts for found in (ours, theirs) if found]
        shown = " and ".join(f"{time:.0f} s" for time in times)
        report.notes.append(
            f"{options.texts} texts are a sample: their lengths are spread as those of {whole} are. {whole} would take {shown}, which was not run."
        )
    if theirs:
        report.notes.append(f"torch {theirs['torch']}: the model has the shape of ours and random weights; its batches are the library's own, of 32 texts.")


def generated(options: argparse.Namespace, report: Report) -> None:
    both = {
        "model": options.language,
        "prompts": options.prompts,
        "prompted": 32,
        "tokens": options.tokens,
        "threads": options.threads,
    }
    ours = run_module(sys.executable, "generating", **both)
    theirs = peer(options, report, "llama_cpp_peer", **both)
    what = f"{options.prompts} prompts of 32 tokens, {options.tokens} tokens each, against llama-cpp-python one after another on the same file"
    ratio(report, what, 5, theirs, ours)


def over_engine(options: argparse.Namespace, report: Report) -> None:
    """The same prompts through `bitnet batch` and through Python, in turns."""
    rust, python = [], []
    with TemporaryDirectory() as name:
        requests = Path(name, "requests.jsonl")
        vocabulary = Model.open(options.language, threads=1).vocabulary
        lines = [json.dumps({"tokens": prompt(index, 32, vocabulary)}) for index in range(64)]
        requests.write_text("\n".join(lines) + "\n")
        for turn in range(options.rounds):
            rust.append(batch(options, requests, Path(name, f"texts-{turn}.jsonl")))
            found = run_module(
                sys.executable, "generating", model=options.language, prompts=64, prompted=32, tokens=options.tokens, threads=options.threads
            )
            python.append(found["tokens"] / found["seconds"])
    overhead = median(rust) / median(python) - 1
    speeds = f"{median(rust):.1f} and {median(python):.1f} tokens/s in the median of {options.rounds}"
    report.target("64 prompts, Python over `bitnet batch`", "≤ 2 %", f"{overhead:.1%} ({speeds})", overhead <= 0.02)


def batch(options: argparse.Namespace, requests: Path, output: Path) -> float:
    """Tokens per second of `bitnet batch`."""
    words = ["batch", requests, output, "-m", options.language, "-t", options.threads, "-n", options.tokens]
    command = [options.bitnet, *words, "--temp", "0", "--ignore-end", "--parallel", "64"]
    done = subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, encoding="utf-8", check=True)
    found = SPEED.search(done.stderr)
    assert found, done.stderr
    return float(found[1])


def through_ray(options: argparse.Namespace, report: Report) -> None:
    texts = max(256, options.texts // 4)
    turns = [
        run_module(sys.executable, "through_ray", model=options.embedding, texts=texts, threads=options.threads)
        for _ in range(options.rounds)
    ]
    calls, ray = median([turn["calls"] for turn in turns]), median([turn["ray"] for turn in turns])
    overhead = ray / calls - 1
    between = median([turn["between"] for turn in turns]) * 1e3
    measured = f"{overhead:.1%} ({ray:.2f} s and {calls:.2f} s in the median of {options.rounds}, {between:.1f} ms between batches)"
    report.target(f"{texts} texts in batches of 64, Ray Data over calls", "≤ 10 %", measured, overhead <= 0.1)


def installed(options: argparse.Namespace, report: Report) -> None:
    found = run_module(sys.executable, "first_token", wheel=options.wheel, others=options.others)
    measured = f"{found['first']:.2f} s, of which pip {found['installed']:.2f} s"
    report.target("`pip install` of the wheel to the first token of the demo model", "≤ 5 s", measured, found["first"] <= 5)
    report.notes.append(
        f"The wheel is a release build of {found['bytes'] / 1e6:.1f} MB. NumPy, which it needs, was installed before it from a file, in "
        f"{found['numpy']:.2f} s."
    )


if __name__ == "__main__":
    main()
