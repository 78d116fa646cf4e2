"""Health, telemetry, sessions, logs, database and the server itself over HTTP."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.blueprints.management.event_stream import EventStream
from omniroute.errors import StorageError
from omniroute.records import RequestRecord
from omniroute.routing.events import ProviderFailed
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import AuthClass
from omniroute.routing.view import Binding
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as built:
        yield built


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An application for tests that leave nothing behind."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        yield built


def settle(app: App, number: int, **changes: Any) -> None:
    made = RequestRecord(f"req_{number}", time.time(), "/v1/x", "openai-chat", "m", status=200, outcome="success")
    made.provider, made.duration_ms, made.ttft_ms = "groq", 120.0, 20.0
    for name, value in changes.items():
        setattr(made, name, value)
    app.own.request_log.put(made)
    app.own.request_log.flush()


def trip(app: App, provider: str = "groq") -> None:
    failure = Failure("server", FailureClass.TRANSIENT, status=500)
    for _ in range(50):
        app.own.routing.board.record(ProviderFailed(provider, AuthClass.API_KEY, failure, started_at=time.time()))
    assert app.own.routing.board.flush(2.0)


# --- health ----------------------------------------------------------------------------------------------------------


def test_health_has_its_six_blocks(app: App) -> None:
    settle(app, 1)
    app.admin.post("/api/providers", json={"provider": "groq", "apiKey": "gsk_0123456789abcdefghij"})
    document = app.admin.get("/api/monitoring/health").get_json()
    assert set(document) == {
        "status",
        "timestamp",
        "system",
        "providers",
        "rateLimits",
        "lockouts",
        "signatureCache",
        "latency",
        "jobs",
        "storage",
        "warnings",
    }
    assert document["status"] == "healthy", document["warnings"]
    assert document["system"]["memoryLimitMb"] == 16_384
    assert document["system"]["requestsInFlight"] == 0
    assert document["providers"]["groq"] == {"total": 1, "active": 1, "error": 0, "breaker": None}
    assert document["latency"]["groq"] == {"p50": 120.0, "p95": 120.0, "p99": 120.0, "count": 1}
    assert document["signatureCache"] == {"activeKeys": 0, "hits": 0, "misses": 0, "hitRate": None}
    assert document["storage"]["dbBytes"] > 0


def test_breakers_are_shown_and_reset(app: App) -> None:
    trip(app)
    document = app.admin.get("/api/monitoring/health").get_json()
    assert document["status"] == "degraded"
    assert [warning["code"] for warning in document["warnings"]] == ["provider_down"]
    assert document["providers"]["groq"]["breaker"]["state"] == "open"
    assert app.admin.delete("/api/monitoring/health").get_json() == {"reset": 1}
    after = app.admin.get("/api/monitoring/health").get_json()
    assert (after["status"], after["providers"]) == ("healthy", {})
    assert app.own.audit.entries(limit=1)[0][0].action == "resilience.reset"


def test_who_shows_no_credential_gets_one_word(app: App) -> None:
    document = app.client().get("/api/monitoring/health").get_json()
    assert set(document) == {"status", "timestamp"}
    assert app.client().delete("/api/monitoring/health").status_code == 401


# --- telemetry and sessions ------------------------------------------------------------------------------------------


def test_telemetry(app: App) -> None:
    settle(app, 1)
    settle(app, 2, outcome="failed", status=500)
    document = app.admin.get("/api/telemetry/summary?windowMs=300000").get_json()
    assert document["totals"] == {
        "requests": 2,
        "failed": 1,
        "totalMs": {"p50": 120.0, "p95": 120.0, "p99": 120.0, "count": 1},
        "firstContentMs": {"p50": 20.0, "p95": 20.0, "p99": 20.0, "count": 2},
    }
    assert list(document["providers"]) == ["groq"]
    assert len(document["series"]) == 30
    assert document["isPartial"] is False
    for wrong in ("999", "x", "86400001"):
        assert app.admin.get(f"/api/telemetry/summary?windowMs={wrong}").status_code == 400


def test_sessions_are_listed_and_ended(app: App) -> None:
    memory = app.own.routing.memory
    for session in ("s1", "s2"):
        memory.bind(session, "groq", Binding("conn_1", "groq/m"), 600, time.time())
    memory.exchange()
    response = app.admin.get("/api/sessions?limit=1")
    document = response.get_json()
    assert (document["count"], document["total"], len(document["sessions"])) == (2, 2, 1)
    assert document["sessions"][0]["target"] == "groq/m"
    assert response.headers["X-Total-Count"] == "2"
    assert app.admin.get("/api/sessions?connectionId=nobody").get_json()["count"] == 0
    assert app.admin.delete("/api/sessions/s1").get_json() == {"expired": 1}
    assert error_of(app.admin.delete("/api/sessions/s1"))["code"] == "not_found"
    assert app.admin.delete("/api/sessions").get_json() == {"expired": 1}
    memory.exchange()
    assert memory.binding("s2", "groq") is None


# --- logs ------------------------------------------------------------------------------------------------------------


def said(app: App, query: str = "") -> list[str]:
    response = app.admin.get(f"/api/logs/console?{query}")
    assert response.status_code == 200, response.get_json()
    return [line["message"] for line in response.get_json()["lines"] if line["logger"] == "omniroute.test"]


def test_the_last_lines_are_shown(app: App) -> None:
    log = logging.getLogger("omniroute.test")
    log.info("first")
    log.warning("second with sk-live-0123456789abcdefghij")
    log.error("third", extra={"request_id": "req_9"})
    assert said(app)[0] == "first"
    assert len(said(app, "level=warning")) == 2
    assert said(app, "requestId=req_9") == ["third"]
    assert said(app, "q=FIRST") == ["first"]
    assert said(app, "limit=1") == ["third"]
    assert said(app, "since=2099-01-01T00:00:00Z") == []
    assert "0123456789" not in app.admin.get("/api/logs/console").get_data(as_text=True)


@pytest.mark.parametrize("query", ["level=loud", "since=yesterday", "limit=1001", "limit=-1", "follow=maybe"])
def test_a_wrong_question_is_refused(shared: App, query: str) -> None:
    assert shared.admin.get(f"/api/logs/console?{query}").status_code == 400


def events(pieces: Iterator[Any], number: int) -> list[tuple[str, Any]]:
    """Read so many events of a stream."""
    found: list[tuple[str, Any]] = []
    text = b""
    while len(found) < number:
        text += next(pieces)
        *whole, text = text.split(b"\n\n")
        for event in whole:
            if not event.startswith(b":"):
                head, data = event.split(b"\n")
                found.append((head.removeprefix(b"event: ").decode(), json.loads(data.removeprefix(b"data: "))))
    return found


def test_the_log_is_followed(app: App) -> None:
    log = logging.getLogger("omniroute.test")
    log.warning("before")
    response = app.admin.get("/api/logs/console?follow=1&level=warning&limit=1")
    assert response.content_type.startswith("text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    pieces = iter(response.response)
    assert next(pieces) == b": ping\n\n"
    assert [(name, line["message"]) for name, line in events(pieces, 1)] == [("line", "before")]
    log.info("not this")
    log.warning("but this")
    assert [line["message"] for _, line in events(pieces, 1)] == ["but this"]
    app.own.inference.drain()
    assert events(pieces, 1) == [("end", {"reason": "draining"})]
    assert list(pieces) == []
    response.close()


def test_requests_are_followed(app: App) -> None:
    settle(app, 1)
    response = app.admin.get("/api/usage/logs/stream?provider=groq")
    pieces = iter(response.response)
    assert next(pieces) == b": ping\n\n"
    settle(app, 2)
    settle(app, 3, provider="openai")
    settle(app, 4)
    rows = [*events(pieces, 1)]
    rows += events(pieces, 1) if len(rows) == 1 else []
    assert [(name, row["id"]) for name, row in rows] == [("request", "req_2"), ("request", "req_4")]
    assert rows[0][1]["costKind"]
    response.close()
    assert app.admin.get("/api/usage/logs/stream?status=odd").status_code == 400


def test_seats_are_given_back(app: App) -> None:
    open_ones = [app.admin.get("/api/logs/console?follow=1") for _ in range(4)]
    refused = app.admin.get("/api/logs/console?follow=1")
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_followers")
    assert app.admin.head("/api/logs/console?follow=1").status_code == 200
    assert app.admin.get("/api/logs/console").status_code == 200, "reading needs no seat"
    for response in open_ones:
        response.close()
    again = app.admin.get("/api/logs/console?follow=1")
    assert again.status_code == 200
    again.close()


def test_a_stream_says_that_it_lives_and_bears_a_database_that_is_away() -> None:
    now = [0.0]
    answers: list[Any] = [StorageError(), [], [{"a": 1}, {"b": 2}]]
    left: list[int] = []

    def poll() -> list[Any]:
        answer = answers.pop(0) if answers else []
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    stream = EventStream(
        "row",
        poll,
        why_over=lambda: "credential" if now[0] > 40 else None,
        leave=lambda: left.append(1),
        heartbeat_s=15,
        now=lambda: now[0],
        sleep=sleep,
    )
    pieces = list(stream)
    assert pieces == [
        b": ping\n\n",
        b'event: row\ndata: {"a":1}\n\nevent: row\ndata: {"b":2}\n\n',
        b": ping\n\n",
        b": ping\n\n",
        b'event: end\ndata: {"reason":"credential"}\n\n',
    ]
    stream.close()
    stream.close()
    assert list(stream) == []


# --- database and server ---------------------------------------------------------------------------------------------


def test_the_database_is_looked_after(app: App) -> None:
    assert app.admin.get("/api/db/health").get_json()["status"] == "ok"
    assert app.admin.get("/api/db/health?thorough=true").get_json()["isThorough"] is True
    assert app.admin.get("/api/storage/health").get_json()["dbBytes"] > 0
    for path in ("/api/db/health", "/api/settings/database/vacuum"):
        response = app.admin.post(path)
        assert response.status_code == 202
        job = app.admin.get(f"/api/jobs/{response.get_json()['jobId']}").get_json()
        assert job["state"] == "succeeded", job


def test_how_long_things_are_kept_is_changed(app: App) -> None:
    before = app.admin.get("/api/settings/database").get_json()
    assert before["retention"]["auditRetentionDays"]["source"] == "default"
    after = app.admin.patch("/api/settings/database", json={"auditRetentionDays": 30}).get_json()
    assert after["retention"]["auditRetentionDays"] == {"value": 30, "default": 90, "source": "db", "fixedBy": None}
    back = app.admin.put("/api/settings/database", json={"auditRetentionDays": None}).get_json()
    assert back["retention"] == before["retention"]
    assert app.admin.patch("/api/settings/database", json={"auditRetentionDays": 0}).status_code == 400
    assert app.admin.patch("/api/settings/database", json={"file": "/etc/passwd"}).status_code == 400
    assert app.admin.patch("/api/settings/database", json={}).get_json()["retention"] == before["retention"]


def test_version_and_network(shared: App) -> None:
    version = shared.admin.get("/api/system/version").get_json()
    assert version["database"] == "sqlite"
    network = shared.admin.get("/api/network/info").get_json()
    assert network["bind"] == {"host": "127.0.0.1", "port": 20128}
    assert network["isLoopbackOnly"] is True
    assert (network["allowedOrigins"], network["corsAllowedOrigins"]) == ([], [])
    assert {"url": "http://127.0.0.1:20128", "scope": "loopback"} in network["addresses"]


@pytest.mark.parametrize("path", ["/api/restart", "/api/shutdown"])
def test_only_a_served_process_is_restarted_or_stopped(shared: App, path: str) -> None:
    response = shared.admin.post(path)
    assert (response.status_code, error_of(response)["code"]) == (409, "not_supported")
    elsewhere = shared.client(shared.admin_key, address="192.0.2.7").post(path)
    assert (elsewhere.status_code, error_of(elsewhere)["code"]) == (403, "local_only")
    assert shared.client().post(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/telemetry/summary"),
        ("GET", "/api/sessions"),
        ("DELETE", "/api/sessions"),
        ("GET", "/api/logs/console"),
        ("GET", "/api/usage/logs/stream"),
        ("GET", "/api/storage/health"),
        ("POST", "/api/db/health"),
        ("GET", "/api/settings/database"),
        ("POST", "/api/settings/database/vacuum"),
        ("GET", "/api/system/version"),
    ],
)
def test_operation_is_for_management(shared: App, method: str, path: str) -> None:
    assert shared.client().open(path, method=method).status_code == 401
    assert shared.client(shared.key()).open(path, method=method).status_code == 403
