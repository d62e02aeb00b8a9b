"""Plots as inline SVG: lines over recall, bars by band. Text is real text, colours are the page's; no script, no fonts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOURS", "bars", "curves", "scatter"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#6b6b6b")  # Okabe and Ito
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 42

Curve = tuple[str, NDArray[np.float64], NDArray[np.float64]]


def _frame(inside: str, x_title: str, y_title: str, label: str) -> str:
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{inside}'
        f'<text class="axis" x="{middle:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>'
        f'<text class="axis" transform="translate(12 {_TOP + (_HEIGHT - _TOP - _BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_title)}</text></svg>'
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _grid(*, vertical: bool) -> str:
    """Lines at every fifth, from 0 to 1."""
    lines = []
    for step in range(6):
        share = step / 5
        lines.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(share):.1f}" y2="{_y(share):.1f}"/>')
        lines.append(f'<text class="tick" x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{share:.1f}</text>')
        if vertical:
            lines.append(f'<line class="grid" x1="{_x(share):.1f}" x2="{_x(share):.1f}" y1="{_y(0)}" y2="{_y(1)}"/>')
            lines.append(
                f'<text class="tick" x="{_x(share):.1f}" y="{_y(0) + 15}" text-anchor="middle">{share:.1f}</text>'
            )
    return "".join(lines)


def curves(rows: Sequence[Curve], *, x_title: str, y_title: str) -> str:
    """Lines of (name, x, y), both from 0 to 1; each ends in a dot."""
    parts = [_grid(vertical=True)]
    for number, (name, x, y) in enumerate(rows):
        if not len(x):
            continue
        colour = COLOURS[number % len(COLOURS)]
        keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), 400)).round().astype(int))
        points = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in zip(x[keep].tolist(), y[keep].tolist()))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"><title>{escape(name)}</title></polyline>'
        )
        parts.append(
            f'<circle cx="{_x(float(x[-1])):.1f}" cy="{_y(float(y[-1])):.1f}" r="4" fill="{colour}">'
            f"<title>{escape(name)}: {x[-1]:.3f}, {y[-1]:.3f}</title></circle>"
        )
    return _frame("".join(parts), x_title, y_title, f"{y_title} over {x_title}")


def bars(
    groups: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]], counts: Sequence[int], *, x_title: str
) -> str:
    """Recall (0 to 1) in groups of bars, one bar per run; under each group how many targets it has."""
    parts = [_grid(vertical=False)]
    room = 1 / max(1, len(groups))
    thick = min(0.8 * room / max(1, len(rows)), 0.09)
    for place, (group, count) in enumerate(zip(groups, counts)):
        middle = (place + 0.5) * room
        for number, (name, values) in enumerate(rows):
            value = values[place]
            if value is None:
                continue
            left = _x(middle + (number - len(rows) / 2) * thick)
            top = _y(value)
            size = f'width="{_x(thick) - _x(0) - 1:.1f}" height="{max(_y(0) - top, 0.8):.1f}"'
            told = f"<title>{escape(name)}, {escape(group)}: {value:.3f} of {count}</title>"
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<rect x="{left + 0.5:.1f}" y="{top:.1f}" {size} fill="{colour}">{told}</rect>')
        parts.append(
            f'<text class="tick" x="{_x(middle):.1f}" y="{_y(0) + 13}" text-anchor="middle">{escape(group)}</text>'
        )
        parts.append(f'<text class="count" x="{_x(middle):.1f}" y="{_y(0) + 24}" text-anchor="middle">{count:,}</text>')
    return _frame("".join(parts), x_title, "recall", f"recall by {x_title}")


def scatter(
    rows: Sequence[tuple[str, float, float]],
    *,
    x_title: str,
    y_title: str,
    chosen: int | None = None,
    wanted: float | None = None,
) -> str:
    """Points of (name, x from 0, y from 0 to 1); `wanted`: a line at that x; `chosen`: the row with a ring."""
    most = max([wanted or 0.0, *(x for _, x, _ in rows)], default=1.0) * 1.12 or 1.0
    parts = [_grid(vertical=False)]
    ticks = [(_x(step / 5), most * step / 5) for step in range(6)]
    parts += [f'<text class="tick" x="{x:.1f}" y="{_y(0) + 15}" text-anchor="middle">{v:.3g}</text>' for x, v in ticks]
    if wanted is not None:
        at = _x(wanted / most)
        parts.append(f'<line class="wanted" x1="{at:.1f}" x2="{at:.1f}" y1="{_y(0)}" y2="{_y(1)}"/>')
        parts.append(f'<text class="count" x="{at + 4:.1f}" y="{_y(1) + 10:.1f}">wanted</text>')
    for number, (name, x, y) in enumerate(rows):
        ring = ' class="chosen"' if number == chosen else ""
        parts.append(
            f'<circle{ring} cx="{_x(x / most):.1f}" cy="{_y(y):.1f}" r="5" fill="{COLOURS[number % len(COLOURS)]}">'
            f"<title>{escape(name)}: {x:.1f}, {y:.3f}</title></circle>"
        )
    return _frame("".join(parts), x_title, y_title, f"{y_title} over {x_title}")
