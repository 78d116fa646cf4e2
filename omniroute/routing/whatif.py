"""What another policy would have done with recorded requests. Nothing is sent, nothing is kept.

Theory. Each record is planned again, under the changed policy, with the numbers that were true when it came. What a
strategy keeps between requests (positions, decks, where a session was served) evolves inside the simulation, request by
request, for what the policy changes; what it leaves alone is as it was recorded. An attempt at a candidate that really
was tried gets its recorded outcome. For one that was not, the success ratio of that moment is what is expected, and
everything that rests on such an expectation is counted apart, as *assumed*. How much busier or idler accounts would
have been is not simulated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from msgspec import structs

from omniroute.routing.asked import AccountRules
from omniroute.routing.config import KEYS
from omniroute.routing.decision import Answers, Ground, Outline, Record, Result, Round
from omniroute.routing.decision_document import options_of
from omniroute.routing.failures import FailureClass
from omniroute.routing.options import AccountStrategy, Block, Features, Option, Strategy
from omniroute.routing.plan import Plan
from omniroute.routing.planning import plan
from omniroute.routing.prices import NANO, estimate_nano
from omniroute.routing.replay import Kept, asked_of
from omniroute.routing.strategies import POSITION
from omniroute.routing.view import Binding, Breaker, Figures, Load, Rest

MOST_SAMPLES: Final = 20
_LIKELY: Final = 0.5
_STOPS: Final = frozenset({FailureClass.CALLER_FAULT.value, FailureClass.CANCELLED.value})
_LAST_GOOD_CHANNEL: Final = "auto/lkgp"


# --- the policy ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What is different. Fields that are left alone change nothing.

    Attributes:
        combos: blocks of draft combos by the name that requests ask for.
        strategy, config: of every combo and channel; `config` under its public names.
        account_strategy, sticky_limit: how accounts are ordered, at every provider.
        rest_factor: rests that the gateway computed itself were this much as long; a provider's own hints stand.
        ignores_breakers: no provider is left out for its failures.
    """

    combos: Mapping[str, Block] = field(default_factory=dict)
    strategy: Strategy | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    account_strategy: AccountStrategy | None = None
    sticky_limit: int | None = None
    rest_factor: float = 1.0
    ignores_breakers: bool = False

    def ground(self, ground: Ground) -> Ground:
        """Return what requests would have stood on."""
        return Ground(self._block(ground.block), self._rules(ground.rules))

    def _block(self, block: Block) -> Block:
        if not (block.scope or block.channel):
            return block  # a plain model name: there is nothing to order
        block = self.combos.get(block.name, block)
        changes: dict[str, Any] = {}
        if self.strategy is not None:
            changes["strategy"] = self.strategy
            if self.strategy is Strategy.AUTO and not block.channel:
                changes["channel"] = "auto"
        if self.config:
            values = {KEYS[name].attribute: value for name, value in self.config.items()}
            changes["config"] = replace(block.config, **values)
        return replace(block, **changes) if changes else block

    def _rules(self, rules: AccountRules) -> AccountRules:
        if self.account_strategy is None and self.sticky_limit is None:
            return rules
        return replace(
            rules,
            strategy=self.account_strategy or rules.strategy,
            sticky_limit=self.sticky_limit or rules.sticky_limit,
            by_provider={},
        )


# --- the result ----------------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """A target with one connection."""

    option: str
    account: str


@dataclass(slots=True)
class Spent:
    """What a connection served."""

    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Side:
    """How it went, or would have gone. Costs in nano-USD."""

    failures: int = 0
    cost_nano: int = 0
    unpriced: int = 0
    ttfts_ms: list[float] = field(default_factory=list)
    spent: dict[str, Spent] = field(default_factory=dict)

    def ttft(self, share: float) -> float | None:
        """Return the time to the first content that a share of the requests did not exceed."""
        times = sorted(self.ttfts_ms)
        return times[min(len(times) - 1, int(share * len(times)))] if times else None


@dataclass(frozen=True, slots=True)
class Sample:
    """A request that would have gone elsewhere, and why."""

    request_id: str
    before: Candidate | None
    after: Candidate | None
    why: str
    is_assumed: bool


@dataclass(slots=True)
class Comparison:
    """Recorded requests under their own policy and under another one."""

    requests: int = 0
    skipped: int = 0
    """Records that were too large to be kept whole."""
    identical: int = 0
    changed_head: int = 0
    changed_final: int = 0
    assumed: int = 0
    """Requests whose outcome rests on an expectation."""
    failures_assumed: float = 0.0
    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    samples: list[Sample] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it under the names of the HTTP API."""
        return {
            "requests": self.requests,
            "skipped": self.skipped,
            "identical": self.identical,
            "changedHead": self.changed_head,
            "changedFinal": self.changed_final,
            "assumed": self.assumed,
            "failuresBefore": {"known": self.before.failures, "assumed": 0},
            "failuresAfter": {"known": self.after.failures, "assumed": round(self.failures_assumed, 3)},
            "costBefore": self.before.cost_nano / NANO,
            "costAfter": self.after.cost_nano / NANO,
            "unpricedBefore": self.before.unpriced,
            "unpricedAfter": self.after.unpriced,
            "ttftP50MsBefore": self.before.ttft(0.5),
            "ttftP50MsAfter": self.after.ttft(0.5),
            "ttftP95MsBefore": self.before.ttft(0.95),
            "ttftP95MsAfter": self.after.ttft(0.95),
            "quotaSpentBefore": _spent(self.before),
            "quotaSpentAfter": _spent(self.after),
            "samples": [
                {
                    "requestId": sample.request_id,
                    "before": _named(sample.before),
                    "after": _named(sample.after),
                    "why": sample.why,
                    "assumed": sample.is_assumed,
                }
                for sample in self.samples
            ],
        }


def _spent(side: Side) -> dict[str, dict[str, int]]:
    return {name: {"requests": one.requests, "tokens": one.tokens} for name, one in sorted(side.spent.items())}


def _named(candidate: Candidate | None) -> dict[str, str] | None:
    return None if candidate is None else {"target": candidate.option, "connection": candidate.account}


# --- the simulation ------------------------------------------------------------------------------------------------


class Simulation:
    """Takes records in the order of time."""

    def __init__(self, policy: Policy) -> None:
        self.result = Comparison()
        self._policy = policy
        self._state = _State()
        self._changed: dict[int, tuple[Ground, Ground | None]] = {}

    def add(self, record: Record) -> None:
        """Let a request come."""
        ground = record.ground
        if ground is None:
            self.result.skipped += 1
            return
        self.result.requests += 1
        planned = record.decision.rounds[0]
        before = _Before(record)
        before.count(self.result.before)
        view = _Simulated(planned, self._state, self._policy)
        other = self._ground(ground)
        if other is None and not view.is_changed:
            self.result.identical += 1
            before.count(self.result.after)
            return
        made = plan((other or ground).block, asked_of(planned, other or ground, view))
        outcome = _walk(made, before, view)
        self._state.follow(made, (other or ground).block, planned, outcome, before)
        self._compare(record, made, before, outcome, view)

    def _ground(self, ground: Ground) -> Ground | None:
        """Return what the policy makes of a ground; None where it leaves it alone."""
        known = self._changed.get(id(ground))
        if known is None or known[0] is not ground:
            other = self._policy.ground(ground)
            known = self._changed[id(ground)] = (ground, None if other == ground else other)
        return known[1]

    def _compare(self, record: Record, made: Plan, before: _Before, outcome: _Outcome, view: _Simulated) -> None:
        result, order = self.result, list(_candidates_of(made))
        head = order[0] if order else None
        if order == before.order:
            result.identical += 1
        is_other_head = head != before.head
        is_other_final = outcome.final != before.final and not before.is_open
        result.changed_head += is_other_head
        result.changed_final += is_other_final
        result.assumed += outcome.is_assumed
        if outcome.is_assumed:
            result.failures_assumed += outcome.failure
        elif not before.is_open:
            result.after.failures += round(outcome.failure)
        _settle(result.after, made, before, outcome, view)
        if (is_other_head or is_other_final) and len(result.samples) < MOST_SAMPLES:
            why = _why(record.decision.rounds[0].outline, made, before, outcome)
            shown = (before.final, outcome.final) if is_other_final else (before.head, head)
            result.samples.append(Sample(record.decision.request_id, *shown, why, outcome.is_assumed))


class _Before:
    """How a request really went."""

    def __init__(self, record: Record) -> None:
        rounds = record.decision.rounds
        self.order = [
            Candidate(place.option, account) for place in rounds[0].outline.places for account in place.accounts
        ]
        self.chained = [
            Candidate(place.option, account)
            for planned in rounds[1:]
            for place in planned.outline.places
            for account in place.accounts
        ]
        self.tried = {Candidate(one.option, one.account): one for one in record.decision.attempts}
        served = [one for one, tried in self.tried.items() if tried.has_served]
        self.head = self.order[0] if self.order else None
        self.final = served[-1] if served else None
        self.result: Result | None = record.decision.result
        self.options = {option.name: option for ground in record.grounds for option in options_of(ground.block)}
        self.features = rounds[0].features
        self.cost_nano = self._cost()

    @property
    def is_open(self) -> bool:
        """Whether the client left before anybody answered: nobody knows how it would have ended."""
        return self.final is None and self.result is not None and self.result.outcome == "cancelled"

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer, as reported."""
        return 0 if self.result is None else (self.result.tokens_in or 0) + (self.result.tokens_out or 0)

    def count(self, side: Side) -> None:
        """Add it to one side of the comparison."""
        if self.final is None:
            side.failures += not self.is_open
        else:
            if self.cost_nano is None:
                side.unpriced += 1
            else:
                side.cost_nano += self.cost_nano
            if self.result is not None and self.result.first_content_ms is not None:
                side.ttfts_ms.append(self.result.first_content_ms)
        for one in self.tried:
            spent = side.spent.setdefault(one.account, Spent())
            spent.requests += 1
            spent.tokens += self.tokens if one == self.final else 0

    def _cost(self) -> int | None:
        if self.final is None or self.result is None:
            return None
        if self.result.cost_nano_usd is not None:
            return self.result.cost_nano_usd
        option = self.options.get(self.final.option)
        return None if option is None else _price(option, self.features, self.result)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a request would have gone: who served, and how likely it is that nobody did."""

    final: Candidate | None
    failure: float
    is_assumed: bool
    attempts: tuple[Candidate, ...]


def _walk(made: Plan, before: _Before, view: _Simulated) -> _Outcome:
    """Try the candidates of a plan in order, in thought."""
    reach, is_assumed, final = 1.0, False, None
    attempts: list[Candidate] = []
    most = made.entries[0].config.max_attempts if made.entries else 1
    for candidate in (*_candidates_of(made), *before.chained):
        if len(attempts) >= most:
            break
        attempts.append(candidate)
        tried = before.tried.get(candidate)
        if tried is None:
            is_assumed = True
            likely = view.figures(candidate.option).success
            reach *= 1 - likely
            if likely >= _LIKELY:
                final = candidate
                break
        elif tried.has_served:
            final, reach = candidate, 0.0
            break
        elif tried.failure_class in _STOPS:
            break
    return _Outcome(final, reach, is_assumed, tuple(attempts))


def _settle(side: Side, made: Plan, before: _Before, outcome: _Outcome, view: _Simulated) -> None:
    """Add to the other side what a request would have cost and taken; failures are counted by the caller."""
    for one in outcome.attempts:
        spent = side.spent.setdefault(one.account, Spent())
        spent.requests += 1
        spent.tokens += before.tokens if one == outcome.final else 0
    if outcome.final is None:
        return
    if outcome.final == before.final:
        cost, ttft = before.cost_nano, None if before.result is None else before.result.first_content_ms
    else:
        option = next((e.option for e in made.entries if e.option.name == outcome.final.option), None)
        option = option or before.options.get(outcome.final.option)
        cost = None if option is None else _price(option, before.features, before.result)
        ttft = view.figures(outcome.final.option).ttft_p50
    if cost is None:
        side.unpriced += 1
    else:
        side.cost_nano += cost
    if ttft is not None:
        side.ttfts_ms.append(ttft)


def _price(option: Option, features: Features, result: Result | None) -> int | None:
    """Return what a request costs at an option: with the tokens that were reported, else those that were estimated."""
    used_in = None if result is None else result.tokens_in
    used_out = None if result is None else result.tokens_out
    return estimate_nano(
        option,
        structs.replace(
            features,
            estimated_input=features.estimated_input if used_in is None else used_in,
            max_output=features.max_output if used_out is None else None,
        ),
        Figures(output_mean=None if used_out is None else float(used_out)),
    )


def _why(recorded: Outline, made: Plan, before: _Before, outcome: _Outcome) -> str:
    """Say in a sentence what made the difference."""
    order = list(_candidates_of(made))
    if not order:
        return "Nothing may serve it under the other policy."
    if before.head is None:
        return f"{order[0].option} may serve it under the other policy; nothing could before."
    head = before.head
    excluded = {(one.target, one.connection_id): one.reason for one in made.exclusions}
    reason = excluded.get((head.option, head.account)) or excluded.get((head.option, None))
    if head not in order and reason is not None:
        return f"{head.option} is left out: {reason}."
    if head not in order:
        return f"{head.option} is not part of the other policy."
    was_out = {(target, connection): why for target, why, connection, _, _ in recorded.exclusions}
    reason = was_out.get((order[0].option, order[0].account)) or was_out.get((order[0].option, None))
    if order[0] != head and reason is not None:
        return f"{order[0].option} was left out then: {reason}."
    if order[0] != head:
        return f"{made.strategy.value} puts {order[0].option} first."
    served = "nobody" if outcome.final is None else outcome.final.option
    return f"The order behind the first is another one; {served} would have served."


def _candidates_of(made: Plan) -> Iterator[Candidate]:
    return (Candidate(entry.option.name, seat.account.id) for entry in made.entries for seat in entry.seats)


# --- what evolves --------------------------------------------------------------------------------------------------


class _State:
    """What strategies keep from request to request, inside the simulation."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, str], Any] = {}
        self.last_good: dict[tuple[str, str], str] = {}
        self.bindings: dict[tuple[str, str], Binding] = {}
        self.last_used: dict[str, float] = {}
        """When an account last served, in the simulation."""
        self.uses = _Uses()
        self.real_uses = _Uses()

    def follow(self, made: Plan, block: Block, planned: Round, outcome: _Outcome, before: _Before) -> None:
        """Keep what a request leaves behind."""
        for intent in made.intents:
            self._keep(intent.scope, intent.kind, intent.value, planned.answers)
        scope = _LAST_GOOD_CHANNEL if block.channel == _LAST_GOOD_CHANNEL else block.scope
        final = outcome.final
        if final is None:
            return
        self.last_used[final.account] = planned.now
        session = planned.features.session
        entry = next((one for one in made.entries if one.option.name == final.option), None)
        if scope and entry is not None:
            self.last_good[scope, session or ""] = self.last_good[scope, ""] = final.option
            if block.channel == _LAST_GOOD_CHANNEL:
                self.last_good[scope, f"key:{planned.features.key_id}"] = final.option
            self.uses.add((entry.scope, entry.step_id), planned.now)
        if session is not None and entry is not None:
            self.bindings[session, entry.option.provider] = Binding(final.account, final.option)
        place = None if before.final is None else _place_of(planned.outline, before.final.option)
        if scope and place is not None:
            self.real_uses.add((scope, place), planned.now)

    def _keep(self, scope: str, kind: str, value: Any, answers: Answers) -> None:
        if kind != POSITION:
            self.counters[scope, kind] = value
            return
        known = self.counters.get((scope, kind))
        if known is None:
            known = next((v for s, k, v in answers.counters if (s, k) == (scope, kind)), 0)
        self.counters[scope, kind] = (known if isinstance(known, int) else 0) + value


def _place_of(outline: Outline, option: str) -> str | None:
    return next((place.step_id for place in outline.places if place.option == option), None)


class _Uses:
    """When steps were used, by scope and step."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], list[float]] = {}

    def add(self, key: tuple[str, str], at: float) -> None:
        self._times.setdefault(key, []).append(at)

    def since(self, key: tuple[str, str], moment: float) -> int:
        times = self._times.get(key)
        return 0 if times is None else len(times) - bisect_right(times, moment)


class _Simulated(Kept):
    """The view of a record, with what has evolved inside the simulation, and with the rests of the other policy."""

    def __init__(self, planned: Round, state: _State, policy: Policy) -> None:
        super().__init__(planned.answers)
        self._state = state
        self._policy = policy
        self._now = planned.now
        # Under another strategy nobody asked how often steps had been used: all that is known is the simulation's own.
        self._has_uses = planned.outline.strategy == Strategy.LEAST_USED or bool(planned.answers.uses)
        self.is_changed = self._is_changed(planned.answers)

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        return self._shortened(super().rest(account_id, rest_scope))

    def lockout(self, account_id: str, model: str) -> Rest | None:
        return self._shortened(super().lockout(account_id, model))

    def breaker(self, provider: str) -> Breaker:
        return Breaker() if self._policy.ignores_breakers else super().breaker(provider)

    def load(self, account_id: str) -> Load:
        known, last_used_at = super().load(account_id), self._state.last_used.get(account_id, 0.0)
        return structs.replace(known, last_used_at=last_used_at) if last_used_at > known.last_used_at else known

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        key, since = (scope, step_id), self._now - window_min * 60
        used = super().uses(scope, step_id, window_min) + self._state.uses.since(key, since)
        return max(0, used - self._state.real_uses.since(key, since)) if self._has_uses else used

    def counter(self, scope: str, kind: str) -> Any:
        found = self._state.counters.get((scope, kind))
        return super().counter(scope, kind) if found is None else found

    def binding(self, session: str, provider: str) -> Binding | None:
        return self._state.bindings.get((session, provider)) or super().binding(session, provider)

    def last_good(self, scope: str, session: str) -> str | None:
        return self._state.last_good.get((scope, session)) or super().last_good(scope, session)

    def _is_changed(self, answers: Answers) -> bool:
        if self._policy.ignores_breakers and answers.breakers:
            return True
        rests: Sequence[Rest] = [*answers.rests.values(), *(rest for _, _, rest in answers.lockouts)]
        return any(self._shortened(rest) != rest for rest in rests)

    def _shortened(self, rest: Rest | None) -> Rest | None:
        """Return a rest as the other policy has it; only a time that we computed ourselves is ours to change."""
        factor = self._policy.rest_factor
        if rest is None or factor >= 1 or rest.until is None or rest.since is None or rest.hint_source is not None:
            return rest
        until = rest.since + (rest.until - rest.since) * factor
        return None if until <= self._now else structs.replace(rest, until=until)
