"""Opaque tokens of the sandbox: signatures and encrypted reasoning that it can recognise as its own later."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as BinasciiError
from enum import StrEnum
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

_HEAD: Final = b"sandbox."
_SIZE: Final = 24
# Not a secret: it only keeps other texts from passing for tokens by accident.
_KEY: Final = b"tokens of the simulated provider"


class Purpose(StrEnum):
    """What a token stands for; one never passes for another."""

    THINKING = "thinking"
    REDACTED = "redacted"
    REASONING = "reasoning"
    COMPACTION = "compaction"
    CALL = "call"
    PART = "part"


def seal(purpose: Purpose, text: str) -> str:
    """Return the token for a text: the same text always has the same one."""
    seed = _seed(text)
    return b64encode(_HEAD + seed + _proof(purpose, seed)).decode()


def is_sealed(purpose: Purpose, token: str, text: str | None = None) -> bool:
    """Tell whether `token` was made here for `purpose`, and for `text` if that is given."""
    raw = unpack(token)
    if raw is None or not raw.startswith(_HEAD):
        return False
    seed, proof = raw[len(_HEAD) : len(_HEAD) + _SIZE], raw[len(_HEAD) + _SIZE :]
    is_own = compare_digest(proof, _proof(purpose, seed))
    return is_own and (text is None or compare_digest(seed, _seed(text)))


def unpack(token: str) -> bytes | None:
    """Return the bytes of base64 text of either alphabet, padded or not; None when it is no such text."""
    plain = token.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (BinasciiError, ValueError):
        return None


def _seed(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "replace"), digest_size=_SIZE, key=_KEY).digest()


def _proof(purpose: Purpose, seed: bytes) -> bytes:
    return blake2b(purpose.value.encode() + seed, digest_size=_SIZE, key=_KEY).digest()
