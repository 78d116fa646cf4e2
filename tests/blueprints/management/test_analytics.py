"""`/api/usage/analytics`, `/latency`, `/active`, exports, purges and the usage of a key, through HTTP."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.records import RequestRecord
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

DAY_S = 86_400


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("analytics")
    with whole_app(Settings(data_dir=data_dir, instance_name="test", app_log_to_file=False)) as made:
        yield made


def record(number: int, **changes: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "request_id": f"req_{number:04}",
        "time": time.time() - 60,
        "endpoint": "/v1/chat/completions",
        "client_format": "openai_chat",
        "requested_model": "groq/llama",
        "model": "llama",
        "provider": "groq",
        "connection_id": "conn_gone",
        "status": 200,
        "outcome": "success",
        "tokens_in": 100,
        "tokens_out": 10,
        "cache_read": 40,
        "cost_nano_usd": 100_000_001,
        "cost_kind": "billed",
        "duration_ms": 400.0,
        "ttft_ms": 30.0,
    }
    return RequestRecord(**(values | changes))


@pytest.fixture(scope="module")
def filled(app: App) -> App:
    key = app.own.keys.create({"name": "laptop"}, SYSTEM).key
    for item in (
        record(1, api_key_id=key.id),
        record(2, api_key_id=key.id, cost_nano_usd=200_000_002),
        record(3, api_key_id="local", outcome="failed", status=502, error_code="=HYPERLINK(1)", tag="+cmd|' /C'!A0"),
        record(4, api_key_id="local", cost_kind="subscription", provider="claude", model="opus", cost_nano_usd=7),
        record(5, api_key_id="env", cost_kind="unpriced", cost_nano_usd=None, is_estimated=True, combo_id="combo_x"),
        record(6, time=time.time() - 40 * DAY_S, duration_ms=90_000.0, extra_nano_usd=5),
        record(7, kind="test", api_key_id="local"),
        record(8, outcome="cancelled", status=499, api_key_id="local", session_hash="abc"),
    ):
        app.own.request_log.put(item)
    app.own.request_log.flush()
    return app


def test_a_report_adds_up(filled: App) -> None:
    body = filled.admin.get("/api/usage/analytics").get_json()
    assert body["range"]["name"] == "30d"
    totals = body["totals"]
    assert (totals["requests"], totals["succeeded"], totals["failed"], totals["cancelled"]) == (6, 4, 1, 1)
    assert (totals["tokensIn"], totals["tokensOut"], totals["cacheRead"]) == (600, 60, 240)
    assert totals["billedUsd"] == totals["costUsd"] == 0.500000005
    assert totals["subscriptionUsd"] == 7e-09
    assert (totals["unpricedRequests"], totals["estimatedRequests"]) == (1, 1)
    assert (totals["avgLatencyMs"], totals["avgTtftMs"], totals["fallbackRate"]) == (400.0, 30.0, 0.0)
    for name in ("byProvider", "byModel", "byKey", "byConnection"):
        assert sum(row["requests"] for row in body[name]) == 6
    assert [(row["provider"], row["model"]) for row in body["byModel"]] == [("groq", "llama"), ("claude", "opus")]
    keys = {row["name"]: row["billedUsd"] for row in body["byKey"]}
    assert keys == {"laptop": 0.300000003, "local": 0.200000002, "environment key": 0.0}
    assert [(row["comboId"], row["name"], row["requests"]) for row in body["byCombo"]] == [("combo_x", None, 1)]
    assert {row["name"] for row in body["byConnection"]} == {None}, "a connection that is no more keeps its row"
    assert sum(point["requests"] for point in body["series"]) == 6


@pytest.mark.parametrize("name", ["24h", "7d", "30d", "90d", "365d", "all"])
def test_each_range(filled: App, name: str) -> None:
    body = filled.admin.get(f"/api/usage/analytics?range={name}").get_json()
    assert body["totals"]["requests"] == (7 if name in ("90d", "365d", "all") else 6)
    assert body["range"]["stepSec"] == {"24h": 3600, "7d": 3600}.get(name, DAY_S)
    assert sum(point["requests"] for point in body["series"]) == body["totals"]["requests"]
    assert body["range"]["start"] < body["range"]["end"]


def test_narrowing_to_a_combo(filled: App) -> None:
    body = filled.admin.get("/api/usage/analytics?combo=combo_x").get_json()
    assert body["totals"]["requests"] == 1
    assert [row["comboId"] for row in body["byCombo"]] == ["combo_x"]
    assert filled.admin.get("/api/usage/analytics?combo=combo_y").get_json()["totals"]["requests"] == 0
    assert len(filled.admin.get("/api/usage/latency?combo=combo_x").get_json()["latency"]) == 1


def test_narrowing_and_grouping(filled: App) -> None:
    laptop = next(key["id"] for key in filled.admin.get("/api/keys").get_json()["keys"] if key["name"] == "laptop")
    for query, requests in (
        (f"apiKeyId={laptop}", 2),
        ("apiKeyId=local", 3),
        ("provider=claude", 1),
        ("model=llama", 5),
        ("provider=claude&model=llama", 0),
    ):
        body = filled.admin.get(f"/api/usage/analytics?{query}").get_json()
        assert body["totals"]["requests"] == requests
    empty = filled.admin.get("/api/usage/analytics?provider=none").get_json()["totals"]
    assert (empty["requests"], empty["avgLatencyMs"], empty["costUsd"]) == (0, None, 0.0)
    for by, name in (("key", "byKey"), ("combo", "byCombo"), ("day", "series")):
        body = filled.admin.get(f"/api/usage/analytics?range=24h&groupBy={by}").get_json()
        assert body["groups"] == body[name]
    days = filled.admin.get("/api/usage/analytics?range=365d&groupBy=day").get_json()
    assert (len(days["groups"]), days["range"]["stepSec"]) == (2, DAY_S)


def test_a_range_of_ones_own(filled: App) -> None:
    def asked(start: float, end: float) -> Any:
        times = {"start": iso(start), "end": iso(end)}
        return filled.admin.get("/api/usage/analytics", query_string=times).get_json()

    now = time.time()
    assert asked(now - 41 * DAY_S, now - 39 * DAY_S)["totals"]["requests"] == 1
    recent = asked(now - 3600, now + 3600)
    assert (recent["totals"]["requests"], recent["range"]["stepSec"]) == (6, 3600)
    assert asked(now - 30 * DAY_S, now - 20 * DAY_S)["totals"]["requests"] == 0


def iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("range=1h", "range"),
        ("groupBy=colour", "groupBy"),
        ("range=7d&start=2027-01-01T00:00:00Z", "range"),
        ("start=yesterday", "start"),
        ("start=2027-01-02T00:00:00Z&end=2027-01-01T00:00:00Z", "start"),
        ("start=2999-01-01T00:00:00Z", "start"),
        ("apiKeyId=key_of_nobody", "apiKeyId"),
        (f"model={'x' * 300}", "model"),
    ],
)
def test_what_is_not_known_is_named(filled: App, query: str, field: str) -> None:
    answer = filled.admin.get(f"/api/usage/analytics?{query}")
    assert answer.status_code == 400
    assert error_of(answer)["details"][0]["field"] == field


@pytest.mark.parametrize("period", ["today", "7d", "30d", "month"])
def test_what_it_cost(filled: App, period: str) -> None:
    body = filled.admin.get(f"/api/usage/cost?period={period}&groupBy=provider").get_json()
    assert body["period"] == period
    assert body["totals"]["billedUsd"] == 0.500000005
    assert sum(row["requests"] for row in body["groups"]) == body["totals"]["requests"]
    assert {row["provider"] for row in body["groups"]} <= {"groq", "claude"}
    assert body["forecastUsd"] is None or body["forecastUsd"] >= body["monthBilledUsd"]


def test_what_each_day_cost(filled: App) -> None:
    body = filled.admin.get("/api/usage/cost?groupBy=day").get_json()
    assert body["period"] == "month"
    assert sum(row["billedUsd"] for row in body["groups"]) == pytest.approx(body["monthBilledUsd"])
    assert filled.admin.get("/api/usage/cost").get_json()["groups"] == []
    for query in ("period=year", "groupBy=colour"):
        assert filled.admin.get(f"/api/usage/cost?{query}").status_code == 400


def test_latency(filled: App) -> None:
    for path in ("/api/usage/latency", "/api/usage/model-latency-stats"):
        body = filled.admin.get(path).get_json()
        rows = {row["model"]: row for row in body["latency"]}
        assert rows["llama"]["count"] == 5
        assert 250 <= rows["llama"]["p50Ms"] <= rows["llama"]["p95Ms"] <= rows["llama"]["p99Ms"] <= 500
    body = filled.admin.get("/api/usage/latency?by=provider&windowHours=2000").get_json()
    groq = next(row for row in body["latency"] if row["provider"] == "groq")
    assert (groq["count"], groq["p99Ms"], groq["beyondLastBound"]) == (6, 60_000.0, ["p95", "p99"])
    assert filled.admin.get("/api/usage/latency?windowHours=0").status_code == 400
    assert filled.admin.get("/api/usage/latency?windowHours=9999").status_code == 400
    assert filled.admin.get("/api/usage/latency?by=key").status_code == 400


def test_the_usage_of_a_key(filled: App) -> None:
    laptop = next(key["id"] for key in filled.admin.get("/api/keys").get_json()["keys"] if key["name"] == "laptop")
    body = filled.admin.get(f"/api/keys/{laptop}/usage").get_json()
    assert (body["keyId"], body["keyName"]) == (laptop, "laptop")
    assert body["totals"]["allTime"]["requests"] == body["totals"]["last30Days"]["requests"] == 2
    assert body["totals"]["allTime"]["billedUsd"] == 0.300000003
    assert filled.admin.get("/api/keys/key_of_nobody/usage").status_code == 404


def test_logs_by_combo_and_session(filled: App) -> None:
    def ids(query: str) -> list[str]:
        return [row["id"] for row in filled.admin.get(f"/api/usage/logs?{query}").get_json()["logs"]]

    assert ids("combo=combo_x") == ["req_0005"]
    assert ids("sessionId=abc") == ["req_0008"]
    assert ids("combo=other") == []
    body = filled.admin.get("/api/usage/logs?limit=1").get_json()
    assert (body["isTotalCapped"], body["searchedSince"], body["total"]) == (False, None, 8)


def test_exported_rows(filled: App) -> None:
    answer = filled.admin.get("/api/usage/export?format=csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="omniroute-requests.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
    assert len(rows) == 8
    assert rows[-1]["id"] == "req_0006"
    bad = next(row for row in rows if row["id"] == "req_0003")
    assert (bad["errorCode"], bad["tag"]) == ("'=HYPERLINK(1)", "'+cmd|' /C'!A0")
    assert next(row for row in rows if row["id"] == "req_0004")["costUsd"] == "0.000000007"
    lines = filled.admin.get("/api/logs/export?format=jsonl&apiKeyId=local").get_data(as_text=True)
    found = [json.loads(line) for line in lines.splitlines()]
    assert {row["id"] for row in found} == {"req_0003", "req_0004", "req_0007", "req_0008"}
    assert next(row for row in found if row["id"] == "req_0003")["errorCode"] == "=HYPERLINK(1)"
    nothing = filled.admin.get("/api/usage/export?provider=none")
    assert nothing.get_data(as_text=True).count("\r\n") == 1, "the header alone"
    assert filled.admin.get("/api/usage/export?format=xlsx").status_code == 400
    assert filled.admin.get("/api/usage/export?status=soon").status_code == 400


def test_exported_days(filled: App) -> None:
    answer = filled.admin.get("/api/usage/export?of=daily&format=jsonl")
    rows = [json.loads(line) for line in answer.get_data(as_text=True).splitlines()]
    assert sum(row["requests"] for row in rows) == 7
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)
    assert {row["apiKeyName"] for row in rows} == {None, "laptop", "local", "environment key"}
    narrowed = filled.admin.get("/api/usage/export?of=daily&provider=claude").get_data(as_text=True)
    assert [row["subscriptionUsd"] for row in csv.DictReader(io.StringIO(narrowed))] == ["0.000000007"]
    assert filled.admin.get("/api/usage/export?of=daily&q=x").status_code == 400
    assert filled.admin.get("/api/usage/export?of=hourly").status_code == 400


def test_a_large_export_comes_in_parts(filled: App) -> None:
    parts = list(filled.own.usage.walk(filled_filters()))
    assert sum(len(part) for part in parts) == 8
    answer = filled.admin.get("/api/usage/export", buffered=False)
    pieces: Iterator[Any] = iter(answer.response)
    assert next(pieces).startswith(b"id,requestId,time,")
    answer.close()


def filled_filters() -> Any:
    from omniroute.services.usage import Filters

    return Filters()


def test_nothing_is_in_flight_and_nothing_can_be_cancelled(filled: App) -> None:
    assert filled.admin.get("/api/usage/active").get_json() == {"active": [], "total": 0}
    assert filled.admin.delete("/api/usage/active/req_none").status_code == 404


def test_purges(tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path, instance_name="test", app_log_to_file=False)
    with whole_app(settings) as app:
        for number, age_days in enumerate((0, 5, 10, 50)):
            app.own.request_log.put(record(number, time=time.time() - age_days * DAY_S))
        app.own.request_log.flush()

        def requests() -> tuple[int, int]:
            logs = app.admin.get("/api/usage/logs").get_json()["total"]
            sums = app.admin.get("/api/usage/analytics?range=all").get_json()["totals"]["requests"]
            return logs, sums

        assert requests() == (4, 4)
        for what, days in (("logs", 7), ("usage", 20), ("quota", 1), ("audit-older", 1)):
            body = {"olderThanDays": days, "dryRun": True}
            coming = app.admin.post(f"/api/settings/purge/{what}", json=body).get_json()["deleted"]
            assert coming == {"logs": 2, "usage": 2}.get(what, 0), what
        assert requests() == (4, 4), "a dry run removes nothing"
        assert app.admin.post("/api/settings/purge/logs", json={"olderThanDays": 7}).get_json() == {"deleted": 2}
        assert requests() == (2, 4)
        assert app.admin.post("/api/settings/purge-usage", json={"olderThanDays": 20}).get_json()["deleted"] >= 2
        assert requests() == (2, 3)
        assert app.admin.post("/api/settings/purge-logs").get_json() == {"deleted": 2}
        app.admin.post("/api/settings/purge/usage", json={})
        assert requests() == (0, 0)
        assert app.admin.post("/api/settings/purge/logs", json={"olderThanDays": -1}).status_code == 400
        assert app.admin.post("/api/settings/purge/logs", json={"olderThanDay": 1}).status_code == 400
        writer = app.client(app.key())
        assert writer.post("/api/settings/purge/logs").status_code == 403
        actions = [row["action"] for row in app.admin.get("/api/audit").get_json()["entries"]]
        assert (actions.count("logs.purged"), actions.count("usage.purged")) == (2, 2)
