"""The decision record: what a request asked, what was true, what was decided, and what came of it.

Theory. A plan is a function of a block, the features of the request, the answers of the view, the time, the seed and
the rules; so a record that holds those can be decided again, bit for bit. It has two kinds of parts. The *ground* is
what stays the same until the configuration changes: the block with its options and accounts, and the rules. It is the
larger part, encoded once and shared by all requests that it serves. The *decision* is what differs from one request to
the next. A body is a JSON array of the decision and its ground; where there are more grounds, or none, their number
stands in front, but for the first version. Stored, each part is compressed by itself, so that a ground is compressed
once as well.

Most plans are the list of their block as it stands. Such an outline only says so, and is written out when it is read.

Names inside are those of the fields in `routing/`; `decision_document.py` renders the public form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from enum import Enum
from hashlib import sha256
from typing import Any, Final

import msgspec

from omniroute.routing.asked import AccountRules
from omniroute.routing.config import ComboConfig
from omniroute.routing.options import Account, Block, Features, Option, Rates, Step, Strategy
from omniroute.routing.plan import Entry, Exclusion, Plan
from omniroute.routing.view import Binding, Breaker, Figures, Load, Rest

VERSION: Final = 2
MOST_CANDIDATES: Final = 64
"""Targets with one connection each that a record names in full."""
MOST_EXCLUSIONS: Final = 128


# --- what a record holds -------------------------------------------------------------------------------------------


class Stage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One step of resolving the name; `found` is None where it led nowhere."""

    stage: str
    given: str
    found: str | None = None


class Answers(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the view answered when it was asked, without the answers that say "nothing is known"."""

    rests: dict[str, Rest] = {}
    lockouts: list[tuple[str, str, Rest]] = []
    breakers: dict[str, Breaker] = {}
    loads: dict[str, Load] = {}
    figures: dict[str, Figures] = {}
    uses: list[tuple[str, str, int, int]] = []
    """Scope, step, window in minutes, requests."""
    counters: list[tuple[str, str, Any]] = []
    bindings: list[tuple[str, str, Binding]] = []
    last_good: list[tuple[str, str, str]] = []


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One target of the order, with its connections in order."""

    option: str
    step_id: str
    waits: bool
    accounts: list[str]
    probes: dict[str, list[str]] = {}
    """Scopes to be won first, by connection."""


class Outline(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A plan as a value that can be compared byte by byte."""

    strategy: str
    places: list[Place] = []
    exclusions: list[tuple[str, str, str | None, float | None, str | None]] = []
    """Target, reason, connection, until, detail."""
    scores: list[tuple[str, float, Mapping[str, tuple[float, float, bool]]]] = []
    """Target, score, and value, weight and whether it is known, by factor."""
    intents: list[tuple[str, str, Any, bool]] = []
    """Scope, kind, value, and whether it is kept only at the end."""
    is_sticky: bool = False
    warnings: list[str] = []
    is_listed: bool = False
    """The places are the steps of the block as they are listed, each with all its connections. Only while stored."""
    moved: list[tuple[int, list[int]]] = []
    """Of those the ones with another order: the place, and the connections by their numbers in the list."""


class Round(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One planning: that of the request, or that of a fallback chain behind it.

    Attributes:
        ground: which of the record's grounds it stands on; None where the record would have become too large.
        forbidden: connections that the key may not use, by option.
        cut: candidates and exclusions that the outline had beyond the limits; `digest` is of the whole one.
    """

    now: float
    seed: int
    features: Features
    outline: Outline
    ground: int | None = None
    answers: Answers = Answers()
    forbidden: dict[str, list[str]] = {}
    cut: tuple[int, int] = (0, 0)
    digest: str | None = None


class Try(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One attempt. Times are milliseconds since the request began; `failure_class` is None when it served."""

    option: str
    account: str
    kind: str = "normal"
    started_ms: float = 0.0
    headers_ms: float | None = None
    content_ms: float | None = None
    ended_ms: float = 0.0
    failure_class: str | None = None
    failure_kind: str | None = None
    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    hint_source: str | None = None
    intents: list[str] = []
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_nano_usd: int | None = None

    @property
    def has_served(self) -> bool:
        """Whether its answer reached the client."""
        return self.failure_class is None


class Result(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How the request ended."""

    status: int
    outcome: str
    option: str | None = None
    account: str | None = None
    is_committed: bool = False
    first_content_ms: float | None = None
    duration_ms: float = 0.0
    error_code: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cache_read: int | None = None
    cost_nano_usd: int | None = None
    cost_kind: str = "unpriced"


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Everything about one request but the grounds. `started` is its beginning on the monotonic clock."""

    v: int
    request_id: str
    gateway_version: str
    rounds: list[Round]
    config_version: int = 0
    started: float = 0.0
    policy_hash: str = ""
    trace: list[Stage] = []
    attempts: list[Try] = []
    waits: list[tuple[str, float]] = []
    """Reason and milliseconds."""
    chain: str | None = None
    bound: str | None = None
    """The connection that the session was bound to."""
    has_moved: bool = False
    """The session stays with another connection from now on."""
    result: Result | None = None
    is_reduced: bool = False
    """Too large to be kept whole: it can be read, but not decided again."""
    continued_at: int | None = None
    """Characters of the answer that the client had when it broke off, and another target went on with it."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What stays the same until the configuration changes."""

    block: Block
    rules: AccountRules


@dataclass(frozen=True, slots=True)
class Record:
    """A decision with its grounds."""

    decision: Decision
    grounds: tuple[Ground, ...]

    @property
    def ground(self) -> Ground | None:
        """The ground of the request's own planning; None where it was not kept."""
        return self.ground_of(self.decision.rounds[0])

    def ground_of(self, planned: Round) -> Ground | None:
        """Return what a round stands on."""
        return None if planned.ground is None else self.grounds[planned.ground]


# --- outlines ------------------------------------------------------------------------------------------------------

_encode: Final = msgspec.json.Encoder().encode


def recorded_outline(plan: Plan) -> tuple[Outline, tuple[int, int], str | None]:
    """Return what :func:`outline_of` does, in the shorter form where there is one: see :func:`written_out`."""
    listing = plan.listing
    if not listing or plan.exclusions or plan.scores:
        return outline_of(plan)
    if plan.entries is listing and not plan.intents and not plan.is_sticky and not plan.warnings:  # nearly always
        return _AS_LISTED[plan.strategy], _NOTHING_CUT, None
    intents = [(intent.scope, intent.kind, intent.value, intent.is_at_end) for intent in plan.intents]
    warnings = list(plan.warnings)
    moved = [
        (place, _numbers(entry, listing[place]))
        for place, entry in enumerate(plan.entries)
        if entry is not listing[place]
    ]
    return (
        Outline(plan.strategy, _EMPTY, _EMPTY, _EMPTY, intents, plan.is_sticky, warnings, True, moved),
        _NOTHING_CUT,
        None,
    )


_AS_LISTED: Final = {strategy: Outline(strategy, is_listed=True) for strategy in Strategy}


def _numbers(entry: Entry, listed: Entry) -> list[int]:
    numbers = {seat.account.id: number for number, seat in enumerate(listed.seats)}
    return [numbers[seat.account.id] for seat in entry.seats]


def written_out(decision: Decision, grounds: Sequence[Ground]) -> Decision:
    """Return a decision whose outlines name their places.

    Raises:
        ValueError: there are no grounds to find them in.
    """
    if not any(planned.outline.is_listed for planned in decision.rounds):
        return decision
    rounds = [_written_out(planned, grounds) if planned.outline.is_listed else planned for planned in decision.rounds]
    return msgspec.structs.replace(decision, rounds=rounds)


def _written_out(planned: Round, grounds: Sequence[Ground]) -> Round:
    if planned.ground is None or planned.ground >= len(grounds):
        raise ValueError("The decision record has lost its ground.")
    block, moved = grounds[planned.ground].block, dict(planned.outline.moved)
    waits = block.strategy is Strategy.PRIORITY
    places = []
    for number, step in enumerate(block.steps):
        if step.option is None:
            raise ValueError("The decision record has another ground.")
        accounts = [account.id for account in step.option.accounts]
        if number in moved:
            accounts = [accounts[place] for place in moved[number]]
        places.append(Place(step.option.name, step.id, waits, accounts))
    outline = msgspec.structs.replace(planned.outline, places=places, is_listed=False, moved=_EMPTY)
    return msgspec.structs.replace(planned, outline=outline)


def outline_of(plan: Plan) -> tuple[Outline, tuple[int, int], str | None]:
    """Return a plan as a record keeps it, how many candidates and exclusions did not fit, and a digest if any did."""
    entries, exclusions, scores, intents = plan.entries, plan.exclusions, plan.scores, plan.intents
    whole = Outline(
        plan.strategy,
        [_place(entry) for entry in entries],
        [_exclusion(exclusion) for exclusion in exclusions] if exclusions else _EMPTY,
        [(scored.target, scored.score, scored.factors) for scored in scores] if scores else _EMPTY,
        [(intent.scope, intent.kind, intent.value, intent.is_at_end) for intent in intents] if intents else _EMPTY,
        plan.is_sticky,
        list(plan.warnings) if plan.warnings else _EMPTY,
    )
    if len(exclusions) <= MOST_EXCLUSIONS and len(scores) <= MOST_CANDIDATES:
        candidates = len(entries)
        for entry in entries:
            candidates += len(entry.seats) - 1
        if candidates <= MOST_CANDIDATES:
            return whole, _NOTHING_CUT, None
    return _shortened(whole)


_EMPTY: Final[list[Any]] = []
_NOTHING_CUT: Final = (0, 0)


def _place(entry: Entry) -> Place:
    option, step_id, waits = entry.option.name, entry.step_id, entry.waits_when_paced
    seats = entry.seats
    if len(seats) == 1 and not seats[0].probes:
        return Place(option, step_id, waits, [seats[0].account.id])
    accounts = [seat.account.id for seat in seats]
    probes = {seat.account.id: [probe.scope for probe in seat.probes] for seat in seats if seat.probes}
    return Place(option, step_id, waits, accounts, probes) if probes else Place(option, step_id, waits, accounts)


def _exclusion(exclusion: Exclusion) -> tuple[str, str, str | None, float | None, str | None]:
    return (exclusion.target, exclusion.reason, exclusion.connection_id, exclusion.until, exclusion.detail)


def _shortened(whole: Outline) -> tuple[Outline, tuple[int, int], str]:
    candidates = sum(len(place.accounts) for place in whole.places)
    left = MOST_CANDIDATES
    places: list[Place] = []
    for place in whole.places:
        if left <= 0:
            break
        places.append(
            place if len(place.accounts) <= left else msgspec.structs.replace(place, accounts=place.accounts[:left])
        )
        left -= len(place.accounts)
    short = msgspec.structs.replace(
        whole, places=places, exclusions=whole.exclusions[:MOST_EXCLUSIONS], scores=whole.scores[:MOST_CANDIDATES]
    )
    cut = (max(0, candidates - MOST_CANDIDATES), max(0, len(whole.exclusions) - MOST_EXCLUSIONS))
    return short, cut, sha256(_encode(whole)).hexdigest()[:32]


# --- grounds -------------------------------------------------------------------------------------------------------


class _StepOf(msgspec.Struct, frozen=True, array_like=True, gc=False):
    facts: Step
    option: int | None = None
    block: _BlockOf | None = None


class _BlockOf(msgspec.Struct, frozen=True, array_like=True, gc=False):
    facts: Block
    steps: list[_StepOf]


class _GroundOf(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    block: _BlockOf
    options: list[tuple[Option, int]]
    """Each with the number of its pool."""
    pools: list[list[int]]
    """Accounts by their numbers: options of one provider mostly share them all."""
    accounts: list[Account]
    rules: AccountRules = AccountRules()


def _shape(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a dataclass with their defaults."""
    return tuple((field.name, _default(field)) for field in fields(kind))


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


_SHAPES: Final = {kind: _shape(kind) for kind in (Block, Step, Option, Account, Rates, ComboConfig, AccountRules)}


def facts(value: Any, without: tuple[str, ...] = ()) -> Any:
    """Return a value of `routing/` as JSON knows it, fields that have their default left out."""
    shape = _SHAPES.get(type(value))
    if shape is not None:
        return {
            name: facts(own)
            for name, default in shape
            if (own := getattr(value, name)) is not default and own != default and name not in without
        }
    match value:
        case Enum():
            return value.value
        case str() | int() | float() | None:
            return value
        case frozenset():
            return sorted(value)
        case tuple() | list():
            return [facts(item) for item in value]
        case Mapping():
            return {key: facts(item) for key, item in value.items()}
        case _:
            raise TypeError(type(value).__name__)


class Encoded:
    """Encodes grounds; what it has encoded before it knows by identity, so that nothing is walked through twice."""

    def __init__(self, *, most: int = 4096) -> None:
        """`most` bounds how many options, accounts and pools are remembered of each."""
        self._most = most
        self._pieces: dict[int, tuple[Any, Any]] = {}

    def ground(self, block: Block, rules: AccountRules) -> bytes:
        """Return the JSON of a ground."""
        table = _Table(self)
        steps = table.block(block)
        document = {"block": steps, "options": table.options, "pools": table.pools, "accounts": table.accounts}
        if rules != AccountRules():
            document["rules"] = facts(rules)
        return _encode(document)

    def forget(self) -> None:
        """Let go of everything: the configuration has changed."""
        self._pieces.clear()

    def option(self, option: Option) -> msgspec.Raw:
        """Return the JSON of an option without its accounts."""
        found: msgspec.Raw | None = self._known(option)
        return found or self._learned(option, msgspec.Raw(_encode(facts(option, ("accounts", "handles")))))

    def account(self, account: Account) -> msgspec.Raw:
        """Return the JSON of an account."""
        found: msgspec.Raw | None = self._known(account)
        return found or self._learned(account, msgspec.Raw(_encode(facts(account))))

    def _known(self, value: Any) -> Any:
        entry = self._pieces.get(id(value))
        return entry[1] if entry is not None and entry[0] is value else None

    def _learned(self, value: Any, encoded: msgspec.Raw) -> msgspec.Raw:
        if len(self._pieces) >= self._most:
            self._pieces.clear()
        self._pieces[id(value)] = (value, encoded)  # the value is held, so that nothing else gets its identity
        return encoded


class _Table:
    """Numbers options, pools and accounts while a block is walked through."""

    def __init__(self, encoded: Encoded) -> None:
        self.options: list[tuple[msgspec.Raw, int]] = []
        self.pools: list[list[int]] = []
        self.accounts: list[msgspec.Raw] = []
        self._encoded = encoded
        self._option_numbers: dict[int, int] = {}
        self._pool_numbers: dict[tuple[int, ...], int] = {}
        self._account_numbers: dict[str, int] = {}

    def block(self, block: Block) -> list[Any]:
        steps = [
            [
                facts(step, ("option", "block")),
                None if step.option is None else self._option(step.option),
                None if step.block is None else self.block(step.block),
            ]
            for step in block.steps
        ]
        return [{**facts(block, ("steps",)), "steps": []}, steps]

    def _option(self, option: Option) -> int:
        number = self._option_numbers.get(id(option))
        if number is None:
            number = self._option_numbers[id(option)] = len(self.options)
            self.options.append((self._encoded.option(option), self._pool(option.accounts)))
        return number

    def _pool(self, accounts: tuple[Account, ...]) -> int:
        numbers = tuple(self._account(account) for account in accounts)
        found = self._pool_numbers.get(numbers)
        if found is None:
            found = self._pool_numbers[numbers] = len(self.pools)
            self.pools.append(list(numbers))
        return found

    def _account(self, account: Account) -> int:
        number = self._account_numbers.get(account.id)
        if number is None:
            number = self._account_numbers[account.id] = len(self.accounts)
            self.accounts.append(self._encoded.account(account))
        return number


_decode_ground: Final = msgspec.json.Decoder(_GroundOf).decode


def ground_from(encoded: bytes) -> Ground:
    """Return the ground that :meth:`Encoded.ground` encoded.

    Raises:
        ValueError: it is none.
    """
    given = _decode_ground(encoded)
    pools = [tuple(given.accounts[number] for number in pool) for pool in given.pools]
    options = [replace(option, accounts=pools[pool]) for option, pool in given.options]
    return Ground(_block(given.block, options), given.rules)


def _block(given: _BlockOf, options: Sequence[Option]) -> Block:
    steps = tuple(
        replace(
            step.facts,
            option=None if step.option is None else options[step.option],
            block=None if step.block is None else _block(step.block, options),
        )
        for step in given.steps
    )
    return replace(given.facts, steps=steps)


def content_hash(encoded: bytes) -> str:
    """Return what identifies a policy by its content."""
    return sha256(encoded).hexdigest()[:16]


# --- bodies --------------------------------------------------------------------------------------------------------

_split: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
decision_from: Final = msgspec.json.Decoder(Decision).decode
"""Return the decision that some JSON holds; raises ValueError for other JSON."""


def body_of(decision: bytes, grounds: Sequence[bytes]) -> bytes:
    """Return the body of a record from its encoded parts."""
    if len(grounds) == 1:
        return b"[%b,%b]" % (decision, grounds[0])
    return b"[%d,%b]" % (len(grounds), b",".join((decision, *grounds)))


def parts_of(body: bytes) -> tuple[bytes, list[bytes]]:
    """Return the encoded decision of a body, and its encoded grounds.

    Raises:
        ValueError: it is no body.
    """
    parts = [bytes(part) for part in _split(body)]
    if parts and parts[0].isdigit():
        del parts[0]
    if not parts:
        raise ValueError("The decision record is empty.")
    return parts[0], parts[1:]


def record_from(body: bytes) -> Record:
    """Return the record of a body.

    Raises:
        ValueError: it is no body.
    """
    encoded, rest = parts_of(body)
    grounds = tuple(ground_from(ground) for ground in rest)
    return Record(written_out(decision_from(encoded), grounds), grounds)


def reduced(body: bytes) -> bytes:
    """Return the encoded decision of a body, to be kept without its grounds and the numbers that only replays need."""
    whole = record_from(body).decision
    rounds = [
        msgspec.structs.replace(planned, ground=None, answers=Answers(), forbidden={}) for planned in whole.rounds
    ]
    return _encode(msgspec.structs.replace(whole, rounds=rounds, is_reduced=True))
