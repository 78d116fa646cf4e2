"""Getting in and out: the password behind the lockout, the session that it opens, and the audit rows of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omniroute.errors import AuthenticationFailed, PermissionDenied
from omniroute.services.access import Actor
from omniroute.services.audit import Audit
from omniroute.services.known_values import is_known
from omniroute.services.lockout import Lockout
from omniroute.services.passwords import LONGEST, Passwords
from omniroute.services.sessions import Opened, Sessions
from omniroute.storage.database import Database
from omniroute.storage.repositories import settings


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who stands at the door."""

    address: str
    is_local: bool
    user_agent: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Checks the password wherever it is asked for; all of these places share one lockout."""

    passwords: Passwords
    lockout: Lockout
    sessions: Sessions
    audit: Audit
    database: Database
    now: Callable[[], float]

    def log_in(self, password: str, visitor: Visitor) -> Opened:
        """Open a session for the right password.

        Raises:
            AuthenticationFailed: `invalid_password`.
            PermissionDenied: `setup_required`, no password exists yet; `default_password`, see the message.
            RateLimited: `locked`.
        """
        self.admit(password, visitor, "auth.login")
        opened = self.sessions.open(address=visitor.address, user_agent=visitor.user_agent)
        self._record("auth.login.success", "success", visitor, actor=f"session:{opened.id}")
        return opened

    def admit(self, password: str, visitor: Visitor, action: str) -> None:
        """Return if this is the management password and opens the server from where the visitor stands.

        The audit log's names for what happens begin with `action`: `auth.login` or `cli.connect`.

        Raises:
            AuthenticationFailed: `invalid_password`.
            PermissionDenied: `setup_required`, no password exists yet; `default_password`, see the message.
            RateLimited: `locked`.
        """
        if not self.passwords.exists():
            self._record(f"{action}.setup_required", "denied", visitor)
            raise PermissionDenied(
                "No password is set yet. Set one on the host of the server: omniroute reset-password",
                code="setup_required",
            )
        self._check(password, visitor, action)
        if not visitor.is_local and is_known(password):
            self._record(f"{action}.failed", "denied", visitor)
            raise PermissionDenied(
                "The password in use is printed in public documentation, so it opens nothing from another machine. "
                "Set another one on the host of the server: omniroute reset-password",
                code="default_password",
            )

    def log_out(self, actor: Actor | None, visitor: Visitor) -> None:
        """End the session of an actor, if there is one."""
        if actor is None or actor.session_hash is None:
            return
        self.sessions.revoke_hash(actor.session_hash)
        self._record("auth.logout", "success", visitor, actor=actor.audit_name)

    def change_password(self, current: str, new: str, actor: Actor, visitor: Visitor) -> int:
        """Set a new password, end all other sessions and return how many they were."""
        self._check(current, visitor, "auth.login", actor=actor.audit_name)
        self.passwords.change(new)
        revoked = self.sessions.revoke_all(but=actor.session_hash)
        self._record("auth.password.changed", "success", visitor, actor=actor.audit_name)
        return revoked

    def require(self, is_required: bool, current: str, actor: Actor, visitor: Visitor) -> None:
        """Ask for a login from now on, or let callers on this host manage without one.

        Raises:
            AuthenticationFailed: `invalid_password`.
            RateLimited: `locked`.
        """
        self._check(current, visitor, "auth.login", actor=actor.audit_name)
        now = self.now()
        self.database.write(
            lambda sql: settings.put(
                sql, "security", "requireLogin", is_required, changed_by=actor.audit_name, now=now
            ),
            bump=True,
        )
        self._record(
            "settings.changed" if is_required else "login.disabled", "success", visitor, actor=actor.audit_name
        )

    def _check(self, password: str, visitor: Visitor, action: str, actor: str = "anonymous") -> None:
        with self.lockout.attempt(visitor.address) as attempt:
            attempt.succeeded = len(password) <= LONGEST and self.passwords.verify(password)
        if attempt.succeeded:
            return
        self._record(f"{action}.failed", "failure", visitor, actor=actor)
        if attempt.locks_now:
            self._record(f"{action}.locked", "denied", visitor, actor=actor)
        raise AuthenticationFailed("The password is not right.", code="invalid_password")

    def _record(self, action: str, outcome: str, visitor: Visitor, actor: str = "anonymous") -> None:
        self.audit.record(
            action,
            actor=actor,
            outcome=outcome,
            address=visitor.address,
            user_agent=visitor.user_agent,
            request_id=visitor.request_id,
        )
