"""The strategies of accounts: which connection of an option is asked first, and which ones behind it.

`round-robin` remembers, under the provider's scope, who led last and how often in a row, as
`{"after": [priority, created_at, id], "count": n}`. It is noted when a plan is made, so that a request that fails
counts as a use like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from omniroute.routing.affinity import binding_session, favourite
from omniroute.routing.asked import Asked
from omniroute.routing.config import DEFAULTS, ComboConfig
from omniroute.routing.expiring import Class, Standing, remaining, standing
from omniroute.routing.options import Account, AccountStrategy, Option
from omniroute.routing.plan import Intent
from omniroute.routing.strategies import drawn_by_load, shuffled

ROTATION: Final = "rotation"
USUALLY_REMAINING: Final = 0.7
"""What is left of a quota that nobody knows."""
_LEAST_REMAINING: Final = 0.05
_FILL_FIRST: Final = AccountStrategy.FILL_FIRST  # looking a member up in its class costs as much as two calls

_NOBODY: Final[frozenset[str]] = frozenset()

Place = tuple[Any, ...]
PlaceOf = Callable[[Account], Place]
"""Equal places are of equal worth; the least is the best."""


def scope_of(provider: str) -> str:
    """Return what the counters of a provider's accounts are kept under."""
    return f"accounts:{provider}"


class AccountOrdering(NamedTuple):
    """The accounts of an option in order. A named tuple, as most options have one account and it costs nothing then.

    Attributes:
        intents: to be noted only when a request really goes to the head, not for targets that merely stand behind.
        is_sticky: the head is there because the session is bound to it.
    """

    accounts: Sequence[Account]
    intents: tuple[Intent, ...] = ()
    is_sticky: bool = False


def order_accounts(
    option: Option,
    accounts: Sequence[Account],
    asked: Asked,
    *,
    is_sticky_allowed: bool = True,
    config: ComboConfig = DEFAULTS,
    full: Collection[str] | None = None,
) -> AccountOrdering:
    """Return the accounts that may serve an option in the order of its provider's strategy.

    A bound session finds its connection at the head. One that is not bound yet is drawn to one of those that share the
    best place, the same one in every worker.

    `accounts` are those that may serve, by (priority, creation); `config` says what is held in reserve; `full` are
    those that have no place free this instant, None where nobody has looked yet.
    """
    if len(accounts) <= 1:
        return tuple.__new__(AccountOrdering, (accounts, (), False))  # a third of the time of its own constructor
    strategy, sticky_limit = asked.rules.of(option.provider)
    session = binding_session(option, asked) if is_sticky_allowed else None
    if strategy is _FILL_FIRST:  # so it is for most options of most requests, and nobody asks for places
        full = _full(accounts, asked) if full is None else full
        if session is None:
            return tuple.__new__(AccountOrdering, (_behind(full, accounts), (), False))
        if not full:
            return _bound_in_list(option, accounts, session, asked)
    elif session is None and strategy is AccountStrategy.ROUND_ROBIN:
        return _round_robin(option.provider, accounts, sticky_limit, asked)
    order, place_of = _ordered(strategy, option, accounts, asked, config, full=full)
    if session is None:
        return AccountOrdering(order)
    binding = asked.view.binding(session, option.provider)
    bound = None if binding is None else next((one for one in order if one.id == binding.connection_id), None)
    best = place_of(order[0])
    if bound is not None and (bound is order[0] or _may_stay(place_of(bound), best)):
        return AccountOrdering(_with_head(bound, order), is_sticky=True)
    equals = [one.id for one in order if place_of(one) == best]
    if len(equals) == 1:  # nobody else to be drawn to
        return AccountOrdering(order)
    drawn_to = favourite(session, equals)
    return AccountOrdering(_with_head(next(one for one in order if one.id == drawn_to), order))


def _bound_in_list(option: Option, accounts: Sequence[Account], session: str, asked: Asked) -> AccountOrdering:
    """Return the list as it stands, led by who the session is bound or else, among the first of equals, drawn to."""
    binding = asked.view.binding(session, option.provider)
    if binding is not None:
        for one in accounts:
            if one.id == binding.connection_id:
                return tuple.__new__(AccountOrdering, (_with_head(one, accounts), (), True))
    best = accounts[0].priority
    equals = [one.id for one in accounts if one.priority == best]
    if len(equals) == 1:  # nobody else to be drawn to
        return tuple.__new__(AccountOrdering, (accounts, (), False))
    drawn_to = favourite(session, equals)
    return AccountOrdering(_with_head(next(one for one in accounts if one.id == drawn_to), accounts))


def _ordered(
    strategy: AccountStrategy,
    option: Option,
    accounts: Sequence[Account],
    asked: Asked,
    config: ComboConfig,
    *,
    full: Collection[str] | None,
) -> tuple[Sequence[Account], PlaceOf]:
    """Return the accounts in order, and what says the place of each."""
    match strategy:
        case AccountStrategy.FILL_FIRST:
            return _fill_first(accounts, _full(accounts, asked) if full is None else full)
        case AccountStrategy.ROUND_ROBIN:
            return accounts, _shared_place
        case AccountStrategy.P2C:
            loads = _loads(option, accounts, asked)
            return [accounts[place] for place in drawn_by_load(loads, asked.chance.rng)], _shared_place
        case AccountStrategy.RANDOM:
            return [accounts[place] for place in shuffled(len(accounts), asked.chance.rng)], _shared_place
        case AccountStrategy.LEAST_USED:
            return sorted(accounts, key=lambda one: asked.view.load(one.id).last_used_at), _shared_place
        case AccountStrategy.COST_OPTIMIZED:
            order = sorted(accounts, key=lambda one: (one.priority, asked.view.load(one.id).last_used_at))
            return order, lambda one: (one.priority,)
        case AccountStrategy.EXPIRING_FIRST:
            return _expiring_first(option, accounts, asked, config)


def _shared_place(_account: Account) -> Place:
    return ()


def _fill_first(accounts: Sequence[Account], full: Collection[str]) -> tuple[Sequence[Account], PlaceOf]:
    """Take the list from the top, past those that have no place free this instant."""
    return _behind(full, accounts), lambda one: (one.id in full, one.priority)


def _full(accounts: Sequence[Account], asked: Asked) -> Collection[str]:
    """Return those of the accounts that have no place free this instant."""
    load_of, now = asked.view.load, asked.now
    full: set[str] | None = None
    for one in accounts:
        load = load_of(one.id)
        if load.is_full or load.free_at > now:  # as `is_free` says, without a call for each account of a plan
            full = full or set()
            full.add(one.id)
    return _NOBODY if full is None else full


def _behind(last: Collection[str], accounts: Sequence[Account]) -> Sequence[Account]:
    return sorted(accounts, key=lambda one: one.id in last) if last else accounts


def _round_robin(provider: str, accounts: Sequence[Account], sticky_limit: int, asked: Asked) -> AccountOrdering:
    """Stay with one for some requests, then go on; one that is left out is passed over and loses no turn by it."""
    after, count = _rotation_of(asked.view.counter(scope_of(provider), ROTATION))
    ranks = [_rank(one) for one in accounts]
    if after in ranks and count < sticky_limit:
        start, count = ranks.index(after), count + 1
    else:
        start = next((place for place, rank in enumerate(ranks) if after is not None and rank > after), 0)
        count = 1
    value = {"after": list(ranks[start]), "count": count}
    return AccountOrdering((*accounts[start:], *accounts[:start]), (Intent(scope_of(provider), ROTATION, value),))


def _rank(account: Account) -> tuple[int, float, str]:
    return account.priority, account.created_at, account.id


def _rotation_of(kept: Any) -> tuple[tuple[int, float, str] | None, int]:
    match kept:
        case {
            "after": [int() as priority, int() | float() as created_at, str() as account_id],
            "count": int() as count,
        }:
            return (priority, created_at, account_id), count
        case _:
            return None, 0


def _loads(option: Option, accounts: Sequence[Account], asked: Asked) -> list[float]:
    """Return how loaded each is: what is the same for all of an option (its latency, its failures) is left out."""
    loads = []
    for account in accounts:
        load = asked.view.load(account.id)
        left = remaining(load, asked.now, option.model)
        loads.append((load.in_flight + 1) / max(_LEAST_REMAINING, USUALLY_REMAINING if left is None else left))
    return loads


def _expiring_first(
    option: Option, accounts: Sequence[Account], asked: Asked, config: ComboConfig
) -> tuple[Sequence[Account], PlaceOf]:
    standings = {one.id: standing(option, one, asked, config) for one in accounts}
    order = sorted(accounts, key=lambda one: standings[one.id].key)
    return order, lambda one: _place_of(one, standings[one.id])


def _place_of(account: Account, stands: Standing) -> Place:
    """Return what accounts of equal worth share. Those of unknown use are taken one after the other, by priority."""
    return (*stands.place, account.priority) if stands.kind is Class.UNKNOWN else stands.place


def _may_stay(place: Place, best: Place) -> bool:
    """Say whether a bound account may lead: what is only a reserve may not while something else is there."""
    if not place:
        return True
    return place[0] is not Class.RESERVE or best[0] is Class.RESERVE


def _with_head(head: Account, order: Sequence[Account]) -> Sequence[Account]:
    return order if head is order[0] else (head, *(one for one in order if one.id != head.id))
