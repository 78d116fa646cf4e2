"""Budgets and limits of callers: asked once per request, before anything is sent; nothing for callers without any.

    rules_of(caller) -> Rules | None     what limits a caller, from the snapshot; None for most
    admit(rules, ask) -> Allowance       one transaction over all of it, or the caller's error

What a request holds of budgets and token limits is let go in the transaction that writes its row of the log; the places
that it takes (of `maxConcurrent`) are given back when it ends. Both end by themselves if the worker is no more.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import gevent

from omniroute.errors import InternalError, OmniRouteError, StorageError
from omniroute.gateway.admission_errors import full, rate_headers, refused, usd
from omniroute.money.limits import (
    Hold,
    Kind,
    Standing,
    budget_hold,
    concerns,
    concurrency_scope,
    rate_hold,
    rules_in_force,
    scopes_of,
    sessions_scope,
    token_hold,
)
from omniroute.records import Budget, RateRule, Snapshot, TokenLimit
from omniroute.routing.options import Account, Option
from omniroute.services.access import Caller
from omniroute.storage.ledger import Places, Verdict

log = logging.getLogger(__name__)

LEASE_S: Final = 60.0
RENEW_EVERY_S: Final = 20.0
SESSION_IDLE_S: Final = 1800.0
"""A session counts among a key's for this long after its last request."""
_PAUSES_S: Final = (0.02, 0.05, 0.1)
"""A place that another worker's answer has just left is free a moment later."""

Permits = Callable[[Option, Account], bool]


class Ledger(Protocol):
    """Where budgets and limits are kept; see :class:`omniroute.storage.ledger.Ledger`."""

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
        """Let a request in, or say what stands in its way."""
        ...

    def renew(self, request_ids: Sequence[str], owner: str, now: float, lease_s: float) -> None:
        """Hold what requests of an owner have taken for longer."""
        ...

    def free(self, places: Sequence[tuple[str, str]]) -> None:
        """Give places back."""
        ...

    def forget(self, request_ids: Sequence[str]) -> None:
        """Let go of what requests hold that leave no row behind."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What limits a caller.

    Attributes:
        is_measured: how long a request is has to be known before it is sent.
        needs_price: a model whose price is not known may not serve.
    """

    key_id: str
    budgets: tuple[Budget, ...] = ()
    limits: tuple[TokenLimit, ...] = ()
    rates: tuple[RateRule, ...] = ()
    max_concurrent: int = 0
    max_sessions: int = 0
    throttle_s: float = 0.0
    needs_price: bool = False

    @property
    def is_measured(self) -> bool:
        """Whether an estimate is held."""
        return bool(self.budgets or self.limits)

    @property
    def needs_ledger(self) -> bool:
        """Whether the store is asked."""
        return bool(self.budgets or self.limits or self.rates or self.max_concurrent or self.max_sessions)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to be let in: what it may cost, and which session it belongs to."""

    request_id: str
    nano_usd: int = 0
    tokens: int = 0
    session: str | None = None


@dataclass(slots=True)
class Allowance:
    """What a request was let in with.

    Attributes:
        headers: what its answer says of budgets and rates.
        throttle_s: how long it waits before it is sent.
        blocked: token limits of providers and models that are used up.
    """

    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    throttle_s: float = 0.0
    blocked: tuple[Standing, ...] = ()
    places: tuple[tuple[str, str], ...] = ()

    def permits(self, others: Permits | None) -> Permits:
        """Return a judgement that leaves out what is used up, beside what `others` leave out."""
        used_up = [standing.hold.of for standing in self.blocked]

        def judge(option: Option, account: Account) -> bool:
            prefix = option.name.partition("/")[0]
            if any(concerns(of, prefix, option.model) for of in used_up):
                return False
            return others is None or others(option, account)

        return judge


class Admission:
    """Judges requests by their callers' budgets and limits. One per worker."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        wall: Callable[[], float],
        sleep: Callable[[float], None],
        default_per_day: int = 0,
        on_refused: Callable[[Standing], None] = lambda _standing: None,
    ) -> None:
        """`default_per_day`: requests of a key without rules of its own; 0 for no such rule.

        `on_refused` is told of the first refusal by a budget in each of its windows.
        """
        self._ledger = ledger
        self._wall = wall
        self._sleep = sleep
        self._default_per_day = default_per_day
        self._on_refused = on_refused
        self._owner = f"limits-{secrets.token_hex(8)}"
        self._snapshot = Snapshot(0)
        self._rules: dict[str, Rules | None] = {}
        self._live: set[str] = set()
        self._freed: list[tuple[str, str]] = []
        self._returner: gevent.Greenlet[..., None] | None = None
        self._renewer: gevent.Greenlet[..., None] | None = None

    def rebuild(self, snapshot: Snapshot) -> None:
        """Take over a new configuration."""
        self._snapshot = snapshot
        self._rules = {}

    def rules_of(self, caller: Caller) -> Rules | None:
        """Return what limits a caller; None when nothing does."""
        try:
            return self._rules[caller.key_id]
        except KeyError:
            found = self._rules[caller.key_id] = self._compiled(caller)
            return found

    def _compiled(self, caller: Caller) -> Rules | None:
        key, snapshot = caller.key, self._snapshot
        scopes = scopes_of(caller.key_id)
        budgets = tuple(one for scope in scopes for one in snapshot.budgets.get(scope, ()))
        rules = Rules(
            key_id=caller.key_id,
            budgets=budgets,
            limits=tuple(one for scope in scopes for one in snapshot.token_limits.get(scope, ()) if one.enabled),
            needs_price=bool(budgets) and snapshot.settings.get(("budgets", "unpriced")) != "allow",
        )
        if key is not None:
            rules = replace(
                rules,
                rates=rules_in_force(key.rate_limits, self._default_per_day),
                max_concurrent=key.max_concurrent or 0,
                max_sessions=key.max_sessions or 0,
                throttle_s=(key.throttle_delay_ms or 0) / 1000,
            )
        return rules if rules.needs_ledger or rules.throttle_s else None

    def admit(self, rules: Rules, ask: Ask) -> Allowance:
        """Let a request in.

        Raises:
            BudgetExceeded: a budget is spent, or held by others.
            RateLimited: a limit of tokens, requests, places or sessions is reached.
            InternalError: `policy_unavailable`, nobody knows what is left.
        """
        if not rules.needs_ledger:
            return Allowance(throttle_s=rules.throttle_s)
        holds, places = self._holds(rules, ask), self._places(rules, ask)
        verdict = self._judged(holds, places, ask)
        if verdict.refused is not None:
            if verdict.is_first_refusal:
                self._on_refused(verdict.refused)
            raise refused(verdict.refused, self._wall())
        if verdict.full is not None:
            raise full(verdict.full)
        self._hold(ask.request_id)
        return Allowance(
            ask.request_id,
            headers=self._headers(verdict.standings),
            throttle_s=rules.throttle_s,
            blocked=tuple(one for one in verdict.standings if one.hold.of is not None and not one.is_open),
            places=tuple((place.scope, place.holder) for place in places if not place.is_session),
        )

    def settled(self, allowance: Allowance) -> None:
        """Give back what a request took, but for what its row of the log lets go of; never blocks."""
        self._live.discard(allowance.request_id)
        if allowance.places:
            self._freed.extend(allowance.places)
            if self._returner is None or self._returner.dead:
                self._returner = gevent.spawn(self._give_back)

    def withdraw(self, allowance: Allowance) -> None:
        """Undo an admission: the request is not sent after all."""
        self.settled(allowance)
        with suppress(OmniRouteError):  # it ends by itself
            self._ledger.forget([allowance.request_id])

    def close(self) -> None:
        """Give back everything that this worker holds for answers that have ended."""
        gevent.killall([one for one in (self._returner, self._renewer) if one is not None], timeout=2)
        self._live.clear()
        self._give_back()

    # --- what is asked ------------------------------------------------------------------------------------------------

    def _holds(self, rules: Rules, ask: Ask) -> list[Hold]:
        at = self._wall()
        return [
            *(budget_hold(budget, at, ask.nano_usd) for budget in rules.budgets),
            *(token_hold(limit, at, ask.tokens) for limit in rules.limits),
            *(rate_hold(rules.key_id, rule.limit, rule.window_seconds, at) for rule in rules.rates),
        ]

    def _places(self, rules: Rules, ask: Ask) -> list[Places]:
        places = []
        if rules.max_concurrent:
            places.append(Places(concurrency_scope(rules.key_id), rules.max_concurrent, ask.request_id, LEASE_S))
        if rules.max_sessions and ask.session:
            scope = sessions_scope(rules.key_id)
            places.append(Places(scope, rules.max_sessions, ask.session, SESSION_IDLE_S, is_session=True))
        return places

    def _judged(self, holds: Sequence[Hold], places: Sequence[Places], ask: Ask) -> Verdict:
        for pause_s in _PAUSES_S:
            verdict = self._asked(holds, places, ask)
            if verdict.full is None or verdict.full.is_session:
                return verdict
            self._sleep(pause_s)
        return self._asked(holds, places, ask)

    def _asked(self, holds: Sequence[Hold], places: Sequence[Places], ask: Ask) -> Verdict:
        freed, self._freed = self._freed, []
        try:
            return self._ledger.admit(
                holds,
                places,
                request_id=ask.request_id,
                owner=self._owner,
                now=self._wall(),
                lease_s=LEASE_S,
                freed=freed,
            )
        except StorageError as error:
            self._freed += freed
            raise InternalError(
                "The limits of this API key cannot be checked just now.",
                code="policy_unavailable",
                status=503,
                retry_after_s=1,
                should_retry=True,
            ) from error

    def _headers(self, standings: Sequence[Standing]) -> dict[str, str]:
        headers = {}
        left = [one.hold.limit - one.used for one in standings if one.hold.kind is Kind.BUDGET]
        if left:
            headers["X-OmniRoute-Budget-Remaining"] = usd(max(0, min(left)))
        rates = [one for one in standings if one.hold.kind is Kind.REQUESTS]
        if rates:
            headers.update(rate_headers(min(rates, key=lambda one: one.remaining), self._wall(), taken=1))
        return headers

    # --- greenlets ----------------------------------------------------------------------------------------------------

    def _hold(self, request_id: str) -> None:
        self._live.add(request_id)
        if self._renewer is None or self._renewer.dead:
            self._renewer = gevent.spawn(self._renew_while_live)

    def _renew_while_live(self) -> None:
        while self._live:
            gevent.sleep(RENEW_EVERY_S)
            if not self._live:
                return
            try:
                self._ledger.renew(tuple(self._live), self._owner, self._wall(), LEASE_S)
            except OmniRouteError as error:
                log.warning("What requests in flight hold of limits could not be held for longer: %s", error)

    def _give_back(self) -> None:
        while self._freed:
            freed, self._freed = self._freed, []
            try:
                self._ledger.free(freed)
            except OmniRouteError:  # they end by themselves
                log.warning("Places of %d requests could not be given back", len(freed))
