"""What combos are worth: metrics out of the request log, and a small call to each of a combo's targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from gevent.pool import Pool
from sqlalchemy import Connection as Sql

from omniroute.gateway.blocks import walked
from omniroute.gateway.directory import Target
from omniroute.gateway.resolver import Resolver
from omniroute.providers.upstream import Deadlines
from omniroute.records import Combo
from omniroute.routing.options import Block, Step
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.checkups import Checkup, Checkups, diagnosis_of
from omniroute.services.keys import Origin
from omniroute.services.probe import PREFERRED, Finding, Prober
from omniroute.storage.database import Database
from omniroute.storage.repositories import combo_metrics
from omniroute.storage.repositories import settings as stored_settings
from omniroute.storage.repositories.combo_metrics import Sum

MOST_TRIED: Final = 50
LONGEST_WINDOW_H: Final = 24 * 90

_AT_ONCE: Final = 8
_DEADLINES: Final = Deadlines(connect_s=10.0, headers_s=20.0, content_s=20.0, idle_s=20.0, total_s=20.0)
_SECTION: Final = "combo-metrics"
_ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class Trial:
    """What one target said. `status` is `ok`, `error`, or `skipped` for a step that leads nowhere now."""

    status: str
    model: str
    provider: str | None = None
    connection_id: str | None = None
    latency_ms: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TargetMetrics:
    """How a combo has done at one target."""

    step_id: str | None
    model: str
    requests: int
    succeeded: int
    mean_latency_ms: float | None


@dataclass(frozen=True, slots=True)
class ComboMetrics:
    """How a combo has done. `fallback_rate` is the share of requests that needed more than one attempt."""

    combo_id: str
    name: str
    requests: int
    succeeded: int
    mean_latency_ms: float | None
    fallback_rate: float | None
    targets: tuple[TargetMetrics, ...]


class ComboReports:
    """Tests combos, and tells how they have done."""

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        resolver: Callable[[], Resolver],
        prober: Prober,
        checkups: Checkups,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._resolver = resolver
        self._prober = prober
        self._checkups = checkups
        self.now = now
        """The clock by which tests are dated."""

    # --- trials --------------------------------------------------------------------------------------------------

    def test(self, combo: Combo, prompt: str | None = None) -> list[Trial]:
        """Make one small call to each target of a combo, several at a time, and return what came back in their order.

        Each target is given 20 seconds; the calls stay out of usage.
        """
        steps: list[Step] = []
        block = self._resolver().block_of(combo)
        walked(block, steps.append)
        trials: list[Trial] = Pool(_AT_ONCE).map(lambda step: self._tried(combo.id, step, prompt), steps[:MOST_TRIED])
        return [*trials, *(Trial("skipped", step.name, error=step.problem) for step in _dead(block))]

    def _tried(self, combo_id: str, step: Step, prompt: str | None) -> Trial:
        option = step.option
        if option is None or step.problem is not None:
            return Trial("skipped", step.name, error=step.problem)
        account_id = step.connection_id or option.accounts[0].id
        target: Target = option.handles[account_id]
        endpoint = next((target.endpoints[key] for key in PREFERRED if key in target.endpoints), None)
        if endpoint is None:
            return Trial("error", option.name, option.provider, account_id, error="The provider has no chat to test.")
        endpoint = replace(endpoint, sender=replace(endpoint.sender, combo=combo_id))
        more = {} if prompt is None else {"prompt": prompt}
        found = self._prober.ask(endpoint, target.model, stream=False, deadlines=_DEADLINES, **more)
        self._log(target, found)
        error = None if found.failure is None else found.failure.message or diagnosis_of(found.failure)
        status = "ok" if found.is_ok else "error"
        return Trial(status, option.name, option.provider, account_id, found.latency_ms, error)

    def _log(self, target: Target, found: Finding) -> None:
        connection = next((c for c in self._snapshots.current.connections if c.id == target.connection_id), None)
        if connection is None:
            return
        failure = found.failure
        error: Mapping[str, Any] | None = None
        if failure is not None:
            error = {"code": failure.kind, "class": failure.failure_class.value, "message": failure.message or ""}
        result = Checkup(found.is_ok, found.latency_ms, found.status, target.model, error, None, self.now())
        self._checkups.log(target.provider, connection, result)

    # --- metrics -------------------------------------------------------------------------------------------------

    def metrics(self, *, combo: Combo | None, window_h: int) -> list[ComboMetrics]:
        """Return how one combo or all have done within a window, those with the most requests first."""
        since = self.now() - window_h * 3600
        names = {row.id: row.name for row in self._snapshots.current.combos}
        resets = self._resets()

        def work(sql: Sql) -> list[Sum]:
            if combo is not None:
                return combo_metrics.sums(sql, since=_later(since, resets, combo.id), combo_id=combo.id)
            found = combo_metrics.sums(sql, since=_later(since, resets, _ALL))
            recent = {row.combo_id for row in found if resets.get(row.combo_id, 0.0) > since}
            kept = [row for row in found if row.combo_id not in recent]
            for combo_id in sorted(recent):
                kept += combo_metrics.sums(sql, since=_later(since, resets, combo_id), combo_id=combo_id)
            return kept

        by_combo: dict[str, list[Sum]] = {}
        for row in self._database.read(work):
            by_combo.setdefault(row.combo_id, []).append(row)
        made = [_summed(combo_id, names.get(combo_id, combo_id), rows) for combo_id, rows in by_combo.items()]
        return sorted(made, key=lambda one: (-one.requests, one.name))

    def reset(self, combo: Combo | None, origin: Origin) -> None:
        """Let the metrics of one combo or of all begin now; the request log keeps its rows."""
        now = self.now()
        name = _ALL if combo is None else combo.id
        by = origin.actor.audit_name
        self._database.write(
            lambda sql: stored_settings.put(sql, _SECTION, name, now, changed_by=by, now=now), bump=True
        )
        facts = origin.facts()
        details = {"fields": ["metrics"]}
        target_id = None if combo is None else combo.id
        self._audit.record("combo.updated", target_kind="combo", target_id=target_id, details=details, **facts)

    def _resets(self) -> dict[str, float]:
        settings = self._snapshots.current.settings
        return {name: float(at) for (section, name), at in settings.items() if section == _SECTION}


def _dead(block: Block) -> Iterable[Step]:
    """Return the steps that have no option to try."""
    for step in block.steps:
        if step.block is not None:
            yield from _dead(step.block)
        elif step.option is None:
            yield step


def _later(since: float, resets: Mapping[str, float], combo_id: str) -> float:
    return max(since, resets.get(_ALL, 0.0), resets.get(combo_id, 0.0))


def _summed(combo_id: str, name: str, rows: Iterable[Sum]) -> ComboMetrics:
    rows = list(rows)
    requests, succeeded = sum(row.requests for row in rows), sum(row.succeeded for row in rows)
    return ComboMetrics(
        combo_id=combo_id,
        name=name,
        requests=requests,
        succeeded=succeeded,
        mean_latency_ms=_mean(sum(row.duration_ms for row in rows), succeeded),
        fallback_rate=sum(row.fallbacks for row in rows) / requests if requests else None,
        targets=tuple(
            TargetMetrics(
                row.step_id,
                f"{row.provider}/{row.model}" if row.provider and row.model else row.model or "",
                row.requests,
                row.succeeded,
                _mean(row.duration_ms, row.succeeded),
            )
            for row in rows
        ),
    )


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 1) if count else None
