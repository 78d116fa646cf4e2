"""How long what traffic writes is kept: removed in small batches, by age and number, or at once when that is asked for.

SQLite gives the pages of removed rows to new ones, so under a steady load the file stops growing when the first rows
reach their age.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection as Sql

from omniroute.services.audit import Audit
from omniroute.services.keys import Origin
from omniroute.settings import Settings
from omniroute.storage.body_files import BodyFiles
from omniroute.storage.database import Database
from omniroute.storage.repositories import (
    access_tokens,
    audit,
    conversations,
    ip_rules,
    ledger,
    login_attempts,
    quotas,
    request_log,
    retention,
    sessions,
    usage,
)

_DAY_S: Final = 86_400
_BATCH: Final = 1000
_PAUSE_S: Final = 0.01
_AUDIT_KEPT: Final = 1000
_LEDGER_DAYS: Final = 400
_LIMIT_USAGE_DAYS: Final = 7
_ENDED_TOKEN_DAYS: Final = 90
"""So long the list says that a token has expired or was revoked."""


class Purged(StrEnum):
    """What can be removed before its time."""

    LOGS = "logs"
    USAGE = "usage"
    AUDIT = "audit"
    QUOTA = "quota"


class Retention:
    """Removes what is older, or more, than is to be kept."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        database: Database,
        bodies: BodyFiles,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._bodies = bodies
        self._now = now
        self._sleep = sleep

    def apply(self) -> None:
        """Remove what has reached its age."""
        now, settings = self._now(), self._settings()
        self._remove_logs(now - settings.call_log_retention_days * _DAY_S, settings.call_log_max_rows)
        self._bodies.remove(before=now - settings.body_retention_days * _DAY_S, most_bytes=settings.body_max_bytes)
        hourly_days = settings.usage_hourly_retention_days
        # Sums of a day are read instead of those of its hours, and so stay at least as long.
        daily_days = max(settings.usage_daily_retention_days, hourly_days)
        self._remove_sums(now - hourly_days * _DAY_S, now - daily_days * _DAY_S)
        kept_since = now - settings.audit_retention_days * _DAY_S
        for remove in (
            lambda sql: ledger.prune(sql, now),
            lambda sql: retention.prune_ledger(sql, now - _LEDGER_DAYS * _DAY_S),
            lambda sql: retention.prune_limit_usage(sql, now - _LIMIT_USAGE_DAYS * _DAY_S),
            lambda sql: quotas.prune(sql, now),
            lambda sql: audit.prune(sql, before=kept_since, keep=_AUDIT_KEPT, now=now),
            lambda sql: sessions.delete_ended(sql, now - _DAY_S),
            lambda sql: access_tokens.delete_ended(sql, now - _ENDED_TOKEN_DAYS * _DAY_S),
            lambda sql: login_attempts.delete_old(sql, now - _DAY_S),
            lambda sql: conversations.delete_expired(sql, now),
            lambda sql: ip_rules.delete_ended(sql, now),
        ):
            self._database.write(remove)

    def count(self, what: Purged, older_than_days: int) -> int:
        """Return how many rows a purge would remove now."""
        before = self._cut(older_than_days)

        def work(sql: Sql) -> int:
            match what:
                case Purged.LOGS:
                    return request_log.count_before(sql, before)
                case Purged.USAGE:
                    return usage.count_before(sql, before)
                case Purged.AUDIT:
                    return audit.count_before(sql, before=before, keep=_AUDIT_KEPT)
                case Purged.QUOTA:
                    return quotas.count_before(sql, before)

        return self._database.read(work)

    def purge_logs(self, older_than_days: int, audit_log: Audit, who: Origin) -> int:
        """Remove requests that are so old, with how they were routed and their bodies; return how many."""
        self._bodies.remove(before=self._cut(older_than_days))
        removed = self._remove_logs(self._cut(older_than_days), None)
        audit_log.record("logs.purged", details={"olderThanDays": older_than_days, "rows": removed}, **who.facts())
        return removed

    def purge_usage(self, older_than_days: int, audit_log: Audit, who: Origin) -> int:
        """Remove sums of days that are so old; return how many rows. What budgets have counted stays."""
        before = self._cut(older_than_days)
        removed = self._remove_sums(before, before)
        audit_log.record("usage.purged", details={"olderThanDays": older_than_days, "rows": removed}, **who.facts())
        return removed

    def purge_audit(self, older_than_days: int, audit_log: Audit, who: Origin) -> int:
        """Remove audit rows that are so old; return how many. The newest thousand stay."""
        now, before = self._now(), self._cut(older_than_days)
        removed = self._database.write(lambda sql: audit.prune(sql, before=before, keep=_AUDIT_KEPT, now=now))
        audit_log.record("audit.purged", details={"olderThanDays": older_than_days, "rows": removed}, **who.facts())
        return removed

    def purge_quota(self, older_than_days: int, audit_log: Audit, who: Origin) -> int:
        """Remove stored readings of providers' quotas that are so old; return how many."""
        before = self._cut(older_than_days)
        removed = self._database.write(lambda sql: quotas.delete_before(sql, before))
        audit_log.record("quota.purged", details={"olderThanDays": older_than_days, "rows": removed}, **who.facts())
        return removed

    def _cut(self, older_than_days: int) -> float:
        now = self._now()
        return now - older_than_days * _DAY_S if older_than_days else now + _DAY_S

    def _remove_logs(self, before: float, max_rows: int | None) -> int:
        def remove(sql: Sql) -> int:
            return request_log.prune(sql, before=before, max_rows=max_rows, batch=_BATCH)

        return self._repeated(remove, lambda removed: removed < _BATCH)

    def _remove_sums(self, hourly_before: float, daily_before: float) -> int:
        def remove(sql: Sql) -> int:
            return usage.prune(sql, hourly_before=hourly_before, daily_before=daily_before, batch=_BATCH)

        return self._repeated(remove, lambda removed: removed == 0)

    def _repeated(self, remove: Callable[[Sql], int], is_last: Callable[[int], bool]) -> int:
        """Remove a batch at a time, with pauses in which others write."""
        total = 0
        while True:
            removed = self._database.write(remove)
            total += removed
            if is_last(removed):
                return total
            self._sleep(_PAUSE_S)
