"""What must be true before the first request is served: no published value in use, a password, a local CLI token."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from omniroute.errors import ConfigurationError
from omniroute.secret import Secret
from omniroute.services.known_values import is_known

if TYPE_CHECKING:  # the command line judges values before it becomes the server, and has no time for SQLAlchemy
    from omniroute.services.audit import Audit
    from omniroute.services.passwords import Passwords
from omniroute.settings import Settings

CLI_TOKEN_HEADER: Final = "X-OmniRoute-CLI-Token"  # noqa: S105 - the name of a header
"""Where a command on the same host shows the token of this server start."""
SHORTEST_SECRET: Final = 32
SHORTEST_ENV_KEY: Final = 24

PASSWORD_LENGTH: Final = 20
_UNAMBIGUOUS: Final = "23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ"
_WIDTH: Final = 66


@dataclass(frozen=True, slots=True)
class UnsafeValue:
    """A given value that protects nothing: which variable, why, and what makes a good one. Never the value."""

    variable: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.variable} {self.reason}; {self.remedy}"


_NEW_VALUE: Final = (  # a hint for people, not a secret
    "unset it to have one generated, or create one with: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
)
_NEW_LOGIN: Final = "unset it to have one generated, or set one with: omniroute reset-password"
_A_KEY: Final = "create one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"


def unsafe_values(settings: Settings) -> tuple[UnsafeValue, ...]:
    """Return every value of the environment that is published or too short to protect anything."""
    return tuple(_judge(settings))


def _judge(settings: Settings) -> Iterator[UnsafeValue]:
    for variable, secret in (
        ("JWT_SECRET", settings.jwt_secret),
        ("API_KEY_SECRET", settings.api_key_secret),
        ("OMNIROUTE_ENCRYPTION_KEY", settings.encryption_key),
    ):
        if secret is None:
            continue
        if is_known(secret.reveal()):
            yield UnsafeValue(variable, "has a value that is printed in public documentation", _NEW_VALUE)
        elif len(secret.reveal()) < SHORTEST_SECRET:
            yield UnsafeValue(variable, f"has fewer than {SHORTEST_SECRET} characters", _NEW_VALUE)
    password = settings.initial_password
    if password is not None and is_known(password.reveal()):
        yield UnsafeValue("INITIAL_PASSWORD", "has a value that is printed in public documentation", _NEW_LOGIN)
    key = settings.env_api_key
    if key is not None and len(key.reveal()) < SHORTEST_ENV_KEY:
        yield UnsafeValue("OMNIROUTE_API_KEY", f"has fewer than {SHORTEST_ENV_KEY} characters", _A_KEY)


def refuse_unsafe_public_bind(settings: Settings) -> tuple[str, ...]:
    """Return one warning per unsafe value while the server is bound to loopback.

    Raises:
        ConfigurationError: the bind is public; one line per variable.
    """
    found = unsafe_values(settings)
    if found and not settings.is_loopback_bind:
        lines = "\n".join(f"  {value}" for value in found)
        raise ConfigurationError(f"The server would be reachable from other machines with unsafe values:\n{lines}")
    return tuple(str(value) for value in found)


def generate_password(choose: Callable[[str], str] = secrets.choice) -> str:
    """Return a random password of characters that are not mistaken for each other."""
    return "".join(choose(_UNAMBIGUOUS) for _ in range(PASSWORD_LENGTH))


def ensure_password(
    *,
    passwords: Passwords,
    audit: Audit,
    initial_password: Secret | None,
    login_url: str,
    announce: Callable[[str], None],
    generate: Callable[[], str] = generate_password,
) -> bool:
    """See to it that an administrator's password exists; True if this call created it.

    A password given by the environment is used as it is. A generated one is announced once, between two marker lines;
    the announcement must go to the terminal only, because it is the one place where the password stands in clear.
    """
    if passwords.exists():
        return False
    password = initial_password.reveal() if initial_password is not None else generate()
    if not passwords.create_first(password):
        return False  # another process was first and has announced its own
    audit.record(
        "auth.password.changed", actor="system", details={"source": "environment" if initial_password else "generated"}
    )
    if initial_password is None:
        announce(announcement(password, login_url))
    return True


def announcement(password: str, login_url: str) -> str:
    """Return the text that shows the first password."""
    title = " OmniRoute: first password "
    return "\n".join(
        (
            "",
            title.center(_WIDTH, "="),
            "",
            f"  Log in at   {login_url}",
            f"  Password    {password}",
            "",
            "  It is shown this once. To set another: omniroute reset-password",
            "",
            "=" * _WIDTH,
            "",
        )
    )


def write_cli_token(runtime_dir: Path) -> None:
    """Write a new local CLI token, readable by this user only; called once at each start of the server."""
    runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = runtime_dir / "cli-token"
    temporary = runtime_dir / f".cli-token.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
    temporary.replace(target)


def read_cli_token(runtime_dir: Path) -> str | None:
    """Return the local CLI token of this server start; None if there is none that can be trusted."""
    path = runtime_dir / "cli-token"
    try:
        token = path.read_text(encoding="ascii").strip()
        is_private = path.stat().st_mode & 0o077 == 0
    except (OSError, UnicodeDecodeError):
        return None
    return token if is_private and len(token) == 64 else None
