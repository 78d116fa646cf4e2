"""Budgets: how much a key, keyless callers, or all together may spend by the day, week or month."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal, TypedDict
from zoneinfo import ZoneInfo

from sqlalchemy import Connection as Sql

from omniroute.errors import NotFound, ValidationFailed
from omniroute.money.limits import EVERYBODY, KEYLESS, Kind, Standing, budget_hold
from omniroute.money.periods import Period, Window, window_at
from omniroute.money.tariff import NANO
from omniroute.records import Budget
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.storage.database import Database
from omniroute.storage.ledger import Ledger
from omniroute.storage.repositories import settings as stored_settings
from omniroute.storage.repositories.ledger import Crossing

log = logging.getLogger(__name__)

MOST_USD: Final = 1_000_000_000
SECTION: Final = "budgets"
"""The section of the settings that change while the server runs."""
UNPRICED: Final = ("refuse", "allow")
_RESET_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_FIELDS: Final = ("warningThreshold", "resetTime", "timeZone")
_NAMES: Final = {EVERYBODY: "all callers", KEYLESS: "local"}


class BudgetDocument(TypedDict):
    """A budget and how far it is used in the window that holds now; money in USD."""

    keyId: str
    keyName: str
    period: str
    limit: float
    spent: float
    reserved: float
    remaining: float
    percentUsed: float
    warningThreshold: float
    state: Literal["ok", "warning", "exceeded"]
    requests: int
    unpricedRequests: int
    resetTime: str
    timeZone: str
    periodStart: str | None
    resetsAt: str | None


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget and how far it is used in the window that holds now."""

    budget: Budget
    name: str
    window: Window
    spent_nano_usd: int
    reserved_nano_usd: int
    requests: int
    unpriced: int

    @property
    def remaining_nano_usd(self) -> int:
        """What is left for new requests."""
        return max(0, self.budget.limit_nano_usd - self.spent_nano_usd - self.reserved_nano_usd)

    @property
    def used_fraction(self) -> float:
        """What was spent, as a fraction of the limit; 1 where nothing may be spent at all."""
        limit = self.budget.limit_nano_usd
        return self.spent_nano_usd / limit if limit else 1.0

    @property
    def state(self) -> Literal["ok", "warning", "exceeded"]:
        """`ok`, `warning` or `exceeded`."""
        if self.spent_nano_usd >= self.budget.limit_nano_usd:
            return "exceeded"
        return "warning" if self.used_fraction >= self.budget.warning_threshold else "ok"


class Budgets:
    """Sets, lists and removes budgets."""

    def __init__(
        self,
        *,
        database: Database,
        ledger: Ledger,
        snapshots: Snapshots,
        audit: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._snapshots = snapshots
        self._audit = audit
        self._now = now

    def check(self, scope_id: str) -> None:
        """Refuse a scope that nobody has.

        Raises:
            NotFound: there is no such key.
        """
        check_scope(scope_id, self._snapshots)

    def all(self, scope_id: str | None = None) -> list[BudgetState]:
        """Return budgets with what was spent of them, those of one scope if it is given."""
        found = self._ledger.budgets()
        wanted = [one for scope, some in found.items() if scope_id in (None, scope) for one in some]
        return self._states(sorted(wanted, key=lambda one: (one.scope_id, list(Period).index(Period(one.period)))))

    def spent_of(self, scope_id: str) -> tuple[int, int]:
        """Return what a scope spent today and this month (UTC), in nano-USD, whatever budgets it has."""
        now = self._now()
        today, month = self._ledger.spent_in(scope_id, [window_at(Period.DAILY, now), window_at(Period.MONTHLY, now)])
        return today, month

    def set(self, scope_id: str, limits: Mapping[str, Any], fields: Mapping[str, Any], origin: Origin) -> None:
        """Set budgets of a scope by period; a limit of None removes that budget.

        Args:
            scope_id: the id of a key, `local`, or `*` for all callers together.
            limits: USD by period.
            fields: `warningThreshold`, `resetTime`, `timeZone`, for all of them.
            origin: who asks.

        Raises:
            NotFound: there is no such key.
            ValidationFailed: a field has no meaning.
        """
        check_scope(scope_id, self._snapshots)
        now, old = self._now(), {one.period: one for one in self._ledger.budgets().get(scope_id, ())}
        changed: list[Budget] = []
        for period, limit in limits.items():
            if limit is None:
                continue
            known = old.get(period) or Budget(scope_id, period, 0, time_zone=self._zone, created_at=now)
            values = {"limit_nano_usd": _nano(limit), "updated_at": now, **_values(fields)}
            changed.append(replace(known, **values))
        gone = [(scope_id, period) for period, limit in limits.items() if limit is None and period in old]
        if changed:
            self._ledger.set_budgets(changed, now)
        if gone:
            self._ledger.remove_budgets(gone)
        if changed or gone:
            usd = {period: None if limit is None else float(limit) for period, limit in limits.items()}
            others = {name: fields[name] for name in _FIELDS if name in fields}
            self._record(scope_id, {"limits_usd": usd, **others}, origin)

    @property
    def _zone(self) -> str:
        """The time zone of budgets that name none."""
        zone = self._snapshots.current.settings.get(("general", "timeZone"))
        return zone if isinstance(zone, str) and is_zone(zone) else "UTC"

    def remove(self, scope_id: str, period: str | None, origin: Origin) -> int:
        """Remove a budget, or all of a scope; return how many there were.

        Raises:
            NotFound: there is none.
        """
        old = self._ledger.budgets().get(scope_id, ())
        keys = [(scope_id, one.period) for one in old if period in (None, one.period)]
        if not keys:
            raise NotFound("There is no such budget.")
        removed = self._ledger.remove_budgets(keys)
        self._record(scope_id, {"removed": [period for _, period in keys]}, origin)
        return removed

    # --- settings ------------------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """Return what holds for budgets as a whole: whether a model of unknown price may serve who has one."""
        return {"unpriced": self._snapshots.current.settings.get((SECTION, "unpriced"), UNPRICED[0])}

    def change_settings(self, fields: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
        """Change the given settings; null gives one back to its default.

        Raises:
            ValidationFailed: a setting is unknown, or its value is none of its choices.
        """
        for name, value in fields.items():
            if name != "unpriced":
                raise ValidationFailed([{"field": f"budgets.{name[:64]}", "message": "unknown field"}])
            if value not in (None, *UNPRICED):
                message = f"must be one of {', '.join(UNPRICED)}, or null"
                raise ValidationFailed([{"field": f"budgets.{name}", "message": message}])
        old, now, by = self.settings(), self._now(), origin.actor.audit_name

        def work(sql: Sql) -> None:
            for name, value in fields.items():
                if value is None:
                    stored_settings.delete(sql, SECTION, name)
                else:
                    stored_settings.put(sql, SECTION, name, value, changed_by=by, now=now)

        self._database.write(work, bump=True)
        new = self.settings()
        changed = {name: [old[name], new[name]] for name in new if old[name] != new[name]}
        facts = origin.facts()
        self._audit.record("settings.changed", target_kind="settings", target_id=SECTION, details=changed, **facts)
        return new

    # --- what is shown -------------------------------------------------------------------------------------------

    def _states(self, budgets: Sequence[Budget]) -> list[BudgetState]:
        now = self._now()
        holds = [budget_hold(one, now) for one in budgets]
        if not holds:
            return []
        standings = self._ledger.standings(holds, now)
        details = self._ledger.details(holds)
        return [
            self._state(one, standing, details.get(standing.hold.id, {}))
            for one, standing in zip(budgets, standings, strict=True)
        ]

    def _state(self, budget: Budget, standing: Standing, counted: Mapping[str, Any]) -> BudgetState:
        return BudgetState(
            budget=budget,
            name=scope_name(budget.scope_id, self._snapshots),
            window=standing.hold.window,
            spent_nano_usd=standing.used,
            reserved_nano_usd=standing.reserved,
            requests=int(counted.get("requests", 0)),
            unpriced=int(counted.get("unpriced", 0)),
        )

    def _record(self, scope_id: str, details: dict[str, Any], origin: Origin) -> None:
        facts = origin.facts()
        self._audit.record("budget.changed", target_kind="budget", target_id=scope_id, details=details, **facts)


def document(state: BudgetState, iso_time: Callable[[float | None], str | None]) -> BudgetDocument:
    """Return a budget as the management API and the command line show it; money in USD."""
    budget = state.budget
    return {
        "keyId": budget.scope_id,
        "keyName": state.name,
        "period": budget.period,
        "limit": budget.limit_nano_usd / NANO,
        "spent": state.spent_nano_usd / NANO,
        "reserved": state.reserved_nano_usd / NANO,
        "remaining": state.remaining_nano_usd / NANO,
        "percentUsed": round(state.used_fraction * 100, 2),
        "warningThreshold": budget.warning_threshold,
        "state": state.state,
        "requests": state.requests,
        "unpricedRequests": state.unpriced,
        "resetTime": budget.reset_time,
        "timeZone": budget.time_zone,
        "periodStart": iso_time(state.window.start),
        "resetsAt": iso_time(state.window.end),
    }


def scope_name(scope_id: str, snapshots: Snapshots) -> str:
    """Return what people call a scope: the name of a key, or who else is meant."""
    keys = snapshots.current.keys
    return _NAMES.get(scope_id) or next((key.name for key in keys if key.id == scope_id), scope_id)


def check_scope(scope_id: str, snapshots: Snapshots) -> None:
    """Refuse a scope that nobody has.

    Raises:
        NotFound: there is no such key.
    """
    if scope_id in _NAMES:
        return
    if not any(key.id == scope_id and key.revoked_at is None for key in snapshots.current.keys):
        raise NotFound("There is no API key with this id; '*' stands for all callers, 'local' for those without a key.")


class BudgetEvents:
    """Tells of budgets that come near their limit, and of the first refusal in each of their windows."""

    def __init__(self, audit: Recorder) -> None:
        self._audit = audit
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []
        """Called with `budget.warning` or `budget.exceeded`, and what there is to say."""

    def crossed(self, crossing: Crossing) -> None:
        """Tell that a budget has reached its warning threshold."""
        budget = crossing.budget
        facts = _facts(budget.scope_id, budget.period, budget.limit_nano_usd, crossing.spent_nano_usd, crossing.window)
        log.warning("The %s budget of %s is nearly spent", budget.period, budget.scope_id)
        self._tell("budget.warning", facts)

    def refused(self, standing: Standing) -> None:
        """Tell that a budget has refused a request."""
        hold = standing.hold
        if hold.kind is not Kind.BUDGET:
            return
        facts = _facts(hold.scope_id, hold.period, hold.limit, standing.used, hold.window)
        self._audit.record(
            "budget.exceeded",
            actor="system",
            target_kind="budget",
            target_id=hold.scope_id,
            outcome="denied",
            details=dict(facts),
        )
        self._tell("budget.exceeded", facts)

    def _tell(self, event: str, facts: Mapping[str, Any]) -> None:
        for listener in self.listeners:
            listener(event, facts)


def _facts(scope_id: str, period: str, limit: int, spent: int, window: Window) -> Mapping[str, Any]:
    return {
        "scope": "server" if scope_id == EVERYBODY else scope_id,
        "period": period,
        "limit_usd": limit / NANO,
        "spent_usd": spent / NANO,
        "resets_at": window.end,
    }


def _nano(usd: Any) -> int:
    amount = Decimal(str(usd))
    if not amount.is_finite() or amount < 0 or amount > MOST_USD:
        raise ValidationFailed([{"field": "limit", "message": f"must be from 0 to {MOST_USD} USD"}])
    nano_usd = round(amount * NANO)
    if amount and not nano_usd:
        raise ValidationFailed([{"field": "limit", "message": "must be 0, or at least 0.000000001 USD"}])
    return nano_usd


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "warningThreshold" in fields:
        values["warning_threshold"] = float(fields["warningThreshold"])
    if "resetTime" in fields:
        if not _RESET_TIME.fullmatch(fields["resetTime"]):
            raise ValidationFailed([{"field": "resetTime", "message": "must be a time of day as HH:MM"}])
        values["reset_time"] = fields["resetTime"]
    if "timeZone" in fields:
        if not is_zone(fields["timeZone"]):
            raise ValidationFailed([{"field": "timeZone", "message": "is not a time zone"}])
        values["time_zone"] = fields["timeZone"]
    return values


def is_zone(name: str) -> bool:
    """Say whether a time zone exists."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
