"""The envelope in which one provider's opaque token travels through the history of a client of another format.

A signature means something to its maker only, but the client that replays it cannot say who that was. So a token that
leaves in a foreign format is put into an envelope: base64 text, since the formats' own client libraries decode the
members that carry it. The gateway recognises its envelopes by their first characters wherever they come back.
"""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode, b64encode
from typing import Final

import msgspec

from omniroute.formats.canonical import Token
from omniroute.formats.wire import WireFormat

MARK: Final = b"OmniRouteTokenV1"
"""How every envelope begins. Letters and digits only: equal in both base64 alphabets, and JSON never escapes them."""

BROKEN: Final = Token("", WireFormat.OTHER)
"""What an envelope of ours that cannot be read becomes: no target speaks that format, so it fits none."""

_MARK_TEXT: Final = MARK.decode()
_MAGIC: Final = b64decode(MARK)
_CHECKSUM_BYTES: Final = 4
_TO_STANDARD: Final = str.maketrans("-_", "+/")

_Content = tuple[str, str | None, str | None, bool, bytes]
_decoder: Final = msgspec.msgpack.Decoder(_Content)


def wrap(token: Token) -> str:
    """Return the envelope of a token: standard base64 with padding, the same for the same token.

    The value may be empty: that marks reasoning whose maker signs nothing, so that it is recognised on its return.
    """
    content = msgspec.msgpack.encode((token.origin.value, token.provider, token.family, *_compact(token.value)))
    checksum = zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
    return b64encode(_MAGIC + checksum + content).decode()


def is_wrapped(text: str) -> bool:
    """Say whether a text is, or was before it got damaged, an envelope of ours."""
    return text.startswith(_MARK_TEXT)


def unwrap(value: str, origin: WireFormat) -> Token:
    """Return the token in an envelope; anything else is a token of the format it stood in.

    Client libraries decode the members that carry tokens and encode them again: either alphabet is read, with or
    without padding.
    """
    if not is_wrapped(value):
        return Token(value, origin)
    try:
        standard = value.rstrip("=").translate(_TO_STANDARD)
        packed = b64decode(standard + "=" * (-len(standard) % 4), validate=True)
        start = len(_MAGIC) + _CHECKSUM_BYTES
        checksum, content = packed[len(_MAGIC) : start], packed[start:]
        if int.from_bytes(checksum, "big") != zlib.crc32(content):
            return BROKEN
        origin_name, provider, family, is_base64, inner = _decoder.decode(content)
        text = (b64encode(inner) if is_base64 else inner).decode()
        return Token(text, WireFormat(origin_name), provider, family)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return BROKEN


def _compact(value: str) -> tuple[bool, bytes]:
    # Most tokens are base64 themselves; decoded they do not grow by a third each time they are wrapped.
    written = value.encode()
    try:
        decoded = b64decode(written, validate=True)
    except binascii.Error:
        return False, written
    return (True, decoded) if b64encode(decoded) == written else (False, written)
