"""A transaction that several services share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from omniroute.storage.database import Database
from omniroute.storage.joined import JoinedDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'x.sqlite'}")
    made.write(lambda sql: sql.execute(text("CREATE TABLE t (n INTEGER)")))
    yield made
    made.dispose()


def insert(sql: Connection) -> None:
    sql.execute(text("INSERT INTO t VALUES (1)"))


def count(sql: Connection) -> int:
    return int(sql.execute(text("SELECT count(*) FROM t")).scalar_one())


def test_reads_see_what_was_written_and_followers_are_told(database: Database) -> None:
    told: list[int] = []

    def work(sql: Connection) -> int:
        joined = JoinedDatabase(sql, database)
        assert (joined.is_sqlite, joined.path, joined.change_token()) == (True, database.path, None)
        joined.after_bump(lambda: told.append(joined.read(count)))
        joined.write(insert)
        assert told == []
        joined.write(insert, bump=True)
        return joined.read(count)

    assert database.write(work) == 2
    assert told == [2]
    assert database.read(count) == 2


def test_an_error_of_one_undoes_what_the_others_did(database: Database) -> None:
    def work(sql: Connection) -> None:
        joined = JoinedDatabase(sql, database)
        joined.write(insert)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        database.write(work)
    assert database.read(count) == 0
