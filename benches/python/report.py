"""A report as the other measuring programs write them: what was asked for, what was found, on what machine, and plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


def machine() -> str:
    """The processor, its cores, the system."""
    name = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{name}, {cores} cores, {platform.system().lower()} {platform.machine()}, Python {platform.python_version()}"


def row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


@dataclass
class Report:
    """What a run found out."""

    title: str
    command: str
    notes: list[str] = field(default_factory=list)
    targets: list[tuple[str, str, str, str]] = field(default_factory=list)
    """What is asked about, what is asked for, what was measured, whether that is enough."""
    sections: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        load = os.getloadavg()[0]
        self.notes.append(
            f"Load of the machine before the run: {load:.1f} (1 for each core that others keep busy). With other work beside it, times are "
            "longer and ratios less certain."
        )

    def target(self, what: str, target: str, measured: str, met: bool | None) -> None:
        """``met`` is ``None`` where it was not measured."""
        self.targets.append((what, target, measured, {True: "yes", False: "no", None: "not measured"}[met]))

    def table(self, title: str, note: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        line = ["---"] + ["---:"] * (len(head) - 1)
        self.sections.append("\n".join([f"## {title}", "", note, "", row(head), row(line), *map(row, rows)]))

    def text(self) -> str:
        parts = [f"# {self.title}", f"Written by `{self.command}` on {machine()}."]
        if self.targets:
            parts.append("\n".join([row(["what", "target", "measured", "met"]), row(["---"] * 4), *map(row, self.targets)]))
        parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join([*parts, *self.sections]) + "\n"

    def write(self, folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.md"
        path.write_text(self.text(), encoding="utf-8")
        return path
