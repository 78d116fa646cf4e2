"""What rests, is open or is given up now, put in words: why, until when, and when it is tried again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NotRequired, TypedDict

from omniroute.gateway.lanes import QueueState
from omniroute.routing.breaker import breaker_of
from omniroute.routing.decision_document import iso_time
from omniroute.routing.learned import learned_of
from omniroute.routing.marks import HealthRow, Key, Kind, State
from omniroute.routing.resilience import ResilienceSettings
from omniroute.routing.standing import early_probe_at, steps_left
from omniroute.routing.view import BreakerState

_FAMILY: Final = "family"


class BreakerDocument(TypedDict):
    """A provider's breaker that counts or is open."""

    provider: str
    state: str
    isDegraded: bool
    failures: int
    trips: int
    openedAt: str | None
    retryAt: str | None
    reason: str | None
    status: int | None


class RestingDocument(TypedDict):
    """A connection, or a model or family of models on one, that is left alone."""

    connectionId: str
    connection: str | None
    provider: str | None
    model: NotRequired[str | None]
    isFamily: NotRequired[bool]
    reason: str | None
    status: int | None
    code: str | None
    message: str | None
    link: str | None
    state: str
    since: str | None
    until: str | None
    nextProbeAt: str | None
    hintSource: str | None
    step: int


class LearnedLimitDocument(TypedDict):
    """What a provider let us know about the limits of a connection."""

    connectionId: str
    connection: str | None
    provider: str | None
    concurrentRequests: int | None
    pausedUntil: str | None
    until: str | None


class QueueDocument(TypedDict):
    """Who waits for a connection in the worker that answers; one of a step of a combo is no connection's."""

    queue: str
    connectionId: str | None
    waiting: int
    oldestWaitMs: int
    reason: str | None
    until: str | None


class ResilienceStateDocument(TypedDict):
    """Everything that keeps requests from somewhere now."""

    breakers: list[BreakerDocument]
    cooldowns: list[RestingDocument]
    dead: list[RestingDocument]
    lockouts: list[RestingDocument]
    limits: list[LearnedLimitDocument]
    queues: list[QueueDocument]


@dataclass(frozen=True, slots=True)
class Place:
    """A connection as rows know it: itself, and under which scope it rests together with others."""

    id: str
    name: str
    provider: str
    rest_scope: str


@dataclass(frozen=True, slots=True)
class Why:
    """The failure that led to something, as far as it was told. `message` holds no secret."""

    kind: str | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Tripped:
    """A provider's breaker that counts or is open.

    Attributes:
        failures: end-to-end failures in a row.
        trips: openings in a row.
        retry_at: when it lets a request try; None while it is closed.
    """

    key: Key
    provider: str
    state: BreakerState
    is_degraded: bool
    failures: int
    trips: int
    opened_at: float | None
    retry_at: float | None
    why: Why


@dataclass(frozen=True, slots=True)
class Resting:
    """A connection, or a model or family of models on one, that is left alone.

    Attributes:
        kind: cooldown, dead mark or lockout.
        model: what is locked out; None for a connection as a whole.
        is_awaited: its time is over, and one request tries before all may.
        until: None where only somebody's action ends it.
        next_probe_at: when a request tries it; None when none does.
        hint_source: who said until when; None when it was computed.
        step: failures in a row that still count.
    """

    key: Key
    kind: Kind
    connection_id: str
    connection: str | None
    provider: str | None
    why: Why
    model: str | None = None
    is_family: bool = False
    is_awaited: bool = False
    since: float | None = None
    until: float | None = None
    next_probe_at: float | None = None
    hint_source: str | None = None
    step: int = 0


@dataclass(frozen=True, slots=True)
class Limited:
    """What a provider let us know about the limits of a connection."""

    key: Key
    connection_id: str
    connection: str | None
    provider: str | None
    slots: int | None
    paused_until: float | None
    until: float | None


@dataclass(frozen=True, slots=True)
class ResilienceState:
    """Everything that keeps requests from somewhere, at one instant. `queues` are those of one worker."""

    breakers: Sequence[Tripped] = ()
    cooldowns: Sequence[Resting] = ()
    dead: Sequence[Resting] = ()
    lockouts: Sequence[Resting] = ()
    limits: Sequence[Limited] = ()
    queues: Sequence[QueueState] = field(default=())

    def marks(self) -> Iterator[Tripped | Resting | Limited]:
        """Return all that can be reset."""
        yield from self.breakers
        yield from self.cooldowns
        yield from self.dead
        yield from self.lockouts
        yield from self.limits


def state_of(
    rows: Iterable[HealthRow],
    places: Iterable[Place],
    queues: Sequence[QueueState],
    settings: ResilienceSettings,
    now: float,
) -> ResilienceState:
    """Read rows; a cooldown that connections share stands once for each of them."""
    by_id: dict[str, Place] = {}
    sharing: dict[str, list[Place]] = {}
    for place in places:
        by_id[place.id] = place
        sharing.setdefault(place.rest_scope, []).append(place)
    breakers: list[Tripped] = []
    resting: dict[Kind, list[Resting]] = {Kind.COOLDOWN: [], Kind.DEAD: [], Kind.LOCKOUT: []}
    limits: list[Limited] = []
    for row in rows:
        what, _, name = row.scope.partition(":")
        match row.kind:
            case Kind.BREAKER:
                breakers.append(_tripped(row, name, settings, now))
            case Kind.LEARNED:
                limits.append(_limited(row, name, by_id, now))
            case _ if row.state is not State.RESTING:
                continue  # over, with a count that is still remembered
            case Kind.COOLDOWN:
                whom = sharing.get(row.scope) or [_gone(name, row)]
                resting[row.kind] += [_resting(row, place, now) for place in whom]
            case Kind.DEAD:
                resting[row.kind].append(_resting(row, by_id.get(name) or _gone(name, row), now))
            case Kind.LOCKOUT:
                connection_id, _, model = name.partition("|")
                place = by_id.get(connection_id) or _gone(connection_id, row)
                resting[row.kind].append(_resting(row, place, now, model=model, is_family=what == _FAMILY))
    return ResilienceState(
        breakers, resting[Kind.COOLDOWN], resting[Kind.DEAD], resting[Kind.LOCKOUT], limits, tuple(queues)
    )


def _tripped(row: HealthRow, provider: str, settings: ResilienceSettings, now: float) -> Tripped:
    seen = breaker_of(row, now, settings)
    is_closed = seen.state is BreakerState.CLOSED
    last = row.data.get("last_error")
    last = last if isinstance(last, Mapping) else {}
    return Tripped(
        key=row.key,
        provider=provider,
        state=seen.state,
        is_degraded=seen.is_degraded,
        failures=seen.failures,
        trips=0 if is_closed else row.step,
        opened_at=None if is_closed else row.number("opened_at", row.updated_at),
        retry_at=None if is_closed else row.until,
        why=Why(row.reason or _text(last.get("class")), _number(last.get("status"))),
    )


def _resting(row: HealthRow, place: Place, now: float, *, model: str | None = None, is_family: bool = False) -> Resting:
    data = row.data
    return Resting(
        key=row.key,
        kind=row.kind,
        connection_id=place.id,
        connection=place.name or None,
        provider=place.provider or None,
        why=Why(
            row.reason,
            _number(data.get("status")),
            _text(data.get("code")),
            _text(data.get("message")),
            _text(data.get("link")),
        ),
        model=model,
        is_family=is_family,
        is_awaited=row.until is not None and now >= row.until,
        since=row.number("since", row.created_at),
        until=row.until,
        next_probe_at=early_probe_at(row) or row.until,
        hint_source=_text(data.get("source")),
        step=row.step if row.kind is Kind.DEAD else steps_left(row, now),
    )


def _limited(row: HealthRow, connection_id: str, by_id: Mapping[str, Place], now: float) -> Limited:
    place = by_id.get(connection_id) or _gone(connection_id, row)
    slots, paused_until = learned_of(row, now)
    return Limited(row.key, connection_id, place.name or None, place.provider or None, slots, paused_until, row.until)


def _gone(connection_id: str, row: HealthRow) -> Place:
    """Stand in for a connection that cannot be used now: what rests it is still there."""
    return Place(connection_id, "", _text(row.data.get("provider")) or "", row.scope)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# --- as a document ---------------------------------------------------------------------------------------------------


def document(state: ResilienceState) -> ResilienceStateDocument:
    """Return a state with the field names of the HTTP API."""
    return {
        "breakers": [breaker_document(one) for one in state.breakers],
        "cooldowns": [resting_document(one) for one in state.cooldowns],
        "dead": [resting_document(one) for one in state.dead],
        "lockouts": [resting_document(one) for one in state.lockouts],
        "limits": [limit_document(one) for one in state.limits],
        "queues": [queue_document(one) for one in state.queues],
    }


def breaker_document(one: Tripped) -> BreakerDocument:
    """Return a breaker as answers show it."""
    return {
        "provider": one.provider,
        "state": one.state.value,
        "isDegraded": one.is_degraded,
        "failures": one.failures,
        "trips": one.trips,
        "openedAt": iso_time(one.opened_at),
        "retryAt": iso_time(one.retry_at),
        "reason": one.why.kind,
        "status": one.why.status,
    }


def resting_document(one: Resting) -> RestingDocument:
    """Return what rests a connection, or a model on one, as answers show it."""
    body: RestingDocument = {
        "connectionId": one.connection_id,
        "connection": one.connection,
        "provider": one.provider,
        "reason": one.why.kind,
        "status": one.why.status,
        "code": one.why.code,
        "message": one.why.message,
        "link": one.why.link,
        "state": "probing" if one.is_awaited else "resting",
        "since": iso_time(one.since),
        "until": iso_time(one.until),
        "nextProbeAt": iso_time(one.next_probe_at),
        "hintSource": one.hint_source,
        "step": one.step,
    }
    if one.kind is Kind.LOCKOUT:
        body["model"], body["isFamily"] = one.model, one.is_family
    return body


def limit_document(one: Limited) -> LearnedLimitDocument:
    """Return learned limits of a connection as answers show them."""
    return {
        "connectionId": one.connection_id,
        "connection": one.connection,
        "provider": one.provider,
        "concurrentRequests": one.slots,
        "pausedUntil": iso_time(one.paused_until),
        "until": iso_time(one.until),
    }


def queue_document(one: QueueState) -> QueueDocument:
    """Return a queue as answers show it; one that belongs to a step of a combo is no connection's."""
    what, _, name = one.name.partition(":")
    return {
        "queue": one.name,
        "connectionId": None if what == "step" else name,
        "waiting": one.depth,
        "oldestWaitMs": round(one.oldest_wait_s * 1000),
        "reason": one.reason,
        "until": iso_time(one.until),
    }
