"""Two attempts at once: a slow one, and a hedge that was started beside it. The first to serve wins.

Each runs in a greenlet of its own, and the driver waits for either. Whoever ends the driver ends both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, TypeGuard

import gevent

from omniroute.errors import OmniRouteError
from omniroute.formats.canonical import ServerToolDefinition
from omniroute.formats.wire import WireFormat
from omniroute.gateway.exchange import Inquiry
from omniroute.gateway.handover import OpenStream, WholeAnswer
from omniroute.gateway.leg import Leg, Served
from omniroute.gateway.router import Route
from omniroute.routing.attempts import Kind
from omniroute.routing.failures import Failure
from omniroute.routing.hedging import Shares, delay_s, is_mostly_ill

log = logging.getLogger(__name__)

Ended = Served | Failure | Exception
"""What came of a leg. An exception is a fault of ours, or says that the target cannot be asked this."""

_STATE: Final = ("previous_response_id", "conversation", "container", "mcp_servers", "background")
"""Members of a request that name, or make, what its provider keeps or does."""


class Hedging:
    """Whether the first attempt of one request may have another one beside it, and when."""

    __slots__ = ("_inquiry", "_key_id", "_now", "_route", "_shares")

    def __init__(self, inquiry: Inquiry, route: Route, shares: Shares, now: Callable[[], float]) -> None:
        """`now`: the monotonic clock. The request counts for the share of its key from now on."""
        self._inquiry = inquiry
        self._route = route
        self._shares = shares
        self._now = now
        self._key_id = route.asked.features.key_id
        shares.note_request(self._key_id, now())

    def delay_s(self, option_name: str) -> float:
        """Return how long an attempt may take before it counts as slow."""
        figures = self._route.asked.view.figures(option_name)
        return delay_s(self._route.config, figures, is_stream=self._inquiry.is_stream)

    def may_start(self) -> bool:
        """Say whether somebody else may be asked beside a slow attempt."""
        route = self._route
        if route.asked.features.connection_id is not None or is_mostly_ill(route.plan):
            return False
        return self._shares.has_left(self._key_id, self._now()) and not has_effects(self._inquiry)

    def note(self) -> None:
        """Count the hedge that was started."""
        self._shares.note_hedge(self._key_id, self._now())


def has_effects(inquiry: Inquiry) -> bool:
    """Say whether asking twice would leave two of something: stored answers, or what a provider's tools did."""
    top, dialect = inquiry.top, inquiry.dialect
    if dialect.sub_path or inquiry.note:
        return True
    if any(top.value(member) for member in _STATE if member in top):
        return True
    is_stored = top.value("store")
    if is_stored is True or (is_stored is not False and dialect.format is WireFormat.OPENAI_RESPONSES):
        return True  # a Responses provider keeps what nobody has told it not to keep
    if inquiry.continued is not None and inquiry.continued.previous_id is not None:
        return True
    try:
        request = inquiry.request
    except OmniRouteError:  # it was passed on unread
        return True
    return request.audio_output is not None or any(isinstance(tool, ServerToolDefinition) for tool in request.tools)


class Race:
    """A leg that is waited for, and perhaps another one beside it."""

    __slots__ = ("_runners", "legs")

    def __init__(self, head: Leg) -> None:
        """Start the first one."""
        self.legs: list[Leg] = []
        self._runners: list[gevent.Greenlet[..., Any]] = []
        self.start(head)

    def start(self, leg: Leg) -> None:
        """Start another one."""
        self.legs.append(leg)
        self._runners.append(gevent.spawn(_run, leg))

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first one; say whether it is through."""
        self._runners[0].join(timeout_s)
        return self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the first one is through."""
        return bool(self._runners[0].ready())

    def decide(self) -> Leg | None:
        """Wait until one of them serves, or none of them does; whoever is left is stopped."""
        waiting = list(self._runners)
        winner = None
        while waiting and winner is None:
            for runner in gevent.wait(waiting, count=1):
                waiting.remove(runner)
                leg = self.legs[self._runners.index(runner)]
                if winner is None and is_served(self.outcome(leg)):
                    winner = leg
        self.stop()
        return winner

    def stop(self) -> None:
        """End what still runs: it closes its connection on its way out."""
        gevent.killall(self._runners)

    def outcome(self, leg: Leg) -> Ended | None:
        """Return what came of a leg; None when it was stopped."""
        value: Ended | gevent.GreenletExit | None = self._runners[self.legs.index(leg)].value
        return None if isinstance(value, gevent.GreenletExit) else value


def is_served(ended: Ended | None) -> TypeGuard[Served]:
    """Say whether what came of a leg is an answer."""
    return isinstance(ended, WholeAnswer | OpenStream)


def _run(leg: Leg) -> Ended:
    try:
        return leg.run()
    except OmniRouteError as error:
        return error
    except Exception as error:
        if leg.kind is Kind.HEDGE:  # the one that it stands beside goes on
            log.exception("a hedge to %s failed", leg.candidate.option.name)
        return error
