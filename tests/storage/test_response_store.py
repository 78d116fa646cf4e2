"""Responses by id: owner, expiry, chains, bounds; nothing readable in the database."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from omniroute.errors import NotFound
from omniroute.services import response_store
from omniroute.services.response_store import ResponseStore
from omniroute.storage.database import Database
from omniroute.storage.secrets import Cipher


class Clock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, cipher: Cipher, clock: Clock) -> ResponseStore:
    return ResponseStore(database=database, cipher=cipher, now=clock)


def keep(store: ResponseStore, response_id: str, previous_id: str | None = None, owner: str = "key_1") -> None:
    store.keep(
        owner,
        response_id,
        previous_id=previous_id,
        items=f'["{response_id} items"]'.encode(),
        response=f'{{"id":"{response_id}"}}'.encode(),
    )


def test_a_chain_comes_back_oldest_first(store: ResponseStore) -> None:
    keep(store, "resp_1")
    keep(store, "resp_2", "resp_1")
    keep(store, "resp_3", "resp_2")
    assert store.conversation("key_1", "resp_3") == [b'["resp_1 items"]', b'["resp_2 items"]', b'["resp_3 items"]']
    assert store.response("key_1", "resp_2") == b'{"id":"resp_2"}'


def test_a_response_belongs_to_one_key(store: ResponseStore) -> None:
    keep(store, "resp_1")
    assert store.conversation("key_2", "resp_1") is None
    assert store.response("key_2", "resp_1") is None
    with pytest.raises(NotFound):
        store.delete("key_2", "resp_1")
    assert store.response("key_1", "resp_1") is not None


def test_a_conversation_with_a_lost_beginning_is_not_found(store: ResponseStore) -> None:
    keep(store, "resp_1")
    keep(store, "resp_2", "resp_1")
    store.delete("key_1", "resp_1")
    assert store.conversation("key_1", "resp_2") is None
    assert store.response("key_1", "resp_2") is not None


def test_it_expires(store: ResponseStore, clock: Clock) -> None:
    keep(store, "resp_1")
    clock.at += response_store.KEPT_S + 1
    assert store.response("key_1", "resp_1") is None


def test_the_oldest_go_when_a_key_keeps_too_much(
    store: ResponseStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_store, "MOST_BYTES_PER_KEY", 80)
    for number in range(5):
        clock.at += 1
        keep(store, f"resp_{number}")
    kept = [number for number in range(5) if store.response("key_1", f"resp_{number}") is not None]
    assert kept == [3, 4]


def test_what_is_stored_cannot_be_read(store: ResponseStore, database: Database) -> None:
    keep(store, "resp_1")
    rows = database.read(lambda sql: sql.execute(text("SELECT items_enc, response_enc FROM issued_responses")).all())
    assert all(value.startswith("v1:") and "items" not in value for row in rows for value in row)


def test_an_origin_is_remembered_per_key(store: ResponseStore, clock: Clock) -> None:
    store.keep_origin("key_1", "resp_up", connection_id="conn_1", provider="openai", model="gpt-x")
    store.keep_origin("key_1", "resp_up", connection_id="conn_2", provider="openai", model="gpt-x")
    found = store.origin("key_1", "resp_up")
    assert found is not None
    assert found.connection_id == "conn_2"
    assert store.origin("key_2", "resp_up") is None
    clock.at += response_store.ORIGIN_KEPT_S + 1
    assert store.origin("key_1", "resp_up") is None


def test_ids_of_any_length_are_merely_unknown(store: ResponseStore) -> None:
    assert store.response("key_1", "x" * 100_000) is None
    assert store.conversation("key_1", "x" * 100_000) is None
    assert store.origin("key_1", "x" * 100_000) is None
