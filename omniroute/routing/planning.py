"""From a block to a plan: who may be tried, in which order, and why the others may not. Pure, and the same each time.

Steps that cannot serve are left out first; the block's strategy then orders the rest, and each step's accounts are
ordered among themselves. A block inside a block is ordered by its own strategy and keeps its place as one step. Only
the accounts of the steps that lead are expanded: nobody gets as far as the hundredth of a large pool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from omniroute.routing.accounts import order_accounts
from omniroute.routing.asked import Asked
from omniroute.routing.auto import admit
from omniroute.routing.eligibility import Eligibility, misfit
from omniroute.routing.expiring import is_withheld
from omniroute.routing.options import Account, Block, Option, Step, Strategy
from omniroute.routing.plan import Entry, Exclusion, Intent, Plan, Probe, Reason, Scored, Seat
from omniroute.routing.prepared import EXPANDED, MOST_SCORED, Prepared, Ready, is_alone
from omniroute.routing.prices import budget_of, within_budget
from omniroute.routing.strategies import order_steps
from omniroute.routing.view import NOBODY

_MOST_EXCLUSIONS: Final = 512
_NEVER: Final = "never"
_FEW: Final = 4
"""Options with so few accounts are looked at once: all of them, rather than the first and later the others."""
_AUTO: Final = Strategy.AUTO  # looking a member up in its class costs as much as two calls
_PRIORITY: Final = Strategy.PRIORITY

_LIFTED: Final = frozenset({Reason.CONTEXT_TOO_SMALL, Reason.OUTPUT_TOO_SMALL})
"""Misfits that estimates may be wrong about: where nobody is left, the largest is asked, and says the true numbers."""


def plan(block: Block, asked: Asked, prepared: Prepared | None = None) -> Plan:
    """Return who is to be tried for a request, in order, with everything that explains it.

    `prepared` is what is known of this block under the rules of `asked`; with it the same plan is made faster.
    """
    listed = None if prepared is None else _listed(prepared, asked)
    if listed is not None:
        return listed
    planner = _Planner(asked)
    entries = planner.with_fallback(planner.entries_of(block, prepared, is_alone=is_alone(block)))
    return Plan(  # by position: names would cost as much again
        tuple(entries),
        tuple(planner.exclusions),
        tuple(planner.scores),
        tuple(planner.intents),
        block.strategy,
        planner.is_sticky,
        tuple(planner.warnings),
        planner.is_over_budget and not entries,
    )


def _listed(prepared: Prepared, asked: Asked) -> Plan | None:
    """Return the plan of a block that is tried in the order of its list; None where more has to be looked at."""
    listing, features = prepared.listing, asked.features
    if listing is None or features.budget_nano is not None or not _is_anybodys(prepared, asked):
        return None
    if listing.bounds is not None and not listing.bounds.hold(features):
        return None
    if asked.view.calm(prepared.parties) is not prepared.parties.providers:
        return None
    config = prepared.block.config
    binds = features.session is not None and not config.disable_session_stickiness
    moving = listing.turning
    if binds:
        moving = listing.several if features.is_explicit_session else listing.caching
    if not moving:
        return listing.plan
    plain = listing.plan
    entries, intents, is_sticky = list(plain.entries), plain.intents, False
    for place in moving:
        entry = entries[place]
        option = entry.option
        ordering = order_accounts(option, option.accounts, asked, is_sticky_allowed=binds, config=config, full=NOBODY)
        if place == listing.several[0]:
            intents, is_sticky = ordering.intents, ordering.is_sticky
        if ordering.accounts is not option.accounts:
            entries[place] = _with_seats(entry, _in_order(entry.seats, ordering.accounts))
    return Plan(tuple(entries), (), (), intents, plain.strategy, is_sticky, listing=plain.listing)


def _is_anybodys(prepared: Prepared, asked: Asked) -> bool:
    """Say whether nothing about the caller narrows who may serve."""
    features = asked.features
    if features.connection_id is not None or asked.permits is not None:
        return False
    return not features.needs_price or prepared.has_prices


def _with_seats(entry: Entry, seats: tuple[Seat, ...]) -> Entry:
    return Entry(entry.option, seats, entry.step_id, entry.scope, entry.waits_when_paced, entry.config)


def _in_order(seats: Sequence[Seat], accounts: Sequence[Account]) -> tuple[Seat, ...]:
    """Return seats in the order of their accounts."""
    by_id = {seat.account.id: seat for seat in seats}
    return tuple([by_id[account.id] for account in accounts])


class _Place(Struct, frozen=True, gc=False):
    """A step that may serve: its own option with one eligible seat, or what its block gave.

    Attributes:
        seats: all that may serve, where they were looked at already; `left_out` says why the others may not.
        ready: nothing is known against any of its accounts.
    """

    option: Option
    seat: Seat | None = None
    entries: list[Entry] | None = None
    seats: Sequence[Seat] | None = None
    left_out: Sequence[Exclusion] = ()
    ready: Ready | None = None


@dataclass(slots=True)
class _Planner:
    asked: Asked
    exclusions: list[Exclusion] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_sticky: bool = False
    is_over_budget: bool = False
    _made: Eligibility | None = None
    _explained: set[str] = field(default_factory=set)
    """Providers of which it is said why none of their accounts may serve an option."""
    _expanded: int = 0

    @property
    def _eligibility(self) -> Eligibility:
        if self._made is None:
            self._made = Eligibility(self.asked)
        return self._made

    def with_fallback(self, entries: list[Entry]) -> list[Entry]:
        """Take out those who are only looked at early where nobody stands behind them: their time has not come."""
        early = [seat.rests for entry in entries for seat in entry.seats if seat.rests is not None]
        if not early or len(early) < sum(len(entry.seats) for entry in entries):
            return entries
        self._leave_all_out(early)
        return []

    def entries_of(self, block: Block, prepared: Prepared | None, *, is_alone: bool = False) -> list[Entry]:
        """Order a block; empty when nothing in it may serve."""
        places = self._places(block, prepared, is_alone=is_alone)
        if not places:
            return []
        order: Sequence[int] = tuple(places)
        on_trial: Collection[int] = ()
        is_as_listed = len(block.steps) == 1 or block.strategy is _PRIORITY
        if not is_as_listed or self._has_budget(block):
            order, on_trial = self._order(block, block.steps[: max(MOST_SCORED, max(places) + 1)], places)
        entries: list[Entry] = []
        for index in order:
            place, step = places[index], block.steps[index]
            if place.entries is not None:
                entries.extend(place.entries)
            else:
                entries.append(self._entry(block, step, place, is_on_trial=index in on_trial))
        return entries

    def _has_budget(self, block: Block) -> bool:
        return budget_of(self.asked.features, block.config) is not None

    def _order(
        self, block: Block, steps: Sequence[Step], places: dict[int, _Place]
    ) -> tuple[Sequence[int], Collection[int]]:
        """Return the places in the order of the block's strategy, those left out that only numbers speak against.

        Second come those that are back from a bad score: one request tries them before all may.
        """
        asked = self.asked
        leads = [places[i].option if i in places else _stand_in(step) for i, step in enumerate(steps)]
        eligible: Sequence[int] = sorted(places)
        on_trial: Collection[int] = ()
        if self._has_budget(block):
            budgeted = within_budget(leads, eligible, asked, block.config)
            self._leave_all_out(budgeted.exclusions)
            self.warnings.extend(budgeted.warnings)
            self.is_over_budget = self.is_over_budget or budgeted.is_refused
            eligible = budgeted.kept
        if block.strategy is _AUTO:
            admitted = admit(block, leads, eligible, asked)
            self._leave_all_out(admitted.exclusions)
            eligible, on_trial = admitted.kept, admitted.on_trial
        ordering = order_steps(block, leads, eligible, asked)
        self._note(ordering.intents, ordering.scores, ordering.warnings, is_sticky=ordering.is_sticky)
        return ordering.order, on_trial

    def _leave_all_out(self, exclusions: Sequence[Exclusion]) -> None:
        for exclusion in exclusions:
            self._leave_out(exclusion)

    def _places(self, block: Block, prepared: Prepared | None, *, is_alone: bool) -> dict[int, _Place]:
        """Return the first steps that may serve, by their index: those that may not take nobody's place."""
        ready_steps = self._ready_steps(prepared)
        places: dict[int, _Place] = {}
        lifted: list[tuple[int, Exclusion, _Place]] = []
        for index, step in enumerate(block.steps):
            if len(places) == MOST_SCORED:
                break
            if step.problem is not None:
                self._leave_out(Exclusion(step.name, step.problem, step.connection_id))
                continue
            if step.block is not None:
                entries = self.entries_of(step.block, None if prepared is None else prepared.inner[index])
                if entries:
                    places[index] = _Place(entries[0].option, entries=entries)
                continue
            option = step.option
            if option is None:
                continue
            unfit = None if is_alone else misfit(option, self.asked.features, block)
            if unfit is not None and unfit.reason not in _LIFTED:
                self._leave_out(unfit)
                continue
            ready = ready_steps.get(index)
            place = self._place(block, option, step) if ready is None else _place_of(ready)
            if place is None:
                self._explain(block, option, step.connection_id)
            elif unfit is not None:
                lifted.append((index, unfit, place))
            else:
                places[index] = place
        return self._with_lifted(places, lifted) if lifted else places

    def _ready_steps(self, prepared: Prepared | None) -> Mapping[int, Ready]:
        """Return the steps of whose accounts nothing is known that speaks against them."""
        if prepared is None or not prepared.parties.providers or not _is_anybodys(prepared, self.asked):
            return _NONE_READY
        calm = self.asked.view.calm(prepared.parties)
        return prepared.ready if calm is prepared.parties.providers else prepared.ready_at(calm)

    def _place(self, block: Block, option: Option, step: Step) -> _Place | None:
        if len(option.accounts) <= _FEW and block.config.spend_reserve != _NEVER:
            left_out: list[Exclusion] = []
            seats = self._eligibility.seats(option, step.connection_id, left_out)
            return _Place(option, seats[0], None, seats, left_out) if seats else None
        seat = self._first(block, option, step)
        return None if seat is None else _Place(option, seat)

    def _with_lifted(self, places: dict[int, _Place], lifted: list[tuple[int, Exclusion, _Place]]) -> dict[int, _Place]:
        """Let those who seem too small in only where nobody else is left, and of them the largest."""
        if lifted and not places:
            most = max(place.option.planned_window for _, _, place in lifted)
            chosen = [one for one in lifted if one[2].option.planned_window == most]
            self.warnings.append("context_estimate_exceeds_window")
            places = {index: place for index, _, place in chosen}
        for index, unfit, _ in lifted:
            if index not in places:
                self._leave_out(unfit)
        return places

    def _entry(self, block: Block, step: Step, place: _Place, *, is_on_trial: bool) -> Entry:
        option, found, ready = place.option, place.seat, place.ready
        if found is None:
            raise ValueError("a place without a seat")
        seats: tuple[Seat, ...] = (found,) if ready is None else ready.head.seats
        if len(option.accounts) > 1 and self._expanded < EXPANDED:
            self._expanded += 1
            seats = self._ordered(block, step, place)
        if is_on_trial:
            trial = Probe(f"score:{option.name}")
            seats = tuple(Seat(seat.account, (*seat.probes, trial)) for seat in seats)
        if ready is not None and seats is ready.entry.seats:
            return ready.entry
        if ready is not None and seats is ready.head.seats:
            return ready.head
        waits_when_paced = block.strategy is _PRIORITY
        return Entry(option, seats, step.id, block.scope, waits_when_paced, block.config)

    def _ordered(self, block: Block, step: Step, place: _Place) -> tuple[Seat, ...]:
        option, seats, left_out = place.option, place.seats, place.left_out
        if seats is None:
            left_out = []
            seats = self._eligibility.seats(option, step.connection_id, left_out)
            seats = self._unreserved(block, option, seats, left_out)
        self._leave_all_out(left_out)
        if len(seats) == 1:
            return (seats[0],)
        accounts: Sequence[Account] = [seat.account for seat in seats] if left_out else option.accounts
        ordering = order_accounts(
            option,
            accounts,
            self.asked,
            is_sticky_allowed=not block.config.disable_session_stickiness,
            config=block.config,
            full=None if place.ready is None else NOBODY,
        )
        if self._expanded == 1:  # the head is what a request uses; a rotation is not turned by those behind it
            self._note(ordering.intents, (), (), is_sticky=ordering.is_sticky)
        if ordering.accounts is accounts:
            return tuple(seats)
        return _in_order(seats, ordering.accounts)

    def _first(self, block: Block, option: Option, step: Step) -> Seat | None:
        if block.config.spend_reserve != _NEVER:
            return self._eligibility.first(option, step.connection_id)
        for account, seat in self._eligibility.each(option, step.connection_id):
            if not is_withheld(option, account, self.asked, block.config):
                return seat
        return None

    def _unreserved(self, block: Block, option: Option, seats: list[Seat], left_out: list[Exclusion]) -> list[Seat]:
        """Leave out the accounts of which only the reserve is left, where that is never spent."""
        if block.config.spend_reserve != _NEVER:
            return seats
        free = []
        for seat in seats:
            if is_withheld(option, seat.account, self.asked, block.config):
                left_out.append(Exclusion(option.name, Reason.RESERVE, seat.account.id))
            else:
                free.append(seat)
        return free

    def _explain(self, block: Block, option: Option, only: str | None) -> None:
        """Say for each account of an option why it may not serve."""
        if len(self.exclusions) >= _MOST_EXCLUSIONS and option.provider in self._explained:
            return
        left_out: list[Exclusion] = []
        seats = self._eligibility.seats(option, only, left_out)
        self._unreserved(block, option, seats, left_out)
        if not left_out:
            left_out = [Exclusion(option.name, Reason.INACTIVE, only)]
        # Whoever waits for the first that is back has to hear of every provider, however long the list is.
        is_new = option.provider not in self._explained
        self._explained.add(option.provider)
        if is_new and len(self.exclusions) >= _MOST_EXCLUSIONS:
            self.exclusions.extend(left_out)
        else:
            self._leave_all_out(left_out)

    def _leave_out(self, exclusion: Exclusion) -> None:
        if len(self.exclusions) < _MOST_EXCLUSIONS:
            self.exclusions.append(exclusion)

    def _note(
        self, intents: Sequence[Intent], scores: Sequence[Scored], warnings: Sequence[str], *, is_sticky: bool
    ) -> None:
        self.intents.extend(intents)
        self.scores.extend(scores)
        self.warnings.extend(warnings)
        self.is_sticky = self.is_sticky or is_sticky


_NONE_READY: Final[Mapping[int, Ready]] = {}


def _place_of(ready: Ready) -> _Place:
    entry = ready.entry
    return _Place(entry.option, entry.seats[0], None, entry.seats, (), ready)


def _stand_in(step: Step) -> Option:
    """Return something to stand at the place of a step that may not serve."""
    return step.option or Option(step.name, "", "")
