"""Configurations, numbers and requests of every kind, drawn from a random source, and records made of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from random import Random
from typing import Any

from omniroute.records import DecisionRecord, RequestRecord
from omniroute.routing.asked import AccountRules, Asked, Chance
from omniroute.routing.config import ComboConfig
from omniroute.routing.failures import Failure, FailureClass
from omniroute.routing.options import (
    Account,
    AccountStrategy,
    AuthClass,
    Block,
    Features,
    Option,
    Rates,
    Step,
    Strategy,
    Task,
)
from omniroute.routing.plan import Plan
from omniroute.routing.planning import plan
from omniroute.routing.recorder import Draft, Noted, Recorder
from omniroute.routing.view import (
    Binding,
    Breaker,
    BreakerState,
    Figures,
    Load,
    QuotaWindow,
    Rest,
    Still,
)

NOW = 1_800_000_000.25
NEEDS = ("tools", "vision", "audio", "document", "schema", "reasoning")
REASONS = ("cooling", "credential_dead", "no_credit", "quota_exhausted")


@dataclass(frozen=True)
class World:
    """What one request meets."""

    block: Block
    view: Still
    features: Features
    rules: AccountRules
    seed: int
    forbidden: frozenset[tuple[str, str]]
    now: float = NOW

    def asked(self) -> Asked:
        """The question, with everything that is answered noted."""
        permits = (lambda option, account: (option.name, account.id) not in self.forbidden) if self.forbidden else None
        noted = Noted(self.view, permits)
        return Asked(self.features, noted, self.now, Chance(self.seed), self.rules, noted.permits)


def world(rng: Random) -> World:
    """Draw a world."""
    providers = {f"p{number}": accounts(rng, f"p{number}") for number in range(rng.randint(1, 4))}
    pool = [option(rng, name, number, providers[name]) for number, name in enumerate(names(rng, providers))]
    made = block(rng, pool, "combo_0", 0)
    sessions = rng.choice((None, "5e55" * 8))
    features = Features(
        requested=rng.choice(("smart", "größe/模型", "auto/coding")),
        client_format="openai_chat",
        is_stream=rng.random() < 0.5,
        estimated_input=rng.choice((0, 900, 60_000, 250_000)),
        max_output=rng.choice((None, 100, 9000)),
        needs=frozenset(rng.sample(NEEDS, rng.choice((0, 0, 1, 2)))),
        task=rng.choice(tuple(Task)),
        effort=rng.choice((None, "high")),
        key_id="key_1",
        session=sessions,
        is_explicit_session=rng.random() < 0.5,
        mode=rng.choice(("", "", "fast", "reliable")),
        budget_nano=rng.choice((None, None, 2_000_000)),
        is_budget_strict=rng.random() < 0.3,
        may_use_reserve=rng.random() < 0.1,
        connection_id=rng.choice((None,) * 9 + (pool[0].accounts[0].id,)),
    )
    everyone = [one for group in providers.values() for one in group]
    forbidden = frozenset((one.name, a.id) for one in pool for a in one.accounts if rng.random() < 0.1)
    return World(
        made,
        view(rng, everyone, pool, made, sessions),
        features,
        rules(rng, providers),
        rng.getrandbits(64),
        forbidden if rng.random() < 0.3 else frozenset(),
        NOW + rng.random() * 1000,
    )


def names(rng: Random, providers: dict[str, tuple[Account, ...]]) -> list[str]:
    """Draw which providers offer the options."""
    return [rng.choice(sorted(providers)) for _ in range(rng.randint(1, 7))]


def accounts(rng: Random, provider: str) -> tuple[Account, ...]:
    """Draw the accounts of a provider."""
    return tuple(
        Account(
            f"conn_{provider}_{number}",
            provider,
            rng.choice(tuple(AuthClass)),
            priority=rng.randint(1, 3),
            created_at=1.7e9 + number / 3,
            rest_scope=f"connection:conn_{provider}_{number}",
            requests_per_minute=rng.choice((0, 0, 60)),
            max_concurrent=rng.choice((0, 0, 2)),
        )
        for number in range(rng.randint(1, 4))
    )


def option(rng: Random, provider: str, number: int, own: tuple[Account, ...]) -> Option:
    """Draw an option at a provider."""
    rates = Rates(rng.random() * 5000, rng.random() * 9000, rng.choice((None, 12.5)), ((128_000, Rates(9000.0, 9e4)),))
    return Option(
        f"{provider}/model-{number}",
        provider,
        f"model-{number}",
        own,
        tier=rng.choice(("subscription", "cheap", "api_key", "free", "local")),
        window=rng.choice((None, 8000, 128_000, 1_000_000)),
        max_output=rng.choice((None, 4096, 64_000)),
        capabilities=rng.choice((None, frozenset(NEEDS), frozenset(NEEDS[:2]))),
        rates=rng.choice((None, rates)),
        is_unmetered=rng.random() < 0.3,
        is_loopback=rng.random() < 0.2,
        has_prompt_cache=rng.random() < 0.5,
        handles={account.id: object() for account in own},
    )


def block(rng: Random, pool: list[Option], scope: str, depth: int) -> Block:
    """Draw a combo over some options, maybe with others inside."""
    strategy = rng.choice(tuple(Strategy))
    chosen = rng.sample(pool, rng.randint(1, len(pool)))
    steps = [
        Step(
            f"step_{scope}_{number}",
            one,
            weight=rng.choice((0, 1, 2.5)),
            connection_id=rng.choice((None,) * 5 + (one.accounts[0].id,)),
            name=one.name,
            problem=rng.choice((None,) * 9 + ("inactive",)),
        )
        for number, one in enumerate(chosen)
    ]
    if depth < 2 and rng.random() < 0.3:
        inner = block(rng, pool, f"{scope}{depth}", depth + 1)
        steps.insert(rng.randint(0, len(steps)), Step(f"step_{scope}_in", block=inner, name="inner"))
    config = ComboConfig(
        sticky_round_robin_limit=rng.choice((1, 3)),
        sticky_weighted_limit=rng.choice((1, 2)),
        disable_session_stickiness=rng.random() < 0.2,
        weights={"latency": 1, "cost": 0.5} if rng.random() < 0.2 else {},
        exploration_rate=rng.choice((None, 0.5)),
        context_requirements={"minContextWindow": 16_000} if rng.random() < 0.1 else {},
        reserve_percent=rng.choice((10.0, 0.0)),
        spend_reserve=rng.choice(("last-resort", "never")),
        hedge_delay_ms=rng.choice((500, "auto")),
    )
    return Block(
        strategy,
        tuple(steps),
        scope=scope,
        name=f"name {scope}",
        channel=rng.choice(("auto", "auto/fast")) if strategy is Strategy.AUTO else "",
        config=config,
        levels={"stickyRoundRobinLimit": "combo"},
        allowed_providers=rng.choice(((), (), ("p0", "p1"))),
    )


def rules(rng: Random, providers: dict[str, tuple[Account, ...]]) -> AccountRules:
    """Draw how accounts are ordered."""
    if rng.random() < 0.2:
        return AccountRules()
    return AccountRules(
        rng.choice(tuple(AccountStrategy)),
        rng.randint(1, 4),
        {name: (rng.choice(tuple(AccountStrategy)), 2) for name in providers if rng.random() < 0.3},
        affinity_ttl_ms=rng.choice((0, 1_800_000)),
        has_cache_affinity=rng.random() < 0.5,
    )


def view(rng: Random, everyone: list[Account], pool: list[Option], made: Block, session: str | None) -> Still:
    """Draw what is true."""
    held = session or "none"
    return Still(
        rests={one.id: rest(rng) for one in everyone if rng.random() < 0.2},
        lockouts={
            (account.id, one.model): rest(rng, "locked_out")
            for one in pool
            for account in one.accounts
            if rng.random() < 0.1
        },
        breakers={
            one.provider: Breaker(rng.choice(tuple(BreakerState)), 3, NOW + rng.choice((-5, 500)))
            for one in everyone
            if rng.random() < 0.15
        },
        loads={one.id: load(rng) for one in everyone if rng.random() < 0.7},
        figures={one.name: figures(rng) for one in pool if rng.random() < 0.7},
        uses={(made.scope, step.id): rng.randint(1, 50) for step in made.steps if rng.random() < 0.5},
        counters={
            (made.scope, "position"): rng.randint(0, 99),
            (made.scope, "deck"): {"left": [made.steps[0].id], "dealt": [step.id for step in made.steps[1:]]},
            (made.scope, "head"): {"step": made.steps[-1].id, "count": 1},
            (made.scope, f"relay:{held}"): {"step": made.steps[0].id, "window": 8000},
        }
        if rng.random() < 0.6
        else {},
        bindings={(held, one.provider): Binding(one.id, None) for one in everyone if rng.random() < 0.3},
        last_good={(made.scope, rng.choice(("", held))): rng.choice(pool).name} if rng.random() < 0.5 else {},
    )


def rest(rng: Random, reason: str | None = None) -> Rest:
    """Draw a rest."""
    return Rest(
        reason or rng.choice(REASONS),
        rng.choice((None, NOW - 5, NOW + 0.1 + rng.random() * 900)),
        needs_probe=rng.random() < 0.3,
        kind="rate",
        hint_source=rng.choice((None, "retry-after")),
        since=NOW - 60,
    )


def load(rng: Random) -> Load:
    """Draw how busy an account is."""
    windows = tuple(
        QuotaWindow(kind, rng.choice((None, rng.random())), NOW + rng.random() * 9e4, length, kind, "header", NOW - 30)
        for kind, length in (("5h", 18_000.0), ("week", 604_800.0))
        if rng.random() < 0.5
    )
    return Load(rng.randint(0, 5), NOW - rng.random(), rng.choice((0.0, NOW + 20)), rng.random() < 0.1, windows)


def figures(rng: Random) -> Figures:
    """Draw how an option has done."""
    total = rng.randint(0, 40)
    return Figures(
        rng.randint(0, total),
        total,
        tuple(NOW - rng.random() * 600 for _ in range(rng.randint(0, 3))),
        rng.choice((None, 150.5, 900.25)),
        rng.choice((None, 4000.0)),
        rng.choice((None, 7000.0)),
        None,
        rng.choice((None, 312.75)),
        rng.choice((0.0, NOW + 60)),
        rng.randint(0, 2),
        needs_probe=rng.random() < 0.1,
    )


# --- records -------------------------------------------------------------------------------------------------------


def settled(**changes: Any) -> RequestRecord:
    """A request that was served."""
    return dataclasses.replace(
        RequestRecord(
            "req_1",
            NOW,
            "/v1/chat/completions",
            "openai_chat",
            "smart",
            status=200,
            outcome="success",
            ttft_ms=120.5,
            duration_ms=2000.25,
            tokens_in=1000,
            tokens_out=300,
        ),
        **changes,
    )


TRANSIENT = Failure("server", FailureClass.TRANSIENT, status=500)
RATE = Failure(
    "rate",
    FailureClass.RATE_LIMIT,
    retry_after_s=20.0,
    hint_source="retry-after",
    status=429,
    provider_code="rate_limit_exceeded",
    message="a sentence of the provider that no record keeps",
)


def finished(draft: Draft, made: Plan, *, failures: int = 0, request_id: str = "req_1") -> DecisionRecord:
    """Let a request go through its plan: some candidates fail, the next one serves."""
    candidates = [(entry.option.name, seat.account.id) for entry in made.entries for seat in entry.seats]
    for number, (name, account) in enumerate(candidates[:failures]):
        draft.attempt(name, account, started_ms=number * 10.0, ended_ms=number * 10 + 9.5, failure=RATE)
    if failures >= len(candidates):
        failed = settled(request_id=request_id, status=429, outcome="failed", ttft_ms=None, error_code="rate")
        return draft.finish(failed, target=None, is_committed=False)
    name, account = candidates[failures]
    draft.attempt(name, account, started_ms=50.0, ended_ms=120.5, headers_ms=100.0, content_ms=120.5, status=200)
    return draft.finish(settled(request_id=request_id, connection_id=account), target=name, is_committed=True)


def recorded(
    one: World, recorder: Recorder | None = None, *, request_id: str = "req_1", failures: int = 0
) -> DecisionRecord:
    """Plan a world and record it."""
    recorder = recorder or Recorder(gateway_version="1.2.3")
    asked = one.asked()
    made = plan(one.block, asked)
    trace = [("combo", one.features.requested, None), ("alias", one.features.requested, one.block.name)]
    draft = recorder.begin(request_id, one.block, asked, made, trace=trace, config_version=7, started=12.5)
    return finished(draft, made, failures=failures, request_id=request_id)
