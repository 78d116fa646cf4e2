"""Chooses between the modules `sqlite` and `postgres` for a connection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from sqlalchemy import Column, Connection, Table
from sqlalchemy.dialects.sqlite import Insert

from omniroute.storage import postgres, sqlite


class Dialect(Protocol):
    """The part of a dialect's module that statements depend on."""

    def insert_into(self, table: Table) -> Insert:
        """Return an INSERT that can carry ON CONFLICT."""
        ...

    def lock_rows(self, connection: Connection, key: int) -> None:
        """Let one transaction at a time pass, until it ends."""
        ...

    def lock_names(self, connection: Connection, space: int, names: Iterable[str]) -> None:
        """Let one transaction at a time pass with each of the names, which need not be rows yet, until it ends."""
        ...

    def clock(self, connection: Connection, now: float) -> float:
        """Return the time that all who share the database agree on, given our own."""
        ...

    def last_row(self, connection: Connection, table: Table) -> int | None:
        """Return a number that grows with the rows of a table, 0 of none; None where rows have no order of storing."""
        ...

    def insert_many(
        self,
        connection: Connection,
        head: str,
        columns: Sequence[Column[Any]],
        rows: Sequence[tuple[Any, ...]],
        tail: str,
    ) -> int:
        """Run `<head> <rows> <tail>` for many rows at a small price per row; return the rows affected."""
        ...


def of(connection: Connection) -> Dialect:
    """Return the facts about the database behind a connection."""
    # The two Insert classes share the methods that are used here (on_conflict_…, excluded, returning).
    module = sqlite if connection.dialect.name == "sqlite" else postgres
    return cast("Dialect", module)
