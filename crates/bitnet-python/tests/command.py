"""The command, as the module has it, and what it prints."""

import subprocess
import sys


def bitnet(*arguments: str, text: str | None = None) -> str:
    """What ``bitnet`` prints to stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "bitnet_rust", *arguments],
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs a program."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
