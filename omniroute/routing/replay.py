"""Decide recorded requests again: the same inputs give the same plan, or something here depends on what it must not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from omniroute.routing.asked import Asked, Chance
from omniroute.routing.decision import Answers, Ground, Outline, Record, Round, outline_of
from omniroute.routing.options import Account, Option
from omniroute.routing.plan import Plan
from omniroute.routing.planning import plan
from omniroute.routing.view import CLOSED, IDLE, NOBODY, UNKNOWN, Binding, Breaker, Figures, Load, Parties, Rest

_encode: Final = msgspec.json.Encoder().encode


class Kept:
    """The view of a record: it answers as the live one did, and knows nothing of what that one was not asked."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._lockouts = {(account, model): rest for account, model, rest in answers.lockouts}
        self._uses = {(scope, step, window): number for scope, step, window, number in answers.uses}
        self._counters = {(scope, kind): value for scope, kind, value in answers.counters}
        self._bindings = {(session, provider): binding for session, provider, binding in answers.bindings}
        self._last_good = {(scope, session): name for scope, session, name in answers.last_good}

    def calm(self, parties: Parties) -> frozenset[str]:
        """See :class:`omniroute.routing.view.View`."""
        del parties
        return NOBODY

    def rest(self, account_id: str, rest_scope: str) -> Rest | None:
        """See :class:`omniroute.routing.view.View`."""
        del rest_scope  # an account has one, so that the answer under the account's own id says all
        return self._answers.rests.get(account_id)

    def lockout(self, account_id: str, model: str) -> Rest | None:
        """See :class:`omniroute.routing.view.View`."""
        return self._lockouts.get((account_id, model))

    def breaker(self, provider: str) -> Breaker:
        """See :class:`omniroute.routing.view.View`."""
        return self._answers.breakers.get(provider, CLOSED)

    def load(self, account_id: str) -> Load:
        """See :class:`omniroute.routing.view.View`."""
        return self._answers.loads.get(account_id, IDLE)

    def figures(self, option_name: str) -> Figures:
        """See :class:`omniroute.routing.view.View`."""
        return self._answers.figures.get(option_name, UNKNOWN)

    def uses(self, scope: str, step_id: str, window_min: int) -> int:
        """See :class:`omniroute.routing.view.View`."""
        return self._uses.get((scope, step_id, window_min), 0)

    def counter(self, scope: str, kind: str) -> Any:
        """See :class:`omniroute.routing.view.View`."""
        return self._counters.get((scope, kind))

    def binding(self, session: str, provider: str) -> Binding | None:
        """See :class:`omniroute.routing.view.View`."""
        return self._bindings.get((session, provider))

    def last_good(self, scope: str, session: str) -> str | None:
        """See :class:`omniroute.routing.view.View`."""
        return self._last_good.get((scope, session))


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A recorded plan, and what is planned now from the same inputs."""

    request_id: str
    policy_hash: str
    gateway_version: str
    recorded: Outline
    decided: Outline
    difference: str
    """What differs first: `order`, `exclusions`, `scores`, `intents` or `rest`."""


def is_replayable(record: Record) -> bool:
    """Say whether a record still has what deciding again needs."""
    return all(planned.ground is not None for planned in record.decision.rounds)


def asked_of(planned: Round, ground: Ground, view: Kept) -> Asked:
    """Return the question that a plan answered, with another view of it where the caller simulates."""
    forbidden = {option: frozenset(accounts) for option, accounts in planned.forbidden.items()}

    def permits(option: Option, account: Account) -> bool:
        return account.id not in forbidden.get(option.name, ())

    return Asked(
        planned.features, view, planned.now, Chance(planned.seed), ground.rules, permits if forbidden else None
    )


def redecide(record: Record, number: int = 0) -> Plan:
    """Plan a recorded request again; `number` is 0 for its own plan, 1 for that of the fallback chain behind it.

    Raises:
        ValueError: the record was too large to keep what that needs.
    """
    planned = record.decision.rounds[number]
    ground = record.ground_of(planned)
    if ground is None:
        raise ValueError("This record was too large to be kept whole and cannot be decided again.")
    return plan(ground.block, asked_of(planned, ground, Kept(planned.answers)))


def verify(record: Record) -> Mismatch | None:
    """Decide a request again and return what differs from the record; None when nothing does, bit for bit.

    Raises:
        ValueError: the record was too large to keep what that needs.
    """
    for number, planned in enumerate(record.decision.rounds):
        outline, _, digest = outline_of(redecide(record, number))
        if digest == planned.digest and _encode(outline) == _encode(planned.outline):
            continue
        decision = record.decision
        return Mismatch(
            decision.request_id,
            decision.policy_hash,
            decision.gateway_version,
            planned.outline,
            outline,
            _difference(planned.outline, outline),
        )
    return None


def _difference(recorded: Outline, decided: Outline) -> str:
    for name, field in (("order", "places"), ("exclusions",) * 2, ("scores",) * 2, ("intents",) * 2):
        if _encode(getattr(recorded, field)) != _encode(getattr(decided, field)):
            return name
    return "rest"
