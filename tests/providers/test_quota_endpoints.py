"""Providers' reports of quota and credit, in the shapes that they are answered in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import ConfigurationError
from omniroute.providers.catalog import load
from omniroute.providers.quota_endpoints import READERS, Unreadable, next_start, read_report
from omniroute.providers.quota_values import DAY_S, MONTH_S, MOST_USED, WEEK_S
from omniroute.providers.requests import usage_request
from omniroute.records import GrantWindow
from omniroute.secret import Secret

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z, a Friday
SOON_MS = int((NOW + 9000) * 1000)
LATER_MS = int((NOW + 400_000) * 1000)

REPORTS: dict[str, tuple[str, Any, list[GrantWindow], str | None]] = {
    "openrouter, a limit that comes again": (
        "openrouter",
        {"data": {"label": "k", "limit": 20, "limit_remaining": 5, "limit_reset": "weekly", "is_free_tier": False}},
        [GrantWindow("key", 0.75, 20, 5, "usd", WEEK_S, next_start(WEEK_S, NOW))],
        None,
    ),
    "openrouter, a limit for good": (
        "openrouter",
        {"data": {"limit": 20, "limit_remaining": 5, "limit_reset": None}},
        [GrantWindow("key", 0.75, 20, 5, "usd")],
        None,
    ),
    "openrouter, no limit": (
        "openrouter",
        {"data": {"limit": None, "limit_remaining": None, "is_free_tier": True}},
        [],
        "free",
    ),
    "deepseek": (
        "deepseek",
        {
            "is_available": True,
            "balance_infos": [
                {"currency": "USD", "total_balance": "1.50", "granted_balance": "0", "topped_up_balance": "1.50"},
                {"currency": "CNY", "total_balance": "110.00"},
                {"currency": "EUR", "total_balance": "3"},
            ],
        },
        [
            GrantWindow("credits_usd", remaining=1.5, unit="usd"),
            GrantWindow("credits_cny", remaining=110.0, unit="cny"),
        ],
        None,
    ),
    "deepseek, too little": (
        "deepseek",
        {"is_available": False, "balance_infos": [{"currency": "CNY", "total_balance": "0.02"}]},
        [GrantWindow("credits_cny", remaining=0.0, unit="cny")],
        None,
    ),
    "moonshot, in debt": (
        "moonshot",
        {"code": 0, "data": {"available_balance": -3.2, "cash_balance": -3.2}, "status": True},
        [GrantWindow("credits", remaining=0.0, unit="usd")],
        None,
    ),
    "siliconflow": (
        "siliconflow",
        {"code": 20000, "data": {"balance": "0.88", "chargeBalance": "88.00", "totalBalance": "88.88"}},
        [GrantWindow("credits", remaining=88.88, unit="usd")],
        None,
    ),
    "siliconflow-cn": (
        "siliconflow-cn",
        {"data": {"totalBalance": "12"}},
        [GrantWindow("credits", remaining=12.0, unit="cny")],
        None,
    ),
    "vercel": (
        "vercel",
        {"balance": "95.50", "total_used": "4.50"},
        [GrantWindow("credits", remaining=95.5, unit="usd")],
        None,
    ),
    "novita": (
        "novita",
        {"availableBalance": "1000000", "cashBalance": "800000"},
        [GrantWindow("credits", remaining=100.0, unit="usd")],
        None,
    ),
    "poe": (
        "poe",
        {"current_point_balance": 1500},
        [GrantWindow("credits", remaining=1500.0, unit="points")],
        None,
    ),
    "kie": ("kie", {"code": 200, "data": 100}, [GrantWindow("credits", remaining=100.0, unit="credits")], None),
    "crof": (
        "crof",
        {"usable_requests": 450, "credits": 9.9},
        [
            GrantWindow("credits", remaining=9.9, unit="usd"),
            GrantWindow("requests", remaining=450.0, unit="requests"),
        ],
        None,
    ),
    "glm": (
        "glm",
        {
            "code": 200,
            "success": True,
            "data": {
                "level": "pro",
                "limits": [
                    {"type": "TOKENS_LIMIT", "unit": 3, "number": 5, "percentage": 12, "nextResetTime": SOON_MS},
                    {"type": "TOKENS_LIMIT", "unit": 6, "percentage": 100, "nextResetTime": LATER_MS},
                    {"type": "TIME_LIMIT", "unit": 5, "percentage": 3, "usage": 1000, "remaining": 970},
                    {"type": "SOMETHING", "unit": 9, "percentage": 3},
                ],
            },
        },
        [
            GrantWindow("5h", 0.12, unit="tokens", length_s=18_000.0, resets_at=NOW + 9000),
            GrantWindow("7d", 1.0, unit="tokens", length_s=WEEK_S, resets_at=NOW + 400_000),
            GrantWindow("tools/month", 0.03, 1000, 970, "calls", MONTH_S, None, "tools"),
        ],
        "pro",
    ),
    "minimax, counts that remain": (
        "minimax",
        {
            "base_resp": {"status_code": 0},
            "model_remains": [
                {"model_name": "image-01", "current_interval_total_count": 5, "current_interval_usage_count": 5},
                {
                    "model_name": "MiniMax-M*",
                    "start_time": SOON_MS - 18_000_000,
                    "end_time": SOON_MS,
                    "current_interval_total_count": 100,
                    "current_interval_usage_count": 70,
                },
            ],
        },
        [GrantWindow("5h", pytest.approx(0.3), 100, 70, "requests", 18_000.0, NOW + 9000)],  # type: ignore[arg-type]
        None,
    ),
    "minimax, percentages": (
        "minimax",
        {
            "current_subscribe_title": "Max",
            "model_remains": [
                {
                    "model_name": "general",
                    "end_time": SOON_MS,
                    "current_interval_remaining_percent": 75,
                    "current_interval_total_count": 0,
                    "current_interval_usage_count": 0,
                    "current_weekly_remaining_percent": 40,
                    "weekly_end_time": LATER_MS,
                }
            ],
        },
        [
            GrantWindow("5h", 0.25, length_s=18_000.0, resets_at=NOW + 9000),
            GrantWindow("7d", 0.6, length_s=WEEK_S, resets_at=NOW + 400_000),
        ],
        "Max",
    ),
    "kimi": (
        "kimi",
        {
            "user": {"membership": {"level": "LEVEL_BASIC"}},
            "usage": {"limit": "1000", "used": "250", "remaining": "750", "resetTime": "2027-01-20T00:00:00Z"},
            "limits": [
                {
                    "window": {"duration": 300, "timeUnit": "TIME_UNIT_MINUTE"},
                    "detail": {"limit": "100", "remaining": "75", "resetTime": "2027-01-15T10:00:00Z"},
                }
            ],
        },
        [
            GrantWindow("7d", 0.25, 1000, 750, None, WEEK_S, NOW + 403_200),
            GrantWindow("5h", 0.25, 100, 75, None, 18_000.0, NOW + 7200),
        ],
        "LEVEL_BASIC",
    ),
    "nanogpt": (
        "nanogpt",
        {
            "active": True,
            "weeklyInputTokens": {"used": 10, "remaining": 30, "percentUsed": 0.25, "resetAt": LATER_MS},
            "dailyImages": {"used": 1, "remaining": 3},
        },
        [GrantWindow("7d", 0.25, 40, 30, "tokens", WEEK_S, NOW + 400_000)],
        None,
    ),
    "nanogpt, no subscription": ("nanogpt", {"active": False}, [], None),
    "synthetic": (
        "synthetic",
        {
            "subscription": {"limit": 135, "requests": 1, "renewsAt": "2027-01-15T10:00:00Z"},
            "rollingFiveHourLimit": {"max": 200, "remaining": 150, "nextTickAt": "2027-01-15T08:10:00Z"},
            "weeklyTokenLimit": {"percentRemaining": 90, "maxCredits": "$24", "remainingCredits": "$21.6"},
        },
        [
            GrantWindow("5h", 0.25, 200, 150, "requests", 18_000.0),
            GrantWindow("7d", pytest.approx(0.1), unit="credits", length_s=WEEK_S),  # type: ignore[arg-type]
        ],
        None,
    ),
    "synthetic, as before": (
        "synthetic",
        {"subscription": {"limit": 100, "requests": 40, "renewsAt": "2027-01-15T10:00:00Z"}},
        [GrantWindow("subscription", 0.4, 100, 60, "requests", 18_000.0, NOW + 7200)],
        None,
    ),
    "elevenlabs": (
        "elevenlabs",
        {
            "tier": "creator",
            "character_count": 25_000,
            "character_limit": 100_000,
            "next_character_count_reset_unix": int(NOW + 86_400),
        },
        [GrantWindow("30d", 0.25, 100_000, 75_000, "characters", MONTH_S, NOW + 86_400)],
        "creator",
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_read(name: str) -> None:
    shape, body, windows, plan = REPORTS[name]
    report = read_report(shape, json.dumps(body).encode(), NOW)
    assert (list(report.windows), report.plan) == (windows, plan)


def test_every_shape_has_a_sample_and_a_row() -> None:
    assert {shape for shape, *_ in REPORTS.values()} == set(READERS)
    assert {row.usage_shape for row in load()} - {None} == set(READERS)


@pytest.mark.parametrize("shape", sorted(READERS))
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"error": {"message": "no"}}', b"[" * 5000])
def test_what_is_no_report_is_said_to_be_none(shape: str, body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_report(shape, body, NOW)


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**18), 10**18),
    st.floats(),
    st.text(max_size=12),
    st.just({}),
    st.just([]),
)


@given(st.data())
def test_a_report_with_anything_in_it_is_read_soundly_or_not_at_all(data: st.DataObject) -> None:
    shape, body, _, _ = REPORTS[data.draw(st.sampled_from(sorted(REPORTS)))]
    spoilt = _spoilt(body, data)
    try:
        report = read_report(shape, json.dumps(spoilt, default=str).replace("NaN", "-1").encode(), NOW)
    except Unreadable:
        return
    for window in report.windows:
        assert window.used is None or 0 <= window.used <= MOST_USED
        assert window.remaining is None or window.remaining >= 0
        assert window.resets_at is None or window.resets_at > NOW
        assert window.used is not None or window.remaining is not None


def _spoilt(value: Any, data: st.DataObject) -> Any:
    """Return a document with some of its values replaced by others."""
    if data.draw(st.integers(0, 9)) == 0:
        return data.draw(_SCALARS)
    if isinstance(value, dict):
        return {name: _spoilt(part, data) for name, part in value.items()}
    return [_spoilt(part, data) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("period", "seconds"), [(DAY_S, 16 * 3600), (WEEK_S, 2 * DAY_S + 16 * 3600), (MONTH_S, 16 * DAY_S + 16 * 3600)]
)
def test_the_next_day_week_and_month_begin_at_midnight(period: float, seconds: float) -> None:
    assert next_start(period, NOW) == NOW + seconds


@pytest.mark.parametrize(
    ("provider", "header"),
    [
        ("zai", ("Authorization", "the-key")),
        ("kimi-coding-apikey", ("Authorization", "Bearer the-key")),
        ("elevenlabs", ("xi-api-key", "the-key")),
    ],
)
def test_each_is_asked_with_the_key_as_it_wants_it(provider: str, header: tuple[str, str]) -> None:
    row = load().providers[provider]
    request = usage_request(row, Secret("the-key"), {})
    assert request is not None
    assert (request.method, request.url) == ("GET", row.usage_url)
    assert header in request.headers
    assert sum("the-key" in value for _, value in request.headers) == 1


def test_without_a_key_or_a_report_nobody_is_asked() -> None:
    rows = load().providers
    assert usage_request(rows["openrouter"], None, {}) is None
    assert usage_request(rows["openai"], Secret("k"), {}) is None


@pytest.mark.parametrize(
    "row",
    [
        {"usage_url": "https://x.test/usage"},
        {"usage_shape": "glm"},
        {"usage_url": "https://x.test/usage", "usage_shape": "unheard-of"},
        {"usage_url": "http://x.test/usage", "usage_shape": "glm"},
    ],
)
def test_a_row_of_the_operator_names_both_or_neither(row: dict[str, str], tmp_path: Any) -> None:
    file = tmp_path / "providers.json"
    given_row = {"id": "mine", "urls": {"openai_chat": "https://x.test/v1"}, **row}
    file.write_text(json.dumps({"providers": [given_row]}))
    with pytest.raises(ConfigurationError, match="row 1"):
        load(file)
