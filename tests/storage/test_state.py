"""The store of shared state: what it keeps, that nothing is lost between workers, and on whose clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from omniroute.errors import StorageError
from omniroute.routing.marks import HealthRow, Key, Kind, State, cleared
from omniroute.storage.database import Database
from omniroute.storage.repositories import bindings, claims, counters, health, pacing, slots
from omniroute.storage.repositories.bindings import StoredBinding
from omniroute.storage.state import FIGURES_KEPT_S, StateStore
from tests.storage.conftest import NOW

COOLING = HealthRow(
    scope="connection:a",
    kind=Kind.COOLDOWN,
    state=State.RESTING,
    step=2,
    until=NOW + 7200.5,
    reason="rate",
    data={"since": NOW, "source": "retry-after", "nested": {"a": [1, 2.5, None]}},
    created_at=NOW - 1,
    updated_at=NOW,
)
DEAD = HealthRow("connection:a", Kind.DEAD, State.RESTING, reason="auth", created_at=NOW, updated_at=NOW + 1)
OTHER = HealthRow("model:a|m", Kind.LOCKOUT, State.RESTING, until=NOW + 5, created_at=NOW, updated_at=NOW + 2)


@pytest.fixture
def store(database: Database) -> StateStore:
    return StateStore(database, time.time)


def worse(rows: Mapping[Key, HealthRow]) -> list[HealthRow]:
    """One failure more."""
    row = rows.get(COOLING.key) or dataclasses.replace(COOLING, step=0)
    return [dataclasses.replace(row, step=row.step + 1)]


# --- health


def test_health_rows_come_back_as_they_were_stored(database: Database) -> None:
    database.write(lambda sql: health.save(sql, (COOLING, DEAD, OTHER)))
    assert set_of(database.read(health.load_all)) == set_of((COOLING, DEAD, OTHER))
    assert database.read(lambda sql: health.load_changed(sql, NOW + 2)) == (OTHER,)
    assert database.write(lambda sql: health.lock(sql, {"connection:a", "connection:b"})) == {
        COOLING.key: COOLING,
        DEAD.key: DEAD,
    }
    changed = dataclasses.replace(COOLING, state=State.SERVED, until=None, reason=None, data={}, step=1)
    database.write(lambda sql: health.save(sql, (changed,)))
    assert database.write(lambda sql: health.lock(sql, {"connection:a"}))[COOLING.key] == changed


def set_of(rows: tuple[HealthRow, ...]) -> dict[Key, HealthRow]:
    return {row.key: row for row in rows}


def test_only_tombstones_are_pruned(database: Database) -> None:
    gone, fresh = cleared(COOLING, NOW - 100), cleared(OTHER, NOW)
    database.write(lambda sql: health.save(sql, (gone, fresh, DEAD)))
    assert database.write(lambda sql: health.prune(sql, NOW - 50)) == 1
    assert set(set_of(database.read(health.load_all))) == {OTHER.key, DEAD.key}


def run(statement: str, values: dict[str, str], sql: Connection) -> None:
    sql.execute(text(statement), values)


def test_rows_that_another_release_understands_are_left_alone(database: Database) -> None:
    statement = "INSERT INTO health_state VALUES ('x', :kind, :state, 0, NULL, NULL, NULL, 0, 0)"
    for values in ({"kind": "of tomorrow", "state": "resting"}, {"kind": "dead", "state": "of tomorrow"}):
        database.write(partial(run, statement, values))
    assert database.read(health.load_all) == ()


def test_a_change_sees_the_rows_of_its_scopes_and_says_what_came_of_it(store: StateStore) -> None:
    before = time.time()
    store.change_health({DEAD.scope}, lambda rows: [DEAD])
    seen: list[Mapping[Key, HealthRow]] = []

    def change(rows: Mapping[Key, HealthRow]) -> list[HealthRow]:
        seen.append(dict(rows))
        return worse(rows)

    after = store.change_health({COOLING.scope}, change)
    assert set(seen[-1]) == {DEAD.key}
    assert {key: row.step for key, row in after.items()} == {DEAD.key: 0, COOLING.key: 1}
    assert before - 1 < after[COOLING.key].updated_at < time.time() + 1
    assert {row.key: row for row in store.load_health()} == after
    assert store.load_health(after[COOLING.key].updated_at) == (after[COOLING.key],)


def test_a_change_that_changes_nothing_writes_nothing(store: StateStore) -> None:
    assert store.change_health({"connection:a"}, lambda rows: []) == {}
    assert store.load_health() == ()


def test_a_change_that_fails_leaves_all_as_it_was(store: StateStore) -> None:
    store.change_health({COOLING.scope}, worse)

    def fails(rows: Mapping[Key, HealthRow]) -> list[HealthRow]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change_health({COOLING.scope}, fails)
    assert [row.step for row in store.load_health()] == [1]


# --- pacing


def test_places_are_a_gap_apart_once_the_burst_is_taken(database: Database) -> None:
    def take(now: float) -> float:
        return database.write(lambda sql: pacing.take(sql, "a", gap_s=2.0, burst=3, now=now))

    assert [take(NOW) for _ in range(4)] == [0, 0, 0, 0]
    assert take(NOW) == pytest.approx(2.0)
    assert take(NOW + 1.5) == pytest.approx(0.5)
    assert take(NOW + 2.0) == 0
    assert take(NOW + 2.0) == pytest.approx(2.0)
    assert take(NOW + 100) == 0, "what was not used is not kept"
    assert [take(NOW + 100) for _ in range(4)][:3] == [0, 0, 0]


def test_a_refusal_moves_nothing(database: Database) -> None:
    def take(key: str, now: float) -> float:
        return database.write(lambda sql: pacing.take(sql, key, gap_s=1.0, burst=0, now=now))

    assert take("a", NOW) == 0
    assert [take("a", NOW + 0.25) for _ in range(5)] == pytest.approx([0.75] * 5)
    assert take("b", NOW) == 0, "keys do not hold each other back"
    assert take("a", NOW + 1) == 0


def test_a_wait_as_long_as_was_said_is_long_enough(database: Database) -> None:
    now, grants = NOW + 0.123456, 0
    for _ in range(200):
        wait = database.write(partial(pacing.take, key="a", gap_s=1 / 3, burst=2, now=now))
        grants += not wait
        now += wait
    assert now - NOW < 200 / 3 + 1
    assert grants >= 99


def test_rows_of_idle_paces_are_pruned(database: Database) -> None:
    for key, now in (("old", NOW - 100), ("new", NOW)):
        database.write(partial(pacing.take, key=key, gap_s=1.0, burst=0, now=now))
    assert database.write(lambda sql: pacing.prune(sql, NOW)) == 1
    assert database.read(lambda sql: sql.execute(text("SELECT key FROM pacing")).scalars().all()) == ["new"]


# --- places


def held(database: Database, now: float) -> int:
    """How many leases of the scope `s` have not ended."""
    statement = text("SELECT count(*) FROM slots WHERE scope = 's' AND expires_at > :now")
    return int(database.read(lambda sql: sql.execute(statement, {"now": now}).scalar_one()))


def test_no_more_than_the_limit_hold_a_place(database: Database) -> None:
    def acquire(request_id: str, *, now: float = NOW, scope: str = "s", limit: int = 2) -> bool:
        return database.write(
            lambda sql: slots.acquire(
                sql, scope, limit=limit, request_id=request_id, owner="w", now=now, until=now + 10
            )
        )

    assert [acquire(name) for name in "abc"] == [True, True, False]
    assert acquire("c", scope="t")
    assert acquire("a"), "who has a place keeps it"
    assert not acquire("c", now=NOW + 9.9)
    assert acquire("c", now=NOW + 10), "a lease that has ended is free"
    assert held(database, NOW + 10) == 1
    assert database.write(lambda sql: slots.release(sql, "s", "c"))
    assert not database.write(lambda sql: slots.release(sql, "s", "c"))
    assert not acquire("z", limit=0)


def test_an_owner_renews_and_gives_back_all_that_it_holds(database: Database) -> None:
    def acquire(request_id: str, owner: str, until: float) -> None:
        database.write(
            lambda sql: slots.acquire(sql, "s", limit=9, request_id=request_id, owner=owner, now=NOW, until=until)
        )

    acquire("a", "w1", NOW + 10)
    acquire("b", "w1", NOW + 1)
    acquire("c", "w2", NOW + 10)
    assert database.write(lambda sql: slots.renew(sql, "w1", now=NOW + 5, until=NOW + 50)) == 1
    assert held(database, NOW + 20) == 1, "what has ended stays ended"
    assert database.write(lambda sql: slots.prune(sql, NOW + 20)) == 2
    assert database.write(lambda sql: slots.release_all(sql, "w1")) == 1
    assert held(database, NOW) == 0


# --- claims


def test_a_probe_has_one_winner_until_it_ends(database: Database) -> None:
    def win(owner: str, now: float) -> bool:
        return database.write(lambda sql: claims.win(sql, "provider:x", owner, now=now, until=now + 10))

    assert win("req_1", NOW)
    assert not win("req_2", NOW)
    assert not win("req_1", NOW), "not even its own"
    assert not win("req_2", NOW + 9.9)
    assert win("req_2", NOW + 10)
    assert not database.write(lambda sql: claims.release(sql, "provider:x", "req_1")), "which has lost it meanwhile"
    assert database.write(lambda sql: claims.release(sql, "provider:x", "req_2"))
    assert win("req_3", NOW + 10)
    assert database.write(lambda sql: claims.prune(sql, NOW + 19)) == 0
    assert database.write(lambda sql: claims.prune(sql, NOW + 20)) == 1


# --- counters and bindings


def test_counters_come_back_and_only_what_changed_is_read(database: Database) -> None:
    first = {("combo_1", "position"): 7, ("combo_1", "deck"): {"left": ["a", "ü"], "dealt": []}}
    database.write(lambda sql: counters.save(sql, first, NOW))
    database.write(lambda sql: counters.save(sql, {("combo_1", "position"): 8, ("w", counters.FIGURES): {}}, NOW + 1))

    def load(since: float, *, of_figures: bool = False, at_most: int = 10) -> dict[tuple[str, str], object]:
        rows = database.read(lambda sql: counters.load_changed(sql, since, of_figures=of_figures, at_most=at_most))
        return {(row.scope, row.kind): row.value for row in rows}

    assert load(0) == first | {("combo_1", "position"): 8}
    assert load(NOW + 1) == load(0, at_most=1) == {("combo_1", "position"): 8}
    assert load(0, of_figures=True) == {("w", counters.FIGURES): {}}
    assert database.write(lambda sql: counters.lock(sql, {("combo_1", "position"), ("combo_2", "deck")})) == {
        ("combo_1", "position"): 8
    }
    assert database.write(lambda sql: counters.prune(sql, NOW + 2, kind=counters.FIGURES)) == 1
    assert database.write(lambda sql: counters.prune(sql, NOW + 1)) == 1


def test_bindings_come_back_while_they_last(database: Database) -> None:
    some = [StoredBinding(f"s{number}", "groq", "conn", "groq/m", NOW + number) for number in range(4)]
    for number, one in enumerate(some):
        database.write(partial(bindings.save, bindings=[one], now=NOW - 10 + number))

    def load(since: float = 0.0, at_most: int = 10, now: float = NOW) -> list[str]:
        rows = database.read(lambda sql: bindings.load_changed(sql, since, now=now, at_most=at_most))
        return [row.session for row in rows]

    assert load() == ["s1", "s2", "s3"], "the oldest first"
    assert load(at_most=2) == ["s2", "s3"], "the newest count"
    assert load(since=NOW - 8) == ["s2", "s3"]
    assert load(now=NOW + 2) == ["s3"]
    moved = dataclasses.replace(some[3], connection_id="other", target=None, expires_at=NOW + 60)
    database.write(lambda sql: bindings.save(sql, [moved, some[1]], NOW))
    assert database.read(lambda sql: bindings.load_changed(sql, 0, now=NOW + 3, at_most=9)) == (
        dataclasses.replace(moved, updated_at=NOW),
    )
    assert database.write(lambda sql: bindings.prune(sql, NOW + 2)) == 3


# --- the store


def test_the_store_gives_limits_and_takes_them_back(store: StateStore) -> None:
    assert store.take_pace("a", 60.0, 0, time.time()) == 0
    assert 59 < store.take_pace("a", 60.0, 0, time.time()) <= 60
    assert store.acquire_slot("s", 1, "req_1", "w", time.time() + 60)
    assert not store.acquire_slot("s", 1, "req_2", "w", time.time() + 60)
    assert store.renew_slots("w", time.time() + 90) == 1
    assert store.release_slot("s", "req_1")
    assert store.acquire_slot("s", 1, "req_2", "w", time.time() + 60)
    assert store.release_owner("w") == 1
    assert store.claim("c", "req_1", time.time() + 60)
    assert not store.claim("c", "req_2", time.time() + 60)
    assert store.release_claim("c", "req_1")
    assert store.claim("c", "req_2", time.time() - 1), "which is over at once"
    assert store.claim("c", "req_3", time.time() + 60)


def test_the_store_adds_up_what_workers_count(store: StateStore) -> None:
    key = ("combo_1", "position")
    for expected in (3, 6):
        assert store.change_counters({key}, lambda stored: {key: stored.get(key, 0) + 3}) == {key: expected}
    store.save_counters({("combo_1", "head"): {"step": "a"}})
    assert {row.kind: row.value for row in store.load_counters(at_most=9)} == {"position": 6, "head": {"step": "a"}}
    store.save_bindings([StoredBinding("s", "groq", "conn", None, time.time() + 60)])
    assert [one.session for one in store.load_bindings(at_most=9)] == ["s"]


def test_hosts_whose_clocks_differ_share_their_limits(database: Database, opened: Callable[[], Database]) -> None:
    """Only a server has a clock for all; the workers of an SQLite file are on one host."""
    ahead_s = 0.0 if database.is_sqlite else 3600.0
    here = StateStore(database, time.time)
    ahead = StateStore(opened(), lambda: time.time() + ahead_s)

    assert here.take_pace("a", 60.0, 0, time.time()) == 0
    assert 59 < ahead.take_pace("a", 60.0, 0, time.time() + ahead_s) <= 60
    assert ahead.claim("c", "req_1", time.time() + ahead_s + 30)
    assert not here.claim("c", "req_2", time.time() + 30)
    assert here.acquire_slot("s", 1, "req_1", "w", time.time() + 30)
    assert not ahead.acquire_slot("s", 1, "req_2", "w", time.time() + ahead_s + 30)
    stamp = here.change_health({COOLING.scope}, worse)[COOLING.key].updated_at
    ahead.change_health({COOLING.scope}, worse)
    newest = max(row.updated_at for row in here.load_health())
    assert 0 <= newest - stamp < 60


def test_what_has_ended_is_pruned(store: StateStore, database: Database) -> None:
    now = time.time()
    store.change_health({COOLING.scope}, lambda rows: [COOLING, cleared(DEAD, now)])
    store.take_pace("a", 1.0, 0, now)
    store.acquire_slot("s", 1, "req_1", "w", now - 1)
    store.claim("c", "req_1", now - 1)
    database.write(lambda sql: counters.save(sql, {("w", counters.FIGURES): {}}, now - FIGURES_KEPT_S - 1))
    store.save_counters({("combo_1", "position"): 1})
    store.save_bindings([StoredBinding("s", "groq", "conn", None, now - 1)])
    done = store.prune(now)
    assert (done.health, done.paces, done.slots, done.claims, done.counters, done.bindings) == (0, 0, 1, 1, 1, 1)
    database.write(lambda sql: health.save(sql, (cleared(DEAD, now - 3600),)))
    assert store.prune(now).health == 1
    assert [row.key for row in store.load_health()] == [COOLING.key]
    assert [row.value for row in store.load_counters(at_most=9)] == [1]


def test_a_database_that_is_not_there_is_an_error_for_the_caller(tmp_path: Path) -> None:
    gone = Database(f"postgresql:///gone?host={tmp_path}")
    store = StateStore(gone, time.time)
    with pytest.raises(StorageError):
        store.take_pace("a", 1.0, 0, time.time())
    with pytest.raises(StorageError):
        store.load_health()
    gone.dispose()
