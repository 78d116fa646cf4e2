"""Bars, verdicts and tables; the same text goes to the terminal and into RESULTS.md. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from omnibench.stats import Spread


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing that must hold, and what was measured."""

    title: str
    measured: float | None
    """None when this run did not measure it."""
    limit: float
    unit: str
    goal: float | None = None
    is_minimum: bool = False
    """The measured value must be at least the limit; otherwise at most."""
    digits: int = 2
    note: str = ""

    @property
    def verdict(self) -> str:
        """Return PASS, PASS (goal), FAIL, or `not measured`."""
        if self.measured is None:
            return "not measured"
        if not self._reaches(self.limit):
            return "FAIL"
        return "PASS (goal)" if self.goal is not None and self._reaches(self.goal) else "PASS"

    def _reaches(self, value: float) -> bool:
        if self.measured is None:
            return False
        return self.measured >= value if self.is_minimum else self.measured <= value

    def cells(self) -> list[str]:
        """Return the row of the table of bars."""
        sign = "≥" if self.is_minimum else "≤"
        limit = f"{sign} {self.limit:,g} {self.unit}".strip()
        if self.goal is not None:
            limit += f" (goal {self.goal:,g})"
        measured = "–" if self.measured is None else f"{self.measured:,.{self.digits}f} {self.unit}".strip()
        return [self.title, limit, measured, self.verdict, self.note]


BAR_HEADER = ("Bar", "Must be", "Measured", "Verdict", "Note")


@dataclass(slots=True)
class Section:
    """A heading, prose, and tables."""

    title: str
    parts: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(text)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table."""
        self.parts.append(table(header, rows))

    def render(self) -> str:
        """Return the section as Markdown."""
        return "\n\n".join([f"## {self.title}", *self.parts])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns also line up in a terminal: text to the left, numbers to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    right = [
        len(cells) > 1 and all(_is_number(row[column]) for row in cells[1:] if row[column] not in ("", "–"))
        for column in range(len(header))
    ]
    lines = [
        _line(cells[0], widths, right),
        "|" + "|".join(_rule(w, r) for w, r in zip(widths, right, strict=True)) + "|",
    ]
    lines += [_line(row, widths, right) for row in cells[1:]]
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
    return "| " + " | ".join(padded) + " |"


def _rule(width: int, is_right: bool) -> str:
    return "-" * (width + 1) + ":" if is_right else "-" * (width + 2)


def _is_number(cell: str) -> bool:
    text = cell.replace(",", "").replace("%", "").replace("×", "").strip()
    try:
        float(text)
    except ValueError:
        return False
    return True


def number(value: float, digits: int = 0) -> str:
    """Return a number with thousands separators."""
    return f"{value:,.{digits}f}"


def mib(value: float) -> str:
    """Return bytes as MB (2^20) with one digit."""
    return f"{value / 2**20:,.1f}"


def span(figure: Spread, digits: int) -> str:
    """Return the lowest and the highest round."""
    return f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"
