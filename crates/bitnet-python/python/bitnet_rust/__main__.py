"""The command ``bitnet``: ``python -m bitnet_rust --help``."""

import signal
import sys

from bitnet_rust._native import run_command


def main() -> int:
    """Runs the command with the arguments of this process, and returns its exit code."""
    # Python would only note the signal until the command is done; the command has its own way with it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_command(["bitnet", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
