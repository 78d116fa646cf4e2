"""The recorded bodies of this format, and the small tools that its tests share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from omniroute.formats.canonical import Answer, Message, Request, Role, Text
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.events import Checked, Event
from omniroute.formats.fold import Folder
from omniroute.formats.gemini.request_parser import parse_request
from omniroute.formats.gemini.request_renderer import render_request
from omniroute.formats.gemini.stream_parser import Parser
from omniroute.formats.losses import Losses
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

ROOT: Final = Path(__file__).parents[2] / "fixtures" / "gemini"
REQUESTS: Final = sorted(path.parent.name for path in ROOT.glob("*/request.json"))
STREAMS: Final = sorted(path.parent.name for path in ROOT.glob("*/stream.*"))
PAIRS: Final = sorted(name for name in STREAMS if (ROOT / name / "response.json").exists() and name != "malformed")


def body_of(case: str, name: str = "request.json") -> bytes:
    return (ROOT / case / name).read_bytes()


def stream_of(case: str) -> bytes:
    (path,) = (ROOT / case).glob("stream.*")
    return path.read_bytes()


def plain(data: bytes) -> Any:
    """JSON with its numbers as they are spelt."""
    return json.loads(data, parse_int=str, parse_float=str)


def parsed(body: bytes | dict[str, Any]) -> Request:
    return parse_request(body if isinstance(body, bytes) else json.dumps(body).encode(), no_pause)


def user(*parts: Any, **members: Any) -> Request:
    return parsed({"contents": [{"role": "user", "parts": list(parts)}], **members})


def foreign(*messages: Message, **members: Any) -> Request:
    """A request that came in another format."""
    said = messages or (Message(Role.USER, (Text("Hello"),)),)
    return Request(WireFormat.ANTHROPIC_MESSAGES, "m", said, **members)


def rendered(request: Request, profile: Profile | None = None, **facts: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    target = profile or profile_for(WireFormat.GEMINI, "gemini-2.5-pro", **facts)
    losses = Losses(WireFormat.GEMINI)
    body = render_request(request, target, losses, no_pause)
    return json.loads(body), losses.paths


def events_of(pieces: Iterable[bytes]) -> list[Event]:
    """Events of a stream in these pieces, held against the rules of events."""
    parser, checked = Parser(), Checked()
    events: list[Event] = []
    for piece in pieces:
        new = parser.feed(piece)
        checked.see(new)
        events += new
    last = parser.close()
    checked.see(last)
    checked.end()
    assert parser.close() == []
    return events + last


def folded(events: Iterable[Event]) -> Answer:
    folder = Folder(WireFormat.GEMINI)
    folder.see(events)
    return folder.answer()


def reply_for(*, shows_thoughts: bool = True) -> Reply:
    config = {"thinkingConfig": {"includeThoughts": shows_thoughts}}
    request = user({"text": "Hello"}, generationConfig=config)
    return Reply(request, "my-model", "0123456789abcdef01234567", 1_767_323_045, _trailer)


def _trailer(usage: Usage) -> bytes:
    return b": x-omniroute-tokens-in=1\n"
