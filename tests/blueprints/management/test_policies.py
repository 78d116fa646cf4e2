"""`/api/policies`, `/api/keys/{id}/reveal` and what can be purged besides logs and usage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.records import GrantWindow, QuotaReading
from omniroute.secret import Secret
from omniroute.settings import Settings
from omniroute.storage.repositories import api_keys as key_rows
from omniroute.storage.repositories import audit as audit_rows
from omniroute.storage.repositories import quotas as quota_rows
from omniroute.storage.secrets import Cipher
from tests.blueprints.app import App, error_of, whole_app

CHAT = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings, host="0.0.0.0") as built:
        yield built


# --- locked addresses ------------------------------------------------------------------------------------------------


def fail_often(app: App, address: str) -> int:
    client = app.client(address=address)
    return [client.post("/api/auth/login", json={"password": "wrong password"}).status_code for _ in range(6)][-1]


def test_a_locked_address_is_listed_and_let_in_again(app: App) -> None:
    assert app.admin.get("/api/policies").get_json() == {"locked": [], "total": 0}
    assert fail_often(app, "198.51.100.7") == 429
    (locked,) = app.admin.get("/api/policies").get_json()["locked"]
    assert (locked["identifier"], locked["kind"], locked["failures"] >= 5) == ("198.51.100.7", "address", True)
    body = {"action": "unlock", "identifier": "198.51.100.7"}
    assert app.admin.post("/api/policies", json=body).get_json() == {"success": True, "identifier": "198.51.100.7"}
    assert app.admin.get("/api/policies").get_json()["total"] == 0
    login = app.client(address="198.51.100.7").post("/api/auth/login", json={"password": "correct horse battery"})
    assert login.status_code == 200
    assert app.admin.post("/api/policies", json=body).status_code == 404
    entries, _ = app.own.audit.entries(limit=1, action="policy.unlocked")
    assert entries[0].target_id == "198.51.100.7"


def test_a_guesser_is_let_in_again_by_every_worker(app: App, settings: Settings) -> None:
    guess = "sk-abcdefghijkl-" + "x" * 43 + "-00000000"
    with whole_app(settings, host="0.0.0.0") as other:
        client = other.client(guess, address="198.51.100.8")
        codes = [client.post("/v1/chat/completions", json=CHAT).status_code for _ in range(7)]
        assert codes[-1] == 429
        app.own.locked_out.unlock("198.51.100.8", _system())
        other.own.snapshots.poll_once()
        assert client.post("/v1/chat/completions", json=CHAT).status_code == 401


def _system() -> Any:
    from omniroute.services.keys import SYSTEM

    return SYSTEM


@pytest.mark.parametrize("body", [{}, {"action": "lock", "identifier": "x"}, {"action": "unlock"}])
def test_nothing_else_is_done(app: App, body: dict[str, Any]) -> None:
    assert error_of(app.admin.post("/api/policies", json=body))["code"] == "validation_failed"


# --- showing keys again ----------------------------------------------------------------------------------------------


def make(app: App, **fields: Any) -> dict[str, Any]:
    response = app.admin.post("/api/keys", json={"name": "k", **fields})
    assert response.status_code == 201, response.get_json()
    found: dict[str, Any] = response.get_json()
    return found


def test_keys_are_hashes_unless_the_operator_wants_more(app: App) -> None:
    made = make(app)
    assert app.admin.get("/api/keys").get_json()["allowKeyReveal"] is False
    refused = app.admin.get(f"/api/keys/{made['id']}/reveal")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "reveal_disabled")


def test_keys_made_from_then_on_can_be_shown(settings: Settings) -> None:
    with whole_app(settings) as app:
        before = make(app)
    with whole_app(settings, allow_key_reveal=True) as app:
        assert app.admin.get("/api/keys").get_json()["allowKeyReveal"] is True
        old = app.admin.get(f"/api/keys/{before['id']}/reveal")
        assert (old.status_code, error_of(old)["code"]) == (404, "not_revealable")
        made = make(app, scopes=["manage"])
        shown = app.admin.get(f"/api/keys/{made['id']}/reveal")
        assert shown.get_json() == {"key": made["key"]}
        assert shown.headers["Cache-Control"] == "no-store"
        entries, _ = app.own.audit.entries(limit=1, action="key.revealed")
        assert (entries[0].target_id, entries[0].details) == (made["id"], {"name": "k"})
        assert made["key"] not in str(entries)
        again = app.admin.post(f"/api/keys/{before['id']}/regenerate", json={}).get_json()
        assert app.admin.get(f"/api/keys/{before['id']}/reveal").get_json() == {"key": again["key"]}
        assert app.admin.get("/api/keys/nobody/reveal").status_code == 404
        token = app.admin.post("/api/cli/tokens", json={"name": "w", "scope": "write"}).get_json()["token"]
        weak = app.client(token).get(f"/api/keys/{made['id']}/reveal")
        assert (weak.status_code, error_of(weak)["code"]) == (403, "scope_insufficient")
        app.admin.delete(f"/api/keys/{made['id']}")
        assert app.own.database.read(lambda sql: key_rows.reveal(sql, made["id"], Cipher(bytes(32)))) is None
    with whole_app(settings) as app:
        stored = app.own.database.read(lambda sql: key_rows.reveal(sql, before["id"], Cipher(bytes(32))))
        assert stored is None, "what could be shown goes at the next start without it"
        assert app.client(again["key"]).post("/v1/chat/completions", json=CHAT).status_code == 200


def test_without_its_encryption_key_a_server_still_makes_keys(settings: Settings) -> None:
    with whole_app(settings, allow_key_reveal=True) as app:
        app.own.connections.create({"provider": "groq", "apiKey": "gsk_0123456789"}, _system())
    (settings.data_dir / "secrets" / "encryption_key").unlink()
    with whole_app(settings, allow_key_reveal=True) as app:
        made = make(app)
        refused = app.admin.get(f"/api/keys/{made['id']}/reveal")
        assert (refused.status_code, error_of(refused)["code"]) == (404, "not_revealable")
        assert app.client(made["key"]).post("/v1/chat/completions", json=CHAT).status_code == 200


def test_a_key_of_another_encryption_key_is_said_to_be_unreadable(settings: Settings) -> None:
    with whole_app(settings, allow_key_reveal=True) as app:
        made = make(app)
        foreign = Cipher(b"x" * 32)
        app.own.database.write(lambda sql: key_rows.store_readable(sql, made["id"], Secret("sk-x"), foreign))
        refused = app.admin.get(f"/api/keys/{made['id']}/reveal")
        assert (refused.status_code, error_of(refused)["code"]) == (503, "credential_unreadable")


# --- purging ---------------------------------------------------------------------------------------------------------


def test_old_audit_rows_are_removed_and_the_chain_still_holds(app: App) -> None:
    rows = [
        {
            "id": f"aud_{n:026d}",
            "time": time.time() - 40 * 86_400,
            "action": "server.started",
            "actor": "system",
            "outcome": "success",
            "target_kind": None,
            "target_id": None,
            "address": None,
            "user_agent": None,
            "request_id": None,
            "details": None,
        }
        for n in range(1200)
    ]

    def work(sql: Any) -> None:
        for row in rows:
            audit_rows.append(sql, row)

    app.own.database.write(work)
    path = "/api/settings/purge/audit-older"
    assert error_of(app.admin.post(path, json={}))["code"] == "validation_failed"
    assert app.admin.post(path, json={"olderThanDays": 90}).get_json() == {"deleted": 0}
    deleted = app.admin.post("/api/settings/purge-audit-older", json={"olderThanDays": 30}).get_json()["deleted"]
    assert 190 <= deleted <= 210
    assert app.own.audit.verify().broken_at is None
    entries, _ = app.own.audit.entries(limit=1, action="audit.purged")
    assert entries[0].details == {"olderThanDays": 30, "rows": deleted}


def test_old_readings_of_quotas_are_removed(app: App) -> None:
    now = time.time()
    readings = [QuotaReading("conn_1", GrantWindow("5h", 0.5), now - days * 86_400, "headers") for days in (0, 5)]
    app.own.database.write(lambda sql: quota_rows.save(sql, readings))
    path = "/api/settings/purge/quota"
    assert app.admin.post(path, json={"olderThanDays": 3}).get_json() == {"deleted": 1}
    assert app.admin.post("/api/settings/purge-quota").get_json() == {"deleted": 1}
    assert app.own.audit.entries(limit=1, action="quota.purged")[1] == 2
