"""Health: what fails and rests, in words; and every way to end a rest early."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.blueprints.dashboard import health_words
from tests.blueprints.dashboard.conftest import Pages, text_of

PATH = "/dashboard/health"
CHAT = "/v1/chat/completions"


def ask(pages: Pages, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return pages.app.admin.post(CHAT, json=body).status_code


def test_quiet_cards_say_what_quiet_means(pages: Pages) -> None:
    page = pages.get(PATH)
    for title in (
        "System Status",
        "Provider Health",
        "Rate Limits",
        "Active Lockouts",
        "Signature Cache",
        "Latency Telemetry",
    ):
        assert title in page
    for quiet in (
        "No provider is connected yet.",
        "No connection is cooling down.",
        "No model is locked out of a connection.",
        "No address is locked out after failed logins.",
        "Nothing is kept.",
        "No request was answered in this window.",
    ):
        assert quiet in page


def test_the_cards_are_one_block_that_costs_nothing_while_it_stays_the_same(pages: Pages) -> None:
    answer = pages.block(PATH, "cards")
    assert "<html" not in text_of(answer)
    assert "System Status" in text_of(answer)
    assert answer.headers["ETag"]


def test_the_window_of_times_is_chosen_by_a_link(pages: Pages) -> None:
    for window, chosen in (("5m", "5m"), ("24h", "24h"), ("never", "1h")):
        page = pages.get(f"{PATH}?window={window}")
        assert f'href="/dashboard/health?window={chosen}" aria-current="true"' in page


def test_times_of_answers(pages: Pages) -> None:
    assert ask(pages, "sandbox/echo") == 200
    pages.app.own.request_log.flush()
    page = pages.get(PATH)
    assert "Times by provider" in page
    assert '<th scope="row">sandbox</th>' in page


def test_a_backup_is_made_once_for_the_same_data(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"instanceName": "studio"})
    assert "A verified backup was made." in pages.after(pages.post(f"{PATH}/backup"))
    assert "no other was made" in pages.after(pages.post(f"{PATH}/backup"))


@pytest.fixture
def failing(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """The state of a bad day, and what is asked of the API to end it."""
    from omniroute.blueprints.dashboard import api

    asked: list[tuple[str, str, Any]] = []
    real = api.get
    rest = {
        "connectionId": "conn_1",
        "connection": "ana@example.com",
        "provider": "node_1",
        "reason": "rate",
        "status": 429,
        "code": None,
        "message": "Slow down",
        "link": None,
        "state": "resting",
        "since": "2026-11-22T10:00:00.000Z",
        "until": "2026-11-22T10:05:00.000Z",
        "nextProbeAt": None,
        "hintSource": "retry-after",
        "step": 1,
    }
    breaker = {
        "provider": "node_1",
        "state": "open",
        "isDegraded": False,
        "failures": 7,
        "trips": 2,
        "openedAt": "2026-11-22T10:00:00.000Z",
        "retryAt": "2026-11-22T10:01:00.000Z",
        "reason": "server",
        "status": 500,
    }

    def get(path: str, /, **query: Any) -> Any:
        found = real(path, **query)
        if path == "/api/monitoring/health":
            found["rateLimits"] = [rest, {**rest, "until": None, "reason": "account_blocked", "status": None}]
            found["lockouts"] = [{**rest, "model": "gpt-5", "isFamily": True, "reason": "model_missing"}]
            found["providers"] = {"node_1": {"total": 2, "active": 1, "error": 1, "breaker": breaker}}
            found["warnings"] = [{"code": "x", "message": "Mind this", "remedy": "Do that", "isFailure": True}]
        if path == "/api/policies":
            found["locked"] = [
                {"identifier": "192.0.2.7", "kind": "address", "failures": 5, "since": "", "until": rest["until"]}
            ]
        return found

    def done(method: str) -> Any:
        def call(path: str, body: Any = None, /, **_query: Any) -> Any:
            asked.append((method, path, body))
            return {"reset": 2}

        return call

    monkeypatch.setattr(api, "get", get)
    monkeypatch.setattr(api, "post", done("POST"))
    monkeypatch.setattr(api, "delete", done("DELETE"))
    return asked


def test_a_bad_day_is_told_in_words(pages: Pages, failing: list[tuple[str, str, Any]]) -> None:
    page = pages.get(PATH)
    for text in (
        "OPEN",
        "The provider failed (500)",
        "1 of 2 connections working",
        "7 failures in a row, opened 2 times",
        "Rate limit reached (429)",
        "Said by the provider (retry-after)",
        "Slow down",
        "until you act",
        "The account is blocked",
        "gpt-5 (the family)",
        "The model is not there (429)",
        "192.0.2.7",
        "5 failed logins and guessed keys",
        "Mind this",
        "Do that",
    ):
        assert text in page, text
    assert failing == []


def test_every_rest_can_be_ended(pages: Pages, failing: list[tuple[str, str, Any]]) -> None:
    reset, lockouts = "/api/resilience/reset", "/api/resilience/model-cooldowns"
    locked = {"action": "unlock", "identifier": "192.0.2.7"}
    model = {"connectionId": "c", "model": "m"}
    table: tuple[tuple[str, dict[str, str], tuple[str, str, Any], str], ...] = (
        ("breakers", {"provider": "x"}, ("POST", reset, {"provider": "x"}), "The provider may"),
        ("breakers", {}, ("DELETE", "/api/monitoring/health", None), "All providers may"),
        ("cooldowns", {"connectionId": "c"}, ("POST", reset, {"connectionId": "c"}), "The connection"),
        ("lockouts", model, ("DELETE", lockouts, model), "2 lockouts are ended."),
        ("lockouts", {}, ("DELETE", lockouts, {"all": True}), "2 lockouts are ended."),
        ("addresses", {"identifier": "192.0.2.7"}, ("POST", "/api/policies", locked), "The address may try again."),
    )
    for where, form, asked, said in table:
        assert said in pages.after(pages.post(f"{PATH}/{where}", form))
        assert failing.pop() == asked


def test_what_is_not_there_cannot_be_ended(pages: Pages) -> None:
    for where, form in (
        ("breakers", {"provider": "nobody"}),
        ("cooldowns", {"connectionId": "conn_none"}),
        ("lockouts", {"connectionId": "conn_none"}),
        ("addresses", {"identifier": "192.0.2.9"}),
    ):
        assert "(code not_found)" in pages.after(pages.post(f"{PATH}/{where}", form))


def test_a_backup_that_fails_is_told(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    from omniroute.blueprints.dashboard import api

    def put(path: str, body: Any = None, /, **_query: Any) -> Any:
        raise api.Refused(503, {"message": "The disk is full.", "code": "storage_error"})

    monkeypatch.setattr(api, "put", put)
    assert "The disk is full (code storage_error)" in pages.after(pages.post(f"{PATH}/backup"))


def test_words_for_what_nobody_knows(pages: Pages) -> None:
    with pages.app.app.test_request_context():
        assert health_words.reason("new_kind", None) == "new kind"
        assert health_words.reason(None, 500) == "An unknown failure (500)"
        assert health_words.hint(None) == "Computed here"
        assert health_words.hint("text") == "Said by the provider in its message"
        assert health_words.hint("reading:headers") == "From a reading of its quota"
        assert health_words.job("new-job") == "new-job"
        assert health_words.state("odd") == "odd"
