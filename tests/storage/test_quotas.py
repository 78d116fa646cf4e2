"""Readings of quotas as they are stored: the newest of each window, and enough older ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import insert

from omniroute.records import GrantWindow, QuotaReading
from omniroute.storage.database import Database
from omniroute.storage.models import ProviderConnection
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import quotas
from omniroute.storage.state import StateStore
from tests.storage.conftest import NOW

DAY = 86_400.0
BASE = NOW - NOW % 3600
WINDOW = GrantWindow("5h", 0.5, 100.0, 50.0, "requests", 18_000.0, NOW + 9000, "opus")


def reading(at: float, used: float = 0.5, *, name: str = "5h", connection: str = "conn_1") -> QuotaReading:
    window = replace(WINDOW, name=name, used=used)
    return QuotaReading(connection, window, at, "headers", "pro")


@pytest.fixture
def store(database: Database) -> StateStore:
    rows = [
        {
            "id": name,
            "provider": "glm",
            "auth_type": "apikey",
            "name": name,
            "priority": 1,
            "is_active": 1,
            "created_at": NOW,
            "updated_at": NOW,
        }
        for name in ("conn_1", "conn_2")
    ]
    database.write(lambda sql: sql.execute(insert(table_of(ProviderConnection)), rows))
    return StateStore(database, lambda: NOW)


def test_a_reading_comes_back_as_it_was(store: StateStore) -> None:
    bare = QuotaReading("conn_2", GrantWindow("credits", remaining=3.5, unit="usd"), NOW, "endpoint")
    store.save_quotas([reading(NOW), bare])
    assert set(store.load_quotas()) == {reading(NOW), bare}


def test_the_newest_of_each_window_is_given(store: StateStore) -> None:
    store.save_quotas([reading(BASE, 0.1), reading(BASE + 400, 0.3), reading(BASE + 900, 0.2)])
    store.save_quotas([reading(BASE, 0.7, name="7d"), reading(BASE, 0.9, connection="conn_2")])
    store.save_quotas([reading(BASE, 0.9, connection="conn_gone")])
    newest = {(one.connection_id, one.window.name): one.window.used for one in store.load_quotas()}
    assert newest == {("conn_1", "5h"): 0.2, ("conn_1", "7d"): 0.7, ("conn_2", "5h"): 0.9}


def test_of_five_minutes_the_last_reading_stays(store: StateStore) -> None:
    for second in range(0, 900, 30):
        store.save_quotas([reading(BASE + second, second / 1000)])
    kept = store.load_quota_history(0)
    assert [one.fetched_at - BASE for one in kept] == [270, 570, 870]
    store.save_quotas([reading(BASE + 870, 0.99)])
    assert [one.window.used for one in store.load_quota_history(0)] == [0.27, 0.57, 0.99]


def test_what_is_new_since_a_time_comes_in_order(store: StateStore) -> None:
    store.save_quotas([reading(BASE + 600), reading(BASE), reading(BASE + 300, connection="conn_2")])
    assert [one.fetched_at - BASE for one in store.load_quotas(BASE + 300)] == [300, 600]
    assert [one.connection_id for one in store.load_quota_history(BASE, "conn_2")] == ["conn_2"]


def test_old_readings_are_thinned_and_the_newest_stays(store: StateStore, database: Database) -> None:
    now = BASE + 40 * DAY
    store.save_quotas(reading(BASE + step * 300, 0.1) for step in range(24))  # two hours, 40 days ago
    store.save_quotas(reading(now - 3 * DAY + step * 300, 0.2) for step in range(24))  # two hours, 3 days ago
    store.save_quotas(reading(now - 600 + step * 300, 0.3) for step in range(3))
    store.save_quotas([reading(BASE, 0.4, name="7d"), reading(now, connection="conn_gone")])
    removed = database.write(lambda sql: quotas.prune(sql, now))
    left = [(one.window.name, one.window.used) for one in store.load_quota_history(0)]
    assert sorted(left) == [("5h", 0.2)] * 2 + [("5h", 0.3)] * 3 + [("7d", 0.4)]
    assert removed == 24 + 22 + 1
    assert database.write(lambda sql: quotas.prune(sql, now)) == 0


def test_a_connection_can_be_forgotten(store: StateStore) -> None:
    store.save_quotas([reading(BASE), reading(BASE, name="7d"), reading(BASE, connection="conn_2")])
    store.forget_quotas("conn_1")
    assert [one.connection_id for one in store.load_quotas()] == ["conn_2"]
