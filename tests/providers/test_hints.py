"""Retry hints: every form that providers use, and those that nobody should believe."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.providers.hint_text import seconds_in, to_midnight
from omniroute.providers.hints import Hints, Refusal, retry_hint, spent_until
from omniroute.routing.failures import is_weak

NOW = 1_800_000_000.0  # Friday, 2027-01-15 08:00:00 UTC
HOUR = 3600.0
DAY = 86_400.0


def hints(
    headers: dict[str, str] | None = None,
    error: Any = None,
    message: str = "",
    codes: tuple[str, ...] = (),
    **more: bool,
) -> Hints:
    return retry_hint(Refusal(headers or {}, error or {}, message, codes, **{"is_limit": True} | more), now=NOW)


def google(**metadata: str) -> dict[str, Any]:
    return {"details": [{"reason": "X", "metadata": metadata}, {"retryDelay": "34.07s"}]}


@pytest.mark.parametrize(
    ("found", "seconds", "source"),
    [
        # 1: the reset of the window itself
        (hints(error={"resets_at": NOW + 500}), 500, "body:resets_at"),
        (hints(error={"resets_at": int((NOW + 500) * 1000)}), 500, "body:resets_at"),
        (hints(error={"resets_at": str(int(NOW) + 500)}), 500, "body:resets_at"),
        (hints(error={"resets_at": "2027-01-15T08:10:00Z"}), 600, "body:resets_at"),
        (hints(error={"resets_at": "2027-01-15T10:10:00+02:00"}), 600, "body:resets_at"),
        (hints(error={"nextResetTime": int((NOW + 30) * 1000)}), 30, "body:nextResetTime"),
        (hints(error={"quota_reset_date": "2027-02-01"}), 16 * DAY + 16 * HOUR, "body:quota_reset_date"),
        (hints(error={"resets_in_seconds": 42}), 42, "body:resets_in_seconds"),
        (hints(error=google(quotaResetTimeStamp="2027-01-15T11:00:00Z")), 3 * HOUR, "body:quotaResetTimeStamp"),
        (hints(error=google(quotaResetDelay="3h21m50.5s")), 12_110.5, "body:quotaResetDelay"),
        (
            hints({"x-codex-primary-used-percent": "100", "x-codex-primary-reset-at": str(int(NOW) + 77)}),
            77,
            "x-codex-primary-reset-at",
        ),
        (
            hints({"x-codex-secondary-used-percent": "100.0", "x-codex-secondary-reset-after-seconds": "99"}),
            99,
            "x-codex-secondary-reset-after-seconds",
        ),
        # 2: Google's delay
        (hints(error=google()), 34.07, "body:retryDelay"),
        # 3: sentences
        (hints(message="Please try again in 1m2.5s."), 62.5, "text"),
        (hints(message="retry in 20 seconds"), 20, "text"),
        (hints(message="Your quota will reset after 1h2m3s."), 3723, "text"),
        (hints(message="Resets in 13 days"), 13 * DAY, "text"),
        (hints(message="Resets in 6d 3h"), 6 * DAY + 3 * HOUR, "text"),
        (hints(message="available again at 18:30 UTC"), 10.5 * HOUR, "text"),
        (hints(message="available again at 07:30 UTC"), 23.5 * HOUR, "text"),
        (hints(message="Resets at 18:30 UTC+8."), 2.5 * HOUR, "text"),
        (hints(message="Resets at 18:30 GMT-05:30"), 16 * HOUR, "text"),
        (hints(message="You've hit your limit · resets 3pm (America/Los_Angeles)"), 15 * HOUR, "text"),
        (hints(message="limit · resets 10:30am (Asia/Tokyo)"), 17.5 * HOUR, "text"),
        (hints(message="weekly limit · resets Jan 17, 12am (UTC)"), DAY + 16 * HOUR, "text"),
        (hints(message="resets January 17 at 5 p.m. (europe/berlin)"), 2 * DAY + 8 * HOUR, "text"),
        (hints(message="try again at Jan 17th, 2027 11:21 PM PST"), 2 * DAY + 23 * HOUR + 21 * 60, "text"),
        (hints(message="Your limit will reset at 2027-01-15 12:00:00 UTC"), 4 * HOUR, "text"),
        (hints(message="Your limit will reset at 2027-01-15 17:21:52", codes=("1308",)), HOUR + 1312, "text"),
        (hints(message="Claude AI usage limit reached|1800003600"), HOUR, "text"),
        # 4, 5: the plain headers
        (hints({"retry-after-ms": "2500", "retry-after": "7"}), 2.5, "retry-after-ms"),
        (hints({"retry-after": "7"}), 7, "retry-after"),
        (hints({"retry-after": "0.4"}), 0.4, "retry-after"),
        (hints({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}), 30, "retry-after"),
        # 6: limit headers
        (hints({"x-ratelimit-reset-requests": "6m0s"}), 360, "x-ratelimit-reset-requests"),
        (hints({"x-ratelimit-reset-tokens": "21ms"}), 0.021, "x-ratelimit-reset-tokens"),
        (hints({"x-ratelimit-reset": str(int(NOW) + 90)}), 90, "x-ratelimit-reset"),
        (hints({"x-ratelimit-reset": str(int(NOW + 90) * 1000)}), 90, "x-ratelimit-reset"),
        (hints({"ratelimit-reset": "15"}), 15, "ratelimit-reset"),
        (
            hints({"anthropic-ratelimit-tokens-reset": "2027-01-15T08:01:00Z"}),
            60,
            "anthropic-ratelimit-tokens-reset",
        ),
        # 7: the end of the vendor's day
        (hints(is_per_day=True), DAY, "per-day quota"),
        (hints(error=google(), is_per_day=True), 34.07, "body:retryDelay"),
    ],
)
def test_forms(found: Hints, seconds: float, source: str) -> None:
    assert found.hint is not None
    assert found.hint.seconds == pytest.approx(seconds, abs=0.01)
    assert found.hint.source == source
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("found", "ignored"),
    [
        (hints(error={"resets_at": NOW - 5}), ("body:resets_at",)),
        (hints(error={"resets_at": -5}), ("body:resets_at",)),
        (hints(error={"resets_at": 0}), ("body:resets_at",)),
        (hints(error={"resets_at": True}), ("body:resets_at",)),
        (hints(error={"resets_at": None}), ("body:resets_at",)),
        (hints(error={"resets_at": [5]}), ("body:resets_at",)),
        (hints(error={"resets_at": float("nan")}), ("body:resets_at",)),
        (hints(error={"resets_at": float("inf")}), ("body:resets_at",)),
        (hints(error={"resets_at": 10**400}), ("body:resets_at",)),
        (hints(error={"resets_at": "9" * 1_000_000}), ("body:resets_at",)),
        (hints(error={"resets_at": "2027-13-45"}), ("body:resets_at",)),
        (hints(error={"resets_at": "0001-01-01T00:00:00+23:59"}), ("body:resets_at",)),
        (hints(error={"details": [{"retryDelay": "-3s"}]}), ("body:retryDelay",)),
        (hints(error={"details": [{"retryDelay": "٣s"}]}), ("body:retryDelay",)),
        (hints({"retry-after": "-5"}), ("retry-after",)),
        (hints({"retry-after": "0"}), ("retry-after",)),
        (hints({"retry-after": "NaN"}), ("retry-after",)),
        (hints({"retry-after": "Infinity"}), ("retry-after",)),
        (hints({"retry-after": "1e9"}), ("retry-after",)),
        (hints({"retry-after": "9" * 1_000_000}), ("retry-after",)),
        (hints({"retry-after": "Fri, 15 Jan 2027 07:59:30 GMT"}), ("retry-after",)),
        (hints({"retry-after": "Fri, 99 Foo 2027 99:59:30 ZZZ"}), ("retry-after",)),
        (hints({"retry-after-ms": "", "retry-after": ""}), ("retry-after-ms", "retry-after")),
        (hints(message="Resets in -5 days"), ("text",)),
        (hints(message=f"Resets in {'9' * 1_000_000} days"), ("text",)),
        (hints(message="Resets in 0 seconds"), ("text",)),
        (hints(message="available again at 25:61 UTC"), ("text",)),
        (hints(message="available again at 18:30 UTC+25"), ("text",)),
        (hints(message="resets 13pm (UTC)"), ("text",)),
        (hints(message="resets Feb 31, 5pm (UTC)"), ("text",)),
        (hints(message="resets at 5 UTC"), ("text",)),
        (hints(message="resets Jan 2, 5am (UTC)"), ("text",)),
        (hints(message="resets at 18:30 Nowhere/Place"), ("text",)),
        (hints(message="resets at 18:30 America/Argentina"), ("text",)),
        (hints(message="try again at 3:34 PM"), ("text",)),
        (hints(message="Your limit will reset at 2027-01-15 17:21:52"), ("text",)),
        (hints(message="Your limit will reset at 2027-99-99 17:21:52", codes=("1308",)), ("text",)),
        (hints(message="Claude AI usage limit reached|1700000000"), ("text",)),
        (hints(message="Slow down."), ()),
        (hints({"x-ratelimit-reset-requests": "6m0s"}, is_limit=False), ()),
        (hints({"x-codex-primary-used-percent": "40", "x-codex-primary-reset-at": str(NOW + 9)}), ()),
    ],
)
def test_what_says_nothing_is_ignored_and_counted(found: Hints, ignored: tuple[str, ...]) -> None:
    assert found.hint is None
    assert found.ignored == ignored


def test_an_unusable_hint_gives_way_to_the_next() -> None:
    found = hints({"retry-after": "9"}, {"resets_at": NOW - 1}, "Resets in -5 days")
    assert found.hint is not None
    assert (found.hint.seconds, found.hint.source) == (9, "retry-after")
    assert found.ignored == ("body:resets_at", "text")


def test_the_order_of_sources() -> None:
    """Taken away one by one, from the most specific on."""
    headers = {"retry-after-ms": "4000", "retry-after": "5", "x-ratelimit-reset": "6"}
    error = {"resets_at": NOW + 1, **google()}
    message = "try again in 3s"
    order = []
    for _ in range(7):
        found = hints(headers, error, message, is_per_day=True)
        assert found.hint is not None
        order.append(found.hint.source)
        match found.hint.source:
            case "body:resets_at":
                del error["resets_at"]
            case "body:retryDelay":
                error = {}
            case "text":
                message = ""
            case source:
                headers.pop(source, None)
    assert order == [
        "body:resets_at",
        "body:retryDelay",
        "text",
        "retry-after-ms",
        "retry-after",
        "x-ratelimit-reset",
        "per-day quota",
    ]


def unified(**windows: tuple[str, float]) -> dict[str, str]:
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(NOW) + 60),
    }
    for name, (status, wait) in windows.items():
        window = name.removeprefix("w")
        headers[f"anthropic-ratelimit-unified-{window}-status"] = status
        headers[f"anthropic-ratelimit-unified-{window}-reset"] = str(int(NOW + wait))
    return headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (unified(w5h=("allowed", 60), w7d=("rejected", 90_000)), 90_000),
        (unified(w5h=("rejected", 4000), w7d=("rejected", 90_000)), 90_000),
        (unified(w5h=("rejected", 4000), w7d_opus=("rejected", 90_000)), 4000),
        (unified(w5h=("allowed_warning", 4000), w7d_opus=("rejected", 90_000)), 90_000),
        (unified(overage=("rejected", 2_000_000)), 60),
        (unified(), 60),
    ],
)
def test_the_rejected_subscription_window_decides(headers: dict[str, str], seconds: float) -> None:
    found = hints(headers)
    assert found.hint is not None
    assert (found.hint.seconds, found.hint.source) == (seconds, "anthropic-ratelimit-unified-reset")


def test_a_window_with_nothing_left_outweighs_the_latest() -> None:
    headers = {
        "x-ratelimit-reset-requests": "6m0s",
        "x-ratelimit-remaining-requests": "10",
        "x-ratelimit-reset-tokens": "1.2s",
        "x-ratelimit-remaining-tokens": "0",
    }
    found = hints(headers)
    assert found.hint is not None
    assert (found.hint.seconds, found.hint.source) == (1.2, "x-ratelimit-reset-tokens")
    assert spent_until(headers, now=NOW) == pytest.approx(NOW + 1.2)
    assert spent_until(headers | {"x-ratelimit-remaining-tokens": "3"}, now=NOW) is None
    assert spent_until({}, now=NOW) is None


@pytest.mark.parametrize(("date", "seconds"), [("07:00:00", 3600 + 30), ("08:00:40", 30), ("09:30:00", None)])
def test_a_clock_that_is_off_by_more_than_a_minute_is_followed(date: str, seconds: float | None) -> None:
    found = hints({"date": f"Fri, 15 Jan 2027 {date} GMT", "retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"})
    assert (None if found.hint is None else found.hint.seconds) == seconds


def test_the_skew_concerns_resets_in_bodies_and_sentences_too() -> None:
    headers = {"date": "Fri, 15 Jan 2027 07:00:00 GMT"}
    assert hints(headers, {"resets_at": NOW}).hint is not None
    found = hints(headers, message="available again at 08:00 UTC").hint
    assert found is not None
    assert found.seconds == HOUR


@pytest.mark.parametrize(
    ("utc", "hours"),
    [(NOW, 24), (NOW + HOUR, 23), (NOW + 23.5 * HOUR, 0.5), (NOW + 180 * DAY, 23), (NOW + 58 * DAY, 23)],
)
def test_days_end_at_midnight_in_the_pacific(utc: float, hours: float) -> None:
    """In summer an hour earlier; the day on which the clocks go forward is an hour shorter."""
    assert to_midnight(utc) == hours * HOUR


def test_a_date_without_a_year_may_be_one_of_the_next_year() -> None:
    new_years_eve = NOW - 15 * DAY - 8 * HOUR
    assert seconds_in("resets Jan 2, 5am (UTC)", (), new_years_eve) == 2 * DAY + 5 * HOUR


def test_weak_hints() -> None:
    assert [is_weak(source) for source in (None, "text", "per-day quota")] == [True, True, True]
    assert [is_weak(source) for source in ("body:resets_at", "body:retryDelay", "retry-after")] == [False] * 3


@pytest.mark.parametrize(
    "sentence",
    [
        "resets at " * 20_000,
        "1h" * 50_000,
        "resets in " + "1d " * 40_000,
        "resets 1:1" * 20_000,
        "resets jan 1, 1 a/b" * 9000,
    ],
)
def test_long_sentences_cost_little(sentence: str) -> None:
    found = seconds_in(sentence, (), NOW)
    assert found is None or found > 0


WORDS = re.findall(
    r"\S+",
    "resets try again in at on after -5 5 12 18:30 25:99 3pm am UTC UTC+9 GMT-15 PST (Asia/Tokyo) jan 31 2027 "
    "2027-02-30 days d ms |1800000001",
)


@given(
    st.text(max_size=60)
    | st.builds(
        " ".join,
        st.lists(
            st.sampled_from(WORDS),
            max_size=9,
        ),
    ),
    st.sampled_from([(), ("1308",)]),
    st.floats(0, 4e9),
)
def test_no_sentence_breaks_the_reader(sentence: str, codes: tuple[str, ...], now: float) -> None:
    found = seconds_in(sentence, codes, now)
    assert found is None or abs(found) < 1e13
