"""Quota windows out of the headers of answers: every vendor's spelling, and what cannot be true."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.providers.quota_headers import has_quota, read_quota
from omniroute.providers.quota_values import MOST_USED, fraction_of, moment_of, number_of
from omniroute.records import GrantWindow

NOW = 1_800_000_000.0
UNIFIED = "anthropic-ratelimit-unified-"


def read(headers: dict[str, str], provider: str = "anthropic", model: str = "m-1") -> dict[str, GrantWindow]:
    assert has_quota(headers, provider)
    return {window.name: window for window in read_quota(headers, provider=provider, model=model, now=NOW).windows}


def test_windows_of_a_subscription() -> None:
    windows = read(
        {
            UNIFIED + "status": "allowed",
            UNIFIED + "representative-claim": "five_hour",
            UNIFIED + "5h-utilization": "0.42",
            UNIFIED + "5h-reset": str(int(NOW + 9000)),
            UNIFIED + "5h-status": "allowed",
            UNIFIED + "7d-utilization": "0.9",
            UNIFIED + "7d-reset": str(int(NOW + 400_000)),
            UNIFIED + "7d-status": "allowed_warning",
            UNIFIED + "7d_opus-utilization": "0.97",
            UNIFIED + "7d_opus-reset": str(int(NOW + 400_000)),
            UNIFIED + "7d_opus-status": "rejected",
            UNIFIED + "overage-utilization": "0.5",
            UNIFIED + "overage-status": "rejected",
        }
    )
    assert windows == {
        "5h": GrantWindow("5h", 0.42, length_s=18_000.0, resets_at=NOW + 9000, is_open=True),
        "7d": GrantWindow("7d", 0.9, length_s=604_800.0, resets_at=NOW + 400_000, is_open=True),
        "7d_opus": GrantWindow("7d_opus", 1.0, length_s=604_800.0, resets_at=NOW + 400_000, family="opus"),
    }
    assert [name for name, window in windows.items() if window.is_spent] == ["7d_opus"]


def test_a_rejected_window_is_spent_also_without_a_number() -> None:
    headers = {UNIFIED + "status": "rejected", UNIFIED + "5h-utilization": "x", UNIFIED + "5h-status": "rejected"}
    assert read(headers)["5h"].is_spent


def test_windows_of_codex() -> None:
    windows = read(
        {
            "x-codex-primary-used-percent": "42.5",
            "x-codex-primary-window-minutes": "300",
            "x-codex-primary-reset-at": str(int(NOW + 1800)),
            "x-codex-primary-reset-after-seconds": "60",
            "x-codex-secondary-used-percent": "100",
            "x-codex-secondary-window-minutes": "10080",
            "x-codex-secondary-reset-after-seconds": "3600",
            "x-codex-mini-primary-used-percent": "7",
        },
        "codex",
    )
    assert windows == {
        "primary": GrantWindow("primary", 0.425, length_s=18_000.0, resets_at=NOW + 1800),
        "secondary": GrantWindow("secondary", 1.0, length_s=604_800.0, resets_at=NOW + 3600),
        "mini-primary": GrantWindow("mini-primary", 0.07, family="mini"),
    }
    more = read({"x-codex-primary-used-percent": "100", "x-codex-credits-has-credits": "true"}, "codex")
    assert more["primary"].is_spent
    assert more["primary"].is_open, "bought credit goes on behind the window"


def test_limits_per_day() -> None:
    windows = read(
        {
            "x-ratelimit-limit-requests-day": "1000",
            "x-ratelimit-remaining-requests-day": "250",
            "x-ratelimit-reset-requests-day": "33011.382867",
            "x-ratelimit-limit-tokens-minute": "60000",
            "x-ratelimit-remaining-tokens-minute": "0",
        },
        "cerebras",
        "llama3.1-8b",
    )
    assert list(windows) == ["requests/day:llama3.1-8b"]
    window = windows["requests/day:llama3.1-8b"]
    assert (window.used, window.limit, window.remaining, window.unit) == (0.75, 1000, 250, "requests")
    assert (window.length_s, window.family) == (86_400.0, "llama3.1-8b")
    assert window.resets_at == pytest.approx(NOW + 33_011.38, abs=0.01)


def test_groq_counts_requests_by_day_under_a_name_that_does_not_say_so() -> None:
    headers = {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
        "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "17997",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    windows = read(headers, "groq", "llama-3.3-70b")
    assert list(windows) == ["requests/day:llama-3.3-70b"]
    assert windows["requests/day:llama-3.3-70b"].resets_at == pytest.approx(NOW + 179.56)
    assert not has_quota(headers, "openai")
    assert read_quota(headers, provider="openai", model="m", now=NOW).windows == ()


@pytest.mark.parametrize(("resets_in_s", "names"), [(7200, ["free/day"]), (30, [])])
def test_free_models_of_openrouter(resets_in_s: int, names: list[str]) -> None:
    headers = {
        "x-ratelimit-limit": "50",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int((NOW + resets_in_s) * 1000)),
    }
    windows = read(headers, "openrouter", "x/y:free")
    assert list(windows) == names
    assert all(window.is_spent and window.family == "free" for window in windows.values())


@pytest.mark.parametrize(
    ("headers", "kept", "ignored"),
    [
        ({UNIFIED + "5h-utilization": "NaN"}, 0, 1),
        ({UNIFIED + "5h-utilization": "-0.5"}, 0, 1),
        ({UNIFIED + "5h-utilization": "inf"}, 0, 1),
        ({UNIFIED + "5h-utilization": "1e9"}, 0, 1),
        ({UNIFIED + "5h-utilization": "9" * 100}, 0, 1),
        ({UNIFIED + "5h-utilization": "11"}, 0, 1),
        ({UNIFIED + "5h-utilization": "0.5", UNIFIED + "5h-reset": "1700000000"}, 1, 1),
        ({UNIFIED + "5h-utilization": "0.5", UNIFIED + "5h-reset": "9999999999"}, 1, 1),
        ({UNIFIED + "5h-utilization": "0.5", UNIFIED + "5h-reset": "soon"}, 1, 1),
        ({"x-codex-primary-used-percent": "many"}, 0, 1),
        ({"x-ratelimit-limit-requests-day": "10", "x-ratelimit-remaining-requests-day": "11"}, 0, 1),
        ({"x-ratelimit-limit-requests-day": "0", "x-ratelimit-remaining-requests-day": "0"}, 0, 0),
        ({"x-ratelimit-limit-requests-day": "10"}, 0, 0),
    ],
)
def test_what_cannot_be_true_is_left_out_and_counted(headers: dict[str, str], kept: int, ignored: int) -> None:
    found = read_quota(headers, provider="p", model="m", now=NOW)
    assert (len(found.windows), found.ignored) == (kept, ignored)
    assert all(window.resets_at is None for window in found.windows)


def test_most_answers_are_not_looked_at() -> None:
    assert not has_quota({"content-type": "text/plain", "x-ratelimit-remaining-requests": "3"}, "openai")
    assert not has_quota({}, "openai")


_NAMES = st.sampled_from(
    [
        UNIFIED + "5h-utilization",
        UNIFIED + "5h-reset",
        UNIFIED + "5h-status",
        UNIFIED + "7d_opus-utilization",
        "x-codex-primary-used-percent",
        "x-codex-primary-reset-at",
        "x-codex-primary-window-minutes",
        "x-ratelimit-limit-requests-day",
        "x-ratelimit-remaining-requests-day",
        "x-ratelimit-reset-requests-day",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    ]
)
_TEXTS = st.one_of(
    st.text(max_size=20), st.floats().map(str), st.integers(-(10**20), 10**20).map(str), st.floats(0, 2).map(str)
)


@given(st.dictionaries(_NAMES, _TEXTS), st.sampled_from(["anthropic", "groq", "openrouter", "x"]))
def test_whatever_stands_there_a_window_is_sound(headers: dict[str, str], provider: str) -> None:
    found = read_quota(headers, provider=provider, model="m", now=NOW)
    for window in found.windows:
        assert window.used is not None
        assert 0 <= window.used <= MOST_USED
        assert window.resets_at is None or NOW < window.resets_at < NOW + 500 * 86_400
        assert window.remaining is None or 0 <= window.remaining <= (window.limit or math.inf)
        assert window.length_s is None or window.length_s >= 0


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_use_is_never_read_as_less(one: float, other: float) -> None:
    low, high = sorted((round(one, 6), round(other, 6)))
    used = [read({UNIFIED + "5h-utilization": f"{value:.6f}"})["5h"].used for value in (low, high)]
    assert used[0] is not None
    assert used[1] is not None
    assert used[0] <= used[1] <= 1


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), ("12.5%", 12.5), (" 7 ", 7.0), (True, None), (-1, None), ("-1", None), (math.nan, None), ([], None)],
)
def test_numbers(value: Any, number: float | None) -> None:
    assert number_of(value) == number


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (NOW + 60, 60),
        ((NOW + 60) * 1000, 60),
        (60, 60),
        ("6m0s", 360),
        ("2027-01-15T09:00:00.123456789Z", 3600),
        ("2027-01-15T07:00:00Z", None),
        (-5, None),
        (NOW - 1, None),
        ("tomorrow", None),
        (None, None),
        (NOW * 10, None),
    ],
)
def test_moments_lie_ahead(value: Any, seconds: float | None) -> None:
    at = moment_of(value, NOW)
    assert at is None if seconds is None else at == pytest.approx(NOW + seconds, abs=1)


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(), st.lists(st.integers())))
def test_values_of_any_kind_never_raise(value: Any) -> None:
    fraction = fraction_of(value, 100.0)
    assert fraction is None or 0 <= fraction <= MOST_USED
    moment = moment_of(value, NOW)
    assert moment is None or moment > NOW
