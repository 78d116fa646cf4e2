"""Proxies and their bindings in the database."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest

from omniroute.errors import Conflict
from omniroute.records import Combo, Proxy, ProxyBinding, ProxyLevel, ProxyType
from omniroute.secret import Secret
from omniroute.storage.database import Database
from omniroute.storage.repositories import combos
from omniroute.storage.repositories import proxies as rows
from omniroute.storage.secrets import Cipher

NOW = 1_800_000_000.0
CIPHER = Cipher(bytes(32))
PROXY = Proxy(
    "proxy_1",
    "office",
    ProxyType.SOCKS5,
    "proxy.example.com",
    1080,
    "ann",
    Secret("pw"),
    created_at=NOW,
    updated_at=NOW,
)


def unnamed(proxy_id: str) -> Proxy:
    return dataclasses.replace(PROXY, id=proxy_id, name=proxy_id, password=None, username=None)


def test_a_proxy_comes_back_as_it_was(database: Database) -> None:
    database.write(lambda sql: rows.insert(sql, PROXY, CIPHER))
    assert database.read(lambda sql: rows.load_all(sql, CIPHER)) == (PROXY,)
    assert database.read(lambda sql: rows.get(sql, "proxy_2", CIPHER)) is None
    changed = dataclasses.replace(PROXY, host="other.example.com", is_active=False, password=Secret("new"))
    assert database.write(lambda sql: rows.update(sql, changed, CIPHER, with_password=False))
    found = database.read(lambda sql: rows.get(sql, "proxy_1", CIPHER))
    assert found == dataclasses.replace(changed, password=PROXY.password)
    assert database.write(lambda sql: rows.update(sql, changed, CIPHER, with_password=True))
    assert database.read(lambda sql: rows.get(sql, "proxy_1", CIPHER)) == changed
    assert not database.write(lambda sql: rows.update(sql, unnamed("proxy_9"), CIPHER, with_password=True))


def test_a_password_of_another_key_is_unreadable(database: Database) -> None:
    database.write(lambda sql: rows.insert(sql, PROXY, CIPHER))
    found = database.read(lambda sql: rows.get(sql, "proxy_1", Cipher(b"x" * 32)))
    assert found is not None
    assert (found.password, found.is_unreadable) == (None, True)


def test_a_name_is_taken_once(database: Database) -> None:
    database.write(lambda sql: rows.insert(sql, PROXY, CIPHER))
    with pytest.raises(Conflict):
        database.write(lambda sql: rows.insert(sql, dataclasses.replace(PROXY, id="proxy_2"), CIPHER))


def test_bindings_come_and_go(database: Database) -> None:
    first = ProxyBinding(ProxyLevel.GLOBAL, "", "proxy_1")
    second = ProxyBinding(ProxyLevel.PROVIDER, "openai", "proxy_1")
    database.write(lambda sql: rows.insert(sql, PROXY, CIPHER))
    for binding in (first, second, first):
        database.write(partial(rows.bind, binding=binding, now=NOW))
    assert set(database.read(rows.load_bindings)) == {first, second}
    assert database.write(lambda sql: rows.unbind(sql, ProxyLevel.GLOBAL, ""))
    assert not database.write(lambda sql: rows.unbind(sql, ProxyLevel.GLOBAL, ""))
    assert database.write(lambda sql: rows.delete(sql, "proxy_1"))
    assert not database.write(lambda sql: rows.delete(sql, "proxy_1"))
    assert database.read(rows.load_bindings) == ()


def test_what_is_about_nothing_any_more_goes(database: Database) -> None:
    kept = [
        ProxyBinding(ProxyLevel.COMBO, "combo_1", "proxy_a"),
        ProxyBinding(ProxyLevel.PROVIDER, "openai", "proxy_a"),
        ProxyBinding(ProxyLevel.GLOBAL, "", "proxy_a"),
    ]
    gone = [
        ProxyBinding(ProxyLevel.COMBO, "combo_2", "proxy_b"),
        ProxyBinding(ProxyLevel.KEY, "key_1", "proxy_b"),
        ProxyBinding(ProxyLevel.PROVIDER, "node_1", "proxy_b"),
    ]
    database.write(lambda sql: combos.insert(sql, Combo("combo_1", "mix", created_at=NOW, updated_at=NOW)))
    for proxy in (PROXY, unnamed("proxy_a"), unnamed("proxy_b")):
        database.write(partial(rows.insert, record=proxy, cipher=CIPHER))
    for binding in (*kept, *gone):
        database.write(partial(rows.bind, binding=binding, now=NOW))
    database.write(rows.delete_stale)
    assert set(database.read(rows.load_bindings)) == set(kept)
    assert {proxy.id for proxy in database.read(lambda sql: rows.load_all(sql, CIPHER))} == {"proxy_1", "proxy_a"}
