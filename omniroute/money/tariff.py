"""What tokens cost: whole nano-USD, computed exactly and rounded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Final

from omniroute.formats.usage import Usage
from omniroute.records import ChargePart, PriceStep

NANO: Final = 1_000_000_000
MILLION: Final = 1_000_000
_DEAREST_USD: Final = 1_000_000
"""Per million tokens; what is above is a mistake."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-USD per million tokens; None is not published."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of one model at one provider.

    Attributes:
        id: changes with every change of the price; kept on the row of each request.
        source: `override`, `provider`, `import` or `builtin`.
        per_request, per_image, per_second: nano-USD for one.
        per_character: nano-USD per million characters.
        steps: (tokens, rates) in ascending order: the rates of the last step that a prompt exceeds hold for all of it.
    """

    id: str
    source: str
    rates: Rates
    per_request: int = 0
    per_image: int | None = None
    per_second: int | None = None
    per_character: int | None = None
    steps: tuple[tuple[int, Rates], ...] = ()

    def rates_for(self, prompt_tokens: int) -> Rates:
        """Return the rates that hold for a prompt of this length."""
        found = self.rates
        for above, dearer in self.steps:
            if prompt_tokens <= above:
                break
            found = dearer
        return found


@dataclass(frozen=True, slots=True)
class Bill:
    """What a call costs, and the lines that add up to it; None where a price that is needed is not known."""

    nano_usd: int | None
    parts: tuple[ChargePart, ...] = ()


def tariff_of(source: str, prices: Mapping[str, str | None], steps: tuple[PriceStep, ...] = ()) -> Tariff:
    """Return a tariff from decimal text in USD, by the names of :class:`omniroute.records.PriceRow`.

    Raises:
        ValueError: a price is negative, absurdly high, or no number.
    """
    base = Rates(**{name: nano_per_million(prices.get(name)) for name in _RATES})
    ladder = tuple(
        (
            step.above,
            Rates(
                _or(nano_per_million(step.input), base.input),
                _or(nano_per_million(step.output), base.output),
                _or(nano_per_million(step.cache_read), base.cache_read),
                _or(nano_per_million(step.cache_write), base.cache_write),
                base.cache_write_1h,
                base.reasoning,
                base.audio_input,
                base.audio_output,
            ),
        )
        for step in sorted(steps, key=lambda step: step.above)
    )
    others = {name: nano_per_million(prices.get(name)) for name in ("per_image", "per_second", "per_character")}
    per_request = nano_per_million(prices.get("per_request")) or 0
    named = [f"{name}={prices.get(name)}" for name in (*_RATES, *others, "per_request")]
    digest = sha256("|".join([*named, repr(steps)]).encode()).hexdigest()
    return Tariff(f"{source}-{digest[:12]}", source, base, per_request, steps=ladder, **others)


def nano_per_million(text: str | None) -> int | None:
    """Return a price in USD as whole nano-USD, a fraction of one rounded off.

    Raises:
        ValueError: it is negative, absurdly high, or no number.
    """
    if text is None:
        return None
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise ValueError("is not a number") from None
    if not price.is_finite() or price < 0 or price > _DEAREST_USD:
        raise ValueError(f"must be from 0 to {_DEAREST_USD} USD")
    return round(price * NANO)


def bill(tariff: Tariff, usage: Usage, *, requests: int = 1) -> Bill:
    """Return what a call costs.

    Cached tokens are part of the input and reasoning is part of the output, so each token is on one line. Where a
    provider has no price of its own for a kind of token, that kind costs as much as plain ones.
    """
    rates = tariff.rates_for(usage.input or 0)
    parts: list[ChargePart] = []
    total = tariff.per_request * requests * MILLION
    if tariff.per_request:
        parts.append(ChargePart("requests", requests, tariff.per_request, tariff.per_request * requests))
    for name, count, rate in _lines(rates, usage):
        if not count:
            continue
        if rate is None:
            return Bill(None, tuple(parts))
        total += count * rate
        is_estimated = usage.is_output_estimated if name in _OUTPUT else usage.is_input_estimated
        parts.append(ChargePart(name, count, rate, rounded(count * rate), is_estimated))
    return Bill(rounded(total), tuple(parts))


def rounded(nano_millionths: int) -> int:
    """Return whole nano-USD, halves up."""
    return (nano_millionths + MILLION // 2) // MILLION


def usd_text(nano_usd: int | None) -> str | None:
    """Return an amount in USD as :func:`exact_usd` does, and None for an unknown one."""
    return None if nano_usd is None else exact_usd(nano_usd)


def exact_usd(nano_usd: int) -> str:
    """Return an amount in USD as decimal text with nine decimals: a binary fraction would not be exact."""
    whole, rest = divmod(abs(nano_usd), NANO)
    return f"{'-' if nano_usd < 0 else ''}{whole}.{rest:09d}"


def _lines(rates: Rates, usage: Usage) -> Iterator[tuple[str, int, int | None]]:
    cache_read, cache_write = usage.cache_read or 0, usage.cache_write or 0
    long_write = min(usage.cache_write_1h or 0, cache_write)
    reasoning = (usage.reasoning or 0) if rates.reasoning is not None else 0
    # Audio that was cached, or reasoned aloud, is counted as both by those who report it.
    audio_in = _at_most(usage.audio_in, usage.input, cache_read + cache_write)
    audio_out = _at_most(usage.audio_out, usage.output, reasoning)
    write_rate = _or(rates.cache_write, rates.input)
    yield "input", max(0, (usage.input or 0) - cache_read - cache_write - audio_in), rates.input
    yield "cache_read", cache_read, _or(rates.cache_read, rates.input)
    yield "cache_write", cache_write - long_write, write_rate
    yield "cache_write_1h", long_write, _or(rates.cache_write_1h, write_rate)
    yield "audio_in", audio_in, _or(rates.audio_input, rates.input)
    yield "output", max(0, (usage.output or 0) - reasoning - audio_out), rates.output
    yield "reasoning", reasoning, rates.reasoning
    yield "audio_out", audio_out, _or(rates.audio_output, rates.output)


def _at_most(count: int | None, whole: int | None, taken: int) -> int:
    """Return a part of a count without what other parts have of it."""
    return count or 0 if whole is None else min(count or 0, max(0, whole - taken))


def _or(value: int | None, other: int | None) -> int | None:
    return other if value is None else value


_OUTPUT: Final = frozenset({"output", "reasoning", "audio_out"})
_RATES: Final = tuple(field.name for field in fields(Rates))
