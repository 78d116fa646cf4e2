"""The life of the key that stored credentials are encrypted with: looked after, replaced, lost, carried elsewhere.

Every worker holds the key in force in memory, so it is replaced only while no server runs on the database. The database
and the key's file cannot change in one step. So the next key is written beside the present one first, then every
ciphertext is rewritten in one transaction, then the files change places; a start that finds a next key sees by the
ciphertext which of the two it needs.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from sqlalchemy import select, text

from omniroute.errors import Conflict, InvalidRequest
from omniroute.secret import Secret
from omniroute.services.audit import Recorder
from omniroute.services.keys import SYSTEM, Origin
from omniroute.services.secrets_at_start import (
    ENCRYPTION_KEY_FILE,
    NEXT_SUFFIX,
    PREVIOUS_SUFFIX,
    finish_rotation,
    parse_encryption_key,
    read_secret,
    write_secret,
)
from omniroute.settings import Settings
from omniroute.storage import locks, postgres, rekeying
from omniroute.storage.database import Database
from omniroute.storage.models import ProviderConnection
from omniroute.storage.models.base import table_of
from omniroute.storage.rekeying import Census
from omniroute.storage.repositories import ciphertext
from omniroute.storage.secrets import KEY_BYTES, Cipher, key_id

SHORTEST_PASSPHRASE: Final = 12
WRAPPED_FORMAT: Final = "omniroute-key-v1"
_SCRYPT_COST: Final = {"n": 1 << 16, "r": 8, "p": 1}  # 64 MB, a fraction of a second
_SALT_BYTES, _NONCE_BYTES = 16, 12
_VARIABLE: Final = "OMNIROUTE_ENCRYPTION_KEY"
_CONNECTIONS: Final = table_of(ProviderConnection)

Told = Callable[[str], None]


def _untold(_step: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What became of the ciphertext of a database.

    Attributes:
        key_id: of the key in force afterwards.
        previous_key_id: of the one before, where it has changed.
        opened: values that open.
        rewritten: values that were encrypted anew.
        unreadable: rows with a value that does not open, by table.
        connections: names of the provider connections among them, by id.
    """

    key_id: str
    opened: int
    rewritten: int = 0
    unreadable: Mapping[str, int] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)
    previous_key_id: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every value opens."""
        return not self.unreadable


class EncryptionKeys:
    """Checks and replaces the encryption key of this installation."""

    def __init__(
        self, *, settings: Settings, database: Database, audit: Recorder | None = None, told: Told = _untold
    ) -> None:
        """`told` hears of each step of a rotation."""
        self._settings = settings
        self._database = database
        self._audit = audit
        self._told = told
        self._directory = settings.data_dir / "secrets"
        self._file = self._directory / ENCRYPTION_KEY_FILE

    # --- asked ---------------------------------------------------------------------------------------------------

    def check(self) -> KeyReport:
        """Try to open every value with the key in force."""
        cipher = Cipher(self._present())
        census = self._database.read(lambda sql: rekeying.examine(sql, cipher))
        return self._report(census, cipher.key_id)

    def present(self) -> bytes | None:
        """Return the key in force, to be wrapped for a backup; None where it is missing."""
        return self._present()

    def previous(self) -> tuple[Cipher, ...]:
        """Return what opens values of the keys before, as long as these are kept."""
        found = read_secret(self._file.with_name(ENCRYPTION_KEY_FILE + PREVIOUS_SUFFIX)) or ""
        source = f"DATA_DIR/secrets/{ENCRYPTION_KEY_FILE}{PREVIOUS_SUFFIX}"
        return tuple(Cipher(parse_encryption_key(line, source=source)) for line in found.splitlines())

    # --- changed -------------------------------------------------------------------------------------------------

    def rotate(self, origin: Origin = SYSTEM) -> KeyReport:
        """Replace the key by a new one and encrypt every value anew.

        Raises:
            Conflict: `server_running`; `encryption_key_missing`, the present key does not open what is stored; or
                `key_from_environment`.
        """
        with self._alone():
            self._refuse_environment()
            present = self._present()
            stored = self._database.read(ciphertext.stored_key_ids)
            if present is None or (stored and key_id(present) not in stored):
                raise Conflict(
                    "The key in force does not open the stored credentials: bring the right one back first, or begin"
                    " anew with 'omniroute secrets new-key'.",
                    code="encryption_key_missing",
                )
            old, fresh = Cipher(present), self._write_next()
            others = (old, *self.previous())
            self._told("next key written")
            census = self._change(lambda sql: rekeying.rekey(sql, fresh, others))
            self._put_in_place(fresh)
        report = self._report(census, fresh.key_id, previous=old.key_id)
        self._record(origin, report, "rotated")
        return report

    def new_key(self, *, back_up: Callable[[], object], origin: Origin = SYSTEM) -> KeyReport:
        """Begin anew after the key was lost: make one, and remove what no key opens any more.

        Args:
            back_up: makes a verified backup first, in case that the key is found.
            origin: who asked for it.

        Returns:
            what is lost.

        Raises:
            Conflict: `server_running`; `encryption_key_present`, nothing is lost; or `key_from_environment`.
        """
        with self._alone():
            self._refuse_environment()
            present = self._present()
            stored = self._database.read(ciphertext.stored_key_ids)
            if present is not None and (not stored or key_id(present) in stored):
                raise Conflict(
                    "The key in force opens what is stored; 'omniroute secrets rotate' replaces it without a loss.",
                    code="encryption_key_present",
                )
            back_up()
            names = self._names()
            fresh = self._write_next()
            self._told("next key written")
            census = self._change(lambda sql: rekeying.drop_unreadable(sql, fresh))
            self._put_in_place(fresh)
        report = self._report(census, fresh.key_id, names=names)
        self._record(origin, report, "replaced")
        return report

    def forget_previous(self) -> None:
        """Remove the keys before, now that a verified backup exists which does not need them."""
        file = self._file.with_name(ENCRYPTION_KEY_FILE + PREVIOUS_SUFFIX)
        if not file.exists():
            return
        stored = self._database.read(ciphertext.stored_key_ids)
        if stored.isdisjoint(cipher.key_id for cipher in self.previous()):
            file.unlink(missing_ok=True)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _present(self) -> bytes | None:
        given = self._settings.encryption_key
        if given is not None:
            return parse_encryption_key(given.reveal(), source=_VARIABLE)
        found = read_secret(self._file)
        return parse_encryption_key(found, source=f"DATA_DIR/secrets/{self._file.name}") if found is not None else None

    def _refuse_environment(self) -> None:
        if self._settings.encryption_key is not None:
            raise Conflict(
                f"{_VARIABLE} decides the key. Write its value to DATA_DIR/secrets/{ENCRYPTION_KEY_FILE}, remove the"
                " variable, and ask again.",
                code="key_from_environment",
            )

    def _write_next(self) -> Cipher:
        key = os.urandom(KEY_BYTES)
        write_secret(self._file.with_name(ENCRYPTION_KEY_FILE + NEXT_SUFFIX), base64.b64encode(key).decode())
        return Cipher(key)

    def _change(self, work: Callable[[Any], Census]) -> Census:
        try:
            census = self._database.write(work, bump=True)
        except BaseException:
            self._file.with_name(ENCRYPTION_KEY_FILE + NEXT_SUFFIX).unlink(missing_ok=True)
            raise
        self._told("ciphertext rewritten")
        return census

    def _put_in_place(self, fresh: Cipher) -> None:
        finish_rotation(self._directory, lambda: (fresh.key_id,))
        self._told("key in place")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep servers from running on this database, and from starting to, for the block."""
        with nobody_serves(self._settings, self._database), locks.locked(self._directory / ".lock"):
            yield

    def _report(
        self,
        census: Census,
        key: str,
        *,
        previous: str | None = None,
        names: Mapping[str, str] | None = None,
    ) -> KeyReport:
        lost = census.unreadable.get(rekeying.CONNECTIONS, set())
        every = self._names() if names is None else names
        return KeyReport(
            key_id=key,
            opened=census.opened,
            rewritten=census.rewritten,
            unreadable={table: len(ids) for table, ids in census.unreadable.items()},
            connections={row_id: every.get(row_id, row_id) for row_id in sorted(lost)},
            previous_key_id=previous,
        )

    def _names(self) -> Mapping[str, str]:
        rows = self._database.read(lambda sql: sql.execute(select(_CONNECTIONS.c.id, _CONNECTIONS.c.name)).all())
        return {row.id: row.name for row in rows}

    def _record(self, origin: Origin, report: KeyReport, how: str) -> None:
        if self._audit is not None:
            details = {"how": how, "rewritten": report.rewritten, "lost": sum(report.unreadable.values())}
            self._audit.record(
                "secret.rotated", target_kind="secret", target_id=ENCRYPTION_KEY_FILE, details=details, **origin.facts()
            )


@contextmanager
def nobody_serves(settings: Settings, database: Database) -> Iterator[None]:
    """Hold what the leading worker of a server holds, so that none runs for the block.

    Raises:
        Conflict: `server_running`.
    """
    running = Conflict("A server runs on this database. Stop it first: 'omniroute stop'.", code="server_running")
    if _announced_pid(settings.runtime_dir):
        raise running
    if not database.is_sqlite:
        with database.connected() as sql:
            if not sql.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": postgres.LOCK_LEADER}).scalar_one():
                raise running
            sql.commit()
            try:
                yield
            finally:  # of the session, which goes back to the pool
                sql.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": postgres.LOCK_LEADER})
                sql.commit()
        return
    descriptor = locks.try_lock(settings.runtime_dir / "scheduler.lock")
    if descriptor is None:
        raise running
    try:
        yield
    finally:
        os.close(descriptor)


def _announced_pid(runtime: Path) -> bool:
    """Say whether the server that announced itself here is still a process."""
    try:
        pid = json.loads((runtime / "server.json").read_bytes())["pid"]
        os.kill(int(pid), 0)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return isinstance(error, PermissionError)
    return int(pid) != os.getpid()


# --- carried elsewhere -----------------------------------------------------------------------------------------------


def wrap_key(key: bytes, passphrase: Secret) -> str:
    """Return a text that holds a key encrypted under a passphrase.

    Raises:
        InvalidRequest: the passphrase is too short.
    """
    if len(passphrase.reveal()) < SHORTEST_PASSPHRASE:
        raise InvalidRequest(f"The passphrase needs at least {SHORTEST_PASSPHRASE} characters.", param="passphrase")
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_derived(passphrase, salt)).encrypt(nonce, key, WRAPPED_FORMAT.encode())
    document = {
        "format": WRAPPED_FORMAT,
        "keyId": key_id(key),
        "kdf": {"name": "scrypt", **_SCRYPT_COST, "salt": _text(salt)},
        "nonce": _text(nonce),
        "sealed": _text(sealed),
    }
    return json.dumps(document, indent=2) + "\n"


def unwrap_key(wrapped: str, passphrase: Secret) -> bytes:
    """Return the key in a text that :func:`wrap_key` made.

    Raises:
        InvalidRequest: it is no such text, or the passphrase is another one.
    """
    foreign = InvalidRequest("This is not an encryption key that was kept with a backup.", param="encryptionKey")
    try:
        document = json.loads(wrapped)
        kdf = document["kdf"]
        # Only what we write: a stranger's parameters could ask for any amount of memory.
        is_known = document["format"] == WRAPPED_FORMAT and {k: kdf[k] for k in _SCRYPT_COST} == _SCRYPT_COST
        texts = (kdf["salt"], document["nonce"], document["sealed"])
        salt, nonce, sealed = (base64.b64decode(text, validate=True) for text in texts)
    except (ValueError, KeyError, TypeError) as error:
        raise foreign from error
    if not is_known:
        raise foreign
    try:
        return AESGCM(_derived(passphrase, salt)).decrypt(nonce, sealed, WRAPPED_FORMAT.encode())
    except (InvalidTag, ValueError) as error:
        raise InvalidRequest("The passphrase does not open this key.", param="passphrase") from error


def _derived(passphrase: Secret, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, **_SCRYPT_COST).derive(passphrase.reveal().encode())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
