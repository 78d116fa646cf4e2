"""A provider's usage export as it is downloaded: CSV with a header, whose columns every vendor names in its own way."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final

from omniroute.money.tariff import NANO

MOST_LINES: Final = 200_000
_LONGEST_ID: Final = 300
_DAY_S: Final = 86_400
_DEAREST: Final = Decimal(1_000_000_000)
_MOST_TOKENS: Final = 1 << 50

_IDS: Final = ("request_id", "upstream_request_id", "upstream_id", "generation_id", "x_request_id", "response_id", "id")
_TIMES: Final = (
    "timestamp",
    "time",
    "created_at",
    "created",
    "start_time",
    "date",
    "usage_date",
    "usage_date_utc",
    "day",
)
_MODELS: Final = ("model", "model_name", "model_id", "model_version", "model_permaslug")
_INPUTS: Final = ("input_tokens", "prompt_tokens", "tokens_in", "tokens_prompt", "n_context_tokens_total")
_UNCACHED: Final = ("usage_input_tokens_no_cache", "input_tokens_no_cache", "uncached_input_tokens")
_CACHED: Final = (
    "cached_tokens",
    "cache_read_tokens",
    "cache_read_input_tokens",
    "cached_input_tokens",
    "input_cached_tokens",
    "tokens_cached",
    "usage_input_tokens_cache_read",
)
_WRITTEN: Final = (
    "cache_write_tokens",
    "cache_creation_input_tokens",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
)
_OUTPUTS: Final = (
    "output_tokens",
    "completion_tokens",
    "tokens_out",
    "tokens_completion",
    "usage_output_tokens",
    "n_generated_tokens_total",
)
_AMOUNTS: Final = (
    "cost_usd",
    "amount_usd",
    "cost_in_usd",
    "amount_in_usd",
    "total_cost_usd",
    "cost",
    "amount",
    "total_cost",
    "cost_total",
    "amount_value",
    "charge",
    "usd",
)
_CURRENCIES: Final = ("currency", "amount_currency", "cost_currency")
_IN_ANOTHER: Final = re.compile(r"(?:cost|amount|total_cost|total)_(?:in_)?(?!usd$)([a-z]{3})")
_CODES: Final = frozenset(
    {"eur", "gbp", "jpy", "cny", "chf", "cad", "aud", "inr", "brl", "krw", "sek", "nok", "dkk", "pln", "sgd", "hkd"}
)
_AMOUNT: Final = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d*)?(?:[eE][-+]?\d{1,3})?")
_COUNT: Final = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.0*)?")
_EPOCH: Final = re.compile(r"\d{9,10}(?:\.\d+)?|\d{12,13}")


class InvoiceError(ValueError):
    """The file is no usage export that can be compared; the text says why, and in which line."""


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line. What it does not say is None.

    Attributes:
        time: epoch seconds; of a date its beginning in UTC.
        input: all of the prompt, also what came from a cache.
        nano_usd: negative for a credit.
    """

    id: str | None
    time: float | None
    model: str
    input: int | None
    output: int | None
    cached: int | None
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a file says."""

    lines: tuple[InvoiceLine, ...]

    @property
    def span(self) -> tuple[float, float] | None:
        """From the beginning of its first day to the end of its last, in UTC; None without any date."""
        times = [line.time for line in self.lines if line.time is not None]
        if not times:
            return None
        return min(times) // _DAY_S * _DAY_S, (max(times) // _DAY_S + 1) * _DAY_S


def read_invoice(data: bytes) -> Invoice:
    """Read a file.

    Raises:
        InvoiceError: it is no CSV, lacks a column that is needed, or a line holds what cannot be.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvoiceError("the file is not UTF-8 text") from None
    if "\x00" in text:
        raise InvoiceError("the file is not text")
    rows = _rows(text)
    header = next(rows, (0, []))[1]
    columns = _Columns.of(header)
    lines: list[InvoiceLine] = []
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(lines) >= MOST_LINES:
            raise InvoiceError(f"the file has more than {MOST_LINES:,} lines; compare it in parts")
        try:
            lines.append(columns.line(row))
        except ValueError as error:
            raise InvoiceError(f"line {number}: {error}") from None
    if not lines:
        raise InvoiceError("the file has no lines below its header")
    return Invoice(tuple(lines))


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InvoiceError(f"line {reader.line_num}: not valid CSV ({error})") from None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where what stands, by position; several columns are added up."""

    width: int
    id: int | None
    time: int | None
    model: int | None
    input: tuple[int, ...]
    is_input_whole: bool
    cached: tuple[int, ...]
    written: tuple[int, ...]
    output: tuple[int, ...]
    amount: int
    currency: int | None

    @classmethod
    def of(cls, header: Sequence[str]) -> _Columns:
        places: dict[str, int] = {}
        for place, name in enumerate(header):
            places.setdefault(re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_"), place)
        amount = _first(places, _AMOUNTS)
        if amount is None:
            for name in places:
                found = _IN_ANOTHER.fullmatch(name)
                if found is not None and found[1] in _CODES:
                    raise InvoiceError(f"the amounts are in {found[1].upper()}; only USD can be compared")
            raise InvoiceError("the header names no column with an amount, such as 'cost' or 'amount'")
        identity, time, model = (_first(places, names) for names in (_IDS, _TIMES, _MODELS))
        if identity is None and (time is None or model is None):
            raise InvoiceError("the header names neither a request id, nor both a date and a model")
        whole, parts = _first(places, _INPUTS), _all(places, _UNCACHED)
        return cls(
            width=len(header),
            id=identity,
            time=time,
            model=model,
            input=parts if whole is None else (whole,),
            is_input_whole=whole is not None,
            cached=_all(places, _CACHED)[:1],
            written=_all(places, _WRITTEN),
            output=_all(places, _OUTPUTS)[:1],
            amount=amount,
            currency=_first(places, _CURRENCIES),
        )

    def line(self, row: Sequence[str]) -> InvoiceLine:
        """Read one row; raises ValueError."""
        if len(row) != self.width:
            raise ValueError(f"has {len(row)} cells where the header has {self.width}")
        currency = "" if self.currency is None else row[self.currency].strip().upper()
        if currency not in ("", "USD", "$", "US$"):
            raise ValueError(f"the amount is in {currency[:12]!r}; only USD can be compared")
        nano_usd = _nano(row[self.amount])
        cached, written = _tokens(row, self.cached, nano_usd), _tokens(row, self.written, nano_usd)
        input_ = _tokens(row, self.input, nano_usd)
        if input_ is not None and not self.is_input_whole:
            input_ += (cached or 0) + (written or 0)
        identity = "" if self.id is None else row[self.id].strip()
        if len(identity) > _LONGEST_ID:
            raise ValueError("the id is too long to be one")
        return InvoiceLine(
            id=identity or None,
            time=None if self.time is None else _moment(row[self.time].strip()),
            model="" if self.model is None else row[self.model].strip(),
            input=input_,
            output=_tokens(row, self.output, nano_usd),
            cached=cached,
            nano_usd=nano_usd,
        )


def _first(places: Mapping[str, int], names: Sequence[str]) -> int | None:
    return next((places[name] for name in names if name in places), None)


def _all(places: Mapping[str, int], names: Sequence[str]) -> tuple[int, ...]:
    return tuple(places[name] for name in names if name in places)


def _nano(cell: str) -> int:
    text = cell.strip()
    is_credit = text.startswith("(") and text.endswith(")")  # how accountants write a negative amount
    if is_credit:
        text = text[1:-1].strip()
    sign = "-" if text.startswith("-") else ""
    text = sign + text.removeprefix("-").strip().removeprefix("US").removeprefix("$").strip()
    text = text.removesuffix("USD").strip()
    if not text:
        return 0
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{cell.strip()[:40]!r} is no amount in USD")
    try:
        amount = Decimal(text.replace(",", ""))
    except InvalidOperation:
        raise ValueError(f"{cell.strip()[:40]!r} is no amount in USD") from None
    if abs(amount) > _DEAREST:
        raise ValueError(f"{cell.strip()[:40]!r} is more than any bill can be")
    nano = int((amount * NANO).to_integral_value(ROUND_HALF_UP))
    return -nano if is_credit else nano


def _tokens(row: Sequence[str], places: tuple[int, ...], nano_usd: int) -> int | None:
    total = None
    for place in places:
        text = row[place].strip()
        if not text:
            continue
        if not _COUNT.fullmatch(text):
            raise ValueError(f"{text[:40]!r} is no number of tokens")
        count = int(text.replace(",", "").partition(".")[0])
        if abs(count) > _MOST_TOKENS or (count < 0 and nano_usd >= 0):  # only what is given back is less than nothing
            raise ValueError(f"{text[:40]!r} is no number of tokens")
        total = (total or 0) + count
    return total


def _moment(text: str) -> float | None:
    if not text:
        return None
    if _EPOCH.fullmatch(text):
        number = float(text)
        return number / 1000 if number >= 1e11 else number
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC").removesuffix(" GMT"))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no date or time such as 2027-01-31T12:00:00Z") from None
