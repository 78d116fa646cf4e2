"""How options have done lately: this worker's own tallies, what the other workers show, and who is out for a bad score.

Every few seconds a worker stores what it has seen where the others read it. Nothing depends on that: without the store
each worker goes by its own figures.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

import gevent

from omniroute.errors import OmniRouteError
from omniroute.gateway.leases import new_owner
from omniroute.routing.figures import GOOD, Digest, Standing, Tally, judged, merged, tried
from omniroute.routing.view import UNKNOWN, Figures
from omniroute.storage.repositories.counters import FIGURES, Counter
from omniroute.storage.state import FIGURES_KEPT_S, StateStore

log = logging.getLogger(__name__)

EXCHANGE_INTERVAL_S: Final = 5.0
MOST_OPTIONS: Final = 5000
_MOST_WORKERS: Final = 64
_FORGOTTEN_AFTER_S: Final = 86_400.0
_FRESH_S: Final = 5.0
"""Outcomes age by the minute, so an answer made of them holds for a few seconds."""


class OptionFigures:
    """Figures by the name of an option; the part of a view that learns from outcomes."""

    def __init__(self, *, store: StateStore, now: Callable[[], float], worker: Callable[[], str] = new_owner) -> None:
        """`now`: epoch seconds; `worker`: names this process, called once it runs."""
        self.store_failures = 0
        """Exchanges that the store refused."""
        self._store = store
        self._now = now
        self._new_worker = worker
        self._scope: str | None = None
        self._tallies: OrderedDict[str, Tally] = OrderedDict()  # the longest unused first
        self._standings: dict[str, Standing] = {}
        self._others: dict[str, Counter] = {}  # by worker
        self._fresh: dict[str, tuple[float, Figures]] = {}
        self._is_changed = False
        self._greenlet: gevent.Greenlet[..., None] | None = None

    # --- asked ----------------------------------------------------------------------------------------------------

    def of(self, option_name: str) -> Figures:
        """Return what all workers together know about an option."""
        return self._of(option_name, self._now())

    def _of(self, name: str, now: float) -> Figures:
        known = self._fresh.get(name)
        if known is not None and known[0] > now:
            return known[1]
        if name not in self._tallies and not self._others and name not in self._standings:
            return UNKNOWN
        standing = self._standings.get(name, GOOD)
        figures = merged(self._digests(name), standing, now)
        # A rest that ends sooner than the answer would have stayed fresh ends it.
        until = now + _FRESH_S
        self._fresh[name] = (min(until, standing.out_until) if standing.out_until > now else until, figures)
        if len(self._fresh) > MOST_OPTIONS:
            self._fresh.clear()
        return figures

    # --- told -----------------------------------------------------------------------------------------------------

    def note(
        self,
        name: str,
        *,
        ok: bool,
        at: float,
        ttft_ms: float | None = None,
        total_ms: float | None = None,
        tokens_out: int | None = None,
    ) -> None:
        """Count the outcome of an attempt; leave out what says nothing about the option (a client that left)."""
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally()
            if len(self._tallies) > MOST_OPTIONS:
                self._forget(next(iter(self._tallies)))
        else:
            self._tallies.move_to_end(name)
        tally.note(ok=ok, at=at, ttft_ms=ttft_ms, total_ms=total_ms, tokens_out=tokens_out)
        standing = self._standings.get(name)
        if standing is not None:
            self._stand(name, tried(standing, ok=ok, now=at))
        self._fresh.pop(name, None)
        self._is_changed = True

    def note_score(self, name: str, score: float, now: float) -> Standing:
        """Judge an option by a score that was computed just now; return how it stands."""
        standing = self._standings.get(name, GOOD)
        if standing is GOOD:  # nearly always: what is known anyway is enough
            figures = self._of(name, now)
            ok, total = figures.ok, figures.total
        else:
            counts = [digest.outcomes(now, standing.since) for digest in self._digests(name)]
            ok, total = sum(ok for ok, _ in counts), sum(total for _, total in counts)
        after = judged(standing, score=score, ok=ok, total=total, now=now)
        if after is not standing:
            self._stand(name, after)
            self._fresh.pop(name, None)
        return after

    def _stand(self, name: str, standing: Standing) -> None:
        if standing is GOOD:
            self._standings.pop(name, None)
        else:
            self._standings[name] = standing

    # --- shared ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read what other workers, and those before this one, have shown; a store that fails leaves nothing known."""
        self._try(self._adopt)

    def exchange(self) -> None:
        """Show the others what has changed here, and see what they have; forget what nobody has used for a day."""
        self._sweep()
        self._try(self._publish)
        self._try(self._adopt)

    def start(self) -> None:
        """Exchange every few seconds from now on; after the fork."""
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """End that, and show the others what this worker has seen to its end."""
        if self._greenlet is not None:
            self._greenlet.kill(timeout=2)
            self._greenlet = None
        self._try(self._publish)

    def _run(self) -> None:
        while True:
            gevent.sleep(EXCHANGE_INTERVAL_S)
            self.exchange()

    def _publish(self) -> None:
        if not self._is_changed:
            return
        since = self._now() - FIGURES_KEPT_S
        some = {name: tally.digest().to_json() for name, tally in self._tallies.items() if tally.used_at > since}
        self._is_changed = False
        try:
            self._store.save_counters({(self._own_scope, FIGURES): some})
        except OmniRouteError:
            self._is_changed = True
            raise

    def _adopt(self) -> None:
        since = self._now() - FIGURES_KEPT_S
        rows = self._store.load_counters(since, of_figures=True, at_most=_MOST_WORKERS)
        others = {row.scope: row for row in rows if row.scope != self._own_scope and isinstance(row.value, dict)}
        if others != self._others:
            self._others = others
            self._fresh.clear()

    @property
    def _own_scope(self) -> str:
        if self._scope is None:
            self._scope = f"worker:{self._new_worker()}"
        return self._scope

    def _digests(self, name: str) -> Iterator[Digest]:
        tally = self._tallies.get(name)
        if tally is not None:
            yield tally.digest()
        for row in self._others.values():
            shown = row.value.get(name)
            if shown is not None:
                yield Digest.from_json(shown)

    def _sweep(self) -> None:
        before = self._now() - _FORGOTTEN_AFTER_S
        for name, tally in list(self._tallies.items()):
            if tally.used_at >= before:
                return
            self._forget(name)

    def _forget(self, name: str) -> None:
        del self._tallies[name]
        self._fresh.pop(name, None)
        self._standings.pop(name, None)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OmniRouteError as error:
            if not self.store_failures:
                log.warning("The workers' figures cannot be exchanged; each goes by its own: %s", error)
            self.store_failures += 1
