"""Small charts as SVG, drawn here, without a script; and the figures of larger ones for the script that draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from markupsafe import Markup, escape

_WIDTH: Final = 200
_HEIGHT: Final = 40
_COLOURS: Final = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One line or row of bars of a chart.

    Attributes:
        values: one per moment; None where nothing is known.
        colour: 1 to 8; the same thing has the same one on every page (:func:`colour_of`).
        is_bars: bars instead of a line.
    """

    label: str
    values: Sequence[float | None]
    colour: int = 1
    is_bars: bool = False
    is_dashed: bool = False


def figures(times: Sequence[float], series: Iterable[Series], unit: str, unit_label: str = "") -> dict[str, Any]:
    """Return what the script `charts.js` draws.

    Args:
        times: epoch seconds, ascending.
        series: lines of values, each as long as `times`.
        unit: `USD`, `ms`, `%`, or a noun for plain numbers.
        unit_label: the title of the axis.
    """
    lines = [
        {
            "label": one.label,
            "values": list(one.values),
            "colour": one.colour,
            "kind": "bars" if one.is_bars else "line",
            "isDashed": one.is_dashed,
        }
        for one in series
    ]
    return {"times": list(times), "unit": unit, "unitLabel": unit_label, "series": lines}


def colour_of(name: str) -> int:
    """Return the number of the colour that a provider, model or key has wherever it is drawn."""
    return blake2b(name.encode(), digest_size=2).digest()[0] % _COLOURS + 1


def sparkline(values: Sequence[float | None], label: str, *, is_wide: bool = False) -> Markup:
    """Return a line over equal steps of time as SVG; a step of which nothing is known is a gap."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    most = max(known) or 1.0
    step = _WIDTH / max(1, len(values) - 1)
    runs: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{at * step:.1f},{_HEIGHT - 2 - value / most * (_HEIGHT - 4):.1f}")
    lines = [run for run in runs if run]
    shapes = Markup("").join(
        Markup('<polyline class="spark-line" points="{}"/>').format(" ".join(run if len(run) > 1 else run * 2))
        for run in lines
    )
    areas = Markup("").join(
        Markup('<polygon class="spark-area" points="{},{} {} {},{}"/>').format(
            run[0].split(",")[0], _HEIGHT, " ".join(run), run[-1].split(",")[0], _HEIGHT
        )
        for run in lines
        if len(run) > 1
    )
    return _svg(areas + shapes, label, "spark spark-wide" if is_wide else "spark")


def bars(values: Sequence[float], label: str, *, bad: Sequence[float] = (), is_wide: bool = False) -> Markup:
    """Return bars over equal steps of time as SVG; `bad` is the part of each that failed, drawn at its foot."""
    if not values:
        return Markup("")
    most = max(values) or 1.0
    step = _WIDTH / len(values)
    shapes = []
    for at, value in enumerate(values):
        height = value / most * (_HEIGHT - 2)
        shapes.append(_bar("spark-bar", at * step, step, height))
        failed = bad[at] if at < len(bad) else 0
        if failed:
            shapes.append(_bar("spark-bar spark-bad", at * step, step, max(1.0, failed / most * (_HEIGHT - 2))))
    return _svg(Markup("").join(shapes), label, "spark spark-wide" if is_wide else "spark")


def stacked(shares: Sequence[tuple[str, float]], label: str) -> Markup:
    """Return one bar that is divided among names by their shares."""
    total = sum(share for _name, share in shares) or 1.0
    at, shapes = 0.0, []
    for name, share in shares:
        width = share / total * 100
        shapes.append(
            Markup('<rect class="series-{}" x="{}" y="0" width="{}" height="14"><title>{}: {}%</title></rect>').format(
                colour_of(name), f"{at:.2f}", f"{width:.2f}", name, f"{width:.0f}"
            )
        )
        at += width
    return Markup(
        '<svg class="stacked" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(label, Markup("").join(shapes))


def _bar(kind: str, left: float, step: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, f"{left + step * 0.1:.1f}", f"{_HEIGHT - height:.1f}", f"{step * 0.8:.1f}", f"{max(0.0, height):.1f}"
    )


def _svg(shapes: Markup, label: str, kind: str) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(kind, _WIDTH, _HEIGHT, escape(label), shapes)
