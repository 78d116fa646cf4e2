"""Who is calling, and what that caller may do: credentials of a request against the snapshot, then the key policy.

Two questions are answered here. For inference: which key (or keyless caller) this is, in the order of checks that the
documentation lists, each with its own code. For management: which actor with how much power. The inference path is the
hot one: it hashes the credential, looks the hash up and compares it, and touches nothing else for a key without extra
rules. No database, no Flask, no cookie is involved there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from hashlib import sha256
from hmac import compare_digest
from ipaddress import ip_network
from math import inf
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from omniroute.errors import AuthenticationFailed, PermissionDenied
from omniroute.records import AccessSchedule, AccessToken, ApiKey, Snapshot
from omniroute.secret import Secret
from omniroute.services.carriers import carried_credential
from omniroute.services.reach import Environ, Network, Reach, is_loopback_peer, parse_address

REALM: Final = 'Bearer realm="omniroute"'
INFERENCE_SCOPES: Final = frozenset({"chat", "manage", "admin"})
MANAGEMENT_SCOPES: Final = frozenset({"manage", "admin"})
ACCESS_TOKEN_PREFIX: Final = "oma_live_"  # noqa: S105 - how such a token begins

_HOW_TO_GET_A_KEY: Final = (
    "Send one as 'Authorization: Bearer sk-…' or 'x-api-key'; "
    "create it on the dashboard or with 'omniroute keys create'."
)
_HOW_TO_LOG_IN: Final = (
    "Log in, or send an access token ('omniroute connect') or an API key with scope 'manage' as "
    "'Authorization: Bearer …'."
)
_CANARY_PAUSE_S: Final = 60.0
# Wider than the exact form, so that one of our keys with a lost or doubled character is told from a placeholder.
_TOKEN_SHAPE: Final = re.compile(ACCESS_TOKEN_PREFIX + r"[0-9A-Za-z_-]{43}", re.ASCII)
_KEY_SHAPE: Final = re.compile(r"sk-[0-9A-Za-z]{10,14}-[0-9A-Za-z_-]{36,60}", re.ASCII)


class Power(IntEnum):
    """Management power; each includes the ones below."""

    READ = 1
    WRITE = 2
    ADMIN = 3


class CallerKind(StrEnum):
    """What an inference caller was recognised by."""

    KEY = "key"
    LOCAL = "local"
    ENV = "env"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Caller:
    """An admitted inference caller.

    Attributes:
        key_id: what usage is booked under: the row id of the key, `local`, `env` or `session`.
        is_anonymous: a loopback caller whose credential was only a placeholder; the answer says so.
    """

    kind: CallerKind
    key: ApiKey | None
    key_id: str
    name: str
    models: ModelRules
    is_anonymous: bool = False

    def may_use(self, requested: str, resolved: str | None = None) -> bool:
        """Tell whether the key's model lists admit a model; see :meth:`ModelRules.admit`."""
        return self.models.admit(requested, resolved)

    def check_model(self, requested: str, resolved: str | None = None) -> None:
        """Refuse a model that the key's lists do not admit.

        Call it with the requested name alone when nothing could be resolved, and with `provider/model` of the target
        otherwise.

        Raises:
            PermissionDenied: `model_not_allowed`.
        """
        if not self.models.admit(requested, resolved):
            raise PermissionDenied(
                f"This API key may not use the model {requested[:200]!r}.", code="model_not_allowed", param="model"
            )


@dataclass(frozen=True, slots=True)
class ModelRules:
    """The model lists of a key: globs with `*` and `?`, deny before allow, empty lists do not restrict."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def admit(self, requested: str, resolved: str | None = None) -> bool:
        """Judge the requested name and the resolved target.

        A block matches either of them. An allowance must match the target; it matches the requested name only
        literally, so that a wildcard never admits whatever an alias points at. A pattern without a slash is compared
        with the model id behind the provider too.
        """
        if not self.allowed and not self.blocked:
            return True
        target = resolved or requested
        names = _spellings(target)
        if any(glob_matches(pattern, name) for pattern in self.blocked for name in {requested, *names}):
            return False
        return not self.allowed or any(
            pattern == requested or any(glob_matches(pattern, name) for name in names) for pattern in self.allowed
        )


def _spellings(model: str) -> tuple[str, ...]:
    _, slash, bare = model.partition("/")
    return (model, bare) if slash and bare else (model,)


def glob_matches(pattern: str, text: str) -> bool:
    """Match `*` and `?` in time proportional to the product of both lengths, whatever the pattern."""
    p = t = 0
    star = -1
    retry = 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, retry = p, t
            p += 1
        elif p < len(pattern) and (pattern[p] == "?" or pattern[p] == text[t]):
            p += 1
            t += 1
        elif star >= 0:
            retry += 1
            p, t = star + 1, retry
        else:
            return False
    return all(character == "*" for character in pattern[p:])


class ActorKind(StrEnum):
    """What a management caller was recognised by."""

    SESSION = "session"
    KEY = "key"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    CLI = "cli"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Actor:
    """An admitted management caller.

    Attributes:
        id: public id of the session, key or access token; empty for the others.
        session_hash: hash of the session id, for sessions only.
    """

    kind: ActorKind
    power: Power
    id: str = ""
    name: str = ""
    session_hash: bytes | None = None

    @property
    def audit_name(self) -> str:
        """How the audit log names the actor."""
        return f"{self.kind.value}:{self.id}" if self.id else self.kind.value


class Snapshots(Protocol):
    """Where the present configuration is read."""

    @property
    def current(self) -> Snapshot:
        """The newest configuration."""
        ...


class SessionTokens(Protocol):
    """What knows dashboard sessions by their cookie."""

    def resolve(self, environ: Environ) -> tuple[str, bytes] | None:
        """Return public id and hash of the live session that the request's cookie names, or None."""
        ...


class _Entry:
    """A credential digest with everything of its policy that does not depend on the request."""

    __slots__ = ("caller", "digest", "endpoints", "is_plain", "key", "networks", "valid_until")

    def __init__(self, digest: bytes, key: ApiKey | None, caller: Caller) -> None:
        self.digest = digest
        self.key = key
        self.caller = caller
        self.networks: tuple[Network, ...] = ()
        self.endpoints: frozenset[str] = frozenset()
        self.valid_until: float = inf
        self.is_plain = key is None
        if key is None:
            return
        self.networks = networks_of(key.ip_allowlist)
        self.endpoints = frozenset(key.allowed_endpoints)
        self.valid_until = key.expires_at if key.expires_at is not None else inf
        if digest != key.key_hash:
            self.valid_until = min(self.valid_until, key.previous_until or 0.0)
        has_schedule = key.schedule is not None and key.schedule.enabled
        is_usable = key.is_active and not key.is_banned and not key.is_canary and key.revoked_at is None
        is_unrestricted = not key.ip_allowlist and not self.endpoints and not has_schedule
        self.is_plain = is_usable and is_unrestricted and opens_inference(key.scopes)


class AccessControl:
    """Recognises callers. One object per worker; it reads the snapshot and holds no state but what it derived from it.

    Args:
        snapshots: holder of the configuration.
        reach: judges where requests come from.
        sessions: resolves session cookies.
        env_api_key: the permanently valid inference key of the environment.
        require_api_key: demand a key from loopback callers too.
        loopback_keyless: `true`, `false`, or `auto`: only while the base URL is a loopback address.
        cli_token: reads the local CLI token of this server start.
        on_canary: told when a canary key is used, with the caller's address.
        is_ours: whether a key carries the tag of this installation.
        catch_up: brings the snapshot up to date, for a key that carries our tag but is not known.
        on_guess: told the address of a remote caller whose key has our form but not our tag, or whose access token has
            our form and is unknown; raises to refuse it.
        on_token_use: told the id of an access token that was used.
        no_log_key_ids: keys whose requests leave no row in the log, whatever the keys themselves say.
        page_origins: origins of web pages that may call inference without a key from this host; `*` names none.
    """

    def __init__(
        self,
        *,
        snapshots: Snapshots,
        reach: Reach,
        sessions: SessionTokens,
        now: Callable[[], float],
        env_api_key: Secret | None = None,
        require_api_key: bool = False,
        loopback_keyless: str = "auto",
        cli_token: Callable[[], str | None] = lambda: None,
        on_canary: Callable[[ApiKey, str], None] | None = None,
        is_ours: Callable[[str], bool] = lambda _key: False,
        catch_up: Callable[[], None] = lambda: None,
        on_guess: Callable[[str], object] = lambda _address: None,
        on_token_use: Callable[[str], None] = lambda _token_id: None,
        no_log_key_ids: Iterable[str] = (),
        page_origins: Iterable[str] = (),
    ) -> None:
        self.reach = reach
        self._snapshots = snapshots
        self._sessions = sessions
        self._now = now
        self._require_api_key = require_api_key
        self._is_keyless_possible = loopback_keyless == "true" or (
            loopback_keyless == "auto" and reach.is_base_url_loopback
        )
        self._cli_token = cli_token
        self._on_canary = on_canary
        self._is_ours = is_ours
        self._catch_up = catch_up
        self._on_guess = on_guess
        self._on_token_use = on_token_use
        self._no_log_key_ids = frozenset(no_log_key_ids)
        self._page_origins = frozenset(page_origins) - {"*"}
        self._reported: dict[tuple[str, str], float] = {}
        unrestricted = ModelRules()
        self._local = Caller(CallerKind.LOCAL, None, "local", "local", unrestricted)
        self._placeholder = Caller(CallerKind.LOCAL, None, "local", "local", unrestricted, is_anonymous=True)
        self._session_caller = Caller(CallerKind.SESSION, None, "session", "dashboard", unrestricted)
        self._env_entry: _Entry | None = None
        if env_api_key is not None:
            digest = sha256(env_api_key.reveal().encode()).digest()
            caller = Caller(CallerKind.ENV, None, "env", "environment key", unrestricted)
            self._env_entry = _Entry(digest, None, caller)
        self._compiled_for: Snapshot | None = None
        self._entries: Mapping[bytes, _Entry] = {}

    def use_cli_token(self, read: Callable[[], str | None]) -> None:
        """Take the local CLI token from elsewhere: a command that serves itself makes its own."""
        self._cli_token = read

    # --- inference ---------------------------------------------------------------------------------------------------

    def authenticate_inference(self, environ: Environ, endpoint: str, scope: str | None = None) -> Caller:
        """Return the caller of an inference route, after the key policy up to the endpoint list.

        Model lists are judged later, with :meth:`Caller.check_model`, when the model is known.

        Args:
            environ: the WSGI environment.
            endpoint: name of the endpoint, as `allowedEndpoints` spells it.
            scope: a scope that opens this route in place of the inference scopes.

        Raises:
            AuthenticationFailed: no credential that counts.
            PermissionDenied: a known credential that may not do this.
        """
        credential = carried_credential(environ)
        if credential is None:
            return self._keyless(environ, None, endpoint)
        digest = sha256(credential.encode()).digest()
        snapshot = self._snapshots.current
        if snapshot is not self._compiled_for:
            self._compile(snapshot)
        entry = self._entries.get(digest)
        if entry is None or not compare_digest(entry.digest, digest):
            entry = self._find_newer(environ, credential, digest)
        if entry is None:
            return self._keyless(environ, credential, endpoint)
        if entry.is_plain and scope is None and self._now() < entry.valid_until:
            return entry.caller
        key = entry.key
        if key is None:
            return entry.caller
        self._check_key(entry, key, environ)
        self._check_endpoint(entry, key, endpoint, scope)
        return entry.caller

    def session_caller(self, environ: Environ) -> Caller | None:
        """Return the dashboard as an inference caller if its session is live; the guard checks the CSRF token."""
        return self._session_caller if self._sessions.resolve(environ) is not None else None

    def _find_newer(self, environ: Environ, credential: str, digest: bytes) -> _Entry | None:
        """Look once more for a key that is not known: another worker may have made it a moment ago.

        Only the tag tells whose key it is. One that carries it was made here, so it is not a guess, even if it has been
        revoked since; one without it that has the form of ours is counted against its sender's address.

        Raises:
            InternalError: `auth_unavailable`, the database does not answer.
            RateLimited: `locked`, too many guesses came from this address.
        """
        if not is_key_shaped(credential):
            return None
        if not self._is_ours(credential):
            address = self.reach.client_address(environ)
            if not is_loopback_peer(address):
                self._on_guess(address)
            return None
        self._catch_up()
        snapshot = self._snapshots.current
        if snapshot is not self._compiled_for:
            self._compile(snapshot)
        return self._entries.get(digest)

    def _compile(self, snapshot: Snapshot) -> None:
        entries: dict[bytes, _Entry] = {}
        callers: dict[str, Caller] = {}
        for digest, stored in snapshot.keys_by_hash.items():
            key = replace(stored, no_log=True) if stored.id in self._no_log_key_ids else stored
            caller = callers.get(key.id)
            if caller is None:
                rules = ModelRules(key.allowed_models, key.blocked_models)
                caller = callers[key.id] = Caller(CallerKind.KEY, key, key.id, key.name, rules)
            entries[digest] = _Entry(digest, key, caller)
        if self._env_entry is not None:
            entries.setdefault(self._env_entry.digest, self._env_entry)
        self._entries = entries
        self._compiled_for = snapshot

    def _keyless(self, environ: Environ, credential: str | None, endpoint: str) -> Caller:
        if credential is not None and credential.startswith(ACCESS_TOKEN_PREFIX):
            raise PermissionDenied(
                "Access tokens open the management API only. Inference needs an API key. " + _HOW_TO_GET_A_KEY,
                code="wrong_credential_kind",
            )
        if credential is not None and is_key_shaped(credential):
            raise _unknown_key()
        if self._is_keyless_possible and not self._needs_key(endpoint) and self.reach.is_loopback(environ):
            self._refuse_foreign_page(environ)
            return self._local if credential is None else self._placeholder
        if credential is not None:
            raise _unknown_key()
        raise AuthenticationFailed(
            "This server needs an API key. " + _HOW_TO_GET_A_KEY, headers={"WWW-Authenticate": REALM}
        )

    def _needs_key(self, endpoint: str) -> bool:
        # The stored switches can only tighten what the environment says.
        settings = self._snapshots.current.settings
        if self._require_api_key or settings.get(("security", "requireApiKey")) is True:
            return True
        return endpoint == "models" and settings.get(("security", "requireApiKeyForModels")) is True

    def _refuse_foreign_page(self, environ: Environ) -> None:
        """Keep pages of other sites in the operator's browser from spending through the keyless loopback."""
        origin = str(environ.get("HTTP_ORIGIN", ""))
        is_foreign = environ.get("HTTP_SEC_FETCH_SITE") == "cross-site"
        if origin.startswith(("http://", "https://")):
            is_foreign = origin not in self._page_origins and not self.reach.origin_verdict(environ)[0]
        if is_foreign:
            raise PermissionDenied(
                "A web page of another origin needs an API key here. " + _HOW_TO_GET_A_KEY, code="origin_refused"
            )

    def _check_key(self, entry: _Entry, key: ApiKey, environ: Environ) -> None:
        """Apply what holds for a key wherever it is used: known, not expired, enabled, address, schedule."""
        now = self._now()
        if key.is_canary:
            self._report_canary(key, self.reach.client_address(environ), now)
            raise _unknown_key()
        is_replaced = entry.digest != key.key_hash and now >= (key.previous_until or 0.0)
        if key.revoked_at is not None or is_replaced:
            raise _unknown_key()
        if key.expires_at is not None and now >= key.expires_at:
            raise AuthenticationFailed(
                "This API key has expired. " + _HOW_TO_GET_A_KEY,
                code="key_expired",
                headers={"WWW-Authenticate": REALM},
            )
        if not key.is_active or key.is_banned:
            raise PermissionDenied("This API key is disabled.", code="key_disabled")
        if key.ip_allowlist and not address_in(self.reach.client_address(environ), entry.networks):
            raise PermissionDenied("This API key may not be used from this address.", code="ip_not_allowed")
        if key.schedule is not None and key.schedule.enabled:
            wait_s = seconds_until_open(key.schedule, now)
            if wait_s > 0:
                raise PermissionDenied(
                    "This API key may not be used at this time.", code="outside_schedule", retry_after_s=wait_s
                )

    def _report_canary(self, key: ApiKey, address: str, now: float) -> None:
        """Tell of a canary's use, once a minute for a key and address: whoever found it may try it often."""
        if self._on_canary is None or now - self._reported.get((key.id, address), -_CANARY_PAUSE_S) < _CANARY_PAUSE_S:
            return
        if len(self._reported) > 1000:
            self._reported.clear()
        self._reported[key.id, address] = now
        self._on_canary(key, address)

    def _check_endpoint(self, entry: _Entry, key: ApiKey, endpoint: str, scope: str | None) -> None:
        is_open = scope in key.scopes if scope is not None else opens_inference(key.scopes)
        if scope is None and entry.endpoints:
            is_open = is_open and endpoint in entry.endpoints
        if not is_open:
            raise PermissionDenied(f"This API key may not use {endpoint}.", code="endpoint_not_allowed")

    # --- management --------------------------------------------------------------------------------------------------

    def authenticate_management(self, environ: Environ) -> Actor | None:
        """Return the management actor of a request, or None when it carries no credential at all.

        A credential in a header decides; the session cookie counts only without one.

        Raises:
            AuthenticationFailed: a credential that is not valid.
            PermissionDenied: a valid one that does not open management.
        """
        cli_token = environ.get("HTTP_X_OMNIROUTE_CLI_TOKEN")
        if cli_token is not None:
            return self._cli_actor(environ, cli_token)
        credential = carried_credential(environ)
        if credential is not None:
            return self._key_actor(environ, credential)
        return self.session_actor(environ)

    def session_actor(self, environ: Environ) -> Actor | None:
        """Return the actor of the session cookie, the only credential that opens pages."""
        found = self._sessions.resolve(environ)
        if found is None:
            return None
        public_id, session_hash = found
        return Actor(ActorKind.SESSION, Power.ADMIN, public_id, "dashboard", session_hash)

    def anonymous_management(self, environ: Environ) -> Actor | None:
        """Return the actor for a loopback caller without credential while login is switched off, else None."""
        if self.is_login_required or not self.reach.is_loopback(environ):
            return None
        return Actor(ActorKind.ANONYMOUS, Power.ADMIN, name="local")

    @property
    def is_login_required(self) -> bool:
        """Whether management needs a credential; the stored setting, true unless it says otherwise."""
        return self._snapshots.current.settings.get(("security", "requireLogin")) is not False

    def _cli_actor(self, environ: Environ, given: str) -> Actor:
        expected = self._cli_token() if self.reach.is_loopback(environ) else None
        if expected is None or not compare_digest(given.encode(), expected.encode()):
            raise AuthenticationFailed(
                "The CLI token is not valid here.", code="token_invalid", headers={"WWW-Authenticate": REALM}
            )
        return Actor(ActorKind.CLI, Power.ADMIN, name="cli")

    def _key_actor(self, environ: Environ, credential: str) -> Actor:
        if credential.startswith(ACCESS_TOKEN_PREFIX):
            return self._token_actor(environ, credential)
        digest = sha256(credential.encode()).digest()
        snapshot = self._snapshots.current
        if snapshot is not self._compiled_for:
            self._compile(snapshot)
        entry = self._entries.get(digest)
        if entry is None or not compare_digest(entry.digest, digest):
            entry = self._find_newer(environ, credential, digest)
        if entry is None:
            raise _unknown_key(_HOW_TO_LOG_IN)
        if entry.key is not None:
            self._check_key(entry, entry.key, environ)
            if entry.key.scopes & MANAGEMENT_SCOPES:
                return Actor(ActorKind.KEY, Power.ADMIN, entry.key.id, entry.key.name)
        raise PermissionDenied(
            "This API key opens inference only; management needs scope 'manage'. " + _HOW_TO_LOG_IN,
            code="key_not_allowed",
        )

    def _token_actor(self, environ: Environ, credential: str) -> Actor:
        token = self._find_token(environ, credential)
        if token is None:
            raise _unusable_token("token_invalid", "This access token is not known.")
        if token.revoked_at is not None:
            raise _unusable_token("token_revoked", "This access token has been revoked.")
        if token.expires_at is not None and self._now() >= token.expires_at:
            raise _unusable_token("token_expired", "This access token has expired.")
        self._on_token_use(token.id)
        return Actor(ActorKind.TOKEN, Power[token.scope.upper()], token.id, token.name)

    def _find_token(self, environ: Environ, credential: str) -> AccessToken | None:
        """Look a token up, once more in the database if another worker may have made it a moment ago."""
        if not _TOKEN_SHAPE.fullmatch(credential):
            return None
        digest = sha256(credential.encode()).digest()
        token = self._snapshots.current.access_tokens.get(digest)
        if token is None:
            self._catch_up()
            token = self._snapshots.current.access_tokens.get(digest)
        if token is None:
            address = self.reach.client_address(environ)
            if not is_loopback_peer(address):
                self._on_guess(address)
            return None
        return token if compare_digest(token.token_hash, digest) else None


def _unusable_token(code: str, what: str) -> AuthenticationFailed:
    return AuthenticationFailed(f"{what} {_HOW_TO_LOG_IN}", code=code, headers={"WWW-Authenticate": REALM})


def _unknown_key(hint: str = _HOW_TO_GET_A_KEY) -> AuthenticationFailed:
    return AuthenticationFailed(
        "This API key is not valid. " + hint, code="invalid_api_key", headers={"WWW-Authenticate": REALM}
    )


def is_key_shaped(credential: str) -> bool:
    """Tell whether a credential looks like one of our API keys, a mistyped one included."""
    return _KEY_SHAPE.match(credential) is not None


def opens_inference(scopes: frozenset[str]) -> bool:
    """Tell whether a scope list opens inference: an empty one does, one of other scopes alone does not."""
    return not scopes or not INFERENCE_SCOPES.isdisjoint(scopes)


def networks_of(entries: tuple[str, ...]) -> tuple[Network, ...]:
    """Return an address list as networks; the entries were checked when they were stored."""
    return tuple(ip_network(entry, strict=False) for entry in entries)


def address_in(text: str, networks: tuple[Network, ...]) -> bool:
    """Tell whether an address lies in one of the networks."""
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)


def seconds_until_open(schedule: AccessSchedule, now: float) -> float:
    """Return 0 inside the schedule, else the seconds until its next opening.

    A window that crosses midnight belongs to the day on which it opens; equal start and end mean the whole day.
    """
    zone = ZoneInfo(schedule.tz)
    start_h, start_m = (int(part) for part in schedule.start.split(":"))
    end_h, end_m = (int(part) for part in schedule.end.split(":"))
    today = datetime.fromtimestamp(now, zone).date()
    length = timedelta(hours=end_h - start_h, minutes=end_m - start_m)
    if length <= timedelta(0):
        length += timedelta(days=1)
    soonest = inf
    for offset in range(-1, 9):
        day = today + timedelta(days=offset)
        if schedule.days and day.weekday() not in schedule.days:
            continue
        opens = datetime(day.year, day.month, day.day, start_h, start_m, tzinfo=zone)
        closes = (opens + length).timestamp()
        opened_at = opens.timestamp()
        if opened_at <= now < closes:
            return 0.0
        if opened_at > now:
            soonest = min(soonest, opened_at)
    return soonest - now if soonest < inf else 7 * 86400.0


def describe(caller: Caller) -> dict[str, Any]:
    """Return what the key may know of itself, for `/v1/me/status`."""
    key = caller.key
    return {
        "id": caller.key_id,
        "name": caller.name,
        "scopes": sorted(key.scopes) if key else [],
        "expires_at": key.expires_at if key else None,
    }
