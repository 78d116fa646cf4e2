from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection as Sql
from sqlalchemy import text

from omniroute.errors import Conflict
from omniroute.records import AccessSchedule, ApiKey, AuthType, Connection, Node, NodeType, RateRule, Session
from omniroute.secret import Secret
from omniroute.storage.database import Database
from omniroute.storage.repositories import (
    api_keys,
    audit,
    ciphertext,
    claims,
    connections,
    credentials,
    login_attempts,
    nodes,
    sessions,
    settings,
)
from omniroute.storage.secrets import Cipher, CredentialUnreadable
from tests.storage.conftest import NOW, SECRET

CONNECTION = Connection(
    id="conn_1",
    provider="groq",
    auth_type=AuthType.API_KEY,
    name="Main",
    priority=2,
    is_active=True,
    credential=SECRET,
    default_model="llama",
    group_name="fast",
    max_concurrent=3,
    requests_per_minute=60,
    min_gap_ms=5,
    proxy_enabled=True,
    provider_data={"region": "eu", "nested": {"a": [1, 2]}},
    created_at=NOW,
    updated_at=NOW + 0.25,
)
NODE = Node(
    id="node_1",
    name="Local",
    prefix="local",
    type=NodeType.OPENAI,
    base_url="http://127.0.0.1:9999/v1",
    api_type="chat",
    chat_path="/chat/completions",
    custom_headers={"X-Api-Token": Secret("header-canary-000000000000")},
    is_local=True,
    created_at=NOW,
    updated_at=NOW,
)
KEY = ApiKey(
    id="key_1",
    name="Laptop",
    key_id="abcdefghijkl",
    key_hash=b"\x00\xff" * 16,
    key_prefix="sk-abcde",
    key_last4="9f3c",
    scopes=frozenset({"chat", "self:usage"}),
    allowed_models=("groq/*",),
    blocked_models=("groq/slow",),
    allowed_combos=("fast",),
    allowed_connections=("conn_1",),
    allowed_endpoints=("chat",),
    ip_allowlist=("10.0.0.0/8",),
    schedule=AccessSchedule(True, "22:00", "06:00", (0, 6), "Europe/Berlin"),
    rate_limits=(RateRule(10, 60), RateRule(100, 3600)),
    max_concurrent=4,
    max_sessions=5,
    throttle_delay_ms=10,
    no_log=True,
    stream_default="json",
    hide_paid_models=True,
    is_active=False,
    is_banned=True,
    expires_at=NOW + 1,
    previous_hash=b"\x01" * 32,
    previous_until=NOW + 2,
    disabled_guardrails=("pii",),
    created_at=NOW,
    updated_at=NOW,
)


def every_text(database: Database) -> str:
    """Everything that the database holds, as text."""

    def dump(sql: Sql) -> str:
        from omniroute.extensions import db

        return "\n".join(str(row) for table in db.metadata.sorted_tables for row in sql.execute(table.select()))

    return database.read(dump)


# --- connections and nodes


def test_a_connection_comes_back_as_it_was_stored(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    assert database.read(lambda sql: connections.get(sql, "conn_1", cipher)) == CONNECTION
    assert database.read(lambda sql: connections.load_all(sql, cipher)) == (CONNECTION,)
    assert database.read(lambda sql: connections.get(sql, "conn_2", cipher)) is None
    assert SECRET.reveal() not in every_text(database)


def test_connections_are_ordered_by_priority_then_age(database: Database, cipher: Cipher) -> None:
    given = [("conn_c", 1, 5.0), ("conn_a", 1, 9.0), ("conn_b", 0, 9.0), ("conn_d", 1, 1.0)]

    def fill(sql: Sql) -> None:
        for connection_id, priority, created_at in given:
            record = dataclasses.replace(CONNECTION, id=connection_id, priority=priority, created_at=created_at)
            connections.insert(sql, record, cipher)

    database.write(fill)
    loaded = database.read(lambda sql: connections.load_of_provider(sql, "groq", cipher))
    assert [item.id for item in loaded] == ["conn_b", "conn_d", "conn_c", "conn_a"]
    assert database.read(lambda sql: connections.load_of_provider(sql, "other", cipher)) == ()


def test_an_update_keeps_the_credential_unless_told_otherwise(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    renamed = dataclasses.replace(CONNECTION, name="New", credential=None)
    assert database.write(lambda sql: connections.update(sql, renamed, cipher))
    stored = database.read(lambda sql: connections.get(sql, "conn_1", cipher))
    assert stored == dataclasses.replace(CONNECTION, name="New")
    assert database.write(lambda sql: connections.update(sql, renamed, cipher, with_credential=True))
    stored = database.read(lambda sql: connections.get(sql, "conn_1", cipher))
    assert stored is not None
    assert stored.credential is None
    assert not stored.is_unreadable
    gone = dataclasses.replace(CONNECTION, id="conn_9")
    assert not database.write(lambda sql: connections.update(sql, gone, cipher))


def test_a_credential_that_does_not_open_marks_only_its_connection(database: Database, cipher: Cipher) -> None:
    other = dataclasses.replace(CONNECTION, id="conn_2", priority=3)

    def fill(sql: Sql) -> None:
        connections.insert(sql, CONNECTION, cipher)
        connections.insert(sql, other, cipher)
        sql.execute(text("UPDATE provider_connections SET api_key_enc = 'v1:00000000:AA:AA' WHERE id = 'conn_1'"))

    database.write(fill)
    first, second = database.read(lambda sql: connections.load_all(sql, cipher))
    assert first.is_unreadable
    assert first.credential is None
    assert second == other


def test_a_credential_copied_to_another_row_does_not_open(database: Database, cipher: Cipher) -> None:
    def fill(sql: Sql) -> None:
        connections.insert(sql, CONNECTION, cipher)
        connections.insert(sql, dataclasses.replace(CONNECTION, id="conn_2", credential=Secret("other")), cipher)
        copied = "SELECT api_key_enc FROM provider_connections WHERE id = 'conn_1'"
        sql.execute(text(f"UPDATE provider_connections SET api_key_enc = ({copied}) WHERE id = 'conn_2'"))

    database.write(fill)
    moved = database.read(lambda sql: connections.get(sql, "conn_2", cipher))
    assert moved is not None
    assert moved.is_unreadable


def test_connections_are_deleted_one_or_all_of_a_provider(database: Database, cipher: Cipher) -> None:
    def fill(sql: Sql) -> None:
        for number in range(3):
            connections.insert(sql, dataclasses.replace(CONNECTION, id=f"conn_{number}"), cipher)

    database.write(fill)
    assert database.write(lambda sql: connections.delete(sql, "conn_0"))
    assert not database.write(lambda sql: connections.delete(sql, "conn_0"))
    assert database.write(lambda sql: connections.delete_of_provider(sql, "groq")) == 2
    assert database.read(connections.count) == 0


def test_test_results_and_last_use_are_stored(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    error = {"code": "credential", "message": "refused", "at": NOW}
    database.write(
        lambda sql: connections.set_test_result(sql, "conn_1", status="error", error=error, tested_at=NOW + 5)
    )
    database.write(lambda sql: connections.touch_used(sql, {"conn_1": NOW + 9, "gone": NOW}))
    database.write(lambda sql: connections.touch_used(sql, {"conn_1": NOW + 8}))
    database.write(lambda sql: connections.touch_used(sql, {}))
    stored = database.read(lambda sql: connections.get(sql, "conn_1", cipher))
    assert stored is not None
    assert (stored.test_status, stored.last_error, stored.last_tested_at) == ("error", error, NOW + 5)
    assert stored.last_used_at == NOW + 9


def test_a_node_comes_back_as_it_was_stored(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: nodes.insert(sql, NODE, cipher))
    assert database.read(lambda sql: nodes.load_all(sql, cipher)) == (NODE,)
    assert "header-canary" not in every_text(database)
    changed = dataclasses.replace(NODE, name="Moved", custom_headers={})
    assert database.write(lambda sql: nodes.update(sql, changed, cipher))
    stored = database.read(lambda sql: nodes.get(sql, "node_1", cipher))
    assert stored == dataclasses.replace(NODE, name="Moved")
    assert database.write(lambda sql: nodes.update(sql, changed, cipher, with_headers=True))
    assert database.read(lambda sql: nodes.get(sql, "node_1", cipher)) == changed
    assert database.write(lambda sql: nodes.delete(sql, "node_1"))
    assert database.read(nodes.count) == 0


def test_a_prefix_is_used_once(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: nodes.insert(sql, NODE, cipher))
    with pytest.raises(Conflict):
        database.write(lambda sql: nodes.insert(sql, dataclasses.replace(NODE, id="node_2"), cipher))


def test_the_keys_of_stored_ciphertext_are_known(database: Database, cipher: Cipher) -> None:
    assert database.read(ciphertext.stored_key_ids) == frozenset()
    other = Cipher(bytes(32))
    database.write(lambda sql: connections.insert(sql, CONNECTION, cipher))
    database.write(lambda sql: nodes.insert(sql, NODE, other))
    assert database.read(ciphertext.stored_key_ids) == {cipher.key_id, other.key_id}


# --- access


def test_a_key_comes_back_as_it_was_stored(database: Database) -> None:
    plain = ApiKey(id="key_2", name="", key_id="k", key_hash=b"h", key_prefix="p", key_last4="l", created_at=NOW + 1)
    database.write(lambda sql: api_keys.insert(sql, KEY))
    database.write(lambda sql: api_keys.insert(sql, plain))
    assert database.read(api_keys.load_all) == (KEY, plain)
    changed = dataclasses.replace(KEY, revoked_at=NOW, scopes=frozenset())
    assert database.write(lambda sql: api_keys.update(sql, changed))
    assert database.read(lambda sql: api_keys.get(sql, "key_1")) == changed
    assert database.write(lambda sql: api_keys.delete(sql, "key_2"))
    assert database.read(api_keys.count) == 1


def test_a_key_is_readable_only_when_it_was_kept(database: Database, cipher: Cipher) -> None:
    database.write(lambda sql: api_keys.insert(sql, KEY))
    assert database.read(lambda sql: api_keys.reveal(sql, "key_1", cipher)) is None
    database.write(lambda sql: api_keys.store_readable(sql, "key_1", SECRET, cipher))
    assert database.read(lambda sql: api_keys.reveal(sql, "key_1", cipher)) == SECRET
    assert SECRET.reveal() not in every_text(database)
    with pytest.raises(CredentialUnreadable):
        database.read(lambda sql: api_keys.reveal(sql, "key_1", Cipher(bytes(32))))
    assert database.write(api_keys.forget_readable) == 1
    assert database.read(lambda sql: api_keys.reveal(sql, "key_1", cipher)) is None


def session(number: int, **changes: Any) -> sessions.SessionRow:
    row = sessions.SessionRow(f"ses_{number}", bytes([number]) * 32, "::1", "Agent", NOW, NOW + number, NOW + 100, None)
    return dataclasses.replace(row, **changes)


def test_sessions_end_by_time_by_hand_and_all_together(database: Database) -> None:
    def fill(sql: Sql) -> None:
        for number in range(1, 6):
            sessions.insert(sql, session(number))
        sessions.insert(sql, session(6, expires_at=NOW - 1))

    database.write(fill)
    first = bytes([1]) * 32
    loaded = database.read(lambda sql: sessions.load_usable(sql, NOW))
    assert len(loaded) == 5
    assert loaded[first] == Session(first, NOW + 100, NOW, None)
    listed = database.read(lambda sql: sessions.list_usable(sql, NOW))
    assert [row.id for row in listed] == ["ses_5", "ses_4", "ses_3", "ses_2", "ses_1"]
    assert database.write(lambda sql: sessions.revoke(sql, first, NOW))
    assert not database.write(lambda sql: sessions.revoke(sql, first, NOW))
    assert not database.write(lambda sql: sessions.touch(sql, first, seen_at=NOW))
    assert database.write(lambda sql: sessions.revoke_by_id(sql, "ses_2", NOW))
    assert database.write(lambda sql: sessions.revoke_all(sql, NOW, but=bytes([3]) * 32)) == 3
    assert database.write(lambda sql: sessions.touch(sql, bytes([3]) * 32, seen_at=NOW + 50, expires_at=NOW + 500))
    (left,) = database.read(lambda sql: sessions.list_usable(sql, NOW))
    assert (left.id, left.last_seen_at, left.expires_at) == ("ses_3", NOW + 50, NOW + 500)
    assert database.write(lambda sql: sessions.delete_ended(sql, NOW + 1)) == 5


def test_the_first_password_has_one_winner(database: Database) -> None:
    assert database.write(lambda sql: credentials.insert_if_absent(sql, "admin_password", "first", NOW))
    assert not database.write(lambda sql: credentials.insert_if_absent(sql, "admin_password", "second", NOW))
    assert database.read(lambda sql: credentials.get(sql, "admin_password")) == "first"
    database.write(lambda sql: credentials.put(sql, "admin_password", "third", NOW))
    assert database.read(lambda sql: credentials.get(sql, "admin_password")) == "third"
    assert database.read(lambda sql: credentials.exists(sql, "admin_password"))
    assert database.read(lambda sql: credentials.get(sql, "nobody")) is None


def test_failures_lock_an_address_and_a_new_window_counts_anew(database: Database) -> None:
    def fail(at: float, address: str = "203.0.113.5") -> login_attempts.Attempts:
        return database.write(
            lambda sql: login_attempts.add_failure(sql, address, now=at, window_s=900, limit=3, lock_s=900)
        )

    assert [fail(NOW + second).failures for second in range(2)] == [1, 2]
    assert fail(NOW, "2001:db8::").failures == 1
    third = fail(NOW + 2)
    assert (third.failures, third.window_start, third.locked_until) == (3, NOW, NOW + 902)
    locked = database.read(lambda sql: login_attempts.list_locked(sql, NOW + 3))
    assert locked == (third,)
    later = fail(NOW + 2000)
    assert (later.failures, later.window_start) == (1, NOW + 2000)
    assert database.write(lambda sql: login_attempts.clear(sql, "203.0.113.5"))
    assert database.read(lambda sql: login_attempts.get(sql, "203.0.113.5")) is None
    assert database.write(lambda sql: login_attempts.delete_old(sql, NOW + 1)) == 1


def test_settings_are_json_values(database: Database) -> None:
    value = {"on": True, "list": [1, None, "ü"]}
    database.write(lambda sql: settings.put(sql, "security", "x", value, changed_by="cli", now=NOW))
    database.write(lambda sql: settings.put(sql, "security", "y", False, changed_by=None, now=NOW))
    database.write(lambda sql: settings.put(sql, "security", "y", None, changed_by=None, now=NOW))
    assert database.read(settings.load_all) == {("security", "x"): value, ("security", "y"): None}
    assert database.write(lambda sql: settings.delete(sql, "security", "x"))
    assert not database.write(lambda sql: settings.delete(sql, "security", "x"))


# --- audit


def entry(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"aud_{number}",
        "time": NOW + number / 3,
        "action": "key.created",
        "actor": "cli",
        "outcome": "success",
        "details": {"n": number, "text": "ü"},
    }
    return row | changes


@pytest.fixture
def audited(database: Database) -> Database:
    def fill(sql: Sql) -> None:
        for number in range(1, 6):
            audit.append(sql, entry(number))

    database.write(fill)
    return database


def test_the_chain_of_audit_rows_holds(audited: Database) -> None:
    assert audited.read(audit.verify) == audit.ChainCheck(5, None)


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit_log SET actor = 'somebody else' WHERE seq = 3", 3),
        ("UPDATE audit_log SET time = time + 0.001 WHERE seq = 2", 2),
        ("UPDATE audit_log SET details_json = NULL WHERE seq = 5", 5),
        ("DELETE FROM audit_log WHERE seq = 4", 5),
        ("DELETE FROM audit_log WHERE seq = 1", 2),
    ],
)
def test_a_change_breaks_the_chain(audited: Database, statement: str, broken_at: int) -> None:
    audited.write(lambda sql: sql.execute(text(statement)))
    assert audited.read(audit.verify).broken_at == broken_at


def test_old_rows_go_and_the_rest_can_still_be_checked(audited: Database) -> None:
    assert audited.write(lambda sql: audit.prune(sql, before=NOW + 1000, keep=2, now=NOW)) == 3
    assert audited.read(audit.verify) == audit.ChainCheck(2, None)
    audited.write(lambda sql: audit.append(sql, entry(6)))
    assert audited.write(lambda sql: audit.prune(sql, before=NOW + 1000, keep=0, now=NOW)) == 3
    appended = audited.write(lambda sql: audit.append(sql, entry(7)))
    assert appended.seq == 7
    assert audited.read(audit.verify) == audit.ChainCheck(1, None)
    assert audited.write(lambda sql: audit.prune(sql, before=NOW, keep=0, now=NOW)) == 0


def test_two_writers_make_one_chain(database: Database, opened: Callable[[], Database]) -> None:
    import threading

    def write(worker: Database, first: int) -> None:
        for number in range(first, first + 10):
            worker.write(lambda sql, number=number: audit.append(sql, entry(number)))  # type: ignore[misc]

    threads = [threading.Thread(target=write, args=(opened(), 100 * number)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert database.read(audit.verify) == audit.ChainCheck(30, None)


def test_audit_rows_are_filtered(audited: Database) -> None:
    audited.write(
        lambda sql: audit.append(
            sql,
            entry(
                6,
                action="auth.login.failed",
                actor="anonymous",
                outcome="failure",
                target_kind="session",
                target_id="x",
            ),
        )
    )

    def found(**filters: Any) -> tuple[list[str], int]:
        rows, total = audited.read(lambda sql: audit.list_entries(sql, **filters))
        return [row.id for row in rows], total

    assert found(limit=2) == (["aud_6", "aud_5"], 6)
    assert found(limit=2, offset=4) == (["aud_2", "aud_1"], 6)
    assert found(action="auth.") == (["aud_6"], 1)
    assert found(action="auth") == ([], 0)
    assert found(actor="cli", since=NOW + 1, until=NOW + 5 / 3) == (["aud_4", "aud_3"], 2)
    assert found(target="x") == found(target="session") == found(outcome="failure") == (["aud_6"], 1)
    rows, _ = audited.read(lambda sql: audit.list_entries(sql, limit=1, offset=1))
    assert rows[0].details == {"n": 5, "text": "ü"}


# --- claims


def test_a_claim_has_one_winner_until_it_ends(database: Database) -> None:
    def claim(owner: str, now: float) -> bool:
        return database.write(lambda sql: claims.acquire(sql, "refresh", owner, now=now, until=now + 10))

    assert claim("a", NOW)
    assert not claim("b", NOW + 5)
    assert claim("a", NOW + 6)
    assert claim("b", NOW + 16)
    assert not database.write(lambda sql: claims.release(sql, "refresh", "a"))
    assert database.write(lambda sql: claims.release(sql, "refresh", "b"))
    assert claim("a", NOW + 17)


def test_job_runs_are_remembered(database: Database) -> None:
    database.write(lambda sql: claims.record_start(sql, "prune", NOW))
    database.write(lambda sql: claims.record_end(sql, "prune", NOW + 1))
    database.write(lambda sql: claims.record_start(sql, "prune", NOW + 5))
    database.write(lambda sql: claims.record_end(sql, "prune", NOW + 6, "disk full"))
    assert database.read(claims.runs) == {"prune": claims.Run("prune", NOW + 5, NOW + 1, "disk full")}
