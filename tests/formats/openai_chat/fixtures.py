"""The fixtures of the format, and what its tests share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from omniroute.formats.canonical import Answer, Block, Request, Text, Thinking, ToolCall
from omniroute.formats.codec import Reply, no_pause
from omniroute.formats.events import Checked, Event
from omniroute.formats.fold import Folder
from omniroute.formats.losses import Losses
from omniroute.formats.openai_chat.request_parser import parse_request
from omniroute.formats.openai_chat.request_renderer import render_request
from omniroute.formats.openai_chat.stream_parser import Parser
from omniroute.formats.profile import Profile, profile_for
from omniroute.formats.wire import WireFormat

ROOT = Path(__file__).parents[2] / "fixtures" / "openai_chat"
CHAT = WireFormat.OPENAI_CHAT
REPLY_ID = "0123456789abcdef01234567"


def cases(file: str) -> list[str]:
    """Return the names of the cases that have a file."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{file}"))


def read(case: str, file: str) -> bytes:
    """Return a file of a case."""
    return (ROOT / case / file).read_bytes()


def request(**members: Any) -> bytes:
    """Return the body of a request with one question in it."""
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **members}
    return json.dumps(body, ensure_ascii=False).encode()


def parsed(**members: Any) -> Request:
    """Return a request of a client."""
    return parse_request(request(**members), no_pause)


def rendered(asked: Request, **facts: Any) -> dict[str, Any]:
    """Return what a target of this format is sent."""
    return rendered_with(asked, profile_for(CHAT, "target", **facts))[0]


def rendered_with(asked: Request, profile: Profile) -> tuple[dict[str, Any], Losses]:
    """Return what a target is sent, and what was left out."""
    losses = Losses(CHAT)
    body: dict[str, Any] = json.loads(render_request(asked, profile, losses, no_pause))
    return body, losses


def reply(asked: Request | None = None, **members: Any) -> Reply:
    """Return what rendering an answer needs."""
    return Reply(
        request=asked or parsed(**members),
        model="asked-for",
        id=REPLY_ID,
        created=1_700_000_000,
        trailer=lambda usage: f": x-omniroute-tokens-out={usage.output}\n\n".encode(),
    )


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """Return one event with one choice."""
    choice: dict[str, Any] = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return frame({"id": "c1", "created": 5, "model": "m", "choices": [choice], **members})


def frame(value: Any) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def events_of(stream: bytes | Iterable[bytes]) -> list[Event]:
    """Return the events of a whole stream, checked."""
    parser = Parser()
    checked = Checked()
    events: list[Event] = []
    for piece in [stream] if isinstance(stream, bytes) else stream:
        events += parser.feed(piece)
    events += parser.close()
    checked.see(events)
    checked.end()
    return events


def folded(events: Iterable[Event]) -> Answer:
    """Return the answer that events amount to."""
    folder = Folder(CHAT)
    folder.see(events)
    return folder.answer()


def answer_of(stream: bytes) -> Answer:
    """Return the answer that a whole stream amounts to."""
    return folded(events_of(stream))


def without_extra(answer: Answer) -> Answer:
    """Return an answer without the members that a stream does not carry."""
    return msgspec.structs.replace(answer, extra={}, others=())


def normal(answer: Answer) -> Answer:
    """Return an answer with its JSON spelt without spaces."""
    return msgspec.structs.replace(answer, blocks=tuple(map(_normal_block, answer.blocks)))


def _normal_block(block: Block) -> Block:
    if not isinstance(block, Text):
        return block
    citations = tuple(msgspec.structs.replace(one, raw=_dense(one.raw)) for one in block.citations)
    logprobs = None if block.logprobs is None else _dense(block.logprobs)
    return msgspec.structs.replace(block, citations=citations, logprobs=logprobs)


def _dense(raw: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(msgspec.json.decode(raw), order="sorted"))


def calls_of(answer: Answer) -> list[tuple[str, str, str]]:
    """Return id, name and arguments of each call."""
    return [(call.id, call.name, call.arguments) for call in answer.blocks if isinstance(call, ToolCall)]


def thinking_of(answer: Answer) -> str:
    """Return the reasoning of an answer."""
    return "".join(block.text for block in answer.blocks if isinstance(block, Thinking))
