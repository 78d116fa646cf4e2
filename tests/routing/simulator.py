"""A world of providers, workers and clients in virtual time, which runs hours of traffic in a second.

What decides and remembers is the gateway's own: routers, boards of health, memories, figures and gates, several workers
over one shared state, which they see as late as real ones do. What is simulated is time, the providers' answers
(`upstreams.py`), and the part of the driver that would speak to them.

    world = World(workers=4)
    accounts = world.accounts("acme", 3)
    world.combo("smart", Strategy.PRIORITY, [world.option("acme", "large", accounts)])
    world.traffic("smart", per_second=5)
    world.run(3600)
    assert world.ledger.inside_rests == []

Every attempt is checked against the rows of health as they are stored and against what the providers themselves have
said; what is found is in the ledger, for scenarios to judge.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Final, cast

import gevent
from msgspec import structs

from omniroute.gateway.blocks import without
from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.gate import Gate
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.live_view import LiveView
from omniroute.gateway.quotas import Quotas
from omniroute.gateway.resolver import Chain, Resolved, Resolver
from omniroute.gateway.router import Route, Router
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.records import RequestRecord
from omniroute.routing.asked import AccountRules
from omniroute.routing.attempts import Attempt, Kind, Outcome, Wait
from omniroute.routing.breaker import breaker_key, breaker_of
from omniroute.routing.config import DEFAULTS as DEFAULT_CONFIG
from omniroute.routing.config import ComboConfig
from omniroute.routing.decision import record_from
from omniroute.routing.eligibility import misfit
from omniroute.routing.failures import FailureClass, Success
from omniroute.routing.marks import HealthRow, Key, Notice, State, connection_scope
from omniroute.routing.options import Account, AuthClass, Block, Features, Option, Step, Strategy
from omniroute.routing.recorder import Recorder
from omniroute.routing.replay import verify
from omniroute.routing.resilience import DEFAULTS, ResilienceSettings
from omniroute.routing.resolve import Hop
from omniroute.routing.resolve import Kind as NameKind
from omniroute.routing.standing import lockout_keys, lockout_of, rest_keys, rest_of
from omniroute.routing.view import BreakerState
from tests.routing.ledger import Call, Ended, Ledger
from tests.routing.shared_state import SharedState
from tests.routing.upstreams import Site
from tests.routing.virtual_time import VirtualTime

POLL_S: Final = 0.5
STORE_S: Final = 0.02
"""How long it takes until what a worker has seen is in the shared state."""
SEEN_BY_ALL_S: Final = 1.0 + STORE_S
"""How long a worker may go on before it knows what another one has seen."""
BEFORE_COMMIT_S: Final = 600.0
LEASE_S: Final = 120.0
_FINAL: Final = frozenset({FailureClass.CALLER_FAULT, FailureClass.CANCELLED})


class Names:
    """What names stand for, and the fallback chains: the part of a resolver that routers ask."""

    def __init__(self, rules: AccountRules) -> None:
        self.rules = rules
        self.snapshot = SimpleNamespace(version=1)
        self.blocks: dict[str, Block] = {}
        self.chains: dict[str, Block] = {}
        """By the requested name that they match."""

    def chain_for(self, requested: str, tried: set[str]) -> Chain | None:
        block = self.chains.get(requested)
        rest = None if block is None else without(block, frozenset(tried))
        return Chain(f"after {requested}", rest) if rest is not None and rest.steps else None

    def change(self, name: str, block: Block) -> None:
        """Let a name stand for something else from now on."""
        self.blocks[name] = block
        self.snapshot = SimpleNamespace(version=self.snapshot.version + 1)


class Worker:
    """One process: its own copies over the shared state."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self._ends: list[Callable[[], None]] = []
        self._is_flushing = False
        self._build()

    def _build(self) -> None:
        world, time, number = self.world, self.world.time, self.number
        rng = random.Random(world.rng.getrandbits(64))
        settings = lambda: world.resilience  # noqa: E731
        self.board = HealthBoard(store=world.store, now=time.wall, rng=rng, settings=settings, tell=world.tell)
        self.memory = RoutingMemory(store=world.store, now=time.wall)
        self.figures = OptionFigures(store=world.store, now=time.wall, worker=lambda: f"w{number}")
        self.gate = Gate(
            store=world.store,
            board=self.board,
            rules=lambda: world.resilience.queue,
            now=time.now,
            wall=time.wall,
            rng=rng,
            wait=time.wait,
            owner=lambda: f"w{number}",
        )
        view = LiveView(board=self.board, memory=self.memory, figures=self.figures, pressure=self.gate.pressure)
        self.router = Router(
            resolver=lambda: cast("Resolver", world.names),
            board=self.board,
            memory=self.memory,
            figures=self.figures,
            view=view,
            gate=self.gate,
            quotas=Quotas(store=world.store, board=self.board, now=time.wall),
            recorder=Recorder(gateway_version="simulated"),
            resilience=settings,
            accounts_of=lambda provider: world.providers.get(provider, ()),
            wall=time.wall,
            monotonic=time.now,
            seed=lambda: rng.getrandbits(64),
        )
        self.board.load()
        self.memory.load()
        self.figures.load()
        offset = rng.random()
        self._ends = [
            time.every(seconds * world.pulse, call, first=seconds * world.pulse * offset)
            for seconds, call in (
                (POLL_S, self.board.poll),
                (1.0, self.memory.exchange),
                (5.0, self.figures.exchange),
            )
        ]

    def flush_soon(self) -> None:
        """Store what the board has seen, as soon as a database would have done."""
        if not self.board.queued or self._is_flushing:
            return
        self._is_flushing = True

        def flush(board: HealthBoard = self.board) -> None:
            self._is_flushing = False
            board.flush(1.0)

        self.world.time.after(STORE_S, flush, wakes=False)

    def restart(self) -> None:
        """End and begin anew: what is shared stays, what only this process knew is gone."""
        self.stop()
        self._is_flushing = False
        self._build()

    def stop(self) -> None:
        for end in self._ends:
            end()
        self.gate.close()
        self.board.stop()
        self.memory.stop()
        self.figures.stop()


class World:
    """Everything together. Use as a context, which ends what still runs."""

    def __init__(
        self,
        *,
        workers: int = 1,
        seed: int = 1,
        resilience: ResilienceSettings = DEFAULTS,
        rules: AccountRules | None = None,
        pulse: float = 1.0,
        verifies: float = 0.0,
    ) -> None:
        """Make an empty world.

        Args:
            workers: processes.
            seed: of everything that is drawn.
            resilience: the settings in force.
            rules: how accounts are ordered.
            pulse: how many times slower than real ones workers look at what others have stored, for worlds of days.
            verifies: the share of requests whose recorded decision is decided again.
        """
        self.rng = random.Random(seed)
        self.time = VirtualTime()
        self.store = SharedState(self.time.wall)
        self.resilience = resilience
        self.pulse = pulse
        self.seen_s = SEEN_BY_ALL_S * pulse
        self.verifies = verifies
        self.names = Names(rules or AccountRules())
        self.ledger = Ledger()
        self.providers: dict[str, tuple[Account, ...]] = {}
        self.options: dict[str, Option] = {}
        self.sites: dict[str, Site] = {}
        self.judges: list[Callable[[Ended], None]] = []
        self._numbers = itertools.count(1)
        self._running: set[gevent.Greenlet[..., Any]] = set()
        self.workers = [Worker(self, number) for number in range(workers)]

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_error: object) -> None:
        gevent.killall(list(self._running), block=True)
        for worker in self.workers:
            worker.stop()

    def tell(self, notice: Notice) -> None:
        self.ledger.notices.append((self.time.passed, notice))

    # --- what there is

    def accounts(
        self,
        provider: str,
        count: int = 1,
        auth: AuthClass = AuthClass.API_KEY,
        site: Callable[[int], Site] = lambda _number: Site(),
        **facts: Any,
    ) -> tuple[Account, ...]:
        """Add the accounts of a provider, `provider-0` and so on."""
        made = tuple(
            Account(
                f"{provider}-{number}",
                provider,
                auth,
                created_at=float(number),
                rest_scope=connection_scope(f"{provider}-{number}"),
                **facts,
            )
            for number in range(count)
        )
        self.providers[provider] = made
        self.sites |= {account.id: site(number) for number, account in enumerate(made)}
        return made

    def option(self, provider: str, model: str = "large", **facts: Any) -> Option:
        """Add a model at a provider, whose accounts are made if there are none."""
        accounts = self.providers.get(provider) or self.accounts(provider)
        made = self.options[f"{provider}/{model}"] = Option(f"{provider}/{model}", provider, model, accounts, **facts)
        return made

    def combo(
        self,
        name: str,
        strategy: Strategy,
        steps: Sequence[Option | Block],
        *,
        config: ComboConfig = DEFAULT_CONFIG,
        weights: Sequence[float] = (),
        **facts: Any,
    ) -> Block:
        """Let a name stand for several steps; a block among them keeps its own strategy."""
        made = tuple(
            Step(
                f"{name}:{number}",
                option=one if isinstance(one, Option) else None,
                block=one if isinstance(one, Block) else None,
                weight=weights[number] if weights else 1.0,
                name=one.name,
            )
            for number, one in enumerate(steps)
        )
        block = Block(strategy, made, scope=f"combo:{name}", name=name, config=config, **facts)
        self.names.blocks[name] = block
        return block

    def plain(self, option: Option) -> str:
        """Let a model be asked for by its own name."""
        block = Block(Strategy.PRIORITY, (Step(option.name, option, name=option.name),), name="")
        self.names.blocks[option.name] = block
        return option.name

    def chain(self, after: str, *options: Option) -> None:
        """Let a name fall back to something else."""
        steps = tuple(Step(f"chain:{one.name}", one, name=one.name) for one in options)
        self.names.chains[after] = Block(Strategy.PRIORITY, steps, name=f"after {after}")

    def site(self, account: Account | str) -> Site:
        return self.sites[account if isinstance(account, str) else account.id]

    # --- what happens

    def traffic(
        self,
        name: str,
        *,
        per_second: float,
        for_s: float = float("inf"),
        features: Callable[[int], Features] | None = None,
    ) -> None:
        """Let clients come at random moments, each to a random worker."""
        rng = random.Random(self.rng.getrandbits(64))
        until = self.time.passed + for_s

        def arrive() -> None:
            if self.time.passed >= until:
                return
            self.send(name, worker=rng.randrange(len(self.workers)), features=features)
            self.time.after(rng.expovariate(per_second), arrive)

        self.time.after(rng.expovariate(per_second), arrive)

    def send(self, name: str, *, worker: int = 0, features: Callable[[int], Features] | None = None) -> Ended:
        """Send one request now; it runs when time does."""
        number = next(self._numbers)
        asked = features(number) if features is not None else Features(estimated_input=1000, key_id="key_1")
        request = Ended(number, name, worker, self.time.passed, features=structs.replace(asked, requested=name))
        greenlet = gevent.spawn(self._serve, request, self.workers[worker])
        self._running.add(greenlet)
        greenlet.rawlink(self._running.discard)
        return request

    def ask(self, name: str, *, worker: int = 0, features: Callable[[int], Features] | None = None) -> Ended:
        """Send one request and let time pass until it has ended."""
        request = self.send(name, worker=worker, features=features)
        while request not in self.ledger.ended:
            self.time.run(0.05)
        return request

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(seconds)

    def read_quotas(self, every_s: float = 60.0) -> None:
        """Let what accounts have left be read from time to time, and shown to every worker."""

        def read() -> None:
            for account_id, site in self.sites.items():
                windows = site.windows(self.time.wall())
                for worker in self.workers:
                    worker.board.set_windows(account_id, windows)

        read()
        self.time.every(every_s, read)

    # --- one request

    def _serve(self, request: Ended, worker: Worker) -> None:
        """Do what the driver does: carry out what the loop says, and tell the route what came of it."""
        block = self.names.blocks[request.name]
        is_combo = bool(block.scope or block.channel)
        kind = NameKind.COMBO if is_combo else NameKind.OPTIONS
        resolved = Resolved(block, (Hop("combo", request.name, block.name),), kind, request.name)
        route = worker.router.begin(
            request_id=f"req_{request.number}",
            requested=request.name,
            resolved=resolved,
            features=request.features,
            started=self.time.passed,
        )
        timeout_ms = route.config.timeout_ms
        deadline = self.time.passed + min(BEFORE_COMMIT_S, BEFORE_COMMIT_S if timeout_ms is None else timeout_ms / 1000)
        loop = route.steps(lambda: deadline - self.time.passed)
        answer: Outcome | None = None
        is_woken = False
        while True:
            try:
                step = loop.send(answer)
            except StopIteration as stop:
                request.verdict = stop.value
                break
            answer = None
            match step:
                case Wait():
                    if step.reason == "cooldown":
                        request.cooldown_waits.append(step.seconds)
                    self.time.sleep(step.seconds)
                    is_woken = step.reason == "cooldown"
                    route.waited(step.reason, step.seconds)
                case Attempt():
                    patience_s = min(5.0, deadline - self.time.passed)
                    answer = route.woken(step.candidate, patience_s) if is_woken else None
                    is_woken = is_woken and answer is not None
                    answer = answer or route.enter(step.candidate, step.patience_s, LEASE_S)
                    answer = answer or self._call(route, step, request, worker)
        self._close(route, request, worker)

    def _call(self, route: Route, step: Attempt, request: Ended, worker: Worker) -> Outcome:
        option, account, started_at = step.candidate.option, step.candidate.account, self.time.wall()
        site = self.sites[account.id]
        self._check(step, request, worker.number)
        started_ms = (self.time.passed - request.began_at) * 1000
        site.running += 1
        reply = site.judge(option.model, started_at)
        call = Call(
            self.time.passed,
            account.id,
            option.name,
            step.kind,
            worker.number,
            request.number,
            200 if reply is None else reply.status,
        )
        self.ledger.calls.append(call)
        request.calls.append(call)
        if step.kind is Kind.PROBE:
            self.ledger.probes.append(call)
        self.time.sleep(site.latency_s(self.rng) if reply is None else reply.after_s)
        failure = None if reply is None else reply.failure(self.time.wall())
        ended_ms = (self.time.passed - request.began_at) * 1000
        kind = step.kind.value
        route.draft.attempt(
            option.name,
            account.id,
            started_ms=started_ms,
            ended_ms=ended_ms,
            kind=kind,
            failure=failure,
            status=call.status,
        )
        if failure is not None:
            site.running -= 1
            route.failed(step.candidate, failure, started_at)
            worker.flush_soon()
            return failure
        request.served_by, request.connection = option.name, account.id
        route.opened(step.candidate, started_at)
        worker.flush_soon()
        return Success()

    def _close(self, route: Route, request: Ended, worker: Worker) -> None:
        first_ms = (self.time.passed - request.began_at) * 1000
        if request.connection is not None:
            site = self.sites[request.connection]
            self.time.sleep(site.whole_s)
            site.running -= 1
        else:
            request.spared = self._spared(request, route)
        request.waited_s = route.waited_ms / 1000
        request.ended_at = self.time.passed
        is_ok = request.is_served
        record = RequestRecord(
            f"req_{request.number}",
            self.time.wall(),
            "/v1/chat/completions",
            "openai_chat",
            request.name,
            status=200 if is_ok else 503,
            outcome="success" if is_ok else "failed",
            connection_id=request.connection,
            ttft_ms=first_ms if is_ok else None,
            duration_ms=(self.time.passed - request.began_at) * 1000,
            tokens_out=300 if is_ok else None,
        )
        route.close(record)
        worker.flush_soon()
        self.ledger.ended.append(request)
        self._judge(request, record)

    # --- what is watched

    def row(self, key: Key) -> HealthRow | None:
        """Return a row as it is stored."""
        return self.store.health.get(key)

    def _check(self, step: Attempt, request: Ended, worker: int) -> None:
        """Look for a reason, which this worker must have known by now, not to make a call."""
        account, option, now = step.candidate.account, step.candidate.option, self.time.wall()
        found = self._known_rest(account, option.model, now)
        if found is not None and self._has_heard_better(worker, account, option.model, now):
            found = None
        site = self.sites[account.id]
        if site.told_at + self.seen_s + 0.5 <= now < site.told_until and found is None:
            found = f"said to rest for {site.told_until - now:.1f} s more"
        if found is not None and step.kind not in {Kind.PROBE, Kind.RETRY}:
            call = Call(self.time.passed, account.id, option.name, step.kind, worker, request.number, 0)
            self.ledger.inside_rests.append((call, found))

    def _known_rest(self, account: Account, model: str, now: float) -> str | None:
        rows = self.store.health
        rests = rest_of([rows[key] for key in rest_keys(account) if key in rows], now)
        locked = lockout_of([rows[key] for key in lockout_keys(account.id, model) if key in rows], now)
        for rest in (rests, locked):
            if rest is None or rest.since is None or now < rest.since + self.seen_s:
                continue
            if rest.needs_probe or rest.until is None or rest.until > now:
                return f"{rest.reason} ({rest.kind})"
        row = rows.get(breaker_key(account.provider))
        if row is not None and now >= row.number("since", now) + self.seen_s:
            state = breaker_of(row, now, self.resilience).state
            if state is not BreakerState.CLOSED:
                return f"breaker {state}"
        return None

    def _has_heard_better(self, worker: int, account: Account, model: str, now: float) -> bool:
        """Say whether something was over by time, and this worker has just seen that it is well."""
        copy = self.workers[worker].board.copy
        if copy.rest(account.id, account.rest_scope) or copy.lockout(account.id, model):
            return False
        if copy.breaker(account.provider).state is not BreakerState.CLOSED:
            return False
        keys = (*rest_keys(account), *lockout_keys(account.id, model), breaker_key(account.provider))
        rows = [self.row(key) for key in keys]
        ends = [row.until for row in rows if row is not None and row.state in {State.RESTING, State.OPEN}]
        return all(until is not None and until <= now for until in ends)

    def _spared(self, request: Ended, route: Route) -> list[str]:
        """Return who would have served a request that has failed: well, known to be well, fit, and not asked."""
        if any(one.failure.failure_class in _FINAL for one in (request.verdict.tried if request.verdict else ())):
            return []
        if len(request.calls) >= route.config.max_attempts:
            return []
        now, asked = self.time.wall(), {(call.option, call.account) for call in request.calls}
        block = self.names.blocks[request.name]
        return [
            f"{option.name} at {account.id}"
            for option in options_of(block)
            if misfit(option, request.features, block) is None
            for account in option.accounts
            if (option.name, account.id) not in asked
            and request.features.connection_id in {None, account.id}
            and self.sites[account.id].would_serve(option.model, now)
            and self._is_known_well(account, option.model, now)
        ]

    def _is_known_well(self, account: Account, model: str, now: float) -> bool:
        """Say whether no worker knows a reason not to call: a half-open probe may be somebody else's."""
        copies = [worker.board.copy for worker in self.workers]
        return (
            all(
                copy.rest(account.id, account.rest_scope) is None
                and copy.lockout(account.id, model) is None
                and copy.breaker(account.provider).state is BreakerState.CLOSED
                for copy in copies
            )
            and self._known_rest(account, model, now) is None
        )

    def _judge(self, request: Ended, record: RequestRecord) -> None:
        if request.served_by is not None:
            allowed = {option.name for option in options_of(self.names.blocks[request.name])}
            chain = self.names.chains.get(request.name)
            if chain is not None:
                allowed |= {option.name for option in options_of(chain)}
            if request.served_by not in allowed:
                self.ledger.astray.append(request)
        if self.verifies and record.decision is not None and self.rng.random() < self.verifies:
            self.ledger.verified += 1
            mismatch = verify(record_from(record.decision.body))
            if mismatch is not None:
                self.ledger.mismatches.append(mismatch)
        for judge in self.judges:
            judge(request)


def options_of(block: Block) -> Iterator[Option]:
    """Return every option in a block, whatever its depth."""
    for step in block.steps:
        if step.block is not None:
            yield from options_of(step.block)
        elif step.option is not None:
            yield step.option


def sessions(count: int, **facts: Any) -> Callable[[int], Features]:
    """Return what makes each request one of so many sessions, in turn."""
    return lambda number: Features(
        estimated_input=1000, session=f"{number % count:064x}", is_explicit_session=True, key_id="key_1", **facts
    )
