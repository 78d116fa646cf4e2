"""What anyone may ask holds no secret, path, address or configuration."""

from __future__ import annotations

import os

from tests.harness import Gateway

OPEN = [
    "/healthz",
    "/api/health/ping",
    "/api/monitoring/health",
    "/api/auth/status",
    "/api/init",
    "/api/settings/require-login",
    "/v1",
    "/login",
]


def test_open_answers_say_nothing_about_the_inside(gateway: Gateway) -> None:
    gateway.issue("very-private-name")
    settings = gateway.settings
    private = [
        str(settings.data_dir),
        settings.data_dir.name + "/",
        "very-private-name",
        "sqlite",
        str(os.getpid()) + ",",
    ]
    for path in OPEN:
        body = gateway.client(address="192.0.2.7").get(path).get_data(as_text=True)
        for text in private:
            assert text not in body, (path, text)


def test_health_without_a_credential_is_one_word_and_a_time(gateway: Gateway) -> None:
    for client in (gateway.client(), gateway.client(address="192.0.2.7")):
        answer = client.get("/api/monitoring/health")
        assert answer.status_code == 200
        assert set(answer.get_json()) == {"status", "timestamp"}


def test_health_with_a_credential_tells_the_rest(gateway: Gateway) -> None:
    body = gateway.logged_in().get("/api/monitoring/health").get_json()
    assert body["status"] == "healthy"
    assert body["system"]["version"]
    assert body["system"]["dataDir"] == str(gateway.settings.data_dir)
    assert body["storage"]["dbBytes"] > 0
    assert body["warnings"] == []


def test_a_wrong_credential_is_not_an_absent_one(gateway: Gateway) -> None:
    answer = gateway.client().get("/api/monitoring/health", headers={"x-api-key": "sk-wrong"})
    assert answer.status_code == 401
    key = gateway.issue().secret
    answer = gateway.client().get("/api/monitoring/health", headers={"x-api-key": key})
    assert answer.status_code == 403


def test_ping_says_no_more_than_that_the_database_answers(gateway: Gateway) -> None:
    answer = gateway.client(address="192.0.2.7").get("/api/health/ping")
    assert answer.status_code == 200
    assert set(answer.get_json()) == {"status", "timestamp", "latencyMs"}


def test_an_unexpected_fault_shows_nothing_of_its_cause(gateway: Gateway) -> None:
    def fail() -> None:
        raise RuntimeError("secret in /home/someone/file: sk-abcdefghijklmnop")

    gateway.app.view_functions["management_keys.index"] = fail  # type: ignore[assignment]
    answer = gateway.logged_in().get("/api/keys")
    assert answer.status_code == 500
    body = answer.get_json()["error"]
    assert body["code"] == "internal_error"
    assert body["requestId"] == answer.headers["X-OmniRoute-Request-Id"]
    assert "someone" not in answer.get_data(as_text=True)
    assert "Traceback" not in answer.get_data(as_text=True)
