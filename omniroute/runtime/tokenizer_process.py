"""The process that holds the vocabularies: reads `[encoding, [text, …]]` from its input, writes how many tokens.

Both directions begin with a length or number of four bytes, big-endian. It ends with its input.
"""

from __future__ import annotations

import struct
import sys
from typing import BinaryIO

import msgspec

from omniroute.formats.token_count import Encoding, count_texts, load

_LENGTH = struct.Struct(">I")
_ASKED = msgspec.json.Decoder(tuple[Encoding, list[str]])


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer until the input ends."""
    while len(head := source.read(_LENGTH.size)) == _LENGTH.size:
        encoding, texts = _ASKED.decode(source.read(_LENGTH.unpack(head)[0]))
        load(encoding)
        target.write(_LENGTH.pack(count_texts(texts, encoding)))
        target.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
