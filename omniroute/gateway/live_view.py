"""The numbers of this moment, as planning asks for them: the board's, the memory's and the figures' as one view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.routing.view import Load, Parties

_MOST_PARTIES: Final = 512


class LiveView:
    """A :class:`View` of what this worker knows now. Whoever needs one instant keeps what it answered.

    Which of the providers of a block are well is remembered until a row of the board's copy changes: most requests come
    while none does, and need not ask about each account.
    """

    __slots__ = (
        "_copy",
        "_has_pressure",
        "_load_of",
        "_pressure",
        "_well",
        "binding",
        "breaker",
        "counter",
        "figures",
        "last_good",
        "lockout",
        "rest",
        "uses",
    )

    def __init__(
        self,
        *,
        board: HealthBoard,
        memory: RoutingMemory,
        figures: OptionFigures,
        pressure: Callable[[str], tuple[float, bool]],
        has_pressure: Callable[[], bool] = lambda: True,
    ) -> None:
        """`pressure`: when an account grants again (epoch seconds, 0 for now), and whether all its places are taken.

        `has_pressure`: whether there may be an account that does not grant now, or has no place.
        """
        # A plan asks hundreds of times: what only passes a question on is left out.
        self.rest = board.copy.rest
        self.lockout = board.copy.lockout
        self.breaker = board.copy.breaker
        self.figures = figures.of
        self.uses = memory.uses
        self.counter = memory.counter
        self.binding = memory.binding
        self.last_good = memory.last_good
        self._load_of = board.load_of
        self._pressure = pressure
        self._has_pressure = has_pressure
        self._copy = board.copy
        self._well: dict[int, tuple[Parties, int, frozenset[str]]] = {}

    def calm(self, parties: Parties) -> frozenset[str]:
        """See :class:`View`."""
        known = self._well.get(id(parties))
        if known is not None and known[0] is parties and known[1] == self._copy.changes:
            well = known[2]
        else:
            well = self._remembered(parties)
        if not self._has_pressure():
            return well
        pressure = self._pressure
        pressed = {name for name in well if any(any(pressure(one.id)) for one in parties.accounts[name])}
        return well - pressed if pressed else well

    def _remembered(self, parties: Parties) -> frozenset[str]:
        copy = self._copy
        well = frozenset(
            name
            for name, accounts in parties.accounts.items()
            if not copy.has_breaker(name) and all(copy.is_well(one.id, one.rest_scope) for one in accounts)
        )
        if len(well) == len(parties.providers):
            well = parties.providers
        if len(self._well) >= _MOST_PARTIES:
            self._well.clear()
        self._well[id(parties)] = parties, copy.changes, well
        return well

    def load(self, account_id: str) -> Load:
        """See :class:`View`."""
        load = self._load_of(account_id)
        free_at, is_full = self._pressure(account_id)
        if free_at or is_full:
            return Load(load.in_flight, load.last_used_at, free_at, is_full, load.windows)
        return load
