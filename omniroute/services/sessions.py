"""Dashboard logins: a signed cookie that names a session, and the row that can end it at any time."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from werkzeug.http import parse_cookie
from werkzeug.wrappers import Response

from omniroute.errors import ConfigurationError, NotFound
from omniroute.services.access import Snapshots
from omniroute.services.reach import Environ, Reach
from omniroute.storage.database import Database
from omniroute.storage.repositories import sessions as rows
from omniroute.storage.repositories.sessions import SessionRow

LIFETIME_S: Final = 30 * 86400
RENEW_BELOW_S: Final = 7 * 86400
SEEN_EVERY_S: Final = 300

_ALGORITHM: Final = "HS256"
_PLAIN_NAME: Final = "auth_token"
_HOST_NAME: Final = "__Host-auth_token"
_LONGEST_AGENT: Final = 200


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was just opened, with the cookie value that is shown to the browser once."""

    id: str
    token: str


class Sessions:
    """Opens, resolves, renews and ends dashboard sessions.

    Args:
        signing_key: signs the cookie, so that made-up session ids cost no look-up.
        catch_up: brings the snapshot up to date, for a signed cookie whose session is not known.
        base_path: URL prefix of the server; the cookie is sent below it only.
        is_always_secure: mark the cookie `Secure` even when the request does not look encrypted.
    """

    def __init__(
        self,
        *,
        database: Database,
        snapshots: Snapshots,
        reach: Reach,
        signing_key: bytes,
        now: Callable[[], float],
        catch_up: Callable[[], object],
        base_path: str = "",
        is_always_secure: bool = False,
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._reach = reach
        if not signing_key:
            raise ConfigurationError("The session signing secret is empty.")
        # A key of its own for this use, and long enough whatever length the operator's secret has.
        self._signing_key = hmac.new(signing_key, b"dashboard session", sha256).digest()
        self._now = now
        self._catch_up = catch_up
        self._path = base_path or "/"
        self._is_always_secure = is_always_secure
        self._seen: dict[bytes, float] = {}

    def open(self, *, address: str | None, user_agent: str | None) -> Opened:
        """Open a session after a successful login."""
        now = self._now()
        secret = secrets.token_urlsafe(32)
        digest = _digest(secret)
        row = SessionRow(
            id=public_id(digest),
            session_hash=digest,
            address=address,
            user_agent=_printable(user_agent),
            last_seen_at=now,
            expires_at=now + LIFETIME_S,
            revoked_at=None,
            created_at=now,
        )
        self._database.write(lambda connection: rows.insert(connection, row), bump=True)
        return Opened(row.id, self._sign(secret, now))

    def resolve(self, environ: Environ) -> tuple[str, bytes] | None:
        """Return public id and hash of the live session that the request's cookie names, or None."""
        secret = self._secret(environ)
        if secret is None:
            return None
        digest = _digest(secret)
        found = self._snapshots.current.sessions.get(digest)
        if found is None:
            # Another worker may have opened it a moment ago. Only holders of a signed cookie get this far.
            self._catch_up()
            found = self._snapshots.current.sessions.get(digest)
        if found is None or found.revoked_at is not None or found.expires_at <= self._now():
            return None
        return public_id(digest), digest

    def renewed(self, environ: Environ) -> str | None:
        """Note that the session is in use; return a new cookie value if the present one ends within a week."""
        secret = self._secret(environ)
        if secret is None:
            return None
        digest, now = _digest(secret), self._now()
        found = self._snapshots.current.sessions.get(digest)
        is_ending = found is not None and found.expires_at - now < RENEW_BELOW_S
        if not is_ending and now - self._seen.get(digest, 0.0) < SEEN_EVERY_S:
            return None
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[digest] = now
        expires_at = now + LIFETIME_S if is_ending else None
        self._database.write(
            lambda connection: rows.touch(connection, digest, seen_at=now, expires_at=expires_at), bump=is_ending
        )
        return self._sign(secret, now) if is_ending else None

    def open_sessions(self) -> tuple[SessionRow, ...]:
        """Return all sessions that have not ended, the most recently used first."""
        now = self._now()
        return self._database.read(lambda connection: rows.list_usable(connection, now))

    def revoke(self, session_id: str) -> None:
        """End one session by its public id.

        Raises:
            NotFound: no open session has this id.
        """
        now = self._now()
        if not self._database.write(lambda connection: rows.revoke_by_id(connection, session_id, now), bump=True):
            raise NotFound("There is no open session with this id.")

    def revoke_hash(self, session_hash: bytes) -> None:
        """End one session, on all workers."""
        now = self._now()
        self._database.write(lambda connection: rows.revoke(connection, session_hash, now), bump=True)

    def revoke_all(self, *, but: bytes | None = None) -> int:
        """End all open sessions, except one; return how many."""
        now = self._now()
        return self._database.write(lambda connection: rows.revoke_all(connection, now, but=but), bump=True)

    # --- the cookie --------------------------------------------------------------------------------------------------

    def has_cookie(self, environ: Environ) -> bool:
        """Tell whether the request carries a login cookie, valid or not."""
        return self._token(environ) is not None

    def set_cookie(self, response: Response, environ: Environ, token: str) -> None:
        """Give the browser the login cookie."""
        is_secure = self._is_secure(environ)
        response.set_cookie(
            self._name(is_secure),
            token,
            max_age=LIFETIME_S,
            path=self._path,
            secure=is_secure,
            httponly=True,
            samesite="Lax",
        )

    def drop_cookie(self, response: Response, environ: Environ) -> None:
        """Take the login cookie away, under either of its names."""
        is_secure = self._is_secure(environ)
        for name in (_PLAIN_NAME, _HOST_NAME):
            is_host = name == _HOST_NAME
            response.delete_cookie(
                name, path="/" if is_host else self._path, secure=is_secure or is_host, httponly=True, samesite="Lax"
            )

    def _name(self, is_secure: bool) -> str:
        return _HOST_NAME if is_secure and self._path == "/" else _PLAIN_NAME

    def _is_secure(self, environ: Environ) -> bool:
        return self._is_always_secure or self._reach.is_https(environ)

    def _token(self, environ: Environ) -> str | None:
        header = environ.get("HTTP_COOKIE")
        if not header or _PLAIN_NAME not in header:
            return None
        cookies = parse_cookie(header)
        return cookies.get(_HOST_NAME) or cookies.get(_PLAIN_NAME) or None

    def _sign(self, secret: str, now: float) -> str:
        import jwt  # here, because it takes 2 MB that a worker without visitors does not need

        claims = {"sid": secret, "iat": int(now), "exp": int(now) + LIFETIME_S}
        return jwt.encode(claims, self._signing_key, algorithm=_ALGORITHM)

    def _secret(self, environ: Environ) -> str | None:
        token = self._token(environ)
        if token is None:
            return None
        import jwt

        options: Any = {"require": ["sid", "iat", "exp"], "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, self._signing_key, algorithms=[_ALGORITHM], options=options)
            # PyJWT looks at the system's clock; ours is an argument.
            is_live = float(claims["exp"]) > self._now()
        except (jwt.InvalidTokenError, TypeError, ValueError):
            return None
        secret = claims["sid"]
        return secret if is_live and isinstance(secret, str) else None


def public_id(session_hash: bytes) -> str:
    """Return how a session is called in lists and in the audit log: part of its hash, which opens nothing."""
    return f"ses_{session_hash.hex()[:16]}"


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _printable(user_agent: str | None) -> str | None:
    if user_agent is None:
        return None
    return "".join(character for character in user_agent if character.isprintable())[:_LONGEST_AGENT]
