"""Access tokens: what a command line, or a script, on another machine manages this server with.

A token is 32 random bytes that are shown once; the database holds its SHA-256 alone. It never opens inference.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from omniroute.errors import Conflict, NotFound, PermissionDenied, StorageError
from omniroute.ids import new_id
from omniroute.records import AccessToken
from omniroute.services.access import ACCESS_TOKEN_PREFIX, Power
from omniroute.services.audit import Recorder
from omniroute.services.keys import Origin
from omniroute.services.login import Visitor
from omniroute.storage.database import Database
from omniroute.storage.repositories import access_tokens

LONGEST_NAME: Final = 100
MOST_DAYS: Final = 3650
SHOWN_CHARACTERS: Final = 15
_RANDOM_BYTES: Final = 32
_DAY_S: Final = 86_400
_TOUCH_EVERY_S: Final = 60.0
_REMEMBERED: Final = 1000


class Scope(StrEnum):
    """What a token may do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def power(self) -> Power:
        """The management power that it stands for."""
        return Power[self.name]


class State(StrEnum):
    """Whether a token still opens anything."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token with its secret, which nobody sees again."""

    token: AccessToken
    secret: str


def state_of(token: AccessToken, now: float) -> State:
    """Return whether a token still opens anything."""
    if token.revoked_at is not None:
        return State.REVOKED
    return State.EXPIRED if token.expires_at is not None and now >= token.expires_at else State.ACTIVE


class AccessTokens:
    """Creates, lists and ends access tokens.

    Args:
        admit: checks the management password; see :meth:`Login.admit`.
    """

    def __init__(
        self,
        *,
        database: Database,
        audit: Recorder,
        admit: Callable[[str, Visitor, str], None],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._audit = audit
        self._admit = admit
        self._touched: dict[str, float] = {}
        self.now = now

    def create(self, name: str, scope: Scope, days: int | None, origin: Origin) -> Issued:
        """Make a token and return it with its secret.

        Raises:
            PermissionDenied: `scope_insufficient`, the caller has less power than the token would have.
        """
        if origin.actor.power < scope.power:
            held = origin.actor.power.name.lower()
            raise PermissionDenied(
                f"A credential with scope '{held}' cannot make a token with scope '{scope}'.",
                code="scope_insufficient",
                extras={"held": held, "required": scope.value},
            )
        issued = self._issue(name, scope, days)
        self._record("cli.token.created", origin, issued.token)
        return issued

    def connect(self, password: str, name: str, scope: Scope, days: int | None, visitor: Visitor) -> Issued:
        """Make a token for somebody who knows the management password.

        Raises:
            AuthenticationFailed: `invalid_password`.
            PermissionDenied: `setup_required` or `default_password`.
            RateLimited: `locked`, after too many wrong passwords from this address.
        """
        self._admit(password, visitor, "cli.connect")
        issued = self._issue(name, scope, days)
        self._audit.record(
            "cli.connect.success",
            actor=f"token:{issued.token.id}",
            target_kind="access_token",
            target_id=issued.token.id,
            address=visitor.address,
            user_agent=visitor.user_agent,
            request_id=visitor.request_id,
            details=_details(issued.token),
        )
        return issued

    def list_all(self) -> tuple[AccessToken, ...]:
        """Return the tokens, the newest first, those that have ended included."""
        return self._database.read(access_tokens.load_all)

    def revoke(self, wanted: str, origin: Origin) -> AccessToken:
        """End the token with this id, or whose id, secret or name begins so, and return it as it was.

        Raises:
            NotFound: there is none.
            Conflict: several begin so; `details` lists them.
        """
        token = _chosen(self.list_all(), wanted, self.now())
        if not self._database.write(lambda sql: access_tokens.revoke(sql, token.id, self.now()), bump=True):
            raise NotFound("This access token has ended already.")
        self._record("cli.token.revoked", origin, token)
        return token

    def note_use(self, token_id: str) -> None:
        """Store that a token was used, at most once a minute."""
        now = self.now()
        if now - self._touched.get(token_id, float("-inf")) < _TOUCH_EVERY_S:
            return
        if len(self._touched) >= _REMEMBERED:
            self._touched.clear()
        self._touched[token_id] = now
        try:
            self._database.write(lambda sql: access_tokens.touch(sql, token_id, now))
        except StorageError:
            self._touched.pop(token_id, None)  # the next request tries again

    def _issue(self, name: str, scope: Scope, days: int | None) -> Issued:
        secret = ACCESS_TOKEN_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
        now = self.now()
        token = AccessToken(
            id=new_id("tok"),
            name=name,
            token_hash=sha256(secret.encode()).digest(),
            prefix=secret[:SHOWN_CHARACTERS],
            scope=scope.value,
            created_at=now,
            expires_at=now + days * _DAY_S if days is not None else None,
        )
        self._database.write(lambda sql: access_tokens.insert(sql, token), bump=True)
        return Issued(token, secret)

    def _record(self, action: str, origin: Origin, token: AccessToken) -> None:
        self._audit.record(
            action, target_kind="access_token", target_id=token.id, details=_details(token), **origin.facts()
        )


def _details(token: AccessToken) -> dict[str, Any]:
    return {"name": token.name, "scope": token.scope, "expiresAt": token.expires_at}


def _chosen(tokens: tuple[AccessToken, ...], wanted: str, now: float) -> AccessToken:
    """Return the one usable token that is meant."""
    exact = [token for token in tokens if token.id == wanted]
    usable = [token for token in tokens if state_of(token, now) is State.ACTIVE]
    begun = [token for token in usable if token.id.startswith(wanted) or token.prefix.startswith(wanted)]
    found = exact or [token for token in usable if token.name == wanted] or begun
    if not found:
        raise NotFound("There is no access token with this id, name or beginning.")
    if len(found) > 1:
        raise Conflict(
            f"{len(found)} access tokens are meant by this: {', '.join(token.id for token in found)}. Give one id.",
            extras={"matches": [{"id": token.id, "name": token.name, "prefix": token.prefix} for token in found]},
        )
    return found[0]
