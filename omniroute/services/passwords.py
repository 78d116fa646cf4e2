"""The administrator's password: its rules, its scrypt hash and its one row in the database."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final, TypeVar

from omniroute.errors import ValidationFailed
from omniroute.services.known_values import is_known
from omniroute.storage.database import Database
from omniroute.storage.repositories import credentials

T = TypeVar("T")

SHORTEST: Final = 8
LONGEST: Final = 200

_ROW: Final = credentials.ADMIN_PASSWORD
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_MAX_COST: Final = 2**18
# One hash takes 32 MiB; two at a time bound what a storm of logins can take.
_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """scrypt parameters; they travel with each hash, so that they can be raised later."""

    n: int = 2**15
    r: int = 8
    p: int = 1


CURRENT: Final = Cost()


def hash_password(password: str, salt: bytes, cost: Cost = CURRENT) -> str:
    """Return the text form of a password's hash: `scrypt$n,r,p$salt$key`."""
    key = _derive(password, salt, cost)
    return f"scrypt${cost.n},{cost.r},{cost.p}${_b64(salt)}${_b64(key)}"


def check_password(password: str, stored: str) -> bool:
    """Compare a password with a stored hash; a hash that cannot be read matches nothing."""
    parsed = _parse(stored)
    if parsed is None:
        return False
    cost, salt, key = parsed
    return compare_digest(_derive(password, salt, cost), key)


def needs_rehash(stored: str, cost: Cost = CURRENT) -> bool:
    """Tell whether a stored hash was made with other parameters than new ones."""
    parsed = _parse(stored)
    return parsed is None or parsed[0] != cost


def _derive(password: str, salt: bytes, cost: Cost) -> bytes:
    memory = 128 * cost.r * (cost.n + cost.p + 2)
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=memory + 1024 * 1024, dklen=_KEY_BYTES
    )


def _parse(stored: str) -> tuple[Cost, bytes, bytes] | None:
    try:
        kind, numbers, salt, key = stored.split("$")
        n, r, p = (int(number) for number in numbers.split(","))
        if kind != "scrypt" or not 1 < n <= _MAX_COST or not 0 < r <= 32 or not 0 < p <= 16:
            return None
        return Cost(n, r, p), base64.b64decode(salt, validate=True), base64.b64decode(key, validate=True)
    except ValueError:
        return None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def check_rules(password: str, *, host_name: str, field: str = "newPassword") -> None:
    """Refuse a new password that is too short, too long, known, or the host's own name.

    Raises:
        ValidationFailed: naming the rule, never the password.
    """
    fault = None
    if not SHORTEST <= len(password) <= LONGEST:
        fault = f"must have {SHORTEST} to {LONGEST} characters"
    elif is_known(password):
        fault = "is a value from a manual; choose another"
    elif password.casefold() == host_name.casefold():
        fault = "must not be the name of the host"
    if fault:
        raise ValidationFailed([{"field": field, "message": fault}])


def in_native_thread(work: Callable[[], T]) -> T:
    """Run `work` where it holds up nobody: in gevent's native threads once gevent has patched the process."""
    from gevent import get_hub, monkey

    if not monkey.is_module_patched("threading"):
        return work()
    result: T = get_hub().threadpool.apply(work)
    return result


class Passwords:
    """Keeps the administrator's password."""

    def __init__(
        self,
        *,
        database: Database,
        now: Callable[[], float],
        host_name: str | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        offload: Callable[[Callable[[], Any]], Any] = in_native_thread,
        cost: Cost = CURRENT,
    ) -> None:
        self._database = database
        self._now = now
        self._host_name = host_name if host_name is not None else socket.gethostname()
        self._random_bytes = random_bytes
        self._offload = offload
        self._cost = cost
        self._slots = threading.BoundedSemaphore(_AT_ONCE)

    def exists(self) -> bool:
        """Tell whether a password was ever set."""
        return self._stored() is not None

    def verify(self, password: str) -> bool:
        """Tell whether this is the password; a success renews a hash with outdated parameters."""
        stored = self._stored()
        if stored is None or len(password) > LONGEST:
            return False
        if not self._run(lambda: check_password(password, stored)):
            return False
        if needs_rehash(stored, self._cost):
            self._store(password)
        return True

    def change(self, password: str, *, field: str = "newPassword") -> None:
        """Set a password that follows the rules."""
        check_rules(password, host_name=self._host_name, field=field)
        self._store(password)

    def create_first(self, password: str) -> bool:
        """Set the password unless one exists; True if this call set it, whatever other processes do meanwhile."""
        salt = self._random_bytes(_SALT_BYTES)
        text: str = self._run(lambda: hash_password(password, salt, self._cost))
        now = self._now()
        return self._database.write(lambda sql: credentials.insert_if_absent(sql, _ROW, text, now), bump=True)

    def _store(self, password: str) -> None:
        salt = self._random_bytes(_SALT_BYTES)
        text: str = self._run(lambda: hash_password(password, salt, self._cost))
        now = self._now()
        self._database.write(lambda sql: credentials.put(sql, _ROW, text, now), bump=True)

    def _stored(self) -> str | None:
        return self._database.read(lambda connection: credentials.get(connection, _ROW))

    def _run(self, work: Callable[[], T]) -> T:
        with self._slots:
            result: T = self._offload(work)
            return result
