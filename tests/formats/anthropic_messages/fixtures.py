"""The recorded cases of the format, and how JSON is compared: by value, every digit of a number counting."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from omniroute.formats.canonical import Message, Request, Role, Text
from omniroute.formats.codec import Reply
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

ROOT = Path(__file__).parents[2] / "fixtures" / "anthropic_messages"
REQUESTS = sorted(path.parent.name for path in ROOT.glob("*/request.json"))
ANSWERS = sorted(path.parent.name for path in ROOT.glob("*/response.json"))
STREAMS = sorted(path.parent.name for path in ROOT.glob("*/stream.sse"))


def request_of(case: str) -> bytes:
    return (ROOT / case / "request.json").read_bytes()


def answer_of(case: str) -> bytes:
    return (ROOT / case / "response.json").read_bytes()


def stream_of(case: str) -> bytes:
    return (ROOT / case / "stream.sse").read_bytes()


def value(text: bytes | str) -> Any:
    return json.loads(text, parse_float=Decimal)


def chat(*messages: Message, **members: Any) -> Request:
    """A request that came from a Chat client."""
    return Request(WireFormat.OPENAI_CHAT, "some-model", messages or (user("Hi"),), **members)


def user(text: str) -> Message:
    return Message(Role.USER, (Text(text),), plain=True)


def reply_to(request: Request, trailer: bytes = b"") -> Reply:
    def make_trailer(usage: Usage) -> bytes:
        del usage
        return trailer

    return Reply(request, "the-model", "0123456789abcdef01234567", 1_700_000_000, make_trailer)
