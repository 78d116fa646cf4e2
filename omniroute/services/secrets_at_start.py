"""The server's own secrets: given by the environment, or generated once into `DATA_DIR/secrets`.

A value from the environment is never written to disk. A generated one is written before it is used, by exactly one of
several processes that start together. The encryption key is special: while the database holds ciphertext, a missing key
stays missing, because a second key beside the old one would hide that the old one has to be restored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from omniroute.errors import ConfigurationError
from omniroute.secret import Secret
from omniroute.settings import Settings
from omniroute.storage import locks
from omniroute.storage.secrets import KEY_BYTES, Cipher, key_id

ENCRYPTION_KEY_FILE: Final = "encryption_key"
NEXT_SUFFIX: Final = ".next"
"""A key that a rotation is about to put in the place of the present one."""
PREVIOUS_SUFFIX: Final = ".previous"
"""Keys that were in force before, the newest first, until there is a backup without them."""
_SECRET_BYTES: Final = 48
_SHORTEST_PASSPHRASE: Final = 32
# A passphrase must give the same key on another machine, so the salt cannot be random; n, r, p as for passwords.
_PASSPHRASE_SALT: Final = b"omniroute encryption key v1"
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": KEY_BYTES}
_LOOSE: Final = 0o077


@dataclass(frozen=True, slots=True)
class ServerSecrets:
    """What signs sessions, tags API keys and opens stored credentials."""

    jwt_secret: bytes = field(repr=False)
    api_key_secret: bytes = field(repr=False)
    encryption_key: bytes | None = field(repr=False)
    """32 bytes; None when it is missing although the database holds ciphertext."""
    encryption_key_missing: bool = False
    """The key is missing, or is not the one that the stored credentials were encrypted with."""
    tightened: tuple[str, ...] = ()
    """Names of files and directories that others could read until this start."""

    def cipher(self) -> Cipher:
        """Return the cipher of stored credentials; it refuses new ones while the right key is missing."""
        return Cipher(self.encryption_key, is_sealed=self.encryption_key_missing)


def load_or_create(
    settings: Settings, *, stored_key_ids: Callable[[], Collection[str]], log: logging.Logger
) -> ServerSecrets:
    """Return the secrets, generating what neither the environment nor the data directory has.

    Args:
        settings: where, and what the environment gives.
        stored_key_ids: ids of the keys that ciphertext in the database was made with
            (`storage.repositories.ciphertext.stored_key_ids`).
        log: told what was tightened, generated or is missing.

    Raises:
        ConfigurationError: a secret file is unusable, stays readable by others, or the given key has a wrong form.
    """
    directory = settings.data_dir / "secrets"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    tightened = [*_tighten(settings.data_dir, 0o700), *_tighten(directory, 0o700)]
    with locks.locked(directory / ".lock"):
        for file in sorted(directory.iterdir()):
            if file.is_file():
                tightened += _tighten(file, 0o600)
        jwt_secret = _text_secret(settings.jwt_secret, directory / "jwt_secret", log)
        api_key_secret = _text_secret(settings.api_key_secret, directory / "api_key_secret", log)
        if settings.encryption_key is None:
            finish_rotation(directory, stored_key_ids)
        key, is_missing = _encryption_key(settings.encryption_key, directory / ENCRYPTION_KEY_FILE, stored_key_ids, log)
    for name in tightened:
        log.warning("%s could be read by other users; its mode is tightened now.", name)
    return ServerSecrets(jwt_secret, api_key_secret, key, is_missing, tuple(tightened))


def finish_rotation(directory: Path, stored_key_ids: Callable[[], Collection[str]]) -> None:
    """Put the next key in place if the database is written with it already, or forget it; for one process at a time."""
    present = directory / ENCRYPTION_KEY_FILE
    upcoming = directory / f"{ENCRYPTION_KEY_FILE}{NEXT_SUFFIX}"
    if (text := read_secret(upcoming)) is None:
        return
    if key_id(parse_encryption_key(text, source=f"DATA_DIR/secrets/{upcoming.name}")) not in stored_key_ids():
        upcoming.unlink()
        return
    if (old := read_secret(present)) is not None:
        previous = directory / f"{ENCRYPTION_KEY_FILE}{PREVIOUS_SUFFIX}"
        known = (read_secret(previous) or "").splitlines()
        write_secret(previous, "\n".join([old, *(line for line in known if line != old)]))
    upcoming.replace(present)


def parse_encryption_key(text: str, *, source: str) -> bytes:
    """Return the 32 bytes that a key text stands for: base64 or hex of them, or a passphrase.

    Raises:
        ConfigurationError: it is none of these; the message names `source`, not the text.
    """
    text = text.strip()
    if len(text) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    if len(text) in {43, 44}:
        try:
            decoded = base64.b64decode(text.rstrip("=").replace("-", "+").replace("_", "/") + "=", validate=True)
        except binascii.Error:
            decoded = b""
        if len(decoded) == KEY_BYTES:
            return decoded
    if len(text) < _SHORTEST_PASSPHRASE:
        raise ConfigurationError(
            f"{source} must be 32 bytes as base64 or hex,"
            f" or a passphrase of at least {_SHORTEST_PASSPHRASE} characters."
        )
    return hashlib.scrypt(text.encode(), salt=_PASSPHRASE_SALT, **_SCRYPT)


def _text_secret(given: Secret | None, file: Path, log: logging.Logger) -> bytes:
    if given is not None:
        return given.reveal().encode()
    if (stored := read_secret(file)) is not None:
        return stored.encode()
    created = base64.urlsafe_b64encode(os.urandom(_SECRET_BYTES)).decode()
    write_secret(file, created)
    log.info("Generated %s.", file.name)
    return created.encode()


def _encryption_key(
    given: Secret | None, file: Path, stored_key_ids: Callable[[], Collection[str]], log: logging.Logger
) -> tuple[bytes | None, bool]:
    """Return the key and whether it is the wrong one or missing."""
    key: bytes | None
    if given is not None:
        key = parse_encryption_key(given.reveal(), source="OMNIROUTE_ENCRYPTION_KEY")
        source = "OMNIROUTE_ENCRYPTION_KEY"
    else:
        stored = read_secret(file)
        source = f"DATA_DIR/secrets/{file.name}"
        key = parse_encryption_key(stored, source=source) if stored is not None else None
    in_use = set(stored_key_ids())
    if key is None and not in_use:
        key = os.urandom(KEY_BYTES)
        write_secret(file, base64.b64encode(key).decode())
        log.info("Generated %s. Keep a copy: stored credentials cannot be opened without it.", file.name)
        return key, False
    if key is None:
        log.error("The key of the stored credentials is missing: restore %s or set OMNIROUTE_ENCRYPTION_KEY.", source)
        return None, True
    if in_use and key_id(key) not in in_use:
        log.error("%s does not open the stored credentials: bring back the key that they were stored with.", source)
        return key, True
    return key, False


def read_secret(file: Path) -> str | None:
    """Return what a secret file holds; None if there is none.

    Raises:
        ConfigurationError: it is empty or cannot be read.
    """
    try:
        text = file.read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"DATA_DIR/secrets/{file.name} cannot be read.") from error
    if not text:
        raise ConfigurationError(f"DATA_DIR/secrets/{file.name} is empty: restore it from a backup, or remove it.")
    return text


def write_secret(file: Path, text: str) -> None:
    """Write a file that appears complete or not at all and that nobody else can read."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(text + "\n")
            target.flush()
            os.fsync(target.fileno())
        unfinished.rename(file)
    except OSError as error:
        raise ConfigurationError(f"DATA_DIR/secrets/{file.name} cannot be written.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _tighten(path: Path, mode: int) -> list[str]:
    """Take others' permissions away; return the name if there were any."""
    if not stat.S_IMODE(path.stat().st_mode) & _LOOSE:
        return []
    try:
        path.chmod(mode)
    except OSError as error:
        raise ConfigurationError(f"{path.name} is open to other users and its mode cannot be changed.") from error
    if stat.S_IMODE(path.stat().st_mode) & _LOOSE:
        raise ConfigurationError(f"{path.name} is open to other users and its file system keeps no modes.")
    return [path.name]
