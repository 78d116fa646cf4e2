"""What tokens cost, to the nano-dollar."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.formats.usage import Usage
from omniroute.money.tariff import NANO, Bill, Rates, Tariff, bill, nano_per_million, tariff_of
from omniroute.records import PriceStep

SONNET = tariff_of(
    "builtin", {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75", "cache_write_1h": "6"}
)
LONG = tariff_of(
    "builtin",
    {"input": "2", "output": "12", "cache_read": "0.2", "reasoning": "6"},
    (PriceStep(400_000, input="8"), PriceStep(200_000, input="4", output="18", cache_read="0.4")),
)

counts = st.one_of(st.none(), st.integers(0, 3_000_000))
rate = st.integers(0, 200 * NANO)
some_rate = st.one_of(st.none(), rate)
full_rates = st.builds(Rates, rate, rate, some_rate, some_rate, some_rate, some_rate, some_rate, some_rate)
any_rates = st.builds(Rates, *[some_rate] * 8)
usages = st.builds(
    Usage,
    input=counts,
    output=counts,
    cache_read=counts,
    cache_write=counts,
    cache_write_1h=counts,
    reasoning=counts,
    audio_in=counts,
    audio_out=counts,
)


@st.composite
def consistent(draw: st.DrawFn) -> Usage:
    """A report whose parts fit into the whole."""
    parts = draw(st.lists(st.integers(0, 1_000_000), min_size=7, max_size=7))
    plain, read, write, audio, answer, thought, spoken = parts
    return Usage(
        input=plain + read + write + audio,
        output=answer + thought + spoken,
        cache_read=read,
        cache_write=write,
        cache_write_1h=draw(st.integers(0, write)),
        reasoning=thought,
        audio_in=audio,
        audio_out=spoken,
    )


@st.composite
def tariffs(draw: st.DrawFn, rates: st.SearchStrategy[Rates] = full_rates) -> Tariff:
    steps = sorted(draw(st.dictionaries(st.integers(0, 2_000_000), rates, max_size=3)).items())
    return Tariff("x-1", "override", draw(rates), per_request=draw(st.integers(0, NANO)), steps=tuple(steps))


@pytest.mark.parametrize(
    ("usage", "nano_usd"),
    [
        (Usage(), 0),
        (Usage(input=0, output=0), 0),
        (Usage(input=1_000_000), 3 * NANO),
        (Usage(output=1_000_000), 15 * NANO),
        (Usage(input=1000, output=500), 3_000_000 + 7_500_000),
        # What was cached is part of the input.
        (Usage(input=1000, cache_read=900), 100 * 3000 + 900 * 300),
        (Usage(input=1000, cache_write=600), 400 * 3000 + 600 * 3750),
        (Usage(input=1000, cache_write=600, cache_write_1h=200), 400 * 3000 + 400 * 3750 + 200 * 6000),
        # More than there was to write cannot have been written for an hour.
        (Usage(input=1000, cache_write=600, cache_write_1h=900), 400 * 3000 + 600 * 6000),
        # Reasoning costs as much as the rest of the answer, unless it has a price.
        (Usage(output=1000, reasoning=800), 1000 * 15_000),
        # A report that contradicts itself never makes a token cheaper than nothing.
        (Usage(input=100, cache_read=300), 300 * 300),
        (Usage(output=None, reasoning=800), 0),
    ],
)
def test_a_bill(usage: Usage, nano_usd: int) -> None:
    assert bill(SONNET, usage).nano_usd == nano_usd


def test_the_lines_of_a_bill() -> None:
    usage = Usage(input=1000, output=50, cache_read=300, cache_write=200, cache_write_1h=80)

    lines = [(part.name, part.count, part.rate, part.nano_usd) for part in bill(SONNET, usage).parts]

    assert lines == [
        ("input", 500, 3 * NANO, 1_500_000),
        ("cache_read", 300, NANO * 3 // 10, 90_000),
        ("cache_write", 120, NANO * 15 // 4, 450_000),
        ("cache_write_1h", 80, 6 * NANO, 480_000),
        ("output", 50, 15 * NANO, 750_000),
    ]


@pytest.mark.parametrize(
    ("tokens", "nano_usd"),
    [
        (199_999, 199_999 * 2000),
        (200_000, 200_000 * 2000),
        (200_001, 200_001 * 4000),
        (400_000, 400_000 * 4000),
        (400_001, 400_001 * 8000),
    ],
)
def test_a_step_holds_for_the_whole_prompt_once_it_is_exceeded(tokens: int, nano_usd: int) -> None:
    assert bill(LONG, Usage(input=tokens)).nano_usd == nano_usd


def test_what_a_step_does_not_say_stays_as_it_is_without_it() -> None:
    usage = Usage(input=400_001, output=10, cache_read=400_001, reasoning=4)

    assert bill(LONG, usage).nano_usd == 400_001 * 200 + 6 * 12_000 + 4 * 6000


def test_audio_that_was_cached_is_on_one_line() -> None:
    tariff = tariff_of("override", {"input": "1", "output": "2", "cache_read": "0.1", "audio_input": "10"})

    assert bill(tariff, Usage(input=100, cache_read=50, audio_in=80)).nano_usd == 50 * 100 + 50 * 10_000
    assert bill(tariff, Usage(audio_in=80)).nano_usd == 80 * 10_000


def test_requests_are_a_line_too() -> None:
    tariff = tariff_of("override", {"input": "1", "output": "1", "per_request": "0.005"})

    billed = bill(tariff, Usage(input=1), requests=3)

    assert billed.nano_usd == 3 * 5_000_000 + 1000
    assert [(part.name, part.count, part.nano_usd) for part in billed.parts] == [
        ("requests", 3, 15_000_000),
        ("input", 1, 1000),
    ]


def test_only_lines_of_counts_that_are_ours_are_estimates() -> None:
    billed = bill(SONNET, Usage(input=5, output=7, is_output_estimated=True))

    assert [(part.name, part.is_estimated) for part in billed.parts] == [("input", False), ("output", True)]


@pytest.mark.parametrize(
    ("rates", "usage", "is_known"),
    [
        ({"input": "1"}, Usage(input=5), True),
        ({"input": "1"}, Usage(input=5, output=0), True),
        ({"input": "1"}, Usage(input=5, output=1), False),
        ({"output": "1"}, Usage(input=5, output=1), False),
        ({"per_request": "1"}, Usage(input=5), False),
        ({"per_image": "1"}, Usage(input=5), False),
        ({"input": "1", "output": "1"}, Usage(input=5, cache_read=2, cache_write=2, audio_in=1, audio_out=1), True),
        ({"cache_read": "1"}, Usage(input=5, cache_read=5), True),
        ({"cache_read": "1"}, Usage(input=5, cache_read=4), False),
    ],
)
def test_a_rate_that_is_needed_and_not_known_makes_the_cost_unknown(
    rates: dict[str, str | None], usage: Usage, is_known: bool
) -> None:
    assert (bill(tariff_of("override", rates), usage).nano_usd is not None) is is_known


@pytest.mark.parametrize(
    ("text", "nano"),
    [(None, None), ("0", 0), ("3", 3 * NANO), ("0.075", 75_000_000), ("0.000000001", 1), ("1e-3", 1_000_000)],
)
def test_a_price_is_whole_nano_dollars(text: str | None, nano: int | None) -> None:
    assert nano_per_million(text) == nano


@pytest.mark.parametrize("text", ["", "x", "-1", "-0.0000001", "NaN", "Infinity", "-inf", "1000000.01", "1e999", "1,5"])
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|must be from 0"):
        tariff_of("override", {"input": text})


def test_the_id_tells_prices_apart() -> None:
    same = tariff_of("builtin", {"input": "3", "output": "15"})
    others = [
        tariff_of("override", {"input": "3", "output": "15"}),
        tariff_of("builtin", {"input": "3", "output": "15.1"}),
        tariff_of("builtin", {"input": "3", "output": "15", "cache_read": "0"}),
        tariff_of("builtin", {"input": "3", "output": "15", "per_image": "1"}),
        tariff_of("builtin", {"input": "3", "output": "15"}, (PriceStep(1, input="3"),)),
        tariff_of("builtin", {"output": "3", "input": "15"}),
    ]

    assert tariff_of("builtin", {"output": "15", "input": "3"}).id == same.id
    assert same.id.startswith("builtin-")
    assert len({same.id, *(other.id for other in others)}) == 7


# --- for whatever is reported --------------------------------------------------------------------------------------


@given(tariffs(), usages, st.integers(1, 5))
def test_a_bill_is_the_exact_sum_rounded_once(tariff: Tariff, usage: Usage, requests: int) -> None:
    billed = bill(tariff, usage, requests=requests)

    lines = [part for part in billed.parts if part.name != "requests"]
    exact = sum((Fraction(part.count * part.rate, 1_000_000) for part in lines), Fraction(0))
    exact += requests * tariff.per_request
    assert billed.nano_usd == floor(exact + Fraction(1, 2))
    assert abs(sum(part.nano_usd for part in billed.parts) - billed.nano_usd) <= len(lines)


@given(tariffs(), consistent())
def test_every_token_is_on_one_line(tariff: Tariff, usage: Usage) -> None:
    on_lines: dict[str, int] = {}
    for part in bill(tariff, usage).parts:
        on_lines[part.name] = on_lines.get(part.name, 0) + part.count
    on_lines.pop("requests", None)
    answer = sum(on_lines.pop(name, 0) for name in ("output", "reasoning", "audio_out"))

    assert answer == usage.output
    assert sum(on_lines.values()) == usage.input


@given(tariffs(any_rates), usages)
def test_no_line_and_no_sum_is_negative(tariff: Tariff, usage: Usage) -> None:
    billed = bill(tariff, usage)

    assert billed.nano_usd is None or billed.nano_usd >= 0
    assert all(part.count > 0 and part.nano_usd >= 0 for part in billed.parts)


@given(tariffs(), consistent(), st.sampled_from(["input", "output"]), st.integers(0, 1_000_000))
def test_more_tokens_never_cost_less_at_the_same_rates(tariff: Tariff, usage: Usage, name: str, more: int) -> None:
    flat = replace(tariff, steps=())
    larger = Usage(
        **{field: getattr(usage, field) for field in usage.__struct_fields__} | {name: _more(usage, name, more)}
    )

    assert _known(bill(flat, larger)) >= _known(bill(flat, usage))


@given(tariffs(), consistent(), st.sampled_from([field.name for field in fields(Rates)]), st.integers(1, NANO))
def test_a_dearer_rate_never_makes_a_call_cheaper(tariff: Tariff, usage: Usage, name: str, more: int) -> None:
    old = getattr(tariff.rates, name)
    if old is None:
        return
    dearer = replace(tariff, rates=replace(tariff.rates, **{name: old + more}))

    assert _known(bill(dearer, usage)) >= _known(bill(tariff, usage))


@given(tariffs(any_rates), consistent())
def test_a_cost_is_unknown_exactly_when_a_needed_rate_is(tariff: Tariff, usage: Usage) -> None:
    billed = bill(tariff, usage)
    rates = tariff.rates_for(usage.input or 0)
    everything = replace(
        tariff, rates=_filled(rates), steps=()
    )  # the same rates, and a price for what had none: only missing ones differ

    if billed.nano_usd is None:
        assert len(billed.parts) < len(bill(everything, usage).parts)
    else:
        assert sum(part.count for part in billed.parts if part.name != "requests") == (usage.input or 0) + (
            usage.output or 0
        )


def _more(usage: Usage, name: str, more: int) -> int:
    return (getattr(usage, name) or 0) + more


def _filled(rates: Rates) -> Rates:
    return replace(
        rates,
        input=NANO if rates.input is None else rates.input,
        output=NANO if rates.output is None else rates.output,
    )


def _known(billed: Bill) -> int:
    assert billed.nano_usd is not None
    return billed.nano_usd
