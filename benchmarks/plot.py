"""A bar chart as SVG: one panel a figure, one bar a contender, every panel with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from benchmarks import figures

# All in pixels.
_WIDTH, _LABEL, _VALUE = 760, 170, 80
_BAR, _GAP, _PANEL_GAP, _TITLE = 16, 5, 26, 24
_OURS = {"Serve + HAProxy", "uvicorn"}
_PANELS = (
    (figures.UNARY_RATE, "more is better"),
    (figures.CHUNK_CPU, "less is better"),
    (figures.FIRST_P50, "less is better"),
    (figures.UNARY_P50, "less is better"),
    (figures.STREAM_MEMORY, "less is better"),
)


def svg(stub: Mapping[str, Any]) -> str:
    """Draw the panels, ours in a colour."""
    parts: list[str] = []
    top = 10.0
    for figure, better in _PANELS:
        values = {name: value for name, found in stub.items() if (value := figure.of(found)) is not None}
        if not values:
            continue
        parts.append(_text(10, top + 14, f"{figure.label} ({better})", weight="bold"))
        top += _TITLE
        largest = max(values.values())
        for name, value in values.items():
            length = max(1.0, (_WIDTH - _LABEL - _VALUE) * max(value, 0.0) / largest) if largest > 0 else 1.0
            colour = "#2b6cb0" if name in _OURS else "#a0aec0"
            parts.append(_text(_LABEL - 8, top + 13, name, anchor="end"))
            parts.append(
                f'<rect x="{_LABEL}" y="{top:.0f}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>'
            )
            parts.append(_text(_LABEL + length + 6, top + 13, figure.text(stub[name])))
            top += _BAR + _GAP
        top += _PANEL_GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top:.0f}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, content: str, *, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {place}>{escape(content)}</text>"
