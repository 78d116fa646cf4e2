"""The audit log: what is written, what is removed before, and that it never fails a request."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from omniroute.errors import StorageError
from omniroute.secret import Secret
from omniroute.services.audit import Audit, redact
from tests.harness import NOW, Gateway


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "hunter2"}, {"password": "…"}),
        ({"apiKey": "x"}, {"apiKey": "…"}),
        ({"api_key": "x"}, {"api_key": "…"}),
        ({"key": "x"}, {"key": "…"}),
        ({"keyId": "key_1"}, {"keyId": "key_1"}),
        ({"api_key_id": "key_1"}, {"api_key_id": "key_1"}),
        ({"tokens": 12}, {"tokens": 12}),
        ({"accessToken": "x"}, {"accessToken": "…"}),
        ({"Authorization": "Bearer x"}, {"Authorization": "…"}),
        ({"customHeaders": {"Cookie": "a"}}, {"customHeaders": {"Cookie": "…"}}),
        ({"secret": None, "password": ""}, {"secret": None, "password": ""}),
        ({"note": "the key is sk-abcdefghijklmnop1234567890"}, {"note": "the key is …"}),
        ({"note": "Bearer abcdefghij"}, {"note": "…"}),
        ({"note": "oma_live_" + "x" * 43}, {"note": "…"}),
        ({"note": "-----BEGIN RSA PRIVATE KEY-----"}, {"note": "…"}),
        ({"value": Secret("sk-abcdefghijklmnopqrst")}, {"value": "sk-abcde…qrst"}),
        ({"list": [Secret("short"), {"passphrase": "x"}]}, {"list": ["…", {"passphrase": "…"}]}),
        ({"n": 1, "f": 1.5, "b": True}, {"n": 1, "f": 1.5, "b": True}),
        ({"line": "a\nb\x00c"}, {"line": "a b c"}),
    ],
)
def test_redaction(value: Any, expected: Any) -> None:
    assert redact(value) == expected


def test_details_are_bounded() -> None:
    assert len(redact({"x": "y" * 5000})["x"]) == 500
    assert len(redact({"x": list(range(5000))})["x"]) == 100
    deep: Any = "end"
    for _ in range(20):
        deep = {"level": deep}
    assert "end" not in repr(redact(deep))


def test_rows_are_chained_and_the_chain_is_checked(gateway: Gateway) -> None:
    gateway.audit.record("key.created", actor="cli", target_kind="key", target_id="key_1", details={"name": "x"})
    gateway.clock.pass_(1)
    gateway.audit.record("auth.login.failed", actor="anonymous", outcome="failure", address="192.0.2.7")
    rows = gateway.audited()
    assert [(row.action, row.time) for row in rows] == [("key.created", NOW), ("auth.login.failed", NOW + 1)]
    assert gateway.audit.verify().broken_at is None
    gateway.database.write(lambda sql: sql.execute(text("UPDATE audit_log SET actor = 'somebody' WHERE seq = 1")))
    assert gateway.audit.verify().broken_at == 1


def test_a_failed_write_is_counted_and_goes_no_further(gateway: Gateway) -> None:
    class Broken:
        def write(self, work: Any, *, bump: bool = False) -> Any:
            raise StorageError

    audit = Audit(database=Broken(), now=gateway.clock)  # type: ignore[arg-type]
    audit.record("key.created", actor="cli")
    assert audit.failed_writes == 1


def test_the_log_is_read_over_the_api(gateway: Gateway) -> None:
    client = gateway.logged_in()
    gateway.clock.pass_(5)
    gateway.issue("one")
    body = client.get("/api/audit").get_json()
    assert [entry["action"] for entry in body["entries"]] == ["key.created", "auth.login.success"]
    assert body["total"] == 2
    assert body["entries"][0]["time"] == "2027-01-15T08:00:05.000Z"
    alias = client.get("/api/compliance/audit-log?action=auth.&limit=1")
    assert [entry["action"] for entry in alias.get_json()["entries"]] == ["auth.login.success"]
    assert alias.headers["X-Total-Count"] == "1"
    assert client.get("/api/audit?since=2027-01-15T08:00:01Z").get_json()["total"] == 1
    assert client.get("/api/audit?outcome=denied").get_json()["total"] == 0
    assert client.get("/api/audit/verify").get_json() == {"valid": True, "rows": 2, "brokenAt": None}


@pytest.mark.parametrize(
    "query", ["since=yesterday", "outcome=maybe", "limit=0", "limit=201", "offset=-1", "actor=" + "x" * 300]
)
def test_bad_filters_are_named(gateway: Gateway, query: str) -> None:
    answer = gateway.logged_in().get(f"/api/audit?{query}")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["details"][0]["field"] == query.partition("=")[0]
