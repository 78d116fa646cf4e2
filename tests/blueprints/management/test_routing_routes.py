"""`/api/routing` and `/v1/routing`: what was decided, and for whom to see; replays; what would be decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings) as made:
        yield made


def ask(app: App, key: str | None, model: str = "sandbox/echo") -> str:
    """Send a request and return its id, once its row is there."""
    body = {"model": model, "messages": [{"role": "user", "content": "canary-prompt"}]}
    response = app.client(key).post("/v1/chat/completions", json=body)
    app.own.request_log.flush()
    return response.headers["X-OmniRoute-Request-Id"]


def lines(response: TestResponse) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.mimetype == "application/x-ndjson"
    return [json.loads(line) for line in response.get_data(as_text=True).splitlines()]


class TestDecisions:
    def test_the_record_of_a_request(self, app: App) -> None:
        request_id = ask(app, app.key(scopes=("chat",)))
        response = app.admin.get(f"/api/routing/decisions/{request_id}")
        shown = response.get_json()
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert shown["requestId"] == request_id
        assert shown["request"]["model"] == "sandbox/echo"
        assert [one["target"] for one in shown["candidates"]] == ["sandbox/echo"]
        assert shown["result"]["status"] == 200
        assert shown["replayable"] is True
        assert "canary-prompt" not in response.get_data(as_text=True)

    def test_in_words(self, app: App) -> None:
        request_id = ask(app, app.key(scopes=("chat",)))
        response = app.admin.get(f"/api/routing/decisions/{request_id}?format=text")
        assert response.mimetype == "text/plain"
        assert response.get_data(as_text=True).startswith(f"Request {request_id}, ")
        wrong = app.admin.get(f"/api/routing/decisions/{request_id}?format=xml")
        assert error_of(wrong)["details"][0]["field"] == "format"

    def test_an_unknown_request(self, app: App) -> None:
        response = app.admin.get("/api/routing/decisions/req_none")
        assert response.status_code == 404
        assert error_of(response)["code"] == "not_found"

    def test_a_key_reads_its_own_and_another_one_nothing(self, app: App) -> None:
        mine, other = app.key(scopes=("chat",)), app.key(scopes=("chat",))
        request_id = ask(app, mine)
        for mount in ("/v1", "/v1/v1", "/api/v1", ""):
            own = app.client(mine).get(f"{mount}/routing/decisions/{request_id}")
            assert own.get_json()["requestId"] == request_id
        foreign = app.client(other).get(f"/v1/routing/decisions/{request_id}")
        unknown = app.client(other).get("/v1/routing/decisions/req_01m80q92trkghtzbqmygxgfa7m")
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.get_data() == unknown.get_data()
        assert app.client(mine, "203.0.113.9").get(f"/api/routing/decisions/{request_id}").status_code in (401, 403)
        text = app.client(mine).get(f"/v1/routing/decisions/{request_id}?format=text")
        assert text.get_data(as_text=True).startswith("Request ")

    def test_a_key_that_keeps_no_details_has_no_record(self, app: App) -> None:
        request_id = ask(app, app.key(scopes=("chat",), noLog=True))
        assert app.admin.get(f"/api/routing/decisions/{request_id}").status_code == 404

    def test_a_request_that_failed_is_recorded_too(self, app: App) -> None:
        request_id = ask(app, app.key(scopes=("chat",)), "sandbox/fail-500")
        result = app.admin.get(f"/api/routing/decisions/{request_id}").get_json()["result"]
        assert result["outcome"] == "failed"


class TestReplay:
    SINCE = "2020-01-01T00:00:00Z"

    def replay(self, client: FlaskClient, **body: Any) -> TestResponse:
        return client.post("/api/routing/replay", json={"since": self.SINCE, **body})

    def test_progress_and_then_the_comparison(self, app: App) -> None:
        key = app.key(scopes=("chat",))
        for _ in range(3):
            ask(app, key)
        found = lines(self.replay(app.admin, verify=True))
        assert found[0] == {"type": "progress", "records": 0, "total": 3}
        comparison = found[-1]
        assert (comparison["type"], comparison["requests"], comparison["identical"]) == ("comparison", 3, 3)
        assert comparison["verify"] == {"matched": 3, "mismatched": 0, "notReplayable": 0, "mismatches": []}

    def test_another_policy(self, app: App) -> None:
        ask(app, app.key(scopes=("chat",)), "auto")
        policy = {"combos": [], "strategy": "random", "accountStrategy": "p2c", "resilience": {"restFactor": 0.5}}
        comparison = lines(self.replay(app.admin, policy=policy))[-1]
        assert comparison["requests"] == 1
        assert "verify" not in comparison

    def test_a_range_and_a_model(self, app: App) -> None:
        key = app.key(scopes=("chat",))
        ask(app, key)
        ask(app, key, "sandbox/story")
        assert lines(self.replay(app.admin, model="sandbox/story"))[-1]["requests"] == 1
        assert lines(self.replay(app.admin, until="2021-01-01T00:00:00Z"))[-1]["requests"] == 0

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"since": None}, "since"),
            ({"since": "yesterday"}, "since"),
            ({"policy": {"strategy": "x"}}, "policy.strategy"),
            ({"policy": []}, "policy"),
            ({"verify": 1}, "verify"),
            ({"limit": 5}, "limit"),
        ],
    )
    def test_what_is_wrong_is_named_before_anything_is_sent(self, app: App, body: dict[str, Any], field: str) -> None:
        response = self.replay(app.admin, **body)
        assert response.status_code == 400
        assert error_of(response)["details"][0]["field"] == field

    def test_too_many_records(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        key = app.key(scopes=("chat",))
        ask(app, key)
        ask(app, key)
        monkeypatch.setattr("omniroute.services.decisions.MOST_RECORDS", 1)
        response = self.replay(app.admin)
        assert response.status_code == 400
        assert error_of(response)["details"][0]["field"] == "since"

    def test_an_error_on_the_way_is_the_last_line(self, app: App) -> None:
        ask(app, app.key(scopes=("chat",)))
        response = app.admin.post("/api/routing/replay", json={"since": self.SINCE}, buffered=False)
        body = response.iter_encoded()
        assert b'"progress"' in next(body)
        app.own.database.write(lambda sql: sql.exec_driver_sql("DROP TABLE decisions"))
        (last,) = [json.loads(line) for line in body]
        response.close()
        assert last["type"] == "error"
        assert last["error"]["code"] == "storage_unavailable"

    def test_reading_is_enough_and_less_is_not(self, app: App) -> None:
        chat = app.client(app.key(scopes=("chat",)), "203.0.113.9")
        assert self.replay(chat).status_code in (401, 403)
        assert chat.post("/api/routing/simulate", json={"model": "sandbox/echo"}).status_code in (401, 403)


class TestSimulate:
    @pytest.mark.parametrize("path", ["/api/routing/simulate", "/api/playground/simulate-route"])
    def test_who_would_be_tried(self, app: App, path: str) -> None:
        body = {"model": "sandbox/echo", "promptTokens": 50, "tools": True, "vision": False, "sessionId": "mine"}
        response = app.admin.post(path, json=body)
        shown = response.get_json()
        assert response.status_code == 200
        assert shown["resolved"]["kind"] == "options"
        assert shown["warnings"] == []
        assert [(one["order"], one["model"], one["eligible"]) for one in shown["path"]] == [(1, "sandbox/echo", True)]
        assert shown["path"][0]["estCostUsd"] == 0.0

    def test_nothing_is_sent_logged_or_moved(self, app: App) -> None:
        app.admin.post("/api/routing/simulate", json={"model": "sandbox/echo"})
        app.own.request_log.flush()
        assert app.own.request_log.stats().written == 0

    def test_as_a_key(self, app: App) -> None:
        issued = app.own.keys.create({"name": "k", "allowedModels": ["groq/*"]}, SYSTEM)
        body = {"model": "sandbox/echo", "apiKeyId": issued.key.id}
        assert error_of(app.admin.post("/api/routing/simulate", json=body))["code"] == "model_not_allowed"
        unknown = app.admin.post("/api/routing/simulate", json={**body, "apiKeyId": "key_none"})
        assert error_of(unknown)["details"][0]["field"] == "apiKeyId"

    def test_an_unknown_model(self, app: App) -> None:
        response = app.admin.post("/api/routing/simulate", json={"model": "nobody/nothing"})
        assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")
