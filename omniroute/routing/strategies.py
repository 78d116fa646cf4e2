"""The strategies of combos: each puts all eligible steps in an order, whose head is tried first.

What a strategy has to remember is read as *counters* of the block's scope, and given back as intents. Their kinds:

    position        round-robin   a whole number; the intent's value is what to add to it, once the request is over
    deck            strict-random {"left": [step id…], "dealt": [step id…]}: cards to come; those dealt, newest last
    head            weighted      {"step": id, "count": n}: who leads, and how often in a row
    relay:<session> context-relay {"step": id, "window": tokens}: how far the session has come; it never goes back

Where a session or a combo was served last (`lkgp`, `p2c`) is the view's `last_good`, which the caller keeps.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from random import Random
from typing import Any, Final

from msgspec import Struct

from omniroute.routing.affinity import binding_session, kept_target
from omniroute.routing.asked import Asked
from omniroute.routing.eligibility import Eligibility
from omniroute.routing.expiring import Class, Standing, has_capacity, remaining, standing
from omniroute.routing.options import Account, Block, Option, Step, Strategy
from omniroute.routing.plan import Intent, Scored, Seat
from omniroute.routing.prices import estimate_nano

POSITION: Final = "position"
DECK: Final = "deck"
HEAD: Final = "head"
RELAY: Final = "relay:"


class Ordering(Struct, frozen=True, gc=False):
    """The order of a block's steps, by index, and what belongs to it.

    Attributes:
        is_sticky: the head is there because the session stays with it.
    """

    order: tuple[int, ...]
    intents: tuple[Intent, ...] = ()
    scores: tuple[Scored, ...] = ()
    is_sticky: bool = False
    warnings: tuple[str, ...] = ()


def order_steps(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Return the eligible steps of a block in the order of its strategy.

    `leads` has for each step the option that stands for it: its own, or what a block inside it would try first; those
    of steps that are not eligible are not looked at. `eligible` are the indexes of the steps that may serve, ascending.
    """
    return _ORDERS[block.strategy](block, leads, eligible, asked) if eligible else Ordering(())


def shuffled(count: int, rng: Random) -> list[int]:
    """Return the numbers below `count` in an order of which each is as likely as any other."""
    order = list(range(count))
    rng.shuffle(order)
    return order


def drawn_by_load(loads: Sequence[float], rng: Random) -> list[int]:
    """Draw two places: the one with the lower load leads, the other is second, the rest follow in any order."""
    first, second, *rest = shuffled(len(loads), rng)
    if loads[second] < loads[first]:
        first, second = second, first
    return [first, second, *rest]


# --- in list order ---------------------------------------------------------------------------------------------------


def _priority(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Keep the list as it is."""
    del block, leads, asked
    return Ordering(tuple(eligible))


def _fill_first(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Take the list from the top, past the steps that have no room this instant."""
    eligibility = Eligibility(asked)
    rooms: dict[tuple[str, str], bool] = {}

    def has_capacity_of(option: Option) -> Callable[[Account], bool]:
        def has_room_at(account: Account) -> bool:
            key = (account.id, option.model)
            if key not in rooms:
                rooms[key] = has_capacity(account, asked, block.config, option.model)
            return rooms[key]

        return has_room_at

    has_room = {
        index: _is_any_eligible(block.steps[index], leads[index], has_capacity_of(leads[index]), eligibility)
        for index in eligible
    }
    return Ordering(tuple(sorted(eligible, key=lambda index: not has_room[index])))


def _round_robin(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Rotate; a step that is left out passes its turns to the others in rotation, so that nobody inherits them all."""
    kept = asked.view.counter(block.scope, POSITION)
    turns = (kept if isinstance(kept, int) else 0) // block.config.sticky_round_robin_limit
    rounds, turn = divmod(turns, len(leads))
    start = eligible.index(turn) if turn in eligible else rounds % len(eligible)
    order = (*eligible[start:], *eligible[:start])
    return Ordering(order, (Intent(block.scope, POSITION, 1, is_at_end=True),) if block.scope else ())


def _lkgp(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Put first what last served the session, or for a new session, what last served the combo."""
    of_session = kept_target(block, asked)
    name = of_session or asked.view.last_good(block.scope, "")
    index = None if name is None else _index_of(name, block, leads, eligible)
    if index is None:
        return Ordering(tuple(eligible))
    return Ordering(_with_head(index, eligible), is_sticky=of_session is not None)


# --- by chance -------------------------------------------------------------------------------------------------------


def _random(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Shuffle the whole list, so that the same draw gives the same order whoever is left out."""
    del block
    allowed = set(eligible)
    return Ordering(tuple(index for index in shuffled(len(leads), asked.chance.rng) if index in allowed))


def _strict_random(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Deal from a shuffled deck: every step leads once before the next deck. Who is left out stays in the deck."""
    del leads
    allowed = {block.steps[index].id: index for index in eligible}
    left, dealt = _deck_of(block, asked)
    if not any(card in allowed for card in left):
        left, dealt = _new_deck(block, allowed, last=dealt[-1] if dealt else None, rng=asked.chance.rng), []
    head = next(card for card in left if card in allowed)
    left.remove(head)
    order = tuple(allowed[card] for card in (head, *left, *dealt) if card in allowed)
    value = {"left": left, "dealt": [*dealt, head]}
    return Ordering(order, (Intent(block.scope, DECK, value),) if block.scope else ())


def _deck_of(block: Block, asked: Asked) -> tuple[list[str], list[str]]:
    """Return cards to come and cards dealt; steps that came since the deck was shuffled are slipped in anywhere."""
    kept = asked.view.counter(block.scope, DECK)
    if not isinstance(kept, dict):
        return [], []
    ids = [step.id for step in block.steps]
    known = set(ids)
    left = _cards(kept.get("left"), known)
    dealt = [card for card in _cards(kept.get("dealt"), known) if card not in left]
    for card in ids:
        if card not in left and card not in dealt:
            left.insert(asked.chance.rng.randrange(len(left) + 1), card)
    return left, dealt


def _cards(kept: Any, known: set[str]) -> list[str]:
    if not isinstance(kept, list):
        return []
    return list(dict.fromkeys(card for card in kept if isinstance(card, str) and card in known))


def _new_deck(block: Block, allowed: Iterable[str], *, last: str | None, rng: Random) -> list[str]:
    """Shuffle all cards so that the one dealt last does not lead again, where another can."""
    deck = [block.steps[index].id for index in shuffled(len(block.steps), rng)]
    allowed = set(allowed)
    leaders = [place for place, card in enumerate(deck) if card in allowed]
    if len(leaders) > 1 and deck[leaders[0]] == last:
        other = leaders[1 + rng.randrange(len(leaders) - 1)]
        deck[leaders[0]], deck[other] = deck[other], deck[leaders[0]]
    return deck


def _weighted(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Sample without replacement by weight; what weighs nothing stands behind all that weighs something."""
    limit = block.config.sticky_weighted_limit
    kept = asked.view.counter(block.scope, HEAD) if limit > 1 else None
    sampled = _sampled(block, len(leads), eligible, asked.chance.rng)
    if isinstance(kept, dict) and isinstance(kept.get("count"), int) and kept["count"] < limit:
        held = next((index for index in eligible if block.steps[index].id == kept.get("step")), None)
        if held is not None:
            intent = Intent(block.scope, HEAD, {"step": kept["step"], "count": kept["count"] + 1})
            return Ordering(_with_head(held, sampled), (intent,))
    if limit == 1 or not block.scope:
        return Ordering(tuple(sampled))
    return Ordering(tuple(sampled), (Intent(block.scope, HEAD, {"step": block.steps[sampled[0]].id, "count": 1}),))


def _sampled(block: Block, count: int, eligible: Sequence[int], rng: Random) -> list[int]:
    """Order by u^(1/w), descending: the same as -ln(u)/w ascending, which does not vanish for small weights."""
    weights = [block.steps[index].weight for index in range(count)]
    if not any(weight > 0 for weight in weights):
        weights = [1.0] * count
    # Drawn for all, so that leaving one out does not change the order of the others.
    keys = [rng.expovariate(weight) if weight > 0 else math.inf for weight in weights]
    return sorted(eligible, key=lambda index: keys[index])


def _p2c(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Draw two and take the less loaded; a session stays where it was."""
    order = list(eligible)
    if len(order) > 1:
        order = [eligible[place] for place in drawn_by_load(_loads(block, leads, eligible, asked), asked.chance.rng)]
    name = kept_target(block, asked)
    held = None if name is None else _index_of(name, block, leads, eligible)
    if held is None or binding_session(leads[held], asked) is None:
        return Ordering(tuple(order))
    return Ordering(_with_head(held, order), is_sticky=True)


def _loads(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> list[float]:
    figures = [asked.view.figures(leads[index].name) for index in eligible]
    known = [one.ttft_p50 for one in figures if one.ttft_p50 is not None]
    usual = statistics.median(known) if known else 1.0
    return [
        (_in_flight(block.steps[index], leads[index], asked) + 1)
        * (usual if one.ttft_p50 is None else one.ttft_p50)
        * (1 + 4 * (1 - one.success))
        for index, one in zip(eligible, figures, strict=True)
    ]


# --- by numbers ------------------------------------------------------------------------------------------------------


def _least_used(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    window_min = block.config.least_used_window_min

    def use(index: int) -> tuple[int, int]:
        step = block.steps[index]
        return asked.view.uses(block.scope, step.id, window_min), _in_flight(step, leads[index], asked)

    return Ordering(tuple(sorted(eligible, key=use)))


def _cost_optimized(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Put what this request costs least at first; what has no known price last."""
    del block

    def price(index: int) -> float:
        nano = estimate_nano(leads[index], asked.features, asked.view.figures(leads[index].name))
        return math.inf if nano is None else nano

    return Ordering(tuple(sorted(eligible, key=price)))


def _context_optimized(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Put most free window first; those that are too small by window, so that the largest says the true numbers."""
    del block

    def free(index: int) -> tuple[bool, int]:
        window = leads[index].planned_window
        left = window - _wanted(leads[index], asked)
        return (False, -left) if left >= 0 else (True, -window)

    return Ordering(tuple(sorted(eligible, key=free)))


def _expiring_first(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    eligibility = Eligibility(asked)
    known: dict[tuple[str, str, bool], Standing] = {}

    def standing_of(option: Option, account: Account) -> Standing:
        if not option.is_unmetered:  # what a call costs does not depend on the account
            return standing(option, account, asked, block.config)
        key = (account.id, option.tier, option.is_unmetered)
        if key not in known:
            known[key] = standing(option, account, asked, block.config)
        return known[key]

    def best_of(index: int) -> Standing:
        """Return what a step stands for: the account that its own order would use first."""
        step, option = block.steps[index], leads[index]
        seats = eligibility.each(option, step.connection_id)
        if not option.is_unmetered:
            seats = islice(seats, 1)
        standings = (standing_of(option, account) for account, _ in seats)
        return min(standings, key=lambda one: one.key, default=_NOBODY)

    standings = {index: best_of(index) for index in eligible}
    return Ordering(tuple(sorted(eligible, key=lambda index: standings[index].key)))


_NOBODY: Final = Standing(Class.RESERVE, (Class.RESERVE,), (0.0,))


# --- relay of growing conversations ----------------------------------------------------------------------------------


def _context_relay(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    """Hand a conversation on to a larger window before the present one is full; it never goes back."""
    ladder = sorted(eligible, key=lambda index: leads[index].planned_window)
    session = None if block.config.disable_session_stickiness else asked.features.session
    kept = asked.view.counter(block.scope, RELAY + session) if session is not None else None
    stood = _rung_of(kept, ladder, block, leads)
    rung = 0 if stood is None else stood
    eligibility = Eligibility(asked)
    while rung < len(ladder) - 1 and _is_outgrown(ladder[rung], block, leads, asked, eligibility):
        rung += 1
    head = ladder[rung]
    order = (head, *ladder[rung + 1 :], *reversed(ladder[:rung]))
    if session is None or not block.scope or not _moves_on(kept, head, block, leads):
        return Ordering(order, is_sticky=stood is not None and rung == stood)
    value = {"step": block.steps[head].id, "window": leads[head].planned_window}
    return Ordering(order, (Intent(block.scope, RELAY + session, value),))


def _rung_of(kept: Any, ladder: Sequence[int], block: Block, leads: Sequence[Option]) -> int | None:
    """Return where a session stands: its step, or where that may not serve, the next one that is not smaller."""
    if not _is_relay(kept):
        return None
    for rung, index in enumerate(ladder):
        if block.steps[index].id == kept["step"]:
            return rung
    place = _place_in_list(kept["step"], block)
    for rung, index in enumerate(ladder):
        if (leads[index].planned_window, index) > (kept["window"], place):
            return rung
    return len(ladder) - 1


def _moves_on(kept: Any, head: int, block: Block, leads: Sequence[Option]) -> bool:
    """Say whether the head is further than where the session is known to stand."""
    if not _is_relay(kept):
        return True
    if block.steps[head].id == kept["step"]:
        return False
    return (leads[head].planned_window, head) > (kept["window"], _place_in_list(kept["step"], block))


def _is_relay(kept: Any) -> bool:
    return isinstance(kept, dict) and isinstance(kept.get("step"), str) and isinstance(kept.get("window"), int)


def _place_in_list(step_id: str, block: Block) -> int:
    return next((index for index, step in enumerate(block.steps) if step.id == step_id), -1)


def _is_outgrown(index: int, block: Block, leads: Sequence[Option], asked: Asked, eligibility: Eligibility) -> bool:
    threshold = block.config.handoff_threshold
    option = leads[index]
    if _wanted(option, asked) > threshold * option.planned_window:
        return True
    most_used = [_most_used(option, account, asked) for account in _accounts(block.steps[index], option, eligibility)]
    return bool(most_used) and min(most_used) > threshold


def _most_used(option: Option, account: Account, asked: Asked) -> float:
    """Return the used fraction of the window that binds an account; 0 where nobody knows."""
    left = remaining(asked.view.load(account.id), asked.now, option.model)
    return 0.0 if left is None else 1 - left


# --- what several share ----------------------------------------------------------------------------------------------


def _accounts(step: Step, option: Option, eligibility: Eligibility) -> list[Account]:
    """Return the accounts that may serve a step now."""
    return [account for account, _ in eligibility.each(option, step.connection_id)]


def _is_any_eligible(step: Step, option: Option, fits: Callable[[Account], bool], eligibility: Eligibility) -> bool:
    """Say whether one of the accounts that fit may serve a step now; what is known of accounts is looked at first."""
    return any(
        fits(account) and isinstance(eligibility.seat(option, account, step.connection_id), Seat)
        for account in eligibility.awake(option.accounts)
    )


def _in_flight(step: Step, option: Option, asked: Asked) -> int:
    return sum(
        asked.view.load(account.id).in_flight
        for account in option.accounts
        if step.connection_id is None or account.id == step.connection_id
    )


def _wanted(option: Option, asked: Asked) -> int:
    """Return how many tokens of an option's window a request takes."""
    return asked.features.estimated_input + asked.features.reserved_output(option)


def _with_head(head: int, order: Iterable[int]) -> tuple[int, ...]:
    return (head, *(index for index in order if index != head))


def _index_of(name: str, block: Block, leads: Sequence[Option], eligible: Sequence[int]) -> int | None:
    """Return the eligible step that an option stands for, or else the one whose block it is a part of."""
    for index in eligible:
        if leads[index].name == name:
            return index
    return next((index for index in eligible if _holds(block.steps[index].block, name)), None)


def _holds(block: Block | None, name: str) -> bool:
    if block is None:
        return False
    return any(
        (step.option is not None and step.option.name == name) or _holds(step.block, name) for step in block.steps
    )


def _auto(block: Block, leads: Sequence[Option], eligible: Sequence[int], asked: Asked) -> Ordering:
    from omniroute.routing.auto import order_auto

    return order_auto(block, leads, eligible, asked)


_ORDERS: Final[Mapping[Strategy, Callable[[Block, Sequence[Option], Sequence[int], Asked], Ordering]]] = {
    Strategy.PRIORITY: _priority,
    Strategy.FILL_FIRST: _fill_first,
    Strategy.ROUND_ROBIN: _round_robin,
    Strategy.RANDOM: _random,
    Strategy.STRICT_RANDOM: _strict_random,
    Strategy.WEIGHTED: _weighted,
    Strategy.LEAST_USED: _least_used,
    Strategy.COST_OPTIMIZED: _cost_optimized,
    Strategy.P2C: _p2c,
    Strategy.AUTO: _auto,
    Strategy.LKGP: _lkgp,
    Strategy.CONTEXT_OPTIMIZED: _context_optimized,
    Strategy.CONTEXT_RELAY: _context_relay,
    Strategy.EXPIRING_FIRST: _expiring_first,
}
