"""What every table module shares: the declarative base and the few column types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, cast

from sqlalchemy import BigInteger, Double, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.orm import mapped_column

from omniroute.extensions import Base, db

# flask-sqlalchemy builds its own base from ours at run time; a type checker sees the class that it derives from.
if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model

TextKey = Annotated[str, mapped_column(Text, primary_key=True)]
Words = Annotated[str, mapped_column(Text)]
Whole = Annotated[int, mapped_column(BigInteger)]
"""64 bits on both databases: SQLite's INTEGER always is."""
Flag = Annotated[int, mapped_column(SmallInteger)]
"""0 or 1."""
Epoch = Annotated[float, mapped_column(Double)]
"""Seconds since 1970, UTC."""
Real = Annotated[float, mapped_column(Double)]
Digest = Annotated[bytes, mapped_column(LargeBinary)]


def table_of(model: type[Base]) -> Table:
    """Return the Core table of a model: statements are written against tables, not mapped classes."""
    return cast("Table", model.__table__)


ZERO: Final = "0"
ONE: Final = "1"
"""Server defaults, so that a release that does not know a new column can still insert."""
