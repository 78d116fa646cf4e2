"""Stored prices, on every database."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text

from omniroute.money.book import IMPORT, OVERRIDE
from omniroute.records import PriceRow, PriceStep
from omniroute.storage.database import Database
from omniroute.storage.repositories import prices, request_log, usage
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import SnapshotHolder
from tests.storage.conftest import NOW, record

FULL = PriceRow(
    provider="openai",
    model="gpt-5",
    source=OVERRIDE,
    valid_from=NOW,
    updated_at=NOW + 1,
    input="2.5",
    output="10",
    cache_read="0.25",
    cache_write="3",
    cache_write_1h="5",
    reasoning="12",
    audio_input="40",
    audio_output="80",
    per_request="0.001",
    per_image="0.04",
    per_second="0.0001",
    per_character="15",
    tiers=(PriceStep(200_000, input="5", cache_read="0"), PriceStep(400_000, "6", "20", "0.3", "4")),
    note="As agreed in May",
)
IMPORTED = PriceRow("groq", "org/llama:free", IMPORT, NOW, NOW, input="0.05")


def put(database: Database, *some: PriceRow) -> None:
    def work(sql: Connection) -> None:
        for row in some:
            prices.put(sql, row)

    database.write(work)


def test_a_price_comes_back_as_it_was_stored(database: Database) -> None:
    put(database, FULL, IMPORTED)

    assert database.read(prices.load_all) == (IMPORTED, FULL)
    assert database.read(lambda sql: prices.find(sql, "openai", "gpt-5")) == FULL
    assert database.read(lambda sql: prices.find(sql, "openai", "gpt-5", IMPORT)) is None
    assert database.read(lambda sql: prices.count(sql, IMPORT)) == 1


def test_a_price_takes_the_place_of_the_one_before(database: Database) -> None:
    changed = replace(FULL, input="3", output=None, tiers=(), note=None, updated_at=NOW + 9)
    put(database, FULL, changed)

    assert database.read(prices.load_all) == (changed,)


def test_an_import_leaves_the_prices_of_the_operator(database: Database) -> None:
    database.write(lambda sql: prices.put(sql, FULL))
    database.write(lambda sql: prices.replace_imported(sql, [IMPORTED, replace(FULL, source=IMPORT)]))
    assert len(database.read(prices.load_all)) == 3
    newer = replace(IMPORTED, input="0.06")
    database.write(lambda sql: prices.replace_imported(sql, [newer]))
    assert database.read(prices.load_all) == (newer, FULL)
    database.write(lambda sql: prices.replace_imported(sql, []))
    assert database.read(prices.load_all) == (FULL,)


def test_prices_are_removed(database: Database) -> None:
    put(database, FULL, replace(FULL, model="gpt-6"), replace(FULL, source=IMPORT), IMPORTED)

    assert database.write(lambda sql: prices.delete(sql, "openai", "gpt-5"))
    assert not database.write(lambda sql: prices.delete(sql, "openai", "gpt-5"))
    assert database.write(lambda sql: prices.delete_of_provider(sql, "openai")) == 2
    assert database.read(prices.load_all) == (IMPORTED,)


@pytest.mark.parametrize(
    "change",
    [
        "input = '-1'",
        "input = 'cheap'",
        "output = 'NaN'",
        "per_image = '1e99'",
        "source = 'guess'",
        "tiers_json = '{'",
        "tiers_json = '[1]'",
        "tiers_json = '[{}]'",
        'tiers_json = \'[{"above": "many"}]\'',
        'tiers_json = \'[{"above": 5, "input": 3}]\'',
        'tiers_json = \'[{"above": -5, "input": "3"}]\'',
        'tiers_json = \'[{"above": 5, "input": "-3"}]\'',
    ],
)
def test_a_row_that_is_no_price_is_left_out_and_told(
    database: Database, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(database, FULL, IMPORTED)
    database.write(lambda sql: sql.execute(text(f"UPDATE prices SET {change} WHERE model = 'gpt-5'")))

    with caplog.at_level(logging.WARNING):
        assert database.read(prices.load_all) == (IMPORTED,)
    assert "openai/gpt-5" in caplog.text


def test_the_snapshot_has_the_prices(database: Database, cipher: Cipher) -> None:
    holder = SnapshotHolder(database, cipher, lambda: NOW)
    holder.refresh()
    assert not holder.current.prices
    database.write(lambda sql: prices.put(sql, FULL), bump=True)
    assert holder.current.prices == (FULL,)


def test_what_was_used_with_the_number_of_requests(database: Database) -> None:
    day = NOW - NOW % usage.DAY_S
    used = [
        record("req_1", time=day + 1, provider="groq", model="a"),
        record("req_2", time=day + 9000, provider="groq", model="b"),
        record("req_3", time=day + 2, provider="groq", model="b"),
        record("req_4", time=day - 1, provider="groq", model="old"),
        record("req_5", time=day, provider=None, model=None),
    ]
    rows = [request_log.read_line(request_log.line_of(one).rstrip(b"\n")).row for one in used]
    database.write(lambda sql: usage.add(sql, rows))

    assert database.read(lambda sql: prices.used_pairs(sql, day)) == {("groq", "b"): 2, ("groq", "a"): 1}
