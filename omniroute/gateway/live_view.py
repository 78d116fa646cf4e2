"""The numbers of this moment, as planning asks for them: the board's, the memory's and the figures' as one view."""

from __future__ import annotations

from collections.abc import Callable

from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.routing.view import Load


class LiveView:
    """A :class:`View` of what this worker knows now. Whoever needs one instant keeps what it answered."""

    __slots__ = (
        "_load_of",
        "_pressure",
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
    ) -> None:
        """`pressure`: when an account grants again (epoch seconds, 0 for now), and whether all its places are taken."""
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

    def load(self, account_id: str) -> Load:
        """See :class:`View`."""
        load = self._load_of(account_id)
        free_at, is_full = self._pressure(account_id)
        if free_at or is_full:
            return Load(load.in_flight, load.last_used_at, free_at, is_full, load.windows)
        return load
