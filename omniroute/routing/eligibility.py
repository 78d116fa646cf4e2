"""Who may be tried at all: the checks on an option as a whole, and on each of its accounts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from omniroute.routing.asked import Asked
from omniroute.routing.expiring import is_cut_off
from omniroute.routing.options import Account, Block, Features, Need, Option, Strategy
from omniroute.routing.plan import Exclusion, Probe, Reason, Seat
from omniroute.routing.view import Breaker, BreakerState, QuotaWindow, Rest


class Eligibility:
    """The checks of one plan; remembers what it has seen of a provider."""

    def __init__(self, asked: Asked) -> None:
        # Plans ask for hundreds of seats: what does not change meanwhile is looked up once.
        self._pinned = asked.features.connection_id
        self._permits = asked.permits
        self._needs_price = asked.features.needs_price
        self._lockout = asked.view.lockout
        self._view = asked.view
        self._now = asked.now
        self._breakers: dict[str, tuple[Exclusion | None, tuple[Probe, ...]]] = {}
        self._rests: dict[str, Rest | None] = {}
        self._awake: dict[int, tuple[Account, ...]] = {}

    def first(self, option: Option, only: str | None) -> Seat | None:
        """Return the first account that may serve an option; None when there is none."""
        for account in self.awake(option.accounts):
            found = self.seat(option, account, only)
            if isinstance(found, Seat):
                return found
        return None

    def each(self, option: Option, only: str | None) -> Iterator[tuple[Account, Seat]]:
        """Yield the accounts that may serve an option, in their order; whoever needs one does not look at all."""
        for account in self.awake(option.accounts):
            found = self.seat(option, account, only)
            if isinstance(found, Seat):
                yield account, found

    def awake(self, accounts: tuple[Account, ...]) -> tuple[Account, ...]:
        """Return the accounts that do not rest; the options of a provider share theirs, and are asked about once."""
        awake = self._awake.get(id(accounts))
        if awake is None:
            awake = self._awake[id(accounts)] = tuple([one for one in accounts if not self._is_at_rest(one)])
        return awake

    def _is_at_rest(self, account: Account) -> bool:
        rest = self._rest(account)
        return rest is not None and not rest.needs_probe and (rest.until is None or rest.until > self._now)

    def _rest(self, account: Account) -> Rest | None:
        account_id = account.id
        if account_id in self._rests:
            return self._rests[account_id]
        rest = self._rests[account_id] = self._view.rest(account_id, account.rest_scope)
        return rest

    def seats(self, option: Option, only: str | None, excluded: list[Exclusion]) -> list[Seat]:
        """Return every account that may serve an option, and note why the others may not."""
        seats = []
        is_open = self._is_open(option, only)
        rests, lockout, model = self._rests, self._lockout, option.model
        for account in option.accounts:
            account_id = account.id
            if account_id not in rests:
                self._rest(account)
            # Nearly always it is well: what :meth:`seat` would find then is made here, without the call.
            is_well = rests[account_id] is None and lockout(account_id, model) is None and not account.cutoffs
            if is_open and is_well:
                seats.append(Seat(account))
                continue
            found = self.seat(option, account, only)
            if isinstance(found, Seat):
                seats.append(found)
            else:
                excluded.append(found)
        return seats

    def seat(self, option: Option, account: Account, only: str | None) -> Seat | Exclusion:
        """Return an account with what has to be won before it may be asked, or why it is left out.

        `only` is the one connection that may serve the step; None for any.
        """
        account_id = account.id
        pinned, permits = self._pinned, self._permits
        if (pinned is not None and account_id != pinned) or (only is not None and account_id != only):
            return Exclusion(option.name, Reason.FEATURE_PINNED, account_id)
        if permits is not None and not permits(option, account):
            return Exclusion(option.name, Reason.KEY_POLICY, account_id)
        if self._needs_price and not option.has_price:
            return Exclusion(option.name, Reason.PRICE_UNKNOWN, account_id)
        closed, probes = self._breakers.get(option.provider) or self._breaker(option)
        if closed is not None:
            return Exclusion(option.name, closed.reason, account_id, closed.until, closed.detail)
        if account.cutoffs:
            window = self._cut_off(option, account)
            if window is not None:
                return Exclusion(option.name, Reason.QUOTA_CUTOFF, account_id, window.resets_at, window.id)
        rest, lockout = self._rest(account), self._lockout(account_id, option.model)
        if rest is None and lockout is None and not probes:  # nearly always
            return Seat(account)
        return self._tired(option, account, probes, ((rest, account.rest_scope), (lockout, "")))

    def _is_open(self, option: Option, only: str | None) -> bool:
        """Say whether nothing but an account's own health can keep it from serving an option."""
        if only is not None or self._pinned is not None or self._permits is not None:
            return False
        if self._needs_price and not option.has_price:
            return False
        closed, probes = self._breakers.get(option.provider) or self._breaker(option)
        return closed is None and not probes

    def _tired(
        self,
        option: Option,
        account: Account,
        probes: tuple[Probe, ...],
        rests: Sequence[tuple[Rest | None, str]],
    ) -> Seat | Exclusion:
        """Return an account with all that has to be won, or why it is left out; `rests` are each with its scope."""
        early = None
        for rest, scope in rests:
            if rest is None:
                continue
            if rest.until is None or rest.until > self._now:
                exclusion = Exclusion(option.name, rest.reason, account.id, rest.until, rest.kind)
                if not rest.needs_probe:
                    return exclusion
                early = early or exclusion
            if rest.needs_probe:
                probes = (*probes, Probe(scope or f"model:{account.id}|{option.model}"))
        return Seat(account, probes, early) if probes else Seat(account)

    def _cut_off(self, option: Option, account: Account) -> QuotaWindow | None:
        """Return the window that has reached its cut-off, the one that lasts longest; None when none has."""
        cutoffs = dict(account.cutoffs)
        found = [
            window
            for window in self._view.load(account.id).windows
            if window.id in cutoffs and is_cut_off(window, cutoffs[window.id], self._now, option.model)
        ]
        return max(found, key=lambda one: math.inf if one.resets_at is None else one.resets_at, default=None)

    def _breaker(self, option: Option) -> tuple[Exclusion | None, tuple[Probe, ...]]:
        breaker = self._view.breaker(option.provider)
        judged = self._breakers[option.provider] = _judged(breaker, option, self._now)
        return judged


def _judged(breaker: Breaker, option: Option, now: float) -> tuple[Exclusion | None, tuple[Probe, ...]]:
    match breaker.state:
        case BreakerState.CLOSED:
            return None, ()
        case BreakerState.OPEN if breaker.until is not None and breaker.until > now:
            return Exclusion(option.name, Reason.BREAKER_OPEN, until=breaker.until), ()
        case BreakerState.OPEN | BreakerState.HALF_OPEN:
            return None, (Probe(f"provider:{option.provider}"),)


def misfit(option: Option, features: Features, block: Block) -> Exclusion | None:
    """Return why an option cannot serve a request however healthy it is; None when it can.

    What nobody knows of a model denies nothing, and an unknown window counts as an assumed one.
    """
    if block.allowed_providers and not _is_named(option, block.allowed_providers):
        return Exclusion(option.name, Reason.PROVIDER_NOT_ALLOWED)
    if block.allowed_families and not is_of_family(option.model, block.allowed_families):
        return Exclusion(option.name, Reason.FAMILY_NOT_ALLOWED)
    needs = features.needs
    if needs and option.capabilities is not None:
        lacking = needs - option.capabilities
        if block.strategy is not Strategy.AUTO:  # who lists a model wants it, also where it cannot think harder
            lacking -= WISHES
        if lacking:
            return Exclusion(option.name, f"{Reason.CAPABILITY}:{min(lacking)}")
    window, least = option.planned_window, block.config.min_context_window
    if least is not None and window < least:
        return Exclusion(option.name, Reason.CONTEXT_TOO_SMALL, detail="contextRequirements")
    if features.estimated_input + features.reserved_output(option) > window:
        return Exclusion(option.name, Reason.CONTEXT_TOO_SMALL)
    most = features.max_output
    if most is not None and option.max_output is not None and most > option.max_output:
        return Exclusion(option.name, Reason.OUTPUT_TOO_SMALL)
    return None


WISHES: Final = frozenset({Need.REASONING})
"""Needs that only scores look at."""


def is_of_family(model: str, families: Sequence[str]) -> bool:
    """Say whether a model id belongs to a family, given as the beginning of its name (`claude`, `gpt-5`)."""
    name = model.rpartition("/")[2].lower()
    return any(name.startswith(family.lower()) for family in families)


def _is_named(option: Option, providers: Sequence[str]) -> bool:
    return option.provider in providers or option.name.partition("/")[0] in providers
