"""Everything that routing works with in one process: built by the factory, started and stopped with the worker."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from omniroute.gateway.directory import Directories
from omniroute.gateway.figures import OptionFigures
from omniroute.gateway.gate import Gate
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.live_view import LiveView
from omniroute.gateway.pools import pools_by
from omniroute.gateway.quotas import STALE_AFTER_S, Quotas
from omniroute.gateway.resolver import Resolvers
from omniroute.gateway.router import Router
from omniroute.gateway.routing_memory import RoutingMemory
from omniroute.records import Snapshot
from omniroute.routing import fitness
from omniroute.routing.health import Notice
from omniroute.routing.options import Account
from omniroute.routing.recorder import Recorder
from omniroute.routing.resilience import ResilienceSettings, effective
from omniroute.storage.state import StateStore

SECTION: Final = "resilience"


class ResilienceInForce:
    """The settings of resilience under the current configuration; the environment wins over what is stored."""

    def __init__(self, snapshot: Snapshot, fixed: Mapping[str, Any]) -> None:
        self._fixed = fixed
        self._stored: Mapping[str, Any] | None = None
        self.current = effective({}, fixed)
        self.rebuild(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        stored = {name: value for (section, name), value in snapshot.settings.items() if section == SECTION}
        if stored != self._stored:
            self._stored = stored
            self.current = effective(stored, self._fixed)

    def __call__(self) -> ResilienceSettings:
        """Return the settings in force."""
        return self.current


def _accounts_of(directories: Directories) -> Callable[[str], Sequence[Account]]:
    def accounts_of(provider_id: str) -> Sequence[Account]:
        return directories.current.accounts_of(provider_id)  # of whatever configuration is current then

    return accounts_of


class _CurrentAccounts:
    """Gives accounts as they are configured now, for those who wait while the configuration changes."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._of = directories.current
        self._by_id: dict[str, Account] = {}

    def __call__(self, account: Account) -> Account:
        if self._of is not self._directories.current:
            self._of = self._directories.current
            self._by_id.clear()
        found = self._by_id.get(account.id)
        if found is None:
            accounts = self._of.accounts_of(account.provider)
            found = self._by_id[account.id] = next((one for one in accounts if one.id == account.id), account)
        return found


@dataclass(frozen=True, slots=True)
class Routing:
    """The parts of routing of one process."""

    store: StateStore
    board: HealthBoard
    memory: RoutingMemory
    figures: OptionFigures
    gate: Gate
    quotas: Quotas
    view: LiveView
    resolvers: Resolvers
    router: Router
    resilience: ResilienceInForce

    @classmethod
    def build(
        cls,
        *,
        store: StateStore,
        directories: Directories,
        snapshot: Snapshot,
        fixed: Mapping[str, Any],
        gateway_version: str,
        tell: Callable[[Notice], None] | None = None,
        quota_stale_after_s: float | Callable[[], float] = STALE_AFTER_S,
        on_alias: Callable[[Any], None] = lambda _ids: None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Routing:
        """Put the parts together; nothing runs and nothing is read yet.

        `fixed` are the settings of resilience that the environment decides, by path; `tell` gets what operators want
        to hear.
        """
        resilience = ResilienceInForce(snapshot, fixed)
        rng = random.Random()  # noqa: S311 -- jitter
        board = HealthBoard(store=store, now=wall, rng=rng, settings=resilience, tell=tell)
        memory = RoutingMemory(store=store, now=wall)
        figures = OptionFigures(store=store, now=wall)
        gate = Gate(
            store=store,
            board=board,
            rules=lambda: resilience.current.queue,
            current=_CurrentAccounts(directories),
            now=monotonic,
            wall=wall,
            rng=rng,
        )
        quotas = Quotas(store=store, board=board, now=wall, stale_after_s=quota_stale_after_s, on_event=tell)
        view = LiveView(
            board=board, memory=memory, figures=figures, pressure=gate.pressure, has_pressure=gate.has_pressure
        )
        table = fitness.load()
        resolvers = Resolvers(directories, snapshot, pools=pools_by(table), scores=table.scores, on_alias=on_alias)
        router = Router(
            resolver=lambda: resolvers.current,
            board=board,
            memory=memory,
            figures=figures,
            view=view,
            gate=gate,
            quotas=quotas,
            recorder=Recorder(gateway_version=gateway_version),
            resilience=resilience,
            accounts_of=_accounts_of(directories),
            wall=wall,
            monotonic=monotonic,
        )
        return cls(store, board, memory, figures, gate, quotas, view, resolvers, router, resilience)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot; to be told after the directories."""
        self.resilience.rebuild(snapshot)
        self.resolvers.rebuild(snapshot)

    def load(self) -> None:
        """Take over what is stored, without sharing anything: for a process that only looks."""
        self.board.load()
        self.memory.load()
        self.figures.load()
        self.quotas.load()

    def start(self) -> None:
        """Take over what is stored, and begin to share; once per process, after the fork."""
        self.load()
        self.board.start()
        self.memory.start()
        self.figures.start()
        self.quotas.start()

    def stop(self) -> None:
        """Store what is not stored yet, and let go of everything that is held."""
        self.gate.close()
        self.quotas.stop()
        self.board.stop()
        self.memory.stop()
        self.figures.stop()
