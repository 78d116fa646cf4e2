"""What is known of a block before any request comes: made once per configuration, and used by every plan.

Most requests meet a block of which nothing rests, and are like any other to it: their plan is the list as it stands.
That plan lies ready here, and so do the entries of which other plans are put together, and the bounds within which no
step has to be asked whether it fits. Nothing here depends on a request, on health, or on the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from omniroute.routing.asked import AccountRules
from omniroute.routing.decision import MOST_CANDIDATES
from omniroute.routing.eligibility import WISHES, misfit
from omniroute.routing.options import Account, AccountStrategy, Block, Features, Option, Step, Strategy
from omniroute.routing.plan import Entry, Plan, Seat
from omniroute.routing.view import Parties

MOST_SCORED: Final = 200
EXPANDED: Final = 16
"""Steps at the head whose accounts are all looked at; behind them the first that may serve is enough."""
_NOTHING_ASKED: Final = Features(max_output=0)
_MOST_BLOCKS: Final = 512


class Ready(Struct, frozen=True, gc=False):
    """A step that leads to a model: what it gives a plan as long as nothing is known against its accounts.

    Attributes:
        entry: with all accounts, in the order of the list.
        head: with the first of them.
    """

    entry: Entry
    head: Entry


class Bounds(Struct, frozen=True, gc=False):
    """What each step of a block can do: a request within that fits all of them."""

    window: int
    output: int | None
    reserved: int
    """The most tokens that any of them sets aside for an answer whose length is not asked for."""
    capabilities: frozenset[str] | None

    def hold(self, features: Features) -> bool:
        """Say whether a request is within them."""
        wanted = features.max_output
        if wanted is not None and self.output is not None and wanted > self.output:
            return False
        if features.needs and self.capabilities is not None and not features.needs <= self.capabilities:
            return False
        return features.estimated_input + (self.reserved if wanted is None else wanted) <= self.window


class Listing(Struct, frozen=True, gc=False):
    """A block that is tried in the order of its list, all of whose steps are ready.

    Attributes:
        plan: what is planned where nothing speaks against that.
        several: the places of those whose accounts are put in order, because there are several, ascending.
        caching: of these the ones that a session of the text alone may be bound at, or that take turns.
        turning: of these the ones whose accounts take turns, session or not.
        bounds: None where the caller named one model: what it can do is its provider's to say.
    """

    plan: Plan
    several: tuple[int, ...]
    caching: tuple[int, ...]
    turning: tuple[int, ...]
    bounds: Bounds | None


class Prepared(Struct, frozen=True):
    """What is known of a block under some rules for accounts.

    Attributes:
        ready: steps by place, without those that have to be looked at each time.
        inner: the blocks inside it, by place.
        parties: whose health and load it depends on.
        has_prices: it is known of all that are ready what a call costs.
        listing: None where a strategy, a budget or a step needs more than the list.
    """

    block: Block
    rules: AccountRules
    ready: Mapping[int, Ready]
    inner: Mapping[int, Prepared]
    parties: Parties
    has_prices: bool
    listing: Listing | None

    def ready_at(self, providers: Collection[str]) -> dict[int, Ready]:
        """Return the steps that lead to some of the providers."""
        return {place: step for place, step in self.ready.items() if step.entry.option.provider in providers}


def prepare(block: Block, rules: AccountRules) -> Prepared:
    """Return what is known of a block."""
    steps = {place: _ready(block, step) for place, step in enumerate(block.steps)}
    ready = {place: step for place, step in steps.items() if step is not None}
    inner = {place: prepare(step.block, rules) for place, step in enumerate(block.steps) if step.block is not None}
    has_prices = all(step.entry.option.has_price for step in ready.values())
    listing = _listing(block, rules, list(ready.values())) if len(ready) == len(block.steps) else None
    return Prepared(block, rules, ready, inner, _parties(ready.values()), has_prices, listing)


class Preparations:
    """Remembers what was prepared, by the identity of blocks and rules: a new configuration has new ones."""

    def __init__(self, *, most: int = _MOST_BLOCKS) -> None:
        self._most = most
        self._known: dict[int, Prepared] = {}

    def of(self, block: Block, rules: AccountRules) -> Prepared:
        """Return what is known of a block."""
        known = self._known.get(id(block))
        if known is not None and known.block is block and known.rules is rules:
            return known
        if len(self._known) >= self._most:
            self._known.clear()
        made = self._known[id(block)] = prepare(block, rules)
        return made


def is_alone(block: Block) -> bool:
    """Say whether the caller named one model: what it can do is then its provider's to say."""
    return len(block.steps) == 1 and block.steps[0].option is not None and not block.scope


def _ready(block: Block, step: Step) -> Ready | None:
    option = step.option
    if option is None or step.problem is not None or step.connection_id is not None or not option.accounts:
        return None
    if block.config.spend_reserve == "never" or any(account.cutoffs for account in option.accounts):
        return None
    seats = tuple(Seat(account) for account in option.accounts)
    waits = block.strategy is Strategy.PRIORITY
    entry = Entry(option, seats, step.id, block.scope, waits, block.config)
    head = entry if len(seats) == 1 else Entry(option, seats[:1], step.id, block.scope, waits, block.config)
    return Ready(entry, head)


def _parties(steps: Iterable[Ready]) -> Parties:
    accounts: dict[str, dict[str, Account]] = {}
    for step in steps:
        known = accounts.setdefault(step.entry.option.provider, {})
        known.update((account.id, account) for account in step.entry.option.accounts)
    return Parties({name: tuple(some.values()) for name, some in accounts.items()}, frozenset(accounts))


def _listing(block: Block, rules: AccountRules, ready: Sequence[Ready]) -> Listing | None:
    is_in_order = block.strategy is Strategy.PRIORITY or len(ready) == 1
    if not is_in_order or block.config.budget_cap is not None or not 0 < len(ready) <= MOST_SCORED:
        return None
    options = [step.entry.option for step in ready]
    alone = is_alone(block)
    if not alone and any(misfit(option, _NOTHING_ASKED, block) is not None for option in options):
        return None
    several = tuple(place for place, option in enumerate(options) if len(option.accounts) > 1)[:EXPANDED]
    turning = tuple(place for place in several if rules.of(options[place].provider)[0] is not _FILL_FIRST)
    caching = tuple(place for place in several if place in turning or options[place].has_prompt_cache)
    entries = tuple(step.entry if place in several else step.head for place, step in enumerate(ready))
    return Listing(
        Plan(entries, strategy=block.strategy, listing=entries if _is_short(entries, ready) else ()),
        several,
        caching,
        turning,
        None if alone else _bounds(block, options),
    )


def _is_short(entries: Sequence[Entry], ready: Sequence[Ready]) -> bool:
    """Say whether a plan names all accounts of all steps, and a record may name them all."""
    is_whole = all(entry is step.entry for entry, step in zip(entries, ready, strict=True))
    return is_whole and sum(len(entry.seats) for entry in entries) <= MOST_CANDIDATES


_FILL_FIRST: Final = AccountStrategy.FILL_FIRST


def _bounds(block: Block, options: list[Option]) -> Bounds:
    outputs = [option.max_output for option in options if option.max_output is not None]
    known = list(_capabilities(block, options))
    return Bounds(
        min(option.planned_window for option in options),
        min(outputs, default=None),
        max(Features().reserved_output(option) for option in options),
        frozenset.intersection(*known) if known else None,
    )


def _capabilities(block: Block, options: list[Option]) -> Iterator[frozenset[str]]:
    for option in options:
        if option.capabilities is not None:
            yield option.capabilities if block.strategy is Strategy.AUTO else option.capabilities | WISHES
