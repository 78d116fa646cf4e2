"""Money under everything that happens: a random life of requests, budgets, prices, keys, clocks and dying workers.

What holds at every step: the rows of the log add up to what the counters say and to what the receipts say; a request
counts once, however often its row is delivered; nothing is negative; who is let in finds the budget open, and who is
refused finds it spent or held.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import func, select

from omniroute.formats.usage import Usage
from omniroute.money.limits import EVERYBODY, budget_hold, scopes_of, token_hold
from omniroute.money.tariff import bill, tariff_of
from omniroute.records import Budget, Charge, RequestRecord, TokenLimit
from omniroute.storage.database import Database
from omniroute.storage.ledger import Ledger
from omniroute.storage.log_writer import LogWriter, drain_spools
from omniroute.storage.models import BudgetLedger, RequestLog, UsageDaily, UsageHourly
from omniroute.storage.models.base import table_of
from omniroute.storage.repositories import request_log
from tests.storage.conftest import NOW, create, record

KEYS = ("key_1", "key_2", "local")
SCOPES = (*KEYS, EVERYBODY)
PERIODS = ("daily", "weekly", "monthly")
LEASE_S = 60.0
TOKENS = st.integers(0, 5_000_000)


@dataclass(frozen=True)
class Flight:
    """A request that was let in."""

    request_id: str
    key_id: str
    began_at: float
    worker: int


class Money(RuleBasedStateMachine):
    """Two workers, three callers, one model whose price changes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="money-"))
        self.database = Database(f"sqlite:///{self.directory / 'storage.sqlite'}")
        create(self.database, self.directory)
        self.ledger = Ledger(self.database)
        self.now = NOW
        self.price = "2.5"
        self.workers = [self.new_worker() for _ in range(2)]
        self.flights: list[Flight] = []
        self.lost: list[Flight] = []
        """Requests of workers that are no more: held until their lease ends."""
        self.rows: dict[str, RequestRecord] = {}
        self.unread: dict[int, dict[str, RequestRecord]] = {0: {}, 1: {}}
        """Settled, in a worker's spool, not in the database yet."""
        self.budgets: dict[tuple[str, str], Budget] = {}
        self.limits: dict[str, TokenLimit] = {}
        self.holds: dict[str, dict[str, tuple[int, int, float]]] = {}
        """What requests hold: by request and hold, the start of the window, the amount, and the end of the lease."""
        self.number = 0

    def new_worker(self) -> LogWriter:
        return LogWriter(self.database, self.directory / "spool", now=lambda: self.now)

    def teardown(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.database.dispose()
        shutil.rmtree(self.directory)

    # --- what operators do -------------------------------------------------------------------------------------------

    @initialize(limit=st.integers(1, 20_000_000_000))
    def begin_with_a_budget(self, limit: int) -> None:
        self.set_budget("key_1", "daily", limit)

    @rule(scope=st.sampled_from(SCOPES), period=st.sampled_from(PERIODS), limit=st.integers(0, 50_000_000_000))
    def set_budget(self, scope: str, period: str, limit: int) -> None:
        self.deliver_everything()  # what is on its way is counted when it arrives, and is not known before
        budget = Budget(scope, period, limit)
        self.ledger.set_budgets([budget], self.now)
        self.budgets[scope, period] = budget

    @precondition(lambda self: self.budgets)
    @rule(data=st.data())
    def remove_budget(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.budgets)))
        assert self.ledger.remove_budgets([key]) == 1
        del self.budgets[key]
        for held in self.holds.values():
            held.pop(f"budget:{key[0]}:{key[1]}", None)

    @rule(scope=st.sampled_from(SCOPES), limit=st.integers(0, 20_000_000), period=st.sampled_from(PERIODS))
    def set_limit(self, scope: str, limit: int, period: str) -> None:
        self.deliver_everything()
        made = TokenLimit(f"tl_{scope}", scope, "global", None, limit, period)
        self.ledger.set_token_limit(made, self.now)
        self.limits[made.id] = made

    @rule(price=st.decimals("0", "75", places=4).map(str))
    def change_the_price(self, price: str) -> None:
        self.price = price

    # --- what clients and providers do -------------------------------------------------------------------------------

    @rule(
        key_id=st.sampled_from(KEYS),
        worker=st.integers(0, 1),
        nano_usd=st.integers(0, 5_000_000_000),
        tokens=st.integers(0, 5_000_000),
    )
    def ask(self, key_id: str, worker: int, nano_usd: int, tokens: int) -> None:
        self.number += 1
        request_id = f"req_{self.number:05}"
        scopes = scopes_of(key_id)
        holds = [budget_hold(one, self.now, nano_usd) for scope in scopes for one in self.budgets_of(scope)]
        holds += [token_hold(one, self.now, tokens) for scope in scopes for one in self.limits_of(scope)]
        expected = next(
            (
                hold.id
                for hold in holds
                if self.used(hold.id, hold.window.start, hold.window.end) + self.held(hold.id, hold.window.start)
                >= hold.limit
            ),
            None,
        )
        verdict = self.ledger.admit(
            holds, (), request_id=request_id, owner=f"worker-{worker}", now=self.now, lease_s=LEASE_S
        )
        assert (None if verdict.refused is None else verdict.refused.hold.id) == expected
        if verdict.refused is None:
            self.flights.append(Flight(request_id, key_id, self.now, worker))
            until = self.now + LEASE_S
            self.holds[request_id] = {hold.id: (hold.window.start, hold.amount, until) for hold in holds}

    @precondition(lambda self: self.flights)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["success", "failed", "cancelled", "truncated"]),
        tokens=st.tuples(TOKENS, TOKENS),
        extra=st.integers(0, 1_000_000_000),
    )
    def settle(self, data: st.DataObject, outcome: str, tokens: tuple[int, int], extra: int) -> None:
        flight = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        is_priced = data.draw(st.booleans())
        settled = self.priced(flight, outcome, tokens, extra, is_priced=is_priced)
        self.workers[flight.worker].put(settled)
        self.unread[flight.worker][flight.request_id] = settled
        if data.draw(st.booleans()):
            self.workers[flight.worker].put(settled)  # and once more: nobody must count it twice

    @rule(worker=st.integers(0, 1))
    def deliver(self, worker: int) -> None:
        self.workers[worker].flush()
        self.arrived(worker)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    @rule(worker=st.integers(0, 1))
    def kill(self, worker: int) -> None:
        """A worker ends at once; the next one delivers what it had settled."""
        self.workers[worker]._spool.close()
        self.workers[worker] = self.new_worker()
        self.lost += [one for one in self.flights if one.worker == worker]
        self.flights = [one for one in self.flights if one.worker != worker]
        drain_spools(self.database, self.directory / "spool", now=lambda: self.now)
        self.arrived(worker)

    @rule(seconds=st.one_of(st.floats(0, 100), st.floats(0, 40 * 86_400)))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        if self.flights and seconds < LEASE_S:
            ids = [one.request_id for one in self.flights]
            self.ledger.renew(ids, "any", self.now, LEASE_S)
            for request_id in ids:
                held = self.holds[request_id]
                self.holds[request_id] = {name: (*one[:2], self.now + LEASE_S) for name, one in held.items()}

    @rule(seconds=st.floats(0, 3 * 86_400))
    def set_the_clock_back(self, seconds: float) -> None:
        self.now = max(NOW - 86_400, self.now - seconds)

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def counters_are_the_sum_of_the_rows(self) -> None:
        table = table_of(BudgetLedger)
        counted = self.database.read(lambda sql: sql.execute(select(table)).mappings().all())
        for row in counted:
            budget = self.budgets[row["scope_id"], row["period"]]
            window = budget_hold(budget, row["period_start"]).window
            assert window.start == row["period_start"]
            name = f"budget:{row['scope_id']}:{row['period']}"
            assert row["spent_nano_usd"] == self.used(name, window.start, window.end) >= 0
        for budget in self.budgets.values():
            hold = budget_hold(budget, self.now)
            found = self.ledger.standings([hold], self.now)[0]
            assert found.used == self.used(hold.id, hold.window.start, hold.window.end)
            assert found.reserved == self.held(hold.id, hold.window.start) >= 0

    @invariant()
    def the_log_has_each_request_once_and_its_receipt_adds_up(self) -> None:
        table = table_of(RequestLog)
        ids = self.database.read(lambda sql: sql.execute(select(table.c.request_id)).scalars().all())
        assert Counter(ids) == Counter(list(self.rows))
        for request_id in list(self.rows)[-3:]:
            stored = self.database.read(lambda sql, wanted=request_id: request_log.get(sql, wanted))  # type: ignore[misc]
            assert stored is not None
            serving = sum(one.nano_usd or 0 for one in stored.charges if one.is_serving)
            others = sum(one.nano_usd or 0 for one in stored.charges if not one.is_serving)
            assert (serving, others) == (stored.cost_nano_usd or 0, stored.extra_nano_usd)

    @invariant()
    def the_sums_by_hour_and_by_day_are_those_of_the_rows(self) -> None:
        expected = sum(spent(row) for row in self.rows.values())
        for table in (table_of(UsageHourly), table_of(UsageDaily)):
            sums = select(func.sum(table.c.billed_nano_usd), func.sum(table.c.requests), func.sum(table.c.unpriced))
            billed, requests, unpriced = self.database.read(lambda sql, wanted=sums: sql.execute(wanted).one())  # type: ignore[misc]
            assert (billed or 0, requests or 0) == (expected, len(self.rows))
            assert (unpriced or 0) == sum(row.cost_kind == "unpriced" for row in self.rows.values())

    # --- the model ---------------------------------------------------------------------------------------------------

    def budgets_of(self, scope: str) -> list[Budget]:
        return [budget for (one, _), budget in sorted(self.budgets.items()) if one == scope]

    def limits_of(self, scope: str) -> list[TokenLimit]:
        return [limit for limit in self.limits.values() if limit.scope_id == scope]

    def used(self, name: str, start: int, end: int) -> int:
        kind, _, rest = name.partition(":")
        if kind == "budget":
            scope = rest.rpartition(":")[0]
            return sum(spent(row) for row in self.rows_of(scope, start, end))
        scope = self.limits[rest].scope_id
        return sum((row.tokens_in or 0) + (row.tokens_out or 0) for row in self.rows_of(scope, start, end))

    def rows_of(self, scope: str, start: int, end: int) -> list[RequestRecord]:
        return [row for row in self.rows.values() if scope in (EVERYBODY, row.api_key_id) and start <= row.time < end]

    def held(self, name: str, start: int) -> int:
        found = (held[name] for held in self.holds.values() if name in held)
        return sum(amount for at, amount, until in found if at == start and until > self.now)

    def priced(
        self, flight: Flight, outcome: str, tokens: tuple[int, int], extra: int, *, is_priced: bool
    ) -> RequestRecord:
        tariff = tariff_of("override", {"input": self.price, "output": self.price if is_priced else None})
        made = bill(tariff, Usage(input=tokens[0], output=tokens[1]))
        kind = "unpriced" if made.nano_usd is None else "billed"
        serving = Charge("normal", "oa", "gpt", kind, made.nano_usd, tariff.id, tariff.source, made.parts)
        hedge = Charge("hedge", "oa", "gpt", "billed", extra, is_serving=False)
        return replace(
            record(flight.request_id, time=flight.began_at, api_key_id=flight.key_id, outcome=outcome),
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            cost_nano_usd=made.nano_usd,
            cost_kind=kind,
            extra_nano_usd=extra,
            price_id=tariff.id,
            charges=(serving, hedge),
        )

    def deliver_everything(self) -> None:
        for worker in range(2):
            self.deliver(worker)

    def arrived(self, worker: int) -> None:
        for request_id, row in self.unread[worker].items():
            self.rows.setdefault(request_id, row)
            self.holds.pop(request_id, None)
        self.unread[worker] = {}


def spent(row: RequestRecord) -> int:
    return (row.cost_nano_usd or 0 if row.cost_kind == "billed" else 0) + row.extra_nano_usd


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, phases=[Phase.generate])
