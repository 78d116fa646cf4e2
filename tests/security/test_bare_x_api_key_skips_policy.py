"""All carriers of a credential run the same policy: every carrier against every check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from omniroute.services.keys import SYSTEM
from tests.harness import NOW, Browser, Gateway

CARRIERS: dict[str, Callable[[str], dict[str, str]]] = {
    "bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "bearer in small letters": lambda key: {"Authorization": f"bearer {key}"},
    "x-api-key": lambda key: {"x-api-key": key},
    "x-goog-api-key": lambda key: {"x-goog-api-key": key},
    "api-key": lambda key: {"api-key": key},
    "x-api-key beside another scheme": lambda key: {"Authorization": "Basic dXNlcjpwYXNz", "x-api-key": key},
}

REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    "disabled": ({"isActive": False}, 403, "key_disabled"),
    "banned": ({"isBanned": True}, 403, "key_disabled"),
    "canary": ({"isCanary": True}, 401, "invalid_api_key"),
    "address": ({"ipAllowlist": ("203.0.113.0/24",)}, 403, "ip_not_allowed"),
    "schedule": (
        {"accessSchedule": {"enabled": True, "from": "20:00", "until": "21:00", "days": (), "tz": "UTC"}},
        403,
        "outside_schedule",
    ),
    "scope": ({"scopes": ("mcp:connect",)}, 403, "endpoint_not_allowed"),
    "endpoint": ({"allowedEndpoints": ("messages",)}, 403, "endpoint_not_allowed"),
    "model": ({"allowedModels": ("groq/*",)}, 403, "model_not_allowed"),
    "blocked model": ({"blockedModels": ("sandbox/*",)}, 403, "model_not_allowed"),
}


def ask(client: Browser, headers: dict[str, str]) -> Any:
    return client.get("/v1/models/sandbox/echo", headers=headers)


@pytest.mark.parametrize("check", REFUSALS)
def test_every_check_refuses_in_every_carrier(gateway: Gateway, check: str) -> None:
    fields, status, code = REFUSALS[check]
    key = gateway.issue(**fields).secret
    for address in ("127.0.0.1", "192.0.2.7"):
        for carrier, headers in CARRIERS.items():
            answer = ask(gateway.client(address=address), headers(key))
            found = (answer.status_code, answer.headers["X-OmniRoute-Error-Code"])
            assert found == (status, code), (carrier, address)


def test_every_carrier_admits_a_good_key(gateway: Gateway) -> None:
    issued = gateway.issue()
    for carrier, headers in CARRIERS.items():
        answer = ask(gateway.client(address="192.0.2.7"), headers(issued.secret))
        assert answer.status_code == 200, carrier
        assert answer.get_json()["caller"] == issued.key.id


def outcome(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("X-OmniRoute-Error-Code", "")


def test_expired_and_revoked_keys_are_refused_in_every_carrier(gateway: Gateway) -> None:
    expiring, gone = gateway.issue(expiresAt=NOW + 60).secret, gateway.issue()
    gateway.keys.revoke(gone.key.id, SYSTEM)
    clients = [gateway.client(address=address) for address in ("127.0.0.1", "192.0.2.7")]
    for client in clients:
        assert ask(client, {"x-api-key": expiring}).status_code == 200
    gateway.clock.pass_(60)
    for client in clients:
        for headers in CARRIERS.values():
            assert outcome(ask(client, headers(expiring))) == (401, "key_expired")
            assert outcome(ask(client, headers(gone.secret))) == (401, "invalid_api_key")


def test_a_mistyped_key_is_not_taken_for_a_placeholder(gateway: Gateway) -> None:
    key = gateway.issue().secret
    for wrong in (key[:-1] + ("0" if key[-1] != "0" else "1"), key[:20] + key[21:], key[:30] + "A" + key[30:]):
        for headers in CARRIERS.values():
            assert outcome(ask(gateway.client(), headers(wrong))) == (401, "invalid_api_key")


def test_a_placeholder_is_served_as_local_and_told_so(gateway: Gateway) -> None:
    for headers in CARRIERS.values():
        answer = ask(gateway.client(), headers("not-needed"))
        assert answer.status_code == 200
        assert answer.get_json()["caller"] == "local"
        assert answer.headers["X-OmniRoute-Auth"] == "anonymous"
        assert ask(gateway.client(address="192.0.2.7"), headers("not-needed")).status_code == 401


def test_an_access_token_never_opens_inference(gateway: Gateway) -> None:
    for address in ("127.0.0.1", "192.0.2.7"):
        for headers in CARRIERS.values():
            answer = ask(gateway.client(address=address), headers("oma_live_" + "x" * 43))
            assert outcome(answer) == (403, "wrong_credential_kind")


def test_two_different_credentials_are_refused(gateway: Gateway) -> None:
    for headers in (
        {"Authorization": "Bearer one", "x-api-key": "two"},
        {"x-api-key": "one", "x-goog-api-key": "two"},
        {"x-goog-api-key": "one", "api-key": "two"},
        {"Authorization": "Bearer one", "api-key": "two"},
    ):
        assert outcome(ask(gateway.client(), headers)) == (400, "ambiguous_credentials")


def test_the_same_credential_twice_is_one(gateway: Gateway) -> None:
    key = gateway.issue().secret
    answer = ask(gateway.client(address="192.0.2.7"), {"Authorization": f"Bearer {key}", "x-api-key": key})
    assert answer.status_code == 200


def test_a_query_parameter_opens_nothing_here(gateway: Gateway) -> None:
    key = gateway.issue(scopes=("chat", "manage")).secret
    client = gateway.client(address="192.0.2.7")
    assert client.get(f"/v1/models?key={key}").status_code == 401
    assert client.get(f"/api/keys?key={key}").status_code == 401


def test_compulsory_keys_bind_loopback_too(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(require_api_key=True)
    client = gateway.client()
    assert ask(client, {}).status_code == 401
    assert ask(client, {"x-api-key": "not-needed"}).status_code == 401
    assert ask(client, {"x-api-key": gateway.issue().secret}).status_code == 200


def test_the_stored_switch_can_tighten(gateway: Gateway) -> None:
    assert ask(gateway.client(), {}).status_code == 200
    gateway.store("security", "requireApiKey", True)
    assert ask(gateway.client(), {}).status_code == 401


def test_the_stored_switch_cannot_loosen(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(require_api_key=True)
    gateway.store("security", "requireApiKey", False)
    assert ask(gateway.client(), {}).status_code == 401
