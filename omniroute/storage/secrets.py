"""Encryption of what must be readable again: AES-256-GCM, bound to the place where the ciphertext stands.

Text form: `v1:<key id>:<nonce>:<ciphertext and tag>`, the last two in base64url without padding. Table, column and row
id are authenticated with it, so a value that was copied to another row does not open. Every column has a key of its
own, derived from the one encryption key; the key id tells which encryption key that was, without telling the key.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from omniroute.errors import Conflict, InternalError
from omniroute.secret import Secret

KEY_BYTES: Final = 32
_VERSION: Final = "v1"
_NONCE_BYTES: Final = 12
_KEY_ID_BYTES: Final = 4


class CredentialUnreadable(InternalError):
    """A stored credential does not open: another key, or a value that was moved or damaged."""

    status, code, default_message = 503, "credential_unreadable", "A stored credential cannot be opened."


class Cipher:
    """Encrypts and decrypts column values under one encryption key.

    Args:
        key: 32 bytes, or None when the key is missing: then nothing opens.
        is_sealed: refuse to encrypt, because the database holds values of another key and a second one must not
            appear beside it unasked.
    """

    def __init__(self, key: bytes | None, *, is_sealed: bool = False) -> None:
        if key is not None and len(key) != KEY_BYTES:
            raise ValueError("an encryption key has 32 bytes")
        self._key = key
        self._is_sealed = is_sealed or key is None
        self._by_column: dict[tuple[str, str], AESGCM] = {}
        self.key_id = key_id(key) if key is not None else ""

    @property
    def is_sealed(self) -> bool:
        """Whether new credentials are refused."""
        return self._is_sealed

    def encrypt(self, plain: Secret, *, table: str, column: str, row_id: str) -> str:
        """Return the text form to store.

        Raises:
            Conflict: `encryption_key_missing`.
        """
        if self._is_sealed or self._key is None:
            raise Conflict(
                "The encryption key of the stored credentials is missing: restore DATA_DIR/secrets/encryption_key or"
                " OMNIROUTE_ENCRYPTION_KEY before storing another credential.",
                code="encryption_key_missing",
            )
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._of(self._key, table, column).encrypt(
            nonce, plain.reveal().encode(), _place(table, column, row_id)
        )
        return f"{_VERSION}:{self.key_id}:{_text(nonce)}:{_text(sealed)}"

    def decrypt(self, text: str, *, table: str, column: str, row_id: str) -> Secret:
        """Return the value.

        Raises:
            CredentialUnreadable: it does not open here.
        """
        version, _, rest = text.partition(":")
        parts = rest.split(":")
        if self._key is None or version != _VERSION or len(parts) != 3 or parts[0] != self.key_id:
            raise CredentialUnreadable
        try:
            nonce, sealed = _bytes(parts[1]), _bytes(parts[2])
            plain = self._of(self._key, table, column).decrypt(nonce, sealed, _place(table, column, row_id))
            return Secret(plain.decode())
        except (InvalidTag, ValueError) as error:
            raise CredentialUnreadable from error

    def _of(self, key: bytes, table: str, column: str) -> AESGCM:
        if (found := self._by_column.get((table, column))) is None:
            found = AESGCM(_derived(key, f"omniroute {table}.{column}", KEY_BYTES))
            self._by_column[table, column] = found
        return found


def key_id(key: bytes) -> str:
    """Return 8 hex digits that tell encryption keys apart."""
    return _derived(key, "omniroute key id", _KEY_ID_BYTES).hex()


def key_id_of(text: str) -> str | None:
    """Return the id of the key that a stored value was encrypted with."""
    parts = text.split(":")
    return parts[1] if len(parts) == 4 and parts[0] == _VERSION else None


def _derived(key: bytes, purpose: str, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose.encode()).derive(key)


def _place(table: str, column: str, row_id: str) -> bytes:
    return f"{table}\x1f{column}\x1f{row_id}".encode()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
