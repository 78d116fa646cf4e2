"""A board of health as a store would keep it, and failures to put on it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from omniroute.routing.failures import Failure, FailureClass, Scope
from omniroute.routing.health import AttemptFailed, AttemptServed, Event, HealthRow, Key, Notice, scopes_of, transition
from omniroute.routing.options import Account, AuthClass
from omniroute.routing.resilience import DEFAULTS, ResilienceSettings
from omniroute.routing.standing import lockout_keys, lockout_of, rest_keys, rest_of
from omniroute.routing.view import Rest

NOW = 1_800_000_000.0
DAY = 86_400.0
KEY = Account("conn_a", "groq", AuthClass.API_KEY, rest_scope="connection:conn_a")
OAUTH = Account("conn_o", "claude", AuthClass.OAUTH, rest_scope="connection:conn_o")
LOCAL = Account("conn_l", "ollama", AuthClass.LOCAL, rest_scope="connection:conn_l")
MODEL = "vendor/big-model"


class NoChance(random.Random):
    """Always the least that chance can add."""

    def random(self) -> float:
        return 0.0


class FullChance(random.Random):
    """Always the most."""

    def random(self) -> float:
        return 1.0


class Board:
    """Rows as a store would keep them."""

    def __init__(self, settings: ResilienceSettings = DEFAULTS, rng: random.Random | None = None) -> None:
        self.rows: dict[Key, HealthRow] = {}
        self.notices: list[Notice] = []
        self.settings = settings
        self.rng = rng or NoChance()

    def record(self, event: Event, now: float = NOW) -> list[HealthRow]:
        before = {key: self.rows[key] for key in scopes_of(event) if key in self.rows}
        changed, notices = transition(before, event, self.settings, now, self.rng)
        assert {row.key for row in changed} <= set(scopes_of(event)), "a row outside its scopes was changed"
        assert all(self.rows.get(row.key) != row for row in changed), "an unchanged row came back"
        self.rows |= {row.key: row for row in changed}
        self.notices += notices
        return changed

    def fail(
        self, failure: Failure, now: float = NOW, account: Account = KEY, model: str = MODEL, **more: float
    ) -> None:
        started_at = more.pop("started_at", now)
        in_flight = int(more.pop("in_flight", 0))
        assert not more
        self.record(AttemptFailed(account, model, failure, started_at, in_flight=in_flight), now)

    def serve(self, now: float = NOW, account: Account = KEY, model: str = MODEL) -> list[HealthRow]:
        return self.record(AttemptServed(account, model), now)

    def rest(self, now: float = NOW, account: Account = KEY) -> Rest | None:
        return rest_of([self.rows[key] for key in rest_keys(account) if key in self.rows], now)

    def lockout(self, now: float = NOW, account: Account = KEY, model: str = MODEL) -> Rest | None:
        return lockout_of([self.rows[key] for key in lockout_keys(account.id, model) if key in self.rows], now)

    def cooldown(self, account: Account = KEY) -> HealthRow:
        return self.rows[rest_keys(account)[0]]


def failure(kind: str, failure_class: FailureClass | str, hint: float | None = None, **more: Any) -> Failure:
    source = more.pop("source", "retry-after" if hint is not None else None)
    return replace(Failure(kind, FailureClass(failure_class), hint, source), **more)


RATE = failure("rate", "rate_limit", status=429)
SERVER = failure("server", "transient", status=500)
QUOTA = failure("quota", "quota", status=429)
NO_CREDIT = failure("no_credit", "quota", status=402)
AUTH = failure("auth", "credential", status=401)
BLOCKED = failure("account_blocked", "credential", status=403, link="https://vendor.example/verify")
FORBIDDEN = failure("forbidden", "credential", status=403)
MISSING = failure("model_missing", "model_unavailable", status=404, scope=Scope.MODEL)
BUSY = failure("overloaded", "transient", status=429, scope=Scope.MODEL)


def until_of(rest: Rest | None, now: float = NOW) -> float | None:
    assert rest is not None
    return None if rest.until is None else pytest.approx(rest.until - now, abs=1e-3)  # type: ignore[return-value]
