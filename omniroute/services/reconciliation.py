"""Compares a provider's usage export with the request log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypedDict

from omniroute.errors import ValidationFailed
from omniroute.gateway.directory import Directories
from omniroute.money.invoice import InvoiceError, read_invoice
from omniroute.money.reconcile import Entry, Figures, LogLine, Report, reconcile
from omniroute.money.tariff import usd_text
from omniroute.records import Charge, ChargePart, RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log
from omniroute.storage.repositories.request_log import Filters

MOST_BYTES: Final = 32 << 20
_CHUNK: Final = 500
_DAY_S: Final = 86_400.0
"""Clocks and time zones of providers: what a line names may stand in the log on the day before or after."""
_BILLED: Final = frozenset({"billed", "unpriced"})
_INPUT: Final = frozenset({"input", "cache_read", "cache_write", "cache_write_1h", "audio_in"})
_OUTPUT: Final = frozenset({"output", "reasoning", "audio_out"})


class FiguresDocument(TypedDict):
    """Sums of some lines; tokens are null where no line tells."""

    lines: int
    tokensIn: int | None
    tokensOut: int | None
    cacheRead: int | None
    usd: str | None
    unpriced: int
    estimated: int


class EntryDocument(TypedDict):
    """A request or a day and model, in the file and in the log, and why they differ."""

    name: str
    differenceUsd: str | None
    why: list[str]
    invoice: FiguresDocument | None
    log: FiguresDocument | None


class ComparedTotalsDocument(TypedDict):
    """The sums of both sides, and how many entries agree or not."""

    invoice: FiguresDocument
    log: FiguresDocument
    differenceUsd: str | None
    matched: int
    differing: int
    onlyInInvoice: int
    onlyInLog: int


class ReconciliationDocument(TypedDict):
    """A provider's usage export beside the log."""

    isEqual: bool
    since: str
    until: str
    toleranceUsd: str | None
    comparedBy: str
    totals: ComparedTotalsDocument
    differing: list[EntryDocument]
    onlyInInvoice: list[EntryDocument]
    onlyInLog: list[EntryDocument]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of a comparison, and of which time; epoch seconds."""

    report: Report
    since: float
    until: float


class Reconciliation:
    """Compares files with the log."""

    def __init__(self, *, database: Database, directories: Directories, rest: Callable[[], None]) -> None:
        """`rest` lets others work between two parts of the log."""
        self._database = database
        self._directories = directories
        self._rest = rest

    def run(
        self,
        data: bytes,
        *,
        tolerance_nano_usd: int,
        provider: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Reconciled:
        """Compare a file with what the log has of its time.

        Args:
            data: CSV with a header.
            tolerance_nano_usd: how far two amounts may lie apart and still be the same.
            provider: whose file it is; None for all of the log.
            since: epoch seconds; by default the beginning of the first day of the file.
            until: the end of its last.

        Raises:
            ValidationFailed: the file cannot be read, or names no time where none is given.
            NotFound: there is no such provider.
        """
        prefix = None if provider is None else self._directories.current.named_provider(provider).prefix
        try:
            invoice = read_invoice(data)
        except InvoiceError as error:
            raise _unfit("invoice", str(error)) from None
        if since is None or until is None:
            span = invoice.span
            if span is None:
                raise _unfit("since", "the file has no dates: say from when until when it is")
            since, until = span[0] if since is None else since, span[1] if until is None else until
        if since >= until:
            raise _unfit("until", "must be later than since")
        log = self._lines(prefix, since - _DAY_S, until + _DAY_S)
        report = reconcile(invoice, log, tolerance=tolerance_nano_usd, span=(since, until))
        return Reconciled(report, since, until)

    def _lines(self, prefix: str | None, since: float, until: float) -> Iterator[LogLine]:
        filters = Filters(since=since, until=until)
        after: tuple[float, str] | None = None
        while True:
            place = after
            chunk = self._database.read(
                lambda sql, place=place: request_log.list_chunk(sql, filters, after=place, limit=_CHUNK)  # type: ignore[misc]
            )
            for record in chunk.records:
                yield from _lines_of(record, prefix)
            after = chunk.after
            if after is None:
                return
            self._rest()


def document_of(done: Reconciled) -> ReconciliationDocument:
    """Return a comparison as the API shows it."""
    report = done.report
    differing, only_in_invoice, only_in_log = report.counts
    return {
        "isEqual": report.is_equal,
        "since": _iso(done.since),
        "until": _iso(done.until),
        "toleranceUsd": usd_text(report.tolerance),
        "comparedBy": "request" if report.is_by_id else "day",
        "totals": {
            "invoice": _figures(report.invoice),
            "log": _figures(report.log),
            "differenceUsd": usd_text(report.invoice.nano_usd - report.log.nano_usd),
            "matched": report.matched,
            "differing": differing,
            "onlyInInvoice": only_in_invoice,
            "onlyInLog": only_in_log,
        },
        "differing": [_entry(entry) for entry in report.differing],
        "onlyInInvoice": [_entry(entry) for entry in report.only_in_invoice],
        "onlyInLog": [_entry(entry) for entry in report.only_in_log],
    }


def _entry(entry: Entry) -> EntryDocument:
    return {
        "name": entry.name,
        "differenceUsd": usd_text(entry.difference),
        "why": [why.value for why in entry.why],
        "invoice": _figures(entry.invoice) if entry.invoice.lines else None,
        "log": _figures(entry.log) if entry.log.lines else None,
    }


def _figures(figures: Figures) -> FiguresDocument:
    return {
        "lines": figures.lines,
        "tokensIn": figures.input,
        "tokensOut": figures.output,
        "cacheRead": figures.cached,
        "usd": usd_text(figures.nano_usd),
        "unpriced": figures.unpriced,
        "estimated": figures.estimated,
    }


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lines_of(record: RequestRecord, prefix: str | None) -> Iterator[LogLine]:
    if record.charges:
        for charge in record.charges:
            if prefix in (None, charge.provider):
                yield _line_of(record, charge)
    elif record.model is not None and record.cost_kind in _BILLED and prefix in (None, record.provider):
        yield LogLine(  # of a key that leaves no details
            record.request_id,
            None,
            record.time,
            record.model,
            record.tokens_in,
            record.tokens_out,
            record.cache_read,
            record.cost_nano_usd,
            record.is_estimated,
        )


def _line_of(record: RequestRecord, charge: Charge) -> LogLine:
    parts = charge.parts
    is_only = charge.is_serving and len(record.charges) == 1
    has_parts = bool(parts) or not is_only
    return LogLine(
        request_id=record.request_id,
        upstream_id=charge.upstream_id,
        time=record.time,
        model=charge.model,
        input=_tokens(parts, _INPUT) if has_parts else record.tokens_in,
        output=_tokens(parts, _OUTPUT) if has_parts else record.tokens_out,
        cached=_tokens(parts, frozenset({"cache_read"})) if has_parts else record.cache_read,
        nano_usd=charge.nano_usd,
        is_estimated=any(part.is_estimated for part in parts) if has_parts else record.is_estimated,
        is_billed=charge.cost_kind in _BILLED,
    )


def _tokens(parts: tuple[ChargePart, ...], names: frozenset[str]) -> int | None:
    return sum(part.count for part in parts if part.name in names) if parts else None


def _unfit(field: str, message: str) -> ValidationFailed:
    return ValidationFailed([{"field": field, "message": message}])
