"""Lines over two logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLORS = ["#475569", "#2563eb", "#059669", "#d97706", "#dc2626", "#7c3aed"]


def lines(title: str, across: str, up: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The points of each series, joined. All numbers are above 0."""
    points = [point for line in series.values() for point in line]
    scale_x = _scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    scale_y = _scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="12">',
        "<style>.ink{fill:#1f2937}.grid{stroke:#cbd5e1;stroke-width:1}"
        "@media(prefers-color-scheme:dark){.ink{fill:#e5e7eb}.grid{stroke:#475569}}</style>",
        f'<text class="ink" x="{LEFT}" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
        f'<text class="ink" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(across)}</text>',
        f'<text class="ink" transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>',
    ]
    for value in _ticks([x for x, _ in points]):
        x = scale_x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="ink" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
    for value in _ticks([y for _, y in points]):
        y = scale_y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="ink" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for index, (name, line) in enumerate(series.items()):
        color = COLORS[index % len(COLORS)]
        path = " ".join(f"{scale_x(x):.1f},{scale_y(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        at = TOP + 14 + 18 * index
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{at - 9}" width="10" height="10" rx="2" fill="{color}"/>')
        parts.append(f'<text class="ink" x="{WIDTH - RIGHT + 28}" y="{at}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


class _Scale:
    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low, self.span = math.log(low), max(math.log(high) - math.log(low), 1e-9)
        self.begin, self.length = begin, end - begin

    def __call__(self, value: float) -> float:
        return self.begin + (math.log(value) - self.low) / self.span * self.length


def _scale(values: Sequence[float], begin: float, end: float) -> _Scale:
    return _Scale(min(values), max(values), begin, end)


def _ticks(values: Sequence[float]) -> list[float]:
    """Powers of ten between the values, or those of two where there are few of them."""
    low, high = min(values), max(values)
    for base in (10, 2):
        first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
        if last - first >= 2:
            break
    return [float(base) ** power for power in range(first, last + 1)]
