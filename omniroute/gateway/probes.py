"""What one request is the first to try again, and for how long nobody else does.

Theory. Who wins the claim of a probe looks once more at what is stored before it goes: somebody else may have had the
verdict just before, and the copy of this worker may not know it yet. Whoever fails keeps its claims until its verdict
is stored, or all other workers would probe as well, one after the other, before they hear of it. The claim of a
provider is kept until the request is through with that provider: its retries and other connections there are part of
the probe.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from omniroute.gateway.gate import Gate, Ticket
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.leases import Loan
from omniroute.routing.plan import Seat

_STORED_WITHIN_S: Final = 2.0
"""How long a verdict may take to be stored; after that the claims go back all the same."""


class Probes:
    """The claims of one request beyond the attempts that won them."""

    __slots__ = ("_board", "_gate", "_held")

    def __init__(self, gate: Gate, board: HealthBoard) -> None:
        self._gate = gate
        self._board = board
        self._held: tuple[Loan, ...] = ()

    def needed(self, seat: Seat) -> Seat:
        """Return a seat without the probes that this request has already."""
        if not self._held or not seat.probes:
            return seat
        held = {scope for loan in self._held for scope in loan.claims}
        return structs.replace(seat, probes=tuple(probe for probe in seat.probes if probe.scope not in held))

    def look_again(self) -> None:
        """Learn what others have stored until now: the verdict of the probe before this one, perhaps."""
        self._board.poll()

    def keep(self, ticket: Ticket) -> None:
        """Keep the claims of an attempt that failed until its verdict is known to all."""
        loan = ticket.take_claims()
        if loan is not None:
            self._held += (loan,)

    def end(self) -> None:
        """Let others try as soon as they can know what came of it; never blocks."""
        if self._held:
            held, self._held = self._held, ()
            self._gate.return_claims(held, after=lambda: self._board.flush(_STORED_WITHIN_S))
