"""`expiring-first`: spend what lapses soonest, keep a reserve.

Theory. Quota of a subscription is lost at its reset, so that using it before then costs nothing, while a metered call
costs money whenever it is made. Among several such quotas the one that lapses next comes first. Part of each window is
held back for urgent work; the reserve shrinks to nothing towards the reset, so that it is not held back into the void.
A long window that is used up faster than time passes is not urgent: it would run dry early. Everything that may be
tried falls into one of five classes, which come in this order:

    A  perishable, with something left beside the reserve
    B  perishable, but nobody knows how much is left
    C  free or local, without a window
    D  metered
    E  perishable, and only the reserve is left
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final

from msgspec import Struct, structs

from omniroute.routing.asked import Asked
from omniroute.routing.config import ComboConfig
from omniroute.routing.families import binds
from omniroute.routing.options import Account, Option
from omniroute.routing.prices import estimate_nano
from omniroute.routing.view import Load, QuotaWindow

SUBSCRIPTION: Final = "subscription"
CREDIT: Final = "credit"
LONG_WINDOW_S: Final = 86_400.0
"""Windows above this length have a pace to keep."""
PACE_ALLOWANCE: Final = 0.15
"""How far use may run ahead of time before a long window stops being urgent."""
SHORTEST_S: Final = 60.0
_STEP: Final = math.log(1.05)

SortKey = tuple[float, ...]


class Class(IntEnum):
    """What using a candidate means, in the order in which they are used."""

    PERISHABLE = 0
    UNKNOWN = 1
    FREE = 2
    METERED = 3
    RESERVE = 4


class Standing(Struct, frozen=True, gc=False):
    """Where a candidate stands.

    Attributes:
        place: candidates with equal places differ in nothing that matters; the lower comes first.
        tie: what orders candidates of one place, before their order in the list.
    """

    kind: Class
    place: SortKey
    tie: SortKey = ()

    @property
    def key(self) -> tuple[SortKey, SortKey]:
        """What to sort by."""
        return self.place, self.tie


def standing(option: Option, account: Account, asked: Asked, config: ComboConfig) -> Standing:
    """Return where one account of an option stands."""
    load = asked.view.load(account.id)
    if not option.is_unmetered:
        price = estimate_nano(option, asked.features, asked.view.figures(option.name))
        return Standing(Class.METERED, (Class.METERED, math.inf if price is None else price))
    if option.tier != SUBSCRIPTION and all(window.kind == CREDIT for window in load.windows):
        return Standing(Class.FREE, (Class.FREE,))
    known = list(known_windows(load.windows, asked.now, option.model))
    if not known:
        # Nobody knows anything: the same as taking one after the other, past those that have no place free.
        return Standing(Class.UNKNOWN, (Class.UNKNOWN, not is_free(load, asked.now)))
    room = min(headroom(window, asked, config) for window in known)
    if room <= 0:
        return Standing(Class.RESERVE, (Class.RESERVE,), (-min(1 - _used(window) for window in known),))
    urgent = [
        window.resets_at
        for window in known
        if window.resets_at is not None and _keeps_pace(window, window.resets_at, asked.now)
    ]
    if not urgent:
        return Standing(Class.PERISHABLE, (Class.PERISHABLE, math.inf), (-room,))
    return Standing(Class.PERISHABLE, (Class.PERISHABLE, _steps(min(urgent) - asked.now)), (-room, load.in_flight))


def headroom(window: QuotaWindow, asked: Asked, config: ComboConfig) -> float:
    """Return the fraction of a window that may be used before its reserve begins; unknown use counts as none."""
    return 1.0 - _used(window) - _reserve(window, asked, config)


def is_withheld(option: Option, account: Account, asked: Asked, config: ComboConfig) -> bool:
    """Say whether an account is left out under `spendReserve: never`, because only its reserve is left."""
    return config.spend_reserve == "never" and standing(option, account, asked, config).kind is Class.RESERVE


def has_capacity(account: Account, asked: Asked, config: ComboConfig, model: str) -> bool:
    """Say whether an account has room this instant for a model: a place, its turn, and quota beside the reserve."""
    load = asked.view.load(account.id)
    if not is_free(load, asked.now):
        return False
    return all(headroom(window, asked, config) > 0 for window in known_windows(load.windows, asked.now, model))


def is_free(load: Load, now: float) -> bool:
    """Say whether an account could start a request this instant."""
    return not load.is_full and load.free_at <= now


def remaining(load: Load, now: float, model: str) -> float | None:
    """Return the least fraction that is left of an account's windows for a model, None when not known."""
    if not load.windows:
        return None
    return min((1 - _used(window) for window in known_windows(load.windows, now, model)), default=None)


def known_windows(windows: Iterable[QuotaWindow], now: float, model: str) -> Iterator[QuotaWindow]:
    """Yield the windows that bind a model and whose use is known.

    An old reading says nothing any more, and one from before a reset nothing about what came after.
    """
    for window in windows:
        if window.used is None or window.kind == CREDIT:
            continue
        if window.resets_at is not None and window.resets_at <= now:
            continue
        if window.stale_at is not None and window.stale_at <= now:
            continue
        if not window.family or binds(window.family, model):
            yield window


def is_cut_off(window: QuotaWindow, percent: float, now: float, model: str) -> bool:
    """Say whether a model is to be left alone because a window has been used up to a percentage, until its reset."""
    known = next(known_windows((structs.replace(window, kind=""),), now, model), None)
    return known is not None and _used(known) * 100 >= percent


def reserve(window: QuotaWindow, now: float, config: ComboConfig) -> float:
    """Return the fraction of a window that is held back now."""
    full = config.reserve_percent / 100
    if window.resets_at is None or not window.length_s or not config.reserve_release_percent:
        return full
    release_s = window.length_s * config.reserve_release_percent / 100
    return full * max(0.0, min(1.0, (window.resets_at - now) / release_s))


def _used(window: QuotaWindow) -> float:
    return window.used or 0.0


def _reserve(window: QuotaWindow, asked: Asked, config: ComboConfig) -> float:
    return 0.0 if asked.features.may_use_reserve else reserve(window, asked.now, config)


def _keeps_pace(window: QuotaWindow, resets_at: float, now: float) -> bool:
    if window.length_s is None or window.length_s <= LONG_WINDOW_S:
        return True
    elapsed = 1 - (resets_at - now) / window.length_s
    return _used(window) <= elapsed + PACE_ALLOWANCE


def _steps(seconds: float) -> int:
    """Return remaining time in steps of 5 %, so that what resets at nearly the same time ties."""
    return math.floor(math.log(max(SHORTEST_S, seconds)) / _STEP)
