"""Samples of the format, and what all of its tests need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omniroute.formats.canonical import Answer, Request
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.events import Checked, Event
from omniroute.formats.fold import Folder
from omniroute.formats.losses import Losses
from omniroute.formats.openai_responses.request_parser import parse_request
from omniroute.formats.openai_responses.request_renderer import render_request
from omniroute.formats.openai_responses.stream_parser import Parser
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.usage import Usage
from omniroute.formats.wire import WireFormat

SAMPLES = Path(__file__).resolve().parents[2] / "fixtures" / "openai_responses"
TARGET = WireFormat.OPENAI_RESPONSES
KEY = "0123456789abcdef0123456789abcdef"


def cases(name: str) -> list[Path]:
    return sorted(path.parent for path in SAMPLES.glob(f"*/{name}"))


def sample(case: str, name: str) -> bytes:
    return (SAMPLES / case / name).read_bytes()


def parsed(**body: Any) -> Request:
    return parse_request(json.dumps({"model": "m", **body}).encode(), no_pause)


def rendered(request: Request, losses: Losses | None = None, **facts: Any) -> dict[str, Any]:
    profile: Profile = profile_for(TARGET, facts.pop("model", request.model), **facts)
    body = render_request(request, profile, losses or Losses(TARGET), no_pause)
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def reply_to(request: Request) -> Reply:
    return Reply(request, "client-model", KEY, 1_760_000_000, trailer)


def trailer(usage: Usage) -> bytes:
    return f": tokens={usage.output}\n\n".encode()


def read_stream(data: bytes) -> list[Event]:
    parser = Parser()
    return parser.feed(data) + parser.close()


def folded(data: bytes) -> Answer:
    events = read_stream(data)
    check = Checked()
    check.see(events)
    check.end()
    folder = Folder(TARGET)
    folder.see(events)
    return folder.answer()


def frames(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the data of each event, holding it against the rules of framing."""
    for block in data.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if not lines:
            continue
        assert len(lines) == 2
        event = json.loads(lines[1].removeprefix("data: "))
        assert lines[0] == f"event: {event['type']}"
        yield event
