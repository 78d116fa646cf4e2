"""An invoice against the log: line by line where both name the same request, else by day and model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from omniroute.money.invoice import Invoice, InvoiceLine

MOST_LISTED: Final = 1000
"""Of each list of a report; its counts and sums know no limit."""

_DATED: Final = re.compile(r"-(?:\d{8}|\d{4}-\d{2}-\d{2})$")


@dataclass(frozen=True, slots=True)
class LogLine:
    """What an attempt cost by the log. Tokens and cost are None where they are not known."""

    request_id: str
    upstream_id: str | None
    time: float
    model: str
    input: int | None
    output: int | None
    cached: int | None
    nano_usd: int | None
    is_estimated: bool = False
    is_billed: bool = True
    """It belongs on an invoice; what does not is compared where the invoice names it all the same."""


class Why(StrEnum):
    """What explains a difference."""

    ESTIMATED = "estimated"
    """The provider had not told how many tokens it was."""
    TOKENS = "tokens"
    """The provider bills other tokens than it has reported."""
    PRICE = "price"
    """The tokens are the same, and what they cost is not."""
    UNPRICED = "unpriced"
    """The log does not know what it cost."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of some lines; tokens are None where no line tells."""

    lines: int = 0
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    nano_usd: int = 0
    unpriced: int = 0
    estimated: int = 0

    def plus(self, line: InvoiceLine | LogLine) -> Figures:
        """Return the sums with one more line."""
        return Figures(
            self.lines + 1,
            _added(self.input, line.input),
            _added(self.output, line.output),
            _added(self.cached, line.cached),
            self.nano_usd + (line.nano_usd or 0),
            self.unpriced + (line.nano_usd is None),
            self.estimated + (isinstance(line, LogLine) and line.is_estimated),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A request, or a day of a model, on either side.

    Attributes:
        name: the id that both sides know, or day and model.
    """

    name: str
    invoice: Figures
    log: Figures
    why: tuple[Why, ...] = ()

    @property
    def difference(self) -> int:
        """Nano-USD that the invoice has more."""
        return self.invoice.nano_usd - self.log.nano_usd


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a comparison. Of each list, what differs most stands first.

    Attributes:
        is_by_id: requests were compared, at least some of them; else days and models.
        matched: entries that are the same, but for a difference in cost within the tolerance.
        counts: how many entries there are in the three lists, were they not limited.
        is_equal: the totals, and every entry, differ by no more than the tolerance.
    """

    is_by_id: bool
    tolerance: int
    invoice: Figures
    log: Figures
    matched: int
    differing: tuple[Entry, ...]
    only_in_invoice: tuple[Entry, ...]
    only_in_log: tuple[Entry, ...]
    counts: tuple[int, int, int]
    is_equal: bool


def reconcile(
    invoice: Invoice, log: Iterable[LogLine], *, tolerance: int, span: tuple[float, float] | None = None
) -> Report:
    """Compare.

    Args:
        invoice: its lines outside the span are left out.
        log: in any order, read once.
        tolerance: nano-USD.
        span: epoch seconds; of what only the log has, only what lies within counts.
    """
    lines = [line for line in invoice.lines if span is None or line.time is None or span[0] <= line.time < span[1]]
    named: dict[str, Figures] = {}
    for line in lines:
        if line.id is not None:
            _add(named, line.id, line)
    found: dict[str, Figures] = {}
    days: dict[str, Figures] = {}
    alone = _Alone(tolerance)
    for logged in log:
        ids = logged.upstream_id or "", logged.request_id
        name = next((one for one in ids if one in named), None)
        if name is not None:
            _add(found, name, logged)
        elif logged.is_billed and (span is None or span[0] <= logged.time < span[1]):
            _add(days, _day_of(logged), logged)
            alone.take(logged)
    is_by_id = bool(found)
    unnamed: dict[str, Figures] = {}
    for line in lines:
        if line.id is None or not is_by_id:
            _add(unnamed, _day_of(line), line)
    entries = [Entry(name, figures, found.get(name, _NONE)) for name, figures in named.items()] if is_by_id else []
    if unnamed or not is_by_id:
        names = dict.fromkeys((*unnamed, *days))
        entries += [Entry(name, unnamed.get(name, _NONE), days.get(name, _NONE)) for name in names]
        alone = _Alone(tolerance)
    return _report(entries, alone, is_by_id=is_by_id, tolerance=tolerance)


class _Alone:
    """Requests that only the log has, where the invoice names every one of its own."""

    def __init__(self, tolerance: int) -> None:
        self.sums = Figures()
        self.count = 0
        self.is_within = True
        self._tolerance = tolerance
        self._kept: list[LogLine] = []

    def take(self, line: LogLine) -> None:
        """Take one more."""
        self.sums = self.sums.plus(line)
        self.count += 1
        self.is_within = self.is_within and abs(line.nano_usd or 0) <= self._tolerance
        if len(self._kept) < MOST_LISTED:
            self._kept.append(line)

    @property
    def entries(self) -> list[Entry]:
        """The first of them."""
        return [Entry(line.request_id, _NONE, _NONE.plus(line)) for line in self._kept]


def _report(entries: list[Entry], alone: _Alone, *, is_by_id: bool, tolerance: int) -> Report:
    invoice = _sum(entry.invoice for entry in entries)
    log = _sum((*(entry.log for entry in entries), alone.sums))
    both = [entry for entry in entries if entry.invoice.lines and entry.log.lines]
    explained = [(entry, _why(entry, tolerance)) for entry in both]
    differing = [replace(entry, why=why) for entry, why in explained if why]
    in_invoice = [entry for entry in entries if not entry.log.lines]
    in_log = [entry for entry in entries if not entry.invoice.lines] + alone.entries
    is_within = alone.is_within and all(abs(entry.difference) <= tolerance for entry in entries)
    return Report(
        is_by_id=is_by_id,
        tolerance=tolerance,
        invoice=invoice,
        log=log,
        matched=len(both) - len(differing),
        differing=_worst(differing),
        only_in_invoice=_worst(in_invoice),
        only_in_log=_worst(in_log),
        counts=(len(differing), len(in_invoice), len(in_log) - len(alone.entries) + alone.count),
        is_equal=is_within and abs(invoice.nano_usd - log.nano_usd) <= tolerance,
    )


def _why(entry: Entry, tolerance: int) -> tuple[Why, ...]:
    """Return why two sides differ; nothing where they do not."""
    invoice, log = entry.invoice, entry.log
    pairs = ((invoice.input, log.input), (invoice.output, log.output), (invoice.cached, log.cached))
    has_other_tokens = any(one is not None and other is not None and one != other for one, other in pairs)
    has_other_cost = abs(entry.difference) > tolerance
    if not has_other_cost and (log.estimated or not has_other_tokens):
        return ()
    why: list[Why] = []
    if log.estimated:
        why.append(Why.ESTIMATED)
    elif has_other_tokens:
        why.append(Why.TOKENS)
    if log.unpriced:
        why.append(Why.UNPRICED)
    elif has_other_cost and not why:
        why.append(Why.PRICE)
    return tuple(why)


def _worst(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (-abs(entry.difference), entry.name))[:MOST_LISTED])


def _sum(parts: Iterable[Figures]) -> Figures:
    total = Figures()
    for one in parts:
        total = Figures(
            total.lines + one.lines,
            _added(total.input, one.input),
            _added(total.output, one.output),
            _added(total.cached, one.cached),
            total.nano_usd + one.nano_usd,
            total.unpriced + one.unpriced,
            total.estimated + one.estimated,
        )
    return total


def _add(sums: dict[str, Figures], name: str, line: InvoiceLine | LogLine) -> None:
    sums[name] = sums.get(name, _NONE).plus(line)


def _day_of(line: InvoiceLine | LogLine) -> str:
    """Return day and model, without what vendors add to a model's name in their bills."""
    day = "" if line.time is None else datetime.fromtimestamp(line.time, UTC).date().isoformat()
    model = _DATED.sub("", line.model.lower().rpartition("/")[2])
    return f"{day} {model}".strip()


def _added(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


_NONE: Final = Figures()
