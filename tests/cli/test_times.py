"""Times as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from omniroute.cli.times import MOMENT, seconds_until, span, span_until

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5.0, "0s"),
        (0.2, "0s"),
        (59.0, "59s"),
        (59.6, "1m"),
        (61.0, "1m 1s"),
        (180.0, "3m"),
        (601.0, "10m"),
        (3600.0, "1h"),
        (9030.0, "2h 30m"),
        (86_400.0, "1d"),
        (90_000.0, "1d 1h"),
    ],
)
def test_how_long_something_takes(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_how_far_away_a_time_is() -> None:
    assert span_until("2027-01-15T09:30:00.000Z", NOW) == "1h 30m"
    assert seconds_until("2027-01-15T07:59:00.000Z", NOW) == -60
    assert (span_until(None, NOW), seconds_until(None)) == (None, None)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2027-01-15", "2027-01-15T00:00:00.000Z"),
        ("2027-01-15T08:00:00.5", "2027-01-15T08:00:00.500Z"),
        ("2027-01-15T08:00:00+02:00", "2027-01-15T06:00:00.000Z"),
    ],
)
def test_a_time_is_written_as_the_api_takes_it(given: str, moment: str) -> None:
    assert MOMENT.convert(given, None, None) == moment


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("30m", 1800), ("2 h", 7200), ("7d", 604_800), ("1w", 604_800)]
)
def test_so_long_ago(given: str, seconds: int) -> None:
    found = datetime.fromisoformat(MOMENT.convert(given, None, None))
    assert abs(datetime.now(UTC) - timedelta(seconds=seconds) - found) < timedelta(seconds=30)


@pytest.mark.parametrize("given", ["yesterday", "24", "h", "-3h", "999999w", "", "٣h", "2027-13-01"])
def test_what_is_no_time(given: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a length such as 24h nor"):
        MOMENT.convert(given, None, None)
