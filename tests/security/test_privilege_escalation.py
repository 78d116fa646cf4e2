"""No credential opens more than its table says."""

from __future__ import annotations

import pytest

from omniroute.blueprints.tiers import ROUTES, Tier
from omniroute.errors import PermissionDenied
from omniroute.services.access import Actor, ActorKind, Power
from omniroute.services.keys import Origin
from tests.harness import Gateway
from tests.security.test_method_tunnel import concrete

MANAGEMENT = [
    (method, concrete(route.rule))
    for route in ROUTES
    for method in route.methods
    if route.tier in (Tier.M_READ, Tier.M_WRITE, Tier.M_ADMIN, Tier.X, Tier.L, Tier.S)
]
PLAIN_SCOPES = [
    (),
    ("chat",),
    ("mcp:connect",),
    ("keys", "providers", "system", "auth"),
    ("a2a", "reserve:use"),
    ("skills:*",),
    ("self:usage", "self:quota"),
]


def test_no_key_without_manage_opens_management(gateway: Gateway) -> None:
    client = gateway.client()
    for scopes in PLAIN_SCOPES:
        headers = {"Authorization": f"Bearer {gateway.issue(scopes=scopes).secret}"}
        for method, path in MANAGEMENT:
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == 403, (scopes, method, path)
            assert answer.headers["X-OmniRoute-Error-Code"] == "key_not_allowed"


@pytest.mark.parametrize("scope", ["manage", "admin"])
def test_a_manage_key_opens_management_and_inference(gateway: Gateway, scope: str) -> None:
    client = gateway.client(address="192.0.2.7")
    headers = {"Authorization": f"Bearer {gateway.issue(scopes=(scope,)).secret}"}
    assert client.get("/api/keys", headers=headers).status_code == 200
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/dashboard", headers=headers).status_code == 302  # pages are for sessions


def test_only_scopes_for_inference_open_it(gateway: Gateway) -> None:
    client = gateway.client()
    for scopes in PLAIN_SCOPES:
        headers = {"x-api-key": gateway.issue(scopes=scopes).secret}
        opens = not scopes or "chat" in scopes
        assert (client.get("/v1/models", headers=headers).status_code == 200) is opens, scopes
        assert (client.post("/v1/messages", json={}, headers=headers).status_code == 200) is opens, scopes


def test_a_key_may_look_at_itself_with_that_scope_only(gateway: Gateway) -> None:
    own = gateway.issue(scopes=("mcp:connect",))
    assert "self:usage" in own.key.scopes
    assert gateway.client().get("/v1/me/status", headers={"x-api-key": own.secret}).status_code == 200
    from omniroute.services.keys import SYSTEM

    gateway.keys.change(own.key.id, {"scopes": ("chat",)}, SYSTEM)
    assert gateway.client().get("/v1/me/status", headers={"x-api-key": own.secret}).status_code == 403


def test_the_environment_key_opens_inference_only(gateway: Gateway, make_gateway: object) -> None:
    from omniroute.secret import Secret

    key = "an-environment-key-of-some-length"
    other = make_gateway(env_api_key=Secret(key))  # type: ignore[operator]
    client = other.client(address="192.0.2.7")
    answer = client.get("/v1/models", headers={"x-api-key": key})
    assert answer.get_json()["caller"] == "env"
    assert client.get("/api/keys", headers={"x-api-key": key}).status_code == 403
    assert client.get("/v1/models", headers={"x-api-key": key + "x"}).status_code == 401


@pytest.mark.parametrize("scope", ["manage", "admin", "mcp:connect"])
def test_less_than_admin_cannot_make_a_powerful_key(gateway: Gateway, scope: str) -> None:
    weak = Origin(Actor(ActorKind.KEY, Power.WRITE, "tok_1"))
    with pytest.raises(PermissionDenied) as refusal:
        gateway.keys.create({"name": "x", "scopes": (scope,)}, weak)
    assert refusal.value.extras == {"held": "write", "required": "admin"}
    plain = gateway.keys.create({"name": "x"}, weak)
    with pytest.raises(PermissionDenied):
        gateway.keys.change(plain.key.id, {"scopes": ("chat", scope)}, weak)
    strong = gateway.issue(scopes=(scope,), isActive=False)
    for change in ({"isActive": True}, {"expiresAt": None, "ipAllowlist": ()}):
        if change == {"isActive": True}:
            with pytest.raises(PermissionDenied):
                gateway.keys.change(strong.key.id, change, weak)
    with pytest.raises(PermissionDenied):
        gateway.keys.regenerate(strong.key.id, weak)
    assert gateway.keys.change(strong.key.id, {"name": "renamed"}, weak).name == "renamed"


def test_a_canary_is_refused_like_an_unknown_key_and_reported_once_a_minute(gateway: Gateway) -> None:
    canary = gateway.issue(isCanary=True)
    unknown = "sk-" + "a" * 12 + "-" + "b" * 43 + "-" + "0" * 8
    client = gateway.client(address="192.0.2.7")

    def body(secret: str) -> object:
        return client.get("/v1/models", headers={"x-api-key": secret}).get_json()

    assert body(canary.secret) == body(unknown)
    assert gateway.canaries == [(canary.key.id, "192.0.2.7")]
    gateway.clock.pass_(61)
    body(canary.secret)
    assert len(gateway.canaries) == 2


def test_denials_are_audited_once_a_minute(make_gateway: object) -> None:
    gateway: Gateway = make_gateway()  # type: ignore[operator]
    client = gateway.logged_in()
    for _ in range(3):
        client.post("/api/keys", json={"name": "x"}, headers={"Origin": "https://evil.example"})
    rows = gateway.audited("authz.denied")
    assert len(rows) == 1
    assert rows[0].details == {"code": "origin_refused"}
    assert rows[0].target_id == "POST /api/keys"
    gateway.clock.pass_(61)
    client.post("/api/keys", json={"name": "x"}, headers={"Origin": "https://evil.example"})
    assert len(gateway.audited("authz.denied")) == 2
