"""Usage exports of all sorts, and what comes of comparing them with a log."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.money.invoice import MOST_LINES, Invoice, InvoiceError, InvoiceLine, read_invoice
from omniroute.money.reconcile import MOST_LISTED, LogLine, Report, Why, reconcile

DAY: Final = 1_800_000_000.0  # 2027-01-15T08:00:00Z
NANO: Final = 1_000_000_000
CENT: Final = NANO // 100


def line(name: str | None = "a", **fields: Any) -> InvoiceLine:
    values: dict[str, Any] = {"time": DAY, "model": "m", "input": 100, "output": 10, "cached": None, "nano_usd": CENT}
    return InvoiceLine(name, **{**values, **fields})


def logged(name: str = "a", **fields: Any) -> LogLine:
    values: dict[str, Any] = {
        "request_id": f"req_{name}",
        "upstream_id": name,
        "time": DAY,
        "model": "m",
        "input": 100,
        "output": 10,
        "cached": None,
        "nano_usd": CENT,
    }
    return LogLine(**{**values, **fields})


def compared(lines: list[InvoiceLine], log: list[LogLine], tolerance: int = 0, **more: Any) -> Report:
    return reconcile(Invoice(tuple(lines)), log, tolerance=tolerance, **more)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("request_id,cost", "r1,0.5", line("r1", time=None, model="", input=None, output=None, nano_usd=NANO // 2)),
        (
            "Generation ID,Created At,Model,Tokens Prompt,Tokens Completion,Cost Total",
            "gen-1,2027-01-15 08:00:00,openai/m,100,10,0.01",
            line("gen-1", model="openai/m"),
        ),
        (
            (
                "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
                "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,amount_usd"
            ),
            "2027-01-15,m,70,5,5,20,10,0.01",
            line(None, time=1_799_971_200.0, cached=20),
        ),
        ("ID;Date;Model;Amount;Currency", "x;2027-01-15T08:00:00Z;m;$1,234.50;USD", None),
        (
            "date\tmodel\tamount",
            "2027-01-15\tm\t(3.25)",
            line(None, time=1_799_971_200.0, input=None, output=None, nano_usd=-3_250_000_000),
        ),
        ("id,timestamp,model,cost", "a,1800000000,m,1.2e-05", line(input=None, output=None, nano_usd=12_000)),
        ("id,timestamp,model,cost", "a,1800000000000,m,-$2", line(input=None, output=None, nano_usd=-2 * NANO)),
        ("id,cost", "a,", line(time=None, model="", input=None, output=None, nano_usd=0)),
        ("id,cost", "a,0.0000000005", line(time=None, model="", input=None, output=None, nano_usd=1)),
        (
            "id,cost,input_tokens",
            'a,"1,000.00","1,234"',
            line(time=None, model="", input=1234, output=None, nano_usd=1000 * NANO),
        ),
    ],
)
def test_exports_are_read_by_the_names_of_their_columns(header: str, row: str, expected: InvoiceLine | None) -> None:
    for text in (f"{header}\n{row}\n", f"\ufeff{header}\r\n{row}\r\n\r\n"):
        (found,) = read_invoice(text.encode()).lines
        if expected is not None:
            assert found == expected
        else:
            assert (found.id, found.nano_usd) == ("x", 1_234_500_000_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no column with an amount"),
        ("id,cost\n", "no lines below"),
        ("id,model\na,m\n", "no column with an amount"),
        ("cost,model\n1,m\n", "neither a request id"),
        ("date,cost\n2027-01-15,1\n", "neither a request id"),
        ("id,cost_eur\na,1\n", "in EUR"),
        ("id,amount (GBP)\na,1\n", "in GBP"),
        ("id,cost,currency\na,1,EUR\n", "line 2: the amount is in 'EUR'"),
        ("id,cost\na,1\nb,€2\n", "line 3"),
        ("id,cost\na,1.2.3\n", "no amount"),
        ("id,cost\na,nan\n", "no amount"),
        ("id,cost\na,inf\n", "no amount"),
        ("id,cost\na,1e300\n", "more than any bill"),
        ("id,cost\na,1,2\n", "has 3 cells where the header has 2"),
        ("id,cost,input_tokens\na,1,-5\n", "no number of tokens"),
        ("id,cost,input_tokens\na,1,1.5\n", "no number of tokens"),
        ("id,cost,input_tokens\na,1,99999999999999999999\n", "no number of tokens"),
        ("id,date,cost\na,yesterday,1\n", "no date or time"),
        ('id,cost\n"a,1\n', "not valid CSV"),
        ("id,cost\na\x00,1\n", "not text"),
        (f"id,cost\n{'a' * 400},1\n", "too long"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_reason(text: str, told: str) -> None:
    with pytest.raises(InvoiceError, match=told.replace("(", "\\(")):
        read_invoice(text.encode())


def test_what_is_no_text_or_too_long_is_refused() -> None:
    with pytest.raises(InvoiceError, match="UTF-8"):
        read_invoice(b"id,cost\n\xff\xfe,1\n")
    with pytest.raises(InvoiceError, match="in parts"):
        read_invoice(b"id,cost\n" + b"a,1\n" * (MOST_LINES + 1))


@given(st.binary(max_size=400) | st.text('id,cost\n"1.-$;\t', max_size=200).map(str.encode))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    for content in (data, b"request_id,date,model,cost,input_tokens\n" + data):
        with suppress(InvoiceError):
            assert read_invoice(content).lines


def test_the_span_of_a_file_is_whole_days() -> None:
    assert Invoice((line(time=DAY), line(time=DAY + 90_000))).span == (1_799_971_200.0, 1_799_971_200.0 + 2 * 86_400)
    assert Invoice((line(time=None),)).span is None


# --- comparing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("invoice", "log", "tolerance", "why"),
    [
        (line(), logged(), 0, ()),
        (line(), logged("other", request_id="a"), 0, ()),
        (line(nano_usd=CENT + 5), logged(), 4, (Why.PRICE,)),
        (line(nano_usd=CENT + 5), logged(), 5, ()),
        (line(output=11), logged(), 0, (Why.TOKENS,)),
        (line(output=11, nano_usd=2 * CENT), logged(), 0, (Why.TOKENS,)),
        (line(output=None), logged(), 0, ()),
        (line(output=11), logged(is_estimated=True), 0, ()),
        (line(output=11, nano_usd=2 * CENT), logged(is_estimated=True), 0, (Why.ESTIMATED,)),
        (line(), logged(nano_usd=None), 0, (Why.UNPRICED,)),
        (line(nano_usd=-CENT), logged(), 0, (Why.PRICE,)),
    ],
)
def test_one_line_against_one_line(invoice: InvoiceLine, log: LogLine, tolerance: int, why: tuple[Why, ...]) -> None:
    report = compared([invoice], [log], tolerance)
    assert report.is_by_id
    assert report.counts[1:] == (0, 0)
    if why:
        (entry,) = report.differing
        assert (entry.name, entry.why, report.matched) == ("a", why, 0)
    else:
        assert (report.differing, report.matched, report.is_equal) == ((), 1, True)


def test_what_only_one_side_has() -> None:
    report = compared([line("a"), line("b")], [logged("a"), logged("c")])
    assert [entry.name for entry in report.only_in_invoice] == ["b"]
    assert [entry.name for entry in report.only_in_log] == ["req_c"]
    assert (report.invoice.nano_usd, report.log.nano_usd) == (2 * CENT, 2 * CENT)
    assert not report.is_equal, "the totals are equal by chance"


def test_lines_of_one_request_are_added_up_and_credits_are_taken_off() -> None:
    lines = [line(nano_usd=CENT), line(nano_usd=CENT, input=0, output=0), line(nano_usd=-CENT, input=0, output=0)]
    assert compared(lines, [logged()]).is_equal


def test_attempts_of_one_request_are_added_up() -> None:
    log = [logged("x", request_id="a", nano_usd=CENT - 7), logged("y", request_id="a", input=0, output=0, nano_usd=7)]
    assert compared([line()], log).is_equal


def test_without_common_ids_days_of_models_are_compared() -> None:
    lines = [line("p1", model="vendor/M-2027-01-01", nano_usd=2 * CENT, input=200, output=20)]
    report = compared(lines, [logged("x"), logged("y")])
    assert (report.is_by_id, report.is_equal, report.matched) == (False, True, 1)
    late = compared(lines, [logged("x"), logged("y", time=DAY + 86_400)])
    assert [entry.name for entry in late.differing] == ["2027-01-15 m"]
    assert [entry.name for entry in late.only_in_log] == ["2027-01-16 m"]


def test_a_credit_without_a_request_stands_alone() -> None:
    credit = line(None, model="", nano_usd=-CENT, input=None, output=None)
    report = compared([line(), credit], [logged()])
    assert [(entry.name, entry.difference) for entry in report.only_in_invoice] == [("2027-01-15", -CENT)]
    assert not report.is_equal


def test_only_the_time_that_was_asked_for_counts() -> None:
    span = DAY - 100, DAY + 100
    report = compared([line(), line("b", time=DAY + 200)], [logged(), logged("c", time=DAY + 101)], span=span)
    assert (report.is_equal, report.matched, report.counts) == (True, 1, (0, 0, 0))
    early = compared([line()], [logged(time=DAY - 500)], span=span)
    assert early.is_equal, "an id is the same whatever the clock says"


def test_what_is_not_billed_is_not_missed_on_the_bill() -> None:
    assert compared([line()], [logged(), logged("free", is_billed=False, nano_usd=0)]).counts == (0, 0, 0)


def test_long_lists_are_cut_and_counted() -> None:
    log = [logged(f"r{number}") for number in range(MOST_LISTED + 50)]
    report = compared([line("r0")], log)
    assert len(report.only_in_log) == MOST_LISTED
    assert report.counts == (0, 0, MOST_LISTED + 49)
    assert report.log.nano_usd == CENT * (MOST_LISTED + 50)


SIDES = st.lists(
    st.tuples(
        st.sampled_from("abcdefg"), st.integers(-50, 50), st.integers(0, 9), st.sampled_from("mn"), st.booleans()
    ),
    max_size=12,
)


@given(SIDES, SIDES, st.integers(0, 60))
def test_nothing_is_lost_and_nothing_is_counted_twice(
    bills: list[tuple[Any, ...]], rows: list[tuple[Any, ...]], tolerance: int
) -> None:
    lines = [
        line(name if is_named else None, nano_usd=nano, input=count, model=model)
        for name, nano, count, model, is_named in bills
    ]
    log = [
        logged(name, nano_usd=abs(nano), input=count, model=model, is_estimated=flag)
        for name, nano, count, model, flag in rows
    ]
    report = compared(lines, log, tolerance)
    assert report.invoice.nano_usd == sum(one.nano_usd for one in lines)
    assert report.log.nano_usd == sum(one.nano_usd or 0 for one in log)
    assert (report.invoice.lines, report.log.lines) == (len(lines), len(log))
    lists = (report.differing, report.only_in_invoice, report.only_in_log)
    assert report.counts == tuple(len(entries) for entries in lists)
    shown = sum(entry.invoice.lines + entry.log.lines for entries in lists for entry in entries)
    if not report.matched:
        assert shown == len(lines) + len(log)
    if report.is_equal:
        assert all(abs(entry.difference) <= tolerance for entries in lists for entry in entries)


@given(SIDES)
def test_a_log_agrees_with_its_own_bill(rows: list[tuple[Any, ...]]) -> None:
    log = [logged(name, nano_usd=abs(nano), input=count) for name, nano, count, _, _ in rows]
    lines = [line(one.upstream_id, nano_usd=one.nano_usd, input=one.input) for one in log]
    report = compared(lines, log)
    assert report.is_equal
    assert report.counts == (0, 0, 0)
