"""Several services in one transaction: to each of them it looks like a database of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection as Sql

from omniroute.storage.database import Database, Work

T = TypeVar("T")


class JoinedDatabase(Database):
    """Runs everything in a transaction that is open already; whoever opened it commits or undoes all of it."""

    def __init__(self, sql: Sql, of: Database) -> None:
        """`of`: the database whose transaction `sql` is."""
        self.is_sqlite = of.is_sqlite
        self.path = of.path
        self._sql = sql
        self._told: list[Callable[[], None]] = []

    def read(self, work: Work[T]) -> T:
        """Run `work` in the transaction: it sees what was written in it before."""
        return work(self._sql)

    def write(self, work: Work[T], *, bump: bool = False) -> T:
        """Run `work` in the transaction; `bump` tells those who follow, and whoever commits raises the version."""
        result = work(self._sql)
        if bump:
            for callback in self._told:
                callback()
        return result

    def after_bump(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever the configuration was changed in the transaction."""
        self._told.append(callback)

    def change_token(self) -> tuple[int, int] | None:
        """Nothing can be said: nobody sees the transaction but itself."""
        return None
