"""API keys: made here, shown once, stored as a hash; their fields, and the order in which they end."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from ipaddress import ip_network
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection as Sql

from omniroute.errors import InvalidRequest, NotFound, PermissionDenied, ValidationFailed
from omniroute.ids import new_id
from omniroute.records import AccessSchedule, ApiKey, RateRule
from omniroute.secret import Secret
from omniroute.services.access import Actor, ActorKind, Power, Snapshots
from omniroute.services.audit import Recorder
from omniroute.storage.database import Database
from omniroute.storage.repositories import api_keys as rows
from omniroute.storage.repositories import ledger
from omniroute.storage.secrets import Cipher

MOST_SCOPES: Final = 32
LONGEST_SCOPE: Final = 64
MOST_RATE_RULES: Final = 50
LONGEST_GRACE_S: Final = 30 * 86400
STATES: Final = ("active", "disabled", "expired", "banned")

_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH: Final = 12
_RANDOM_BYTES: Final = 32
_TAG_LENGTH: Final = 8

_PLAIN_SCOPES: Final = frozenset(
    {"chat", "manage", "admin", "mcp:connect", "a2a", "reserve:use", "self:usage", "self:quota"}
    | {"analytics", "auth", "billing", "combos", "health", "keys", "memory", "models", "providers", "system"}
)
_POWERFUL_SCOPES: Final = frozenset({"manage", "admin", "mcp:connect"})
_OWN_USAGE: Final = "self:usage"
_SKILL_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True, slots=True)
class Issued:
    """A key at the one moment when its secret exists in clear."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks for a change and from where, for the audit log."""

    actor: Actor
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None

    def facts(self) -> dict[str, Any]:
        """Return the facts as the audit log takes them."""
        return {
            "actor": self.actor.audit_name,
            "address": self.address,
            "user_agent": self.user_agent,
            "request_id": self.request_id,
        }


class Keys:
    """Creates, lists, changes, replaces and revokes API keys.

    Args:
        tag_key: key of the tag that ends each API key (`API_KEY_SECRET`).
    """

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        audit: Recorder,
        tag_key: bytes,
        now: Callable[[], float],
        cipher: Cipher | None = None,
    ) -> None:
        """`cipher` is given where new keys are also kept in a form that can be shown again."""
        self._cipher = cipher
        self._database = database
        self._snapshots = snapshots
        self._audit = audit
        self._tag_key = tag_key
        self.now = now
        """The clock by which keys expire."""

    def usable(self) -> list[ApiKey]:
        """Return all keys that were not revoked, the newest first."""
        snapshot = self._snapshots.current
        found = self._database.read(lambda sql: rows.load_known(sql, snapshot))
        return sorted((key for key in found if key.revoked_at is None), key=lambda key: key.created_at, reverse=True)

    def get(self, key_id: str) -> ApiKey:
        """Return one key by its row id.

        Raises:
            NotFound: unknown, or revoked.
        """
        key = self._database.read(lambda connection: rows.get(connection, key_id))
        if key is None or key.revoked_at is not None:
            raise NotFound("There is no API key with this id.")
        return key

    def create(self, fields: Mapping[str, Any], origin: Origin) -> Issued:
        """Create a key from checked fields (see :data:`FIELDS`) and return it with its secret.

        Raises:
            ValidationFailed: a field has no meaning.
            InvalidRequest: `not_supported`, a field asks for a limit that nothing would enforce.
            PermissionDenied: the key would hold more than its maker may give.
        """
        now = self.now()
        values = _values(fields, now)
        values["scopes"] = initial_scopes(values.get("scopes", frozenset()))
        self._check_gift(values["scopes"], frozenset(), origin)
        secret, number = self._new_secret()
        key = ApiKey(
            id=new_id("key"),
            key_id=number,
            key_hash=_digest(secret),
            key_prefix=secret[:8],
            key_last4=secret[-4:],
            created_at=now,
            updated_at=now,
            **values,
        )

        def work(sql: Sql) -> None:
            rows.insert(sql, key)
            self._keep_readable(sql, key.id, secret)

        self._database.write(work, bump=True)
        self._record("key.created", key, origin, {"name": key.name, "scopes": sorted(key.scopes)})
        return Issued(key, secret)

    def change(self, key_id: str, fields: Mapping[str, Any], origin: Origin) -> ApiKey:
        """Change the given fields of a key."""
        old = self.get(key_id)
        now = self.now()
        values = _values(fields, now)
        if "scopes" in values:
            self._check_gift(values["scopes"], old.scopes, origin)
        elif old.scopes & _POWERFUL_SCOPES and _widens(old, values):
            # Switching a manage key on again, or lifting its limits, gives as much as creating it.
            self._check_gift(old.scopes, frozenset(), origin)
        new = replace(old, **values, updated_at=now)
        self._database.write(lambda connection: rows.update(connection, new), bump=True)
        changed = sorted(name for name in values if getattr(old, name) != getattr(new, name))
        self._record("key.updated", new, origin, {"fields": changed})
        return new

    def regenerate(self, key_id: str, origin: Origin, grace_s: int = 0) -> Issued:
        """Replace the secret of a key; the old one stays valid for `grace_s` seconds."""
        old = self.get(key_id)
        if old.scopes & _POWERFUL_SCOPES:
            self._check_gift(old.scopes, frozenset(), origin)
        now = self.now()
        secret, number = self._new_secret()
        new = replace(
            old,
            key_id=number,
            key_hash=_digest(secret),
            key_prefix=secret[:8],
            key_last4=secret[-4:],
            previous_hash=old.key_hash if grace_s else None,
            previous_until=now + grace_s if grace_s else None,
            updated_at=now,
        )

        def work(sql: Sql) -> None:
            rows.update(sql, new)
            rows.forget_readable(sql, new.id)
            self._keep_readable(sql, new.id, secret)

        self._database.write(work, bump=True)
        self._record("key.regenerated", new, origin, {"grace_s": grace_s})
        return Issued(new, secret)

    def revoke(self, key_id: str, origin: Origin) -> None:
        """End a key at once, on all workers; its usage stays, its budgets and token limits go."""
        old = self.get(key_id)
        now = self.now()
        gone = replace(old, revoked_at=now, previous_hash=None, previous_until=None, updated_at=now)

        def work(sql: Sql) -> None:
            rows.update(sql, gone)
            rows.forget_readable(sql, key_id)
            ledger.delete_scope(sql, key_id)

        self._database.write(work, bump=True)
        self._record("key.deleted", gone, origin, {"name": gone.name})

    @property
    def may_reveal(self) -> bool:
        """Whether keys made now can be shown again."""
        return self._cipher is not None

    def reveal(self, key_id: str, origin: Origin) -> Secret:
        """Return a key in full.

        Raises:
            NotFound: there is no such key, or `not_revealable`: only its hash was kept.
            PermissionDenied: `reveal_disabled`, or the key holds more than the caller may give.
            CredentialUnreadable: the encryption key has been replaced since.
        """
        if self._cipher is None:
            raise PermissionDenied(
                "API keys are stored as hashes here. With ALLOW_API_KEY_REVEAL=true those made from then on can be "
                "shown again.",
                code="reveal_disabled",
            )
        key, cipher = self.get(key_id), self._cipher
        if key.scopes & _POWERFUL_SCOPES:
            self._check_gift(key.scopes, frozenset(), origin)
        found = self._database.read(lambda sql: rows.reveal(sql, key_id, cipher))
        if found is None:
            raise NotFound(
                "Of this API key only the hash is stored. Regenerate it to be able to show it.", code="not_revealable"
            )
        self._record("key.revealed", key, origin, {"name": key.name})
        return found

    def forget_readable(self) -> int:
        """Delete what could be shown again, unless that is allowed; return how many keys it was of."""
        if self._cipher is not None:
            return 0
        return self._database.write(rows.forget_readable)

    def _keep_readable(self, sql: Sql, key_id: str, secret: str) -> None:
        if self._cipher is not None and not self._cipher.is_sealed:
            rows.store_readable(sql, key_id, Secret(secret), self._cipher)

    def has_valid_tag(self, secret: str) -> bool:
        """Tell whether a key ends in the tag that this server gives: it proves nothing, it tells mistypes apart."""
        body, _, tag = secret.rpartition("-")
        # As bytes: a header may hold any character, and the comparison of texts takes ASCII alone.
        return hmac.compare_digest(self._tag(body).encode(), tag.encode())

    def _new_secret(self) -> tuple[str, str]:
        number = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        body = f"sk-{number}-{secrets.token_urlsafe(_RANDOM_BYTES)}"
        return f"{body}-{self._tag(body)}", number

    def _tag(self, body: str) -> str:
        number, _, random_part = body.removeprefix("sk-").partition("-")
        return hmac.new(self._tag_key, (number + random_part).encode(), sha256).hexdigest()[:_TAG_LENGTH]

    def _check_gift(self, wanted: frozenset[str], held: frozenset[str], origin: Origin) -> None:
        if (wanted - held) & _POWERFUL_SCOPES and origin.actor.power < Power.ADMIN:
            raise PermissionDenied(
                "Only a caller with scope 'admin' may give a key the scopes 'manage', 'admin' or 'mcp:connect'.",
                code="scope_insufficient",
                extras={"held": origin.actor.power.name.lower(), "required": "admin"},
            )

    def _record(self, action: str, key: ApiKey, origin: Origin, details: dict[str, Any]) -> None:
        facts = origin.facts()
        self._audit.record(action, target_kind="key", target_id=key.id, details=details, **facts)


SYSTEM: Final = Origin(Actor(ActorKind.CLI, Power.ADMIN))
"""The command line on the host itself."""


def state_of(key: ApiKey, now: float) -> str:
    """Return the state of a key in one word, as lists show it."""
    if key.is_banned:
        return "banned"
    if not key.is_active:
        return "disabled"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active"


def masked(key: ApiKey) -> str:
    """Return what may be shown of a key: its first 8 and last 4 characters."""
    return f"{key.key_prefix}…{key.key_last4}"


def initial_scopes(scopes: frozenset[str]) -> frozenset[str]:
    """Return the scopes of a new key: inference if nothing was asked for, and always a view of its own usage."""
    return (scopes or frozenset({"chat"})) | {_OWN_USAGE}


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _widens(old: ApiKey, values: Mapping[str, Any]) -> bool:
    limits = ("expires_at", "is_active", "is_banned", "ip_allowlist", "schedule", "is_canary")
    return any(name in values and values[name] != getattr(old, name) for name in limits)


def refuse_unenforced(fields: Mapping[str, Any], idle: Mapping[str, tuple[Any, ...]], noun: str) -> None:
    """Refuse what would be stored but not acted on: a limit that does not hold is worse than none.

    Args:
        fields: the given fields.
        idle: the fields that nothing enforces, with the values that ask for nothing.
        noun: whose fields they are, for the message.

    Raises:
        InvalidRequest: `not_supported`.
    """
    for name, nothing in idle.items():
        if name in fields and fields[name] not in nothing:
            raise InvalidRequest(
                f"This release does not enforce {name} of {noun}, so it does not accept a value for it.",
                code="not_supported",
                param=name,
            )


# --- fields ----------------------------------------------------------------------------------------------------------


def _values(fields: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Turn fields with names of the API into those of the record, checking what a shape alone cannot."""
    refuse_unenforced(fields, _UNENFORCED, "API keys")
    details: list[dict[str, str]] = []
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _UNENFORCED:
            continue
        column, convert = _COLUMNS[name]
        try:
            values[column] = convert(value)
        except ValueError as error:
            details.append({"field": name, "message": str(error)})
    expires_at = values.get("expires_at")
    if expires_at is not None and expires_at <= now:
        details.append({"field": "expiresAt", "message": "must lie in the future"})
    if details:
        raise ValidationFailed(details)
    return values


def _scopes(value: Any) -> frozenset[str]:
    if len(value) > MOST_SCOPES:
        raise ValueError(f"must have at most {MOST_SCOPES} entries")
    for scope in value:
        kind, _, name = scope.partition(":")
        is_skill = kind == "skills" and (name == "*" or (bool(name) and set(name) <= _SKILL_NAME))
        if len(scope) > LONGEST_SCOPE or (scope not in _PLAIN_SCOPES and not is_skill):
            raise ValueError(f"{scope[:LONGEST_SCOPE]!r} is not a scope")
    return frozenset(value)


def _globs(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value))


def _networks(value: Any) -> tuple[str, ...]:
    entries = []
    for entry in value:
        try:
            entries.append(str(ip_network(entry, strict=False)))
        except ValueError:
            raise ValueError(f"{entry[:60]!r} is not an address or network") from None
    return tuple(dict.fromkeys(entries))


def _endpoints(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entry.strip("/").removeprefix("v1/") for entry in value))


def _schedule(value: Any) -> AccessSchedule | None:
    if value is None:
        return None
    try:
        ZoneInfo(value["tz"])
    except (KeyError, ValueError, OSError):
        raise ValueError("tz is not a time zone") from None
    return AccessSchedule(value["enabled"], value["from"], value["until"], tuple(sorted(value["days"])), value["tz"])


def _rate_rules(value: Any) -> tuple[RateRule, ...]:
    rules = tuple(RateRule(rule["limit"], rule["windowSeconds"]) for rule in value)
    if len({rule.window_seconds for rule in rules}) < len(rules):
        raise ValueError("has two rules for the same number of seconds")
    return rules


def _as_is(value: Any) -> Any:
    return value


_UNENFORCED: Final[Mapping[str, tuple[Any, ...]]] = {
    "disabledGuardrails": ((),),
    "streamDefault": ("request",),
}
"""Fields that are part of a key but that this release does not act on, with the values that ask for nothing."""

_COLUMNS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "name": ("name", _as_is),
    "scopes": ("scopes", _scopes),
    "allowedModels": ("allowed_models", _globs),
    "blockedModels": ("blocked_models", _globs),
    "allowedCombos": ("allowed_combos", _globs),
    "allowedConnections": ("allowed_connections", _globs),
    "allowedEndpoints": ("allowed_endpoints", _endpoints),
    "ipAllowlist": ("ip_allowlist", _networks),
    "expiresAt": ("expires_at", _as_is),
    "isActive": ("is_active", _as_is),
    "isBanned": ("is_banned", _as_is),
    "accessSchedule": ("schedule", _schedule),
    "rateLimits": ("rate_limits", _rate_rules),
    "maxConcurrent": ("max_concurrent", _as_is),
    "maxSessions": ("max_sessions", _as_is),
    "throttleDelayMs": ("throttle_delay_ms", _as_is),
    "noLog": ("no_log", _as_is),
    "hidePaidModels": ("hide_paid_models", _as_is),
    "isCanary": ("is_canary", _as_is),
}
