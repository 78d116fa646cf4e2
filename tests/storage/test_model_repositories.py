"""Models by hand and from providers' lists, on every database."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection as Sql

from omniroute.records import (
    AuthType,
    Connection,
    CustomModel,
    DiscoveredModel,
    ModelOverride,
    ModelSync,
)
from omniroute.storage.database import Database
from omniroute.storage.repositories import connections, models_custom, models_discovered
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder, load
from tests.storage.conftest import NOW

CIPHER = Cipher(bytes(32))
FULL = CustomModel(
    "groq",
    "org/model",
    name="Mine",
    kind="embedding",
    api_format="openai_responses",
    context_length=5_000_000_000,
    max_output=7,
    able=frozenset({"tools", "vision"}),
    unable=frozenset({"reasoning"}),
    created_at=NOW,
    updated_at=NOW + 1,
)
PLAIN = CustomModel("anthropic", "m", created_at=NOW, updated_at=NOW)
SAID = DiscoveredModel(
    "org/model",
    name="Modèle",
    kind="chat",
    context_length=131_072,
    max_output=4096,
    able=frozenset({"tools"}),
    unable=frozenset({"vision"}),
    input=("text", "audio"),
    prices=(("input", "0.5"), ("output", "1.25")),
)
SILENT = DiscoveredModel("silent")


def connection(name: str) -> Connection:
    return Connection(f"conn_{name}", "groq", AuthType.NONE, name, 1, True, None, created_at=NOW, updated_at=NOW)


def read(database: Database, connection_id: str, *listed: DiscoveredModel, at: float = NOW) -> None:
    """Store a list as a reading at a time would."""

    def work(sql: Sql) -> None:
        old = {one.model_id for one in models_discovered.load_of(sql, connection_id)}
        models_discovered.replace(
            sql,
            provider="groq",
            connection_id=connection_id,
            removed=old - {one.model_id for one in listed},
            changed=listed,
            now=at,
        )
        models_discovered.put_sync(sql, ModelSync(connection_id, "groq", at, at, len(listed)))

    database.write(work, bump=True)


def test_a_declared_model_comes_back_as_it_was_stored(database: Database) -> None:
    def work(sql: Sql) -> None:
        models_custom.put(sql, FULL)
        models_custom.put(sql, PLAIN)

    database.write(work)
    assert database.read(models_custom.load_all) == (PLAIN, FULL)
    assert database.read(lambda sql: models_custom.get(sql, "groq", "org/model")) == FULL
    assert database.read(lambda sql: models_custom.get(sql, "groq", "other")) is None
    assert database.read(models_custom.count) == 2


def test_a_declared_model_is_changed_and_keeps_its_age(database: Database) -> None:
    database.write(lambda sql: models_custom.put(sql, FULL))
    changed = replace(FULL, name=None, able=frozenset(), unable=frozenset(), created_at=NOW + 50, updated_at=NOW + 60)
    database.write(lambda sql: models_custom.put(sql, changed))
    assert database.read(models_custom.load_all) == (replace(changed, created_at=NOW),)


def test_declared_models_are_removed_alone_or_with_their_provider(database: Database) -> None:
    def work(sql: Sql) -> tuple[int, int, int]:
        for name in "abc":
            models_custom.put(sql, replace(FULL, model_id=name))
        models_custom.put(sql, PLAIN)
        one = models_custom.delete(sql, "groq", "a")
        return one, models_custom.delete(sql, "groq", "a"), models_custom.delete(sql, "groq")

    assert database.write(work) == (1, 0, 2)
    assert database.read(models_custom.load_all) == (PLAIN,)


def test_an_override_comes_back_and_an_empty_one_goes(database: Database) -> None:
    full = ModelOverride("groq", "m", True, 5, 6, frozenset({"tools"}), frozenset({"pdf"}), NOW, NOW + 1)
    hidden = ModelOverride("groq", "n", is_hidden=True, created_at=NOW, updated_at=NOW)
    database.write(lambda sql: models_custom.put_overrides(sql, [full, hidden]))
    assert database.read(models_custom.load_overrides) == (full, hidden)
    shown = replace(hidden, is_hidden=False)
    assert shown.is_empty
    database.write(lambda sql: models_custom.put_overrides(sql, [shown, replace(full, context_length=None)]))
    assert database.read(models_custom.load_overrides) == (replace(full, context_length=None),)
    assert database.read(lambda sql: models_custom.get_override(sql, "groq", "n")) is None
    assert database.write(lambda sql: models_custom.delete_override(sql, "groq")) == 1


def test_a_list_comes_back_as_it_was_read(database: Database) -> None:
    read(database, "conn_a", SILENT, SAID)
    read(database, "conn_b", at=NOW + 5)
    found = database.read(models_discovered.load_all)
    assert found["conn_a"].models == (SAID, SILENT)
    assert (found["conn_a"].provider, found["conn_a"].synced_at) == ("groq", NOW)
    assert found["conn_b"].models == ()
    assert database.read(lambda sql: models_discovered.load_of(sql, "conn_a")) == (SAID, SILENT)


def test_a_list_that_was_never_read_with_success_is_not_known(database: Database) -> None:
    failed = ModelSync("conn_a", "groq", NOW, error="rate_limit: slow down")
    database.write(lambda sql: models_discovered.put_sync(sql, failed))
    assert database.read(models_discovered.load_all) == {}
    assert database.read(lambda sql: models_discovered.get_sync(sql, "conn_a")) == failed
    assert database.read(models_discovered.load_syncs) == {"conn_a": failed}
    assert database.read(lambda sql: models_discovered.get_sync(sql, "conn_b")) is None


def test_a_list_is_replaced_and_remembers_when_its_models_were_seen(database: Database) -> None:
    many = [replace(SILENT, model_id=f"m{number:04}") for number in range(1200)]
    read(database, "conn_a", SAID, SILENT, *many)
    changed = replace(SAID, context_length=1)
    read(database, "conn_a", changed, at=NOW + 100)
    assert database.read(lambda sql: models_discovered.load_of(sql, "conn_a")) == (changed,)
    assert database.read(lambda sql: models_discovered.seen_at(sql, "conn_a")) == {"org/model": (NOW, NOW + 100)}


def test_equal_models_of_two_lists_are_one_object(database: Database) -> None:
    read(database, "conn_a", SAID)
    read(database, "conn_b", SAID)
    found = database.read(models_discovered.load_all)
    assert found["conn_a"].models[0] is found["conn_b"].models[0]


def test_a_snapshot_reads_only_the_lists_that_are_new(database: Database) -> None:
    read(database, "conn_a", SAID)
    read(database, "conn_b", SILENT)
    holder = SnapshotHolder(database, CIPHER, lambda: NOW)
    holder.refresh()
    before = holder.current.discovered
    read(database, "conn_b", SAID, at=NOW + 1)
    after = holder.current.discovered
    assert after["conn_a"] is before["conn_a"]
    assert after["conn_b"].models == (SAID,)
    assert after["conn_b"].models[0] is before["conn_a"].models[0]
    fresh = database.read(lambda sql: load(sql, CIPHER, NOW)).discovered
    assert fresh == after
    assert fresh["conn_a"] is not before["conn_a"]


def test_a_snapshot_has_what_the_operator_says(database: Database) -> None:
    override = ModelOverride("groq", "m", is_hidden=True, created_at=NOW, updated_at=NOW)

    def work(sql: Sql) -> None:
        models_custom.put(sql, FULL)
        models_custom.put_overrides(sql, [override])

    database.write(work)
    made = database.read(lambda sql: load(sql, CIPHER, NOW))
    assert (made.custom_models, made.model_overrides) == ((FULL,), (override,))


def test_a_list_goes_with_its_connection(database: Database) -> None:
    def work(sql: Sql) -> None:
        for name in "abc":
            connections.insert(sql, connection(name), CIPHER)

    database.write(work)
    for name in "abc":
        read(database, f"conn_{name}", SAID)
    assert database.read(lambda sql: connections.exists(sql, "conn_a"))
    database.write(lambda sql: connections.delete(sql, "conn_a"))
    assert not database.read(lambda sql: connections.exists(sql, "conn_a"))
    assert set(database.read(models_discovered.load_all)) == {"conn_b", "conn_c"}
    assert database.read(lambda sql: models_discovered.load_of(sql, "conn_a")) == ()
    database.write(lambda sql: connections.delete_of_provider(sql, "groq"))
    assert database.read(models_discovered.load_syncs) == {}
    assert database.read(lambda sql: models_discovered.load_of(sql, "conn_b")) == ()
