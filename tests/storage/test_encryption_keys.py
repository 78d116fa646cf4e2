"""The encryption key: checked, replaced without a loss, replaced after a loss, wrapped for the way."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from omniroute.errors import Conflict, InvalidRequest
from omniroute.runtime.leadership import Leadership
from omniroute.secret import Secret
from omniroute.services.encryption_keys import EncryptionKeys, unwrap_key, wrap_key
from omniroute.services.keys import SYSTEM
from omniroute.storage import rekeying
from omniroute.storage.repositories import ciphertext
from tests.storage.restoring import HEADER, UPSTREAM_KEY, Stack, build, fill, rows_of

TABLES = {table.name for table, _ in rekeying.places()}


@pytest.fixture
def stack(url: str, data_dir: Path) -> Iterator[Stack]:
    made = build(url, data_dir)
    fill(made)
    yield made
    made.close()


def both(stack: Stack) -> tuple[Callable[[], object], ...]:
    """What replaces a key."""
    return stack.keys.rotate, lambda: stack.keys.new_key(back_up=lambda: None)


def secrets_of(stack: Stack) -> dict[str, str]:
    directory = stack.settings.data_dir / "secrets"
    return {file.name: file.read_text().strip() for file in directory.iterdir() if "encryption" in file.name}


def reopened(stack: Stack) -> Stack:
    stack.close()
    return build(stack.settings.storage_url, stack.settings.data_dir)


def test_a_check_opens_every_value(stack: Stack) -> None:
    report = stack.keys.check()
    assert report.is_whole
    assert report.opened == 3 * len(rekeying.places())
    assert report.key_id == stack.cipher.key_id
    broken = text("UPDATE provider_connections SET api_key_enc = access_token_enc WHERE name LIKE '%a1'")
    stack.database.write(lambda sql: sql.execute(broken))
    report = stack.keys.check()
    assert report.unreadable == {"provider_connections": 1}
    assert list(report.connections.values()) == ["provider_connections-name-a1"]


def test_a_rotation_rewrites_everything_and_keeps_the_old_key_for_a_while(stack: Stack) -> None:
    before, plain = secrets_of(stack), rows_of(stack.database)
    old_id = stack.cipher.key_id
    report = stack.keys.rotate(SYSTEM)
    after = secrets_of(stack)
    assert set(after) == {"encryption_key", "encryption_key.previous"}
    assert after["encryption_key.previous"] == before["encryption_key"]
    assert after["encryption_key"] != before["encryption_key"]
    assert (report.previous_key_id, report.rewritten) == (old_id, 3 * len(rekeying.places()))
    assert report.is_whole
    assert stack.database.read(ciphertext.stored_key_ids) == {report.key_id} != {old_id}
    assert {name for name, rows in rows_of(stack.database).items() if rows != plain[name]} == TABLES
    (entry,) = stack.audit.entries(limit=10, action="secret.rotated")[0]
    assert entry.details == {"how": "rotated", "rewritten": report.rewritten, "lost": 0}
    again = reopened(stack)
    try:
        assert [one.credential for one in again.snapshots.current.connections] == [Secret(UPSTREAM_KEY)] * 3
        assert [one.custom_headers["X-Key"] for one in again.snapshots.current.nodes] == [Secret(HEADER)] * 3
        assert again.keys.check().is_whole
        again.keys.rotate()
        assert len(again.keys.previous()) == 2, "a backup may need either"
        assert again.backups.create() is not None
        assert set(secrets_of(again)) == {"encryption_key"}
    finally:
        again.close()


def test_a_value_that_no_key_opens_stays_as_it_is(stack: Stack) -> None:
    lost = "v1:00000000:AAAA:AAAA"
    statement = text("UPDATE provider_connections SET api_key_enc = :text WHERE name LIKE '%a1'")
    stack.database.write(lambda sql: sql.execute(statement, {"text": lost}))
    report = stack.keys.rotate()
    assert report.unreadable == {"provider_connections": 1}
    kept = text("SELECT api_key_enc FROM provider_connections WHERE name LIKE '%a1'")
    assert stack.database.read(lambda sql: sql.execute(kept).scalar_one()) == lost


@pytest.mark.parametrize("step", ["next key written", "ciphertext rewritten"])
def test_a_rotation_that_breaks_off_is_finished_or_forgotten_by_the_next_start(stack: Stack, step: str) -> None:
    class Broken(Exception):
        pass

    def break_off(at: str) -> None:
        if at == step:
            raise Broken

    keys = EncryptionKeys(settings=stack.settings, database=stack.database, told=break_off)
    with pytest.raises(Broken):
        keys.rotate()
    assert "encryption_key.next" in secrets_of(stack)
    again = reopened(stack)
    try:
        assert again.keys.check().is_whole
        assert not again.cipher.is_sealed
        assert "encryption_key.next" not in secrets_of(again)
        assert ("encryption_key.previous" in secrets_of(again)) == (step == "ciphertext rewritten")
        assert [one.credential for one in again.snapshots.current.connections] == [Secret(UPSTREAM_KEY)] * 3
    finally:
        again.close()


def test_a_failed_rewriting_leaves_the_old_key_in_force(stack: Stack) -> None:
    before = secrets_of(stack)
    stack.database.write(lambda sql: sql.execute(text("ALTER TABLE proxies RENAME TO elsewhere")))
    with pytest.raises(Exception, match="not available"):
        stack.keys.rotate()
    assert secrets_of(stack) == before
    stack.database.write(lambda sql: sql.execute(text("ALTER TABLE elsewhere RENAME TO proxies")))
    assert stack.keys.check().is_whole


def test_nothing_is_replaced_while_a_server_runs(stack: Stack, url: str) -> None:
    before = secrets_of(stack)
    leader = Leadership(stack.database, stack.settings.runtime_dir)
    assert leader.try_to_lead()
    try:
        for work in both(stack):
            with pytest.raises(Conflict) as refused:
                work()
            assert refused.value.error_code == "server_running"
    finally:
        leader.stop()
    stack.settings.runtime_dir.mkdir(exist_ok=True)
    announced = stack.settings.runtime_dir / "server.json"
    announced.write_text(json.dumps({"pid": 1}))
    with pytest.raises(Conflict):
        stack.keys.rotate()
    announced.write_text(json.dumps({"pid": 2**22 + 1}))
    assert secrets_of(stack) == before
    assert stack.keys.rotate().is_whole, "that server is gone"


def test_a_key_of_the_environment_is_the_operators_to_replace(url: str, data_dir: Path) -> None:
    stack = build(url, data_dir, encryption_key=Secret("e" * 40))
    try:
        fill(stack)
        assert stack.keys.check().is_whole
        for work in both(stack):
            with pytest.raises(Conflict, match="OMNIROUTE_ENCRYPTION_KEY decides") as refused:
                work()
            assert refused.value.error_code == "key_from_environment"
        assert secrets_of(stack) == {}
    finally:
        stack.close()


# --- after a loss ----------------------------------------------------------------------------------------------------


def test_a_new_key_is_refused_while_nothing_is_lost(stack: Stack) -> None:
    with pytest.raises(Conflict) as refused:
        stack.keys.new_key(back_up=lambda: None)
    assert refused.value.error_code == "encryption_key_present"


@pytest.mark.parametrize("loss", ["missing", "wrong"])
def test_after_a_loss_one_begins_anew_and_is_told_what_is_lost(stack: Stack, tmp_path: Path, loss: str) -> None:
    file = stack.settings.data_dir / "secrets" / "encryption_key"
    kept = tmp_path / "kept"
    shutil.move(file, kept)
    if loss == "wrong":
        file.write_text(base64.b64encode(b"w" * 32).decode())
        file.chmod(0o600)
    lost = reopened(stack)
    try:
        assert lost.cipher.is_sealed
        with pytest.raises(Conflict, match="bring the right one back"):
            lost.keys.rotate()
        made: list[str] = []

        def back_up() -> None:
            backup = lost.backups.create()
            assert backup is not None
            made.append(backup.id)

        report = lost.keys.new_key(back_up=back_up)
        assert report.unreadable == dict.fromkeys(sorted(TABLES), 3)
        assert sorted(report.connections.values()) == [f"provider_connections-name-a{n}" for n in range(3)]
        assert lost.database.read(ciphertext.stored_key_ids) == frozenset()
    finally:
        lost.close()
    again = build(stack.settings.storage_url, stack.settings.data_dir)
    try:
        assert not again.cipher.is_sealed
        assert len(again.snapshots.current.connections) == 3
        assert [one.credential for one in again.snapshots.current.connections] == [None] * 3
        fill(again, rows=1, mark="new", first=20)
        assert again.keys.check().is_whole
        # The key was found after all: the backup made before has everything.
        done = again.restore.run(made[0], SYSTEM, encryption_key=Secret(kept.read_text()))
        assert (done.counts.credentials_readable, done.counts.credentials_unreadable) == (3, 0)
    finally:
        again.close()


# --- carried elsewhere -----------------------------------------------------------------------------------------------


def test_a_wrapped_key_opens_with_its_passphrase_alone() -> None:
    key, passphrase = bytes(range(32)), Secret("correct horse battery staple")
    wrapped = wrap_key(key, passphrase)
    assert unwrap_key(wrapped, passphrase) == key
    assert wrap_key(key, passphrase) != wrapped
    document = json.loads(wrapped)
    assert base64.b64encode(key).decode() not in wrapped
    assert key.hex() not in wrapped
    with pytest.raises(InvalidRequest, match="passphrase does not open"):
        unwrap_key(wrapped, Secret("correct horse battery stable"))
    with pytest.raises(InvalidRequest, match="at least 12"):
        wrap_key(key, Secret("too short"))
    for change in (
        {"format": "other"},
        {"kdf": {**document["kdf"], "n": 1 << 30}},
        {"sealed": "!"},
        {"nonce": None},
        {"kdf": None},
    ):
        with pytest.raises(InvalidRequest, match="not an encryption key"):
            unwrap_key(json.dumps({**document, **change}), passphrase)
    for text_ in ("", "[]", "nonsense", '"v1"'):
        with pytest.raises(InvalidRequest):
            unwrap_key(text_, passphrase)
    damaged = {**document, "sealed": base64.b64encode(bytes(48)).decode()}
    with pytest.raises(InvalidRequest, match="passphrase"):
        unwrap_key(json.dumps(damaged), passphrase)
