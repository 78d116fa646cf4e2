"""Credentials are looked up by hash: what they contain never reaches SQL, on any path, errors included."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from tests.harness import Gateway

HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE api_keys; --",
    "sk-aaaaaaaaaaaa-' UNION SELECT key_hash FROM api_keys --aaaaaaaaaaaaaaaaaaaaaa-00000000",
    '" OR ""="',
    "%",
    "_" * 43,
    "\\x00",
    "%s%s%s%n",
    "{{7*7}}",
    "a" * 8000,
    "ключ",
    "\x7f\x80\xff",
]


@pytest.fixture
def statements(gateway: Gateway) -> list[str]:
    seen: list[str] = []

    def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        seen.append(f"{statement} {parameters!r}")

    event.listen(gateway.database.engine, "before_cursor_execute", remember)
    return seen


def test_hostile_credentials_are_only_wrong(gateway: Gateway, statements: list[str]) -> None:
    gateway.issue()
    statements.clear()
    client = gateway.client(address="192.0.2.7")
    for text in HOSTILE:
        value = text.encode("utf-8").decode("latin-1")
        carriers = {"HTTP_AUTHORIZATION": f"Bearer {value}", "HTTP_X_API_KEY": value, "HTTP_API_KEY": value}
        for name, sent in carriers.items():
            for path in ("/v1/models", "/api/keys", "/api/usage/logs", "/metrics"):
                answer = client.get(path, environ_overrides={name: sent})
                assert answer.status_code == 401, (path, name, text)
                assert len(text) == 1 or text[:40] not in answer.get_data(as_text=True)
    assert statements == []
    assert len(gateway.keys.usable()) == 1


def test_hostile_cookies_and_tokens_are_only_wrong(gateway: Gateway, statements: list[str]) -> None:
    client = gateway.client(address="192.0.2.7", cookies=False)
    for text in HOSTILE:
        value = text.encode("utf-8").decode("latin-1").replace(";", "").replace('"', "")
        cookie = {"HTTP_COOKIE": f"auth_token={value}"}
        assert client.get("/api/keys", environ_overrides=cookie).status_code == 401
        assert client.get("/dashboard", environ_overrides=cookie).status_code == 302
        token = {"HTTP_X_OMNIROUTE_CLI_TOKEN": value}
        assert client.get("/api/keys", environ_overrides=token).status_code == 401
    assert statements == []


def test_hostile_ids_and_filters_find_nothing(gateway: Gateway) -> None:
    gateway.issue()
    client = gateway.logged_in()
    for text in ("' OR 1=1 --", "%", "_", "req_'; DELETE FROM request_log; --"):
        assert client.get("/api/keys/" + text.replace("%", "%25").replace("/", "")).status_code == 404
        for name in ("q", "model", "provider", "apiKeyId", "connection", "sessionId"):
            assert client.get("/api/usage/logs", query_string={name: text}).get_json()["total"] == 0
        for name in ("action", "actor", "target", "requestId"):
            assert client.get("/api/audit", query_string={name: text}).get_json()["total"] == 0
    assert len(gateway.keys.usable()) == 1
