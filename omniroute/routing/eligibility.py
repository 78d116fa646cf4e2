"""Who may be tried at all: the checks on an option as a whole, and on each of its accounts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from omniroute.routing.asked import Asked
from omniroute.routing.options import Account, Block, Features, Need, Option, Strategy
from omniroute.routing.plan import Exclusion, Probe, Reason, Seat
from omniroute.routing.view import Breaker, BreakerState, Rest


class Eligibility:
    """The checks of one plan; remembers what it has seen of a provider."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._view = asked.view
        self._now = asked.now
        self._breakers: dict[str, tuple[Exclusion | None, tuple[Probe, ...]]] = {}
        self._rests: dict[str, Rest | None] = {}
        self._awake: dict[int, tuple[Account, ...]] = {}

    def first(self, option: Option, only: str | None) -> Seat | None:
        """Return the first account that may serve an option; None when there is none."""
        return next((seat for _, seat in self.each(option, only)), None)

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
            awake = self._awake[id(accounts)] = tuple(one for one in accounts if not self._is_at_rest(one))
        return awake

    def _is_at_rest(self, account: Account) -> bool:
        rest = self._rest(account)
        return rest is not None and not rest.needs_probe and (rest.until is None or rest.until > self._now)

    def _rest(self, account: Account) -> Rest | None:
        if account.id not in self._rests:
            self._rests[account.id] = self._view.rest(account.id, account.rest_scope)
        return self._rests[account.id]

    def seats(self, option: Option, only: str | None, excluded: list[Exclusion]) -> list[Seat]:
        """Return every account that may serve an option, and note why the others may not."""
        seats = []
        for account in option.accounts:
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
        asked = self._asked
        pinned = asked.features.connection_id
        if (pinned is not None and account.id != pinned) or (only is not None and account.id != only):
            return Exclusion(option.name, Reason.FEATURE_PINNED, account.id)
        if asked.permits is not None and not asked.permits(option, account):
            return Exclusion(option.name, Reason.KEY_POLICY, account.id)
        closed, probes = self._breaker(option)
        if closed is not None:
            return Exclusion(option.name, closed.reason, account.id, closed.until, closed.detail)
        early = None
        for rest, scope in (
            (self._rest(account), account.rest_scope),
            (self._view.lockout(account.id, option.model), ""),
        ):
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

    def _breaker(self, option: Option) -> tuple[Exclusion | None, tuple[Probe, ...]]:
        known = self._breakers.get(option.provider)
        if known is None:
            breaker = self._view.breaker(option.provider)
            known = self._breakers[option.provider] = _judged(breaker, option, self._now)
        return known


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
    if block.strategy is not Strategy.AUTO:  # who lists a model wants it, also where it cannot be told to think harder
        needs = needs - {Need.REASONING}
    if option.capabilities is not None and needs:
        lacking = needs - option.capabilities
        if lacking:
            return Exclusion(option.name, f"{Reason.CAPABILITY}:{min(lacking)}")
    least = block.config.min_context_window
    if least is not None and option.planned_window < least:
        return Exclusion(option.name, Reason.CONTEXT_TOO_SMALL, detail="contextRequirements")
    if features.estimated_input + features.reserved_output(option) > option.planned_window:
        return Exclusion(option.name, Reason.CONTEXT_TOO_SMALL)
    if features.max_output is not None and option.max_output is not None and features.max_output > option.max_output:
        return Exclusion(option.name, Reason.OUTPUT_TOO_SMALL)
    return None


def is_of_family(model: str, families: Sequence[str]) -> bool:
    """Say whether a model id belongs to a family, given as the beginning of its name (`claude`, `gpt-5`)."""
    name = model.rpartition("/")[2].lower()
    return any(name.startswith(family.lower()) for family in families)


def _is_named(option: Option, providers: Sequence[str]) -> bool:
    return option.provider in providers or option.name.partition("/")[0] in providers
