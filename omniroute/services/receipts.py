"""Receipts: what a request cost, figure by figure, and where each figure is from."""

from __future__ import annotations

from dataclasses import dataclass

from omniroute.errors import NotFound
from omniroute.records import Charge, RequestRecord
from omniroute.storage.database import Database
from omniroute.storage.repositories import request_log

BILLED = "billed"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A settled request with its charges.

    Attributes:
        has_details: its key lets more be kept of it than sums.
    """

    record: RequestRecord
    has_details: bool

    @property
    def charges(self) -> tuple[Charge, ...]:
        """The serving attempt first."""
        return self.record.charges

    @property
    def total_nano_usd(self) -> int | None:
        """Everything that was billed for it, or what its answer is worth where that is not billed; None if unknown."""
        record = self.record
        if record.cost_nano_usd is None:
            return None
        return record.cost_nano_usd + (record.extra_nano_usd if record.cost_kind == BILLED else 0)

    @property
    def billed_nano_usd(self) -> int:
        """What counts against budgets."""
        record = self.record
        own = record.cost_nano_usd or 0 if record.cost_kind == BILLED else 0
        return own + record.extra_nano_usd


class Receipts:
    """Reads receipts."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def get(self, request_id: str) -> Receipt:
        """Return the receipt of a settled request.

        Raises:
            NotFound: no settled request has this id.
        """
        record = self._database.read(lambda sql: request_log.get(sql, request_id))
        if record is None:
            raise NotFound("There is no receipt with this id.")
        return Receipt(record, has_details=bool(record.charges))
