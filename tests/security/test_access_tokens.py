"""Access tokens open what their scope says, in management only, and end at once."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.blueprints.tiers import ROUTES, Route, Tier
from omniroute.services.access import Power
from omniroute.services.access_tokens import SHOWN_CHARACTERS
from omniroute.services.keys import SYSTEM
from omniroute.services.lockout import MOST_FAILURES
from tests.harness import PASSWORD, Gateway
from tests.security.test_method_tunnel import concrete

FAR = "192.0.2.7"
MANAGEMENT = (Tier.M_READ, Tier.M_WRITE, Tier.M_ADMIN, Tier.X)
# The prefixes whose routes are admin's, for every method and for mutations alone.
ALWAYS_ADMIN = ("/api/cli/tokens", "/api/db-backups", "/api/policies", "/api/settings/database", "/api/settings/authz")
ADMIN_TO_CHANGE = (
    "/api/providers",
    "/api/provider-nodes",
    "/api/settings/proxy",
    "/api/settings/proxies",
    "/api/settings/require-login",
    "/api/settings/ip-filter",
)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def code(answer: Any) -> str:
    return str(answer.headers.get("X-OmniRoute-Error-Code", ""))


def management_routes() -> list[tuple[Route, str]]:
    return [(route, method) for route in ROUTES if route.tier in MANAGEMENT for method in route.methods]


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_a_scope_opens_what_the_table_says_and_nothing_else(gateway: Gateway, scope: str) -> None:
    client = gateway.client(address=FAR)
    headers = bearer(gateway.token(scope))
    refused, admitted = 0, 0
    for route, method in management_routes():
        if route.rule.startswith(("/api/cli/tokens", "/api/auth", "/api/keys")) and method != "GET":
            continue  # those really change what this test stands on
        answer = client.open(concrete(route.rule), method=method, headers=headers)
        needed = route.needed_power or Power.READ
        if Power[scope.upper()] < needed:
            refused += 1
            assert (answer.status_code, code(answer)) == (403, "scope_insufficient"), (route.rule, method)
            assert answer.get_json()["error"]["details"] == {"held": scope, "required": needed.name.lower()}
        else:
            admitted += 1
            assert code(answer) not in ("scope_insufficient", "auth_required", "token_invalid"), (route.rule, method)
    assert admitted > 30
    assert (refused == 0) is (scope == "admin")


def test_the_table_gives_reads_to_read_and_what_is_dangerous_to_admin() -> None:
    for route, method in management_routes():
        needed = route.needed_power or Power.READ
        if route.rule.startswith(ALWAYS_ADMIN) or (method != "GET" and route.rule.startswith(ADMIN_TO_CHANGE)):
            assert needed is Power.ADMIN, (method, route.rule)
        if method in ("PUT", "PATCH", "DELETE"):
            assert needed >= Power.WRITE, (method, route.rule)


def test_no_scope_opens_inference(gateway: Gateway) -> None:
    for address in (FAR, "127.0.0.1"):
        for carrier in ("Authorization", "x-api-key"):
            secret = gateway.token("admin")
            headers = bearer(secret) if carrier == "Authorization" else {carrier: secret}
            answer = gateway.client(address=address).get("/v1/models", headers=headers)
            assert (answer.status_code, code(answer)) == (403, "wrong_credential_kind")


def test_local_routes_and_pages_are_out_of_reach(gateway: Gateway) -> None:
    client = gateway.client(address=FAR)
    headers = bearer(gateway.token("admin"))
    local = [route for route in ROUTES if route.tier in (Tier.L, Tier.S)]
    for route in local:
        answer = client.open(concrete(route.rule), method=route.methods[0], headers=headers)
        assert (answer.status_code, code(answer)) == (403, "local_only"), route.rule
    assert client.get("/dashboard", headers=headers).status_code == 302


def test_a_revoked_token_ends_at_once_and_says_so(gateway: Gateway) -> None:
    other = gateway.other_worker()
    secret = gateway.token("read")
    token = gateway.tokens.list_all()[0]
    client, elsewhere = gateway.client(address=FAR), other.client(address=FAR)
    assert client.get("/api/keys", headers=bearer(secret)).status_code == 200
    assert elsewhere.get("/api/keys", headers=bearer(secret)).status_code == 200  # looked up once more
    gateway.tokens.revoke(token.id, SYSTEM)
    answer = client.get("/api/keys", headers=bearer(secret))
    assert (answer.status_code, code(answer)) == (401, "token_revoked")
    other.snapshots.refresh()
    assert code(elsewhere.get("/api/keys", headers=bearer(secret))) == "token_revoked"


def test_an_expired_token(gateway: Gateway) -> None:
    secret = gateway.token("read", days=2)
    client = gateway.client(address=FAR)
    gateway.clock.pass_(2 * 86_400 - 1)
    assert client.get("/api/keys", headers=bearer(secret)).status_code == 200
    gateway.clock.pass_(1)
    answer = client.get("/api/keys", headers=bearer(secret))
    assert (answer.status_code, code(answer)) == (401, "token_expired")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("given", ["oma_live_", "oma_live_short", "oma_live_" + "x" * 43, "oma_live_" + "é" * 43])
def test_an_unknown_token(gateway: Gateway, given: str) -> None:
    answer = gateway.client(address=FAR).get("/api/keys", headers=bearer(given))
    assert (answer.status_code, code(answer)) == (401, "token_invalid")


def test_guesses_share_the_lockout_of_the_login(gateway: Gateway) -> None:
    client = gateway.client(address=FAR)
    answers = [client.get("/api/keys", headers=bearer("oma_live_" + str(n) * 43)) for n in range(MOST_FAILURES + 1)]
    assert [answer.status_code for answer in answers] == [401] * (MOST_FAILURES) + [429]
    assert client.post("/api/auth/login", json={"password": PASSWORD}).status_code == 429
    assert client.post("/api/cli/connect", json={"password": PASSWORD}).status_code == 429


def test_connect_with_the_password(gateway: Gateway) -> None:
    client = gateway.client(address=FAR)
    body = client.post("/api/cli/connect", json={"password": PASSWORD, "name": "laptop", "scope": "write"}).get_json()
    assert (body["name"], body["scope"], body["expiresAt"]) == ("laptop", "write", None)
    found = client.get("/api/cli/whoami", headers=bearer(body["token"])).get_json()
    assert (found["viaAccessToken"], found["id"], found["scope"]) == (True, body["id"], "write")
    rows = [(row.action, row.actor, row.outcome) for row in gateway.audited() if row.action.startswith("cli.")]
    assert rows == [("cli.connect.success", f"token:{body['id']}", "success")]


def test_connect_with_a_wrong_password(gateway: Gateway) -> None:
    client = gateway.client(address=FAR)
    for _ in range(MOST_FAILURES):
        answer = client.post("/api/cli/connect", json={"password": "wrong"})
        assert (answer.status_code, code(answer)) == (401, "invalid_password")
    locked = client.post("/api/cli/connect", json={"password": PASSWORD})
    assert (locked.status_code, code(locked)) == (429, "locked")
    assert int(locked.headers["Retry-After"]) > 0
    assert gateway.tokens.list_all() == ()
    actions = [row.action for row in gateway.audited() if row.action.startswith("cli.")]
    assert actions == ["cli.connect.failed"] * MOST_FAILURES + ["cli.connect.locked"]


@pytest.mark.parametrize("password", ["CHANGEME", "123456"])
def test_a_published_password_connects_nobody_from_elsewhere(make_gateway: Any, password: str) -> None:
    gateway = make_gateway(password=password)
    answer = gateway.client(address=FAR).post("/api/cli/connect", json={"password": password})
    assert (answer.status_code, code(answer)) == (403, "default_password")
    assert gateway.client().post("/api/cli/connect", json={"password": password}).status_code == 200


def test_nobody_connects_before_a_password_exists(make_gateway: Any) -> None:
    gateway = make_gateway(password=None)
    answer = gateway.client(address=FAR).post("/api/cli/connect", json={"password": "x"})
    assert (answer.status_code, code(answer)) == (403, "setup_required")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "password"),
        ({"password": PASSWORD, "scope": "root"}, "scope"),
        ({"password": PASSWORD, "expiresInDays": 0}, "expiresInDays"),
        ({"password": PASSWORD, "expiresInDays": 3651}, "expiresInDays"),
        ({"password": PASSWORD, "name": "x" * 101}, "name"),
        ({"password": PASSWORD, "Scope": "read"}, "Scope"),
    ],
)
def test_connect_refuses_what_has_no_meaning(gateway: Gateway, body: dict[str, Any], field: str) -> None:
    answer = gateway.client(address=FAR).post("/api/cli/connect", json=body)
    assert answer.status_code == 400
    assert [detail["field"] for detail in answer.get_json()["error"]["details"]] == [field]
    assert gateway.tokens.list_all() == ()


def test_the_life_of_a_token(gateway: Gateway) -> None:
    admin = gateway.client(address=FAR)
    headers = bearer(gateway.token("admin"))
    made = admin.post("/api/cli/tokens", json={"name": "ci", "expiresInDays": 7}, headers=headers)
    assert (made.status_code, made.get_json()["scope"]) == (201, "read")
    secret = made.get_json()["token"]
    listed = admin.get("/api/cli/tokens", headers=headers)
    row = next(row for row in listed.get_json()["tokens"] if row["name"] == "ci")
    assert (row["tokenPrefix"], row["status"], row["lastUsedAt"]) == (secret[:SHOWN_CHARACTERS], "active", None)
    assert secret not in listed.get_data(as_text=True)
    assert admin.get("/api/keys", headers=bearer(secret)).status_code == 200
    row = next(row for row in admin.get("/api/cli/tokens", headers=headers).get_json()["tokens"] if row["name"] == "ci")
    assert row["lastUsedAt"] is not None
    gone = admin.delete(f"/api/cli/tokens/{secret[:SHOWN_CHARACTERS]}", headers=headers)
    assert gone.get_json() == {"success": True, "id": row["id"]}
    assert admin.delete(f"/api/cli/tokens/{row['id']}", headers=headers).status_code == 404
    row = next(row for row in admin.get("/api/cli/tokens", headers=headers).get_json()["tokens"] if row["name"] == "ci")
    assert row["status"] == "revoked"


def test_an_ambiguous_beginning_names_those_it_fits(gateway: Gateway) -> None:
    headers = bearer(gateway.token("admin"))
    gateway.token("read")
    answer = gateway.client(address=FAR).delete("/api/cli/tokens/oma_live_", headers=headers)
    assert (answer.status_code, code(answer)) == (409, "conflict")
    assert len(answer.get_json()["error"]["details"]["matches"]) == 2


def test_no_file_holds_a_token(gateway: Gateway) -> None:
    secret = gateway.token("admin").encode()
    gateway.client(address=FAR).get("/api/keys", headers=bearer(secret.decode()))
    gateway.client(address=FAR).get("/v1/models", headers=bearer(secret.decode()))
    gateway.database.dispose()
    files = [path for path in gateway.settings.data_dir.rglob("*") if path.is_file()]
    assert files
    assert [path.name for path in files if secret in path.read_bytes()] == []
