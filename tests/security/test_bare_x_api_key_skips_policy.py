"""All carriers of a credential run the same policy: every carrier against every check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("check", REFUSALS)
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
def test_every_check_refuses_in_every_carrier(gateway: Gateway, carrier: str, check: str, address: str) -> None:
    fields, status, code = REFUSALS[check]
    key = gateway.issue(**fields).secret
    answer = ask(gateway.client(address=address), CARRIERS[carrier](key))
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (status, code)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_admits_a_good_key(gateway: Gateway, carrier: str) -> None:
    issued = gateway.issue()
    answer = ask(gateway.client(address="192.0.2.7"), CARRIERS[carrier](issued.secret))
    assert answer.status_code == 200
    assert answer.get_json()["caller"] == issued.key.id


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
def test_expired_and_revoked_keys_are_refused_in_every_carrier(gateway: Gateway, carrier: str, address: str) -> None:
    client = gateway.client(address=address)
    expiring = gateway.issue(expiresAt=NOW + 60)
    assert ask(client, CARRIERS[carrier](expiring.secret)).status_code == 200
    gateway.clock.pass_(60)
    answer = ask(client, CARRIERS[carrier](expiring.secret))
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (401, "key_expired")
    gone = gateway.issue()
    gateway.keys.revoke(gone.key.id, origin_of_the_host())
    answer = ask(client, CARRIERS[carrier](gone.secret))
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (401, "invalid_api_key")


def origin_of_the_host() -> Any:
    from omniroute.services.keys import SYSTEM

    return SYSTEM


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_mistyped_key_is_not_taken_for_a_placeholder(gateway: Gateway, carrier: str) -> None:
    key = gateway.issue().secret
    for wrong in (key[:-1] + ("0" if key[-1] != "0" else "1"), key[:20] + key[21:], key[:30] + "A" + key[30:]):
        answer = ask(gateway.client(), CARRIERS[carrier](wrong))
        assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_placeholder_is_served_as_local_and_told_so(gateway: Gateway, carrier: str) -> None:
    answer = ask(gateway.client(), CARRIERS[carrier]("not-needed"))
    assert answer.status_code == 200
    assert answer.get_json()["caller"] == "local"
    assert answer.headers["X-OmniRoute-Auth"] == "anonymous"
    assert ask(gateway.client(address="192.0.2.7"), CARRIERS[carrier]("not-needed")).status_code == 401


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_access_token_never_opens_inference(gateway: Gateway, carrier: str) -> None:
    for address in ("127.0.0.1", "192.0.2.7"):
        answer = ask(gateway.client(address=address), CARRIERS[carrier]("oma_live_" + "x" * 43))
        assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (403, "wrong_credential_kind")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer one", "x-api-key": "two"},
        {"x-api-key": "one", "x-goog-api-key": "two"},
        {"x-goog-api-key": "one", "api-key": "two"},
        {"Authorization": "Bearer one", "api-key": "two"},
    ],
)
def test_two_different_credentials_are_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    answer = ask(gateway.client(), headers)
    assert (answer.status_code, answer.headers["X-OmniRoute-Error-Code"]) == (400, "ambiguous_credentials")


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
