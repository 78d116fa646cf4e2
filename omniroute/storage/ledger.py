"""The one way to budgets and limits: what they leave, what requests hold of them, how they are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection as Sql

from omniroute.money.limits import Hold, Kind, Standing
from omniroute.money.periods import Window
from omniroute.records import Budget, TokenLimit
from omniroute.storage import dialects
from omniroute.storage.database import Database
from omniroute.storage.repositories import ledger, slots

_SESSIONS_OWNER: Final = "sessions"


@dataclass(frozen=True, slots=True)
class Places:
    """A bound on what a caller may do at once.

    Attributes:
        scope: what the places are kept under.
        holder: who takes one: a request, or a session.
        lasts_s: how long it is held if nobody lets go of it.
    """

    scope: str
    limit: int
    holder: str
    lasts_s: float
    is_session: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of asking: the first limit that is used up, or none.

    Attributes:
        standings: how far each limit was used, before this request.
        full: the bound that has no place left.
        is_first_refusal: the budget that refuses has refused nobody before in its window.
    """

    standings: tuple[Standing, ...] = ()
    refused: Standing | None = None
    full: Places | None = None
    is_first_refusal: bool = False


class Ledger:
    """Reads and changes budgets, limits and reservations, all workers and hosts as one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def admit(
        self,
        holds: Sequence[Hold],
        places: Sequence[Places],
        *,
        request_id: str,
        owner: str,
        now: float,
        lease_s: float,
        freed: Sequence[tuple[str, str]] = (),
    ) -> Verdict:
        """Let a request in, or say what stands in its way; one transaction.

        Holds that are about a provider or a model never refuse here: others may serve. They are held nonetheless.

        Args:
            holds: in the order in which they are judged.
            places: what else the request needs.
            request_id: who holds it all, until its row is in the log.
            owner: the worker that keeps it held.
            now: epoch seconds.
            lease_s: for how long it is held if the worker is no more.
            freed: places (scope, holder) that are to be given back before.

        Raises:
            StorageError: nobody knows what is left.
        """

        def work(sql: Sql) -> Verdict:
            for scope, holder in freed:
                slots.release(sql, scope, holder)
            ledger.lock(sql, holds)
            found = tuple(ledger.standings(sql, holds, now))
            refused = next((one for one in found if not one.is_open and one.hold.of is None), None)
            if refused is not None:
                is_first = refused.hold.kind is Kind.BUDGET and ledger.note_refusal(sql, refused.hold, now)
                return Verdict(found, refused, is_first_refusal=is_first)
            for number, place in enumerate(places):
                if not self._take(sql, place, owner, now):
                    for taken in places[:number]:
                        slots.release(sql, taken.scope, taken.holder)
                    return Verdict(found, full=place)
            ledger.reserve(sql, holds, request_id=request_id, owner=owner, until=now + lease_s)
            return Verdict(found)

        return self._database.write(work)

    def standings(self, holds: Sequence[Hold], now: float) -> list[Standing]:
        """Return how far limits are used."""
        return self._database.read(lambda sql: ledger.standings(sql, holds, now))

    def taken(self, scopes: Sequence[str], now: float) -> list[int]:
        """Return how many places of scopes are held."""

        def work(sql: Sql) -> list[int]:
            at = dialects.of(sql).clock(sql, now)
            return [slots.count(sql, scope, at) for scope in scopes]

        return self._database.read(work)

    def details(self, holds: Sequence[Hold]) -> dict[str, Mapping[str, Any]]:
        """Return what is counted of budgets in their windows, by the id of the hold."""
        return self._database.read(lambda sql: ledger.ledger_of(sql, holds))

    def spent_in(self, scope_id: str, windows: Sequence[Window]) -> list[int]:
        """Return what a scope spent in windows, in nano-USD."""
        return self._database.read(lambda sql: [ledger.spent_in(sql, scope_id, window)[0] for window in windows])

    def renew(self, request_ids: Sequence[str], owner: str, now: float, lease_s: float) -> None:
        """Hold what requests of an owner have taken for longer."""

        def work(sql: Sql) -> None:
            ledger.renew(sql, request_ids, until=now + lease_s)
            slots.renew(sql, owner, now=now, until=dialects.of(sql).clock(sql, now) + lease_s)

        self._database.write(work)

    def free(self, places: Sequence[tuple[str, str]]) -> None:
        """Give places (scope, holder) back."""

        def work(sql: Sql) -> None:
            for scope, holder in places:
                slots.release(sql, scope, holder)

        self._database.write(work)

    def forget(self, request_ids: Sequence[str]) -> None:
        """Let go of what requests hold that leave no row behind."""
        self._database.write(lambda sql: ledger.release(sql, request_ids))

    # --- what is set ----------------------------------------------------------------------------------------------

    def budgets(self) -> Mapping[str, tuple[Budget, ...]]:
        """Return all budgets by scope."""
        return self._database.read(ledger.load_budgets)

    def set_budgets(self, budgets: Sequence[Budget], now: float) -> None:
        """Set budgets, and count what was spent in the windows that hold now."""

        def work(sql: Sql) -> None:
            for budget in budgets:
                ledger.save_budget(sql, budget, now)

        self._database.write(work, bump=True)

    def remove_budgets(self, keys: Sequence[tuple[str, str]]) -> int:
        """Remove budgets by (scope, period); return how many there were."""
        return self._database.write(lambda sql: sum(ledger.delete_budget(sql, *key) for key in keys), bump=True)

    def token_limits(self) -> Mapping[str, tuple[TokenLimit, ...]]:
        """Return all token limits by scope, disabled ones included."""
        return self._database.read(ledger.load_token_limits)

    def set_token_limit(self, limit: TokenLimit, now: float) -> None:
        """Set a token limit, and count what was used in the window that holds now."""
        self._database.write(lambda sql: ledger.save_token_limit(sql, limit, now), bump=True)

    def remove_token_limit(self, limit_id: str) -> bool:
        """Remove a token limit; False if there was none."""
        return self._database.write(lambda sql: ledger.delete_token_limit(sql, limit_id), bump=True)

    # --- places ---------------------------------------------------------------------------------------------------

    def _take(self, sql: Sql, place: Places, owner: str, now: float) -> bool:
        at = dialects.of(sql).clock(sql, now)
        return slots.acquire(
            sql,
            place.scope,
            limit=place.limit,
            request_id=place.holder,
            owner=_SESSIONS_OWNER if place.is_session else owner,
            now=at,
            until=at + place.lasts_s,
        )
