"""Makes decision records while requests run. On the path of every request: no walking through what was seen before.

noted = Noted(view, permits)
asked = Asked(features, noted, now, chance, rules, noted.permits)
plan = planning.plan(block, asked)
draft = recorder.begin(request_id, block, asked, plan, trace=…)
draft.attempt(…)                      # after each attempt
record.decision = draft.finish(record, target=…, is_committed=…)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from omniroute.records import DecisionRecord, RequestRecord
from omniroute.routing.asked import AccountRules, Asked
from omniroute.routing.decision import (
    VERSION,
    Answers,
    Decision,
    Encoded,
    Result,
    Round,
    Try,
    body_of,
    content_hash,
    recorded_outline,
)
from omniroute.routing.failures import Failure
from omniroute.routing.options import Account, Block, Option
from omniroute.routing.plan import Plan
from omniroute.routing.view import CLOSED, IDLE, UNKNOWN, Binding, Breaker, Figures, Load, Rest, View

Permits = Callable[[Option, Account], bool]
Trace = Sequence[tuple[str, str, str | None]]
"""Stage, what was looked up, what was found."""

_MOST_BLOCKS: Final = 512
_MOST_BYTES: Final = 8 << 20
"""Of grounds that are remembered: the pool of a channel takes some ten thousand each."""
_EMPTY: Final[list[Any]] = []
_encode: Final = msgspec.json.Encoder().encode


class Noted:
    """A view, and what a key permits, that remember what they answered, except that nothing is known."""

    __slots__ = ("_ask", "_told", "_view", "calm", "forbidden", "permits")

    def __init__(self, view: View, permits: Permits | None = None) -> None:
        self._view = view
        self.calm = view.calm  # it only says of whom nothing is known
        self._ask = permits
        self.permits: Permits | None = None if permits is None else self._permits
        """What to give as :attr:`Asked.permits`."""
        self.forbidden: dict[str, list[str]] = {}
        self._told: dict[str, dict[Any, Any]] = {}
        """What was answered, by the names of :class:`Answers`: mostly nothing, so that there is nothing to be made."""

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """See :class:`View`."""
        found = self._view.rest(account_id, rest_scope)
        if found is not None:
            self._note("rests", account_id, found)
        return found

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """See :class:`View`."""
        found = self._view.lockout(account_id, model)
        if found is not None:
            self._note("lockouts", (account_id, model), found)
        return found

    def breaker(self, provider: str) -> Breaker:
        """See :class:`View`."""
        found = self._view.breaker(provider)
        if found is not CLOSED:
            self._note("breakers", provider, found)
        return found

    def load(self, account_id: str) -> Load:
        """See :class:`View`."""
        found = self._view.load(account_id)
        if found is not IDLE:
            self._note("loads", account_id, found)
        return found

    def figures(self, option_name: str) -> Figures:
        """See :class:`View`."""
        found = self._view.figures(option_name)
        if found is not UNKNOWN:
            self._note("figures", option_name, found)
        return found

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """See :class:`View`."""
        found = self._view.uses(scope, step_id, window_min)
        if found:
            self._note("uses", (scope, step_id, window_min), found)
        return found

    def counter(self, scope: str, kind: str) -> Any:
        """See :class:`View`."""
        found = self._view.counter(scope, kind)
        if found is not None:
            self._note("counters", (scope, kind), found)
        return found

    def binding(self, session: str, provider: str) -> Binding | None:
        """See :class:`View`."""
        found = self._view.binding(session, provider)
        if found is not None:
            self._note("bindings", (session, provider), found)
        return found

    def last_good(self, scope: str, session: str) -> str | None:
        """See :class:`View`."""
        found = self._view.last_good(scope, session)
        if found is not None:
            self._note("last_good", (scope, session), found)
        return found

    def answers(self) -> Answers:
        """Return what was answered so far, to be encoded."""
        if not self._told:
            return _NO_ANSWERS
        told: dict[str, Any] = {}
        for kind, values in self._told.items():
            told[kind] = values if kind in _BY_ID else [(*key, value) for key, value in values.items()]
        return Answers(**told)

    def _note(self, kind: str, key: object, answer: object) -> None:
        values = self._told.get(kind)
        if values is None:
            values = self._told[kind] = {}
        values[key] = answer

    def _permits(self, option: Option, account: Account) -> bool:
        assert self._ask is not None  # noqa: S101 - it would not be given out
        if self._ask(option, account):
            return True
        self.forbidden.setdefault(option.name, []).append(account.id)
        return False


_NO_ANSWERS: Final = Answers()
_BY_ID: Final = frozenset({"rests", "breakers", "loads", "figures"})
"""Answers that one id leads to; the others are lists of keys with their answers."""


class _Known:
    """A block's ground, and what holds its identity."""

    __slots__ = ("block", "encoded", "policy_hash", "rules")

    def __init__(self, block: Block, rules: AccountRules, encoded: bytes) -> None:
        self.block = block
        self.rules = rules
        self.encoded = encoded
        self.policy_hash = block.policy_hash or content_hash(encoded)


class Recorder:
    """Begins the records of one worker, and remembers the grounds that requests stand on."""

    def __init__(self, *, gateway_version: str, most_blocks: int = _MOST_BLOCKS) -> None:
        self.gateway_version = gateway_version
        self._most_blocks = most_blocks
        self._encoded = Encoded()
        self._known: dict[int, _Known] = {}
        self._known_bytes = 0
        self._config_version = 0

    def begin(
        self,
        request_id: str,
        block: Block,
        asked: Asked,
        plan: Plan,
        *,
        trace: Trace = (),
        config_version: int = 0,
        started: float = 0.0,
    ) -> Draft:
        """Return the record of a request that was just planned; `started` is its beginning on the monotonic clock.

        The view of `asked` is a :class:`Noted`, else the request cannot be decided again.
        """
        if config_version != self._config_version:
            self._config_version = config_version
            self._forget()
            self._encoded.forget()
        draft = Draft(self, request_id, config_version=config_version, started=started, trace=trace)
        draft.add_round(block, asked, plan)
        return draft

    def known(self, block: Block, rules: AccountRules) -> _Known:
        """Return the ground of a block, encoded."""
        known = self._known.get(id(block))
        if known is not None and known.block is block and known.rules is rules:
            return known
        if len(self._known) >= self._most_blocks or self._known_bytes >= _MOST_BYTES:
            self._forget()
        known = self._known[id(block)] = _Known(block, rules, self._encoded.ground(block, rules))
        self._known_bytes += len(known.encoded)
        return known

    def _forget(self) -> None:
        self._known.clear()
        self._known_bytes = 0


class Draft:
    """The record of one request while it runs."""

    __slots__ = (
        "_attempts",
        "_bound",
        "_chain",
        "_config_version",
        "_continued_at",
        "_grounds",
        "_has_moved",
        "_policy_hash",
        "_recorder",
        "_request_id",
        "_rounds",
        "_seed",
        "_started",
        "_trace",
        "_waits",
    )

    def __init__(
        self,
        recorder: Recorder,
        request_id: str,
        *,
        config_version: int,
        started: float,
        trace: Trace,
    ) -> None:
        self._recorder = recorder
        self._request_id = request_id
        self._config_version = config_version
        self._started = started
        self._trace = trace
        self._rounds: list[Round] = []
        self._grounds: list[bytes] = []
        self._attempts: list[Try] = []
        self._waits: list[tuple[str, float]] = []
        self._chain: str | None = None
        self._continued_at: int | None = None
        self._bound: str | None = None
        self._has_moved = False
        self._policy_hash = ""
        self._seed = 0

    def add_round(self, block: Block, asked: Asked, plan: Plan) -> None:
        """Note a planning. It is encoded when the request ends: its route holds these values until then anyway."""
        known = self._recorder.known(block, asked.rules)
        if not self._rounds:
            self._policy_hash = known.policy_hash
            self._seed = asked.chance.seed
        view = asked.view
        outline, cut, digest = recorded_outline(plan)
        planned = Round(
            asked.now,
            asked.chance.seed,
            asked.features,
            outline,
            len(self._grounds),
            view.answers() if isinstance(view, Noted) else _NO_ANSWERS,
            view.forbidden if isinstance(view, Noted) else {},
            cut,
            digest,
        )
        self._grounds.append(known.encoded)
        self._rounds.append(planned)

    def chain(self, name: str, block: Block, asked: Asked, plan: Plan) -> None:
        """Note that a fallback chain took over, and what was planned for it; its chance must be one of its own."""
        self._chain = name
        self.add_round(block, asked, plan)

    def attempt(
        self,
        option: str,
        connection_id: str,
        *,
        started_ms: float,
        ended_ms: float,
        kind: str = "normal",
        headers_ms: float | None = None,
        content_ms: float | None = None,
        failure: Failure | None = None,
        status: int | None = None,
        intents: Sequence[str] = (),
        tokens: tuple[int | None, int | None] = (None, None),
        cost_nano_usd: int | None = None,
    ) -> None:
        """Note an attempt that ended, or whose answer began to reach the client (`failure` is None).

        `kind` is `normal`, `retry`, `hedge`, `probe` or `continuation`; `intents` are what it changed about health, a
        word each; `tokens` are those of prompt and answer.
        """
        if failure is None:
            tried = Try(
                option,
                connection_id,
                kind,
                started_ms,
                headers_ms,
                content_ms,
                ended_ms,
                status=status,
                intents=list(intents) if intents else _EMPTY,
                tokens_in=tokens[0],
                tokens_out=tokens[1],
                cost_nano_usd=cost_nano_usd,
            )
        else:
            tried = Try(
                option,
                connection_id,
                kind,
                started_ms,
                headers_ms,
                content_ms,
                ended_ms,
                failure.failure_class.value,
                failure.kind,
                failure.status if status is None else status,
                failure.provider_code,
                failure.retry_after_s,
                failure.hint_source,
                list(intents) if intents else _EMPTY,
                tokens[0],
                tokens[1],
                cost_nano_usd,
            )
        self._attempts.append(tried)

    def broke_off(
        self,
        failure: Failure,
        *,
        offset: int,
        tokens: tuple[int | None, int | None],
        cost_nano_usd: int | None = None,
    ) -> None:
        """Note that the attempt which served has broken off after so many characters, and that another one goes on."""
        self._continued_at = offset
        for place, tried in enumerate(self._attempts):
            if tried.has_served:
                self._attempts[place] = msgspec.structs.replace(
                    tried,
                    failure_class=failure.failure_class.value,
                    failure_kind=failure.kind,
                    tokens_in=tokens[0],
                    tokens_out=tokens[1],
                    cost_nano_usd=cost_nano_usd,
                )

    def wait(self, reason: str, ms: float) -> None:
        """Note that the request waited, and for what: `cooling`, `rpm_full`, `concurrency_full`, `retry`."""
        self._waits.append((reason, ms))

    def bind(self, connection_id: str, *, has_moved: bool) -> None:
        """Note which connection the session was bound to, and whether another one is bound from now on."""
        self._bound, self._has_moved = connection_id, has_moved

    def finish(self, record: RequestRecord, *, target: str | None, is_committed: bool) -> DecisionRecord:
        """Return the finished record of a settled request; `target` is the option that answered last, by name."""
        decision = Decision(
            VERSION,
            self._request_id,
            self._recorder.gateway_version,
            self._rounds,
            self._config_version,
            self._started,
            self._policy_hash,
            self._trace,  # type: ignore[arg-type]  # encoded alike
            self._attempts,
            self._waits,
            self._chain,
            self._bound,
            self._has_moved,
            Result(
                record.status,
                record.outcome,
                target,
                record.connection_id,
                is_committed,
                record.ttft_ms,
                record.duration_ms,
                record.error_code,
                record.tokens_in,
                record.tokens_out,
                record.cache_read,
                record.cost_nano_usd,
                record.cost_kind,
            ),
            continued_at=self._continued_at,
        )
        return DecisionRecord(self._policy_hash, self._seed, body_of(_encoded(decision), self._grounds))


def _encoded(value: Any) -> bytes:
    try:
        return _encode(value)
    except (ValueError, OverflowError):  # half of a surrogate pair, or a number beyond 64 bits
        return _encode(_cleaned(value))


def _cleaned(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, msgspec.Raw):
        return value
    if isinstance(value, msgspec.Struct):
        changes = {name: _cleaned(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changes)
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case int() if abs(value) > _LARGEST:
            return _LARGEST if value > 0 else -_LARGEST
        case dict():
            return {_cleaned(key): _cleaned(item) for key, item in value.items()}
        case list() | tuple():
            return [_cleaned(item) for item in value]
        case _:
            return value


_LARGEST: Final = 10**15
