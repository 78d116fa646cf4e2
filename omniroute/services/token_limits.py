"""Token limits: how many tokens a key, or all callers together, may use of everything, a provider, or a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict

from omniroute.errors import Conflict, NotFound, ValidationFailed
from omniroute.gateway.directory import Directories
from omniroute.ids import new_id
from omniroute.money.limits import token_hold
from omniroute.money.periods import Window
from omniroute.records import TokenLimit
from omniroute.services.access import Snapshots
from omniroute.services.audit import Recorder
from omniroute.services.budgets import check_scope, scope_name
from omniroute.services.keys import Origin
from omniroute.storage.ledger import Ledger

MOST_TOKENS: Final = 10**15
MOST_LIMITS: Final = 1000


class TokenLimitDocument(TypedDict):
    """A token limit and how far it is used in the window that holds now."""

    id: str
    keyId: str
    keyName: str
    scopeType: str
    scopeValue: str | None
    tokenLimit: int
    period: str
    enabled: bool
    tokensUsed: int
    tokensReserved: int
    remaining: int
    resetsAt: str | None


@dataclass(frozen=True, slots=True)
class LimitState:
    """A token limit and how far it is used in the window that holds now."""

    limit: TokenLimit
    name: str
    window: Window
    used: int
    reserved: int

    @property
    def remaining(self) -> int:
        """Tokens that are left for new requests."""
        return max(0, self.limit.token_limit - self.used - self.reserved)


class TokenLimits:
    """Sets, lists and removes token limits."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        snapshots: Snapshots,
        directories: Directories,
        audit: Recorder,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._snapshots = snapshots
        self._directories = directories
        self._audit = audit
        self._now = now

    def all(self, scope_id: str | None = None) -> list[LimitState]:
        """Return token limits with what was used of them, those of one scope if it is given."""
        found = self._ledger.token_limits()
        limits = [one for scope, some in found.items() if scope_id in (None, scope) for one in some]
        now = self._now()
        standings = self._ledger.standings([token_hold(one, now) for one in limits], now) if limits else []
        return [
            LimitState(
                limit=one,
                name=scope_name(one.scope_id, self._snapshots),
                window=standing.hold.window,
                used=standing.used,
                reserved=standing.reserved,
            )
            for one, standing in zip(limits, standings, strict=True)
        ]

    def set(self, fields: Mapping[str, Any], origin: Origin) -> LimitState:
        """Store a limit: the one with the given id, the one that is about the same in the same period, or a new one.

        Raises:
            NotFound: there is no such limit, or no such key.
            ValidationFailed: a field has no meaning.
            Conflict: another limit is about the same, or there are too many.
        """
        now, limits = self._now(), [one for some in self._ledger.token_limits().values() for one in some]
        old = next((one for one in limits if one.id == fields.get("id")), None)
        if "id" in fields and old is None:
            raise _unknown()
        limit = self._made(old, fields, now)
        twin = next((one for one in limits if _subject(one) == _subject(limit) and one.id != limit.id), None)
        if twin is not None and old is not None:
            raise Conflict("Another limit is about the same in the same period.")
        if twin is not None:
            limit = self._made(twin, {"enabled": True, **fields}, now)
        elif old is None and len(limits) >= MOST_LIMITS:
            raise Conflict(f"There are {MOST_LIMITS} token limits already.")
        self._ledger.set_token_limit(limit, now)
        self._record(limit.id, {"limit": limit.token_limit, "period": limit.period, "scope": limit.scope_id}, origin)
        return next(state for state in self.all(limit.scope_id) if state.limit.id == limit.id)

    def remove(self, limit_id: str, origin: Origin) -> None:
        """Remove a limit.

        Raises:
            NotFound: there is none with this id.
        """
        if not self._ledger.remove_token_limit(limit_id):
            raise _unknown()
        self._record(limit_id, {"removed": True}, origin)

    def scope_value(self, scope_type: str, given: str | None) -> str | None:
        """Return what a limit is about as the log names it: the prefix of a provider, or a model with or without it.

        Raises:
            ValidationFailed: it is missing, it is not a provider, or there is nothing to name.
        """
        if scope_type == "global":
            if given is not None:
                raise ValidationFailed([{"field": "scopeValue", "message": "needs scopeType provider or model"}])
            return None
        if not given:
            raise ValidationFailed([{"field": "scopeValue", "message": f"names the {scope_type}, and is required"}])
        directory = self._directories.current
        if scope_type == "provider":
            provider = directory.provider(given)
            if provider is None:
                raise ValidationFailed([{"field": "scopeValue", "message": "is not a provider or node"}])
            return provider.prefix
        prefix, slash, model = given.partition("/")
        provider = directory.provider(prefix) if slash else None
        return given if provider is None else f"{provider.prefix}/{model}"

    def _made(self, old: TokenLimit | None, fields: Mapping[str, Any], now: float) -> TokenLimit:
        if old is None:
            for name in ("keyId", "tokenLimit", "period"):
                if name not in fields:
                    raise ValidationFailed([{"field": name, "message": "is required"}])
            check_scope(fields["keyId"], self._snapshots)
            old = TokenLimit(new_id("tl"), fields["keyId"], "global", None, 0, fields["period"], created_at=now)
        elif fields.get("keyId", old.scope_id) != old.scope_id:
            raise ValidationFailed(
                [{"field": "keyId", "message": "cannot be changed; remove this limit, and set another"}]
            )
        scope_type = fields.get("scopeType", old.scope_type)
        inherited = old.scope_value if scope_type == old.scope_type else None
        return replace(
            old,
            scope_type=scope_type,
            scope_value=self.scope_value(scope_type, fields.get("scopeValue", inherited)),
            token_limit=fields.get("tokenLimit", old.token_limit),
            period=fields.get("period", old.period),
            enabled=fields.get("enabled", old.enabled),
            updated_at=now,
        )

    def _record(self, limit_id: str, details: dict[str, Any], origin: Origin) -> None:
        facts = origin.facts()
        self._audit.record(
            "token_limit.changed", target_kind="token_limit", target_id=limit_id, details=details, **facts
        )


def document(state: LimitState, iso_time: Callable[[float | None], str | None]) -> TokenLimitDocument:
    """Return a token limit as the management API and the command line show it."""
    limit = state.limit
    return {
        "id": limit.id,
        "keyId": limit.scope_id,
        "keyName": state.name,
        "scopeType": limit.scope_type,
        "scopeValue": limit.scope_value,
        "tokenLimit": limit.token_limit,
        "period": limit.period,
        "enabled": limit.enabled,
        "tokensUsed": state.used,
        "tokensReserved": state.reserved,
        "remaining": state.remaining,
        "resetsAt": iso_time(state.window.end),
    }


def _subject(limit: TokenLimit) -> tuple[str, str, str | None, str]:
    return (limit.scope_id, limit.scope_type, limit.scope_value, limit.period)


def _unknown() -> NotFound:
    return NotFound("There is no token limit with this id.")
