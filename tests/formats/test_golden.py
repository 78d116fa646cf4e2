"""One request and one stream of each format as all the others get them, written down in `tests/golden/translation`."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from omniroute.formats.translate import translate_request
from omniroute.formats.wire import WireFormat
from tests.formats.crossings import CHAT, FORMATS, GEMINI, MESSAGES, OLLAMA, RESPONSES, able
from tests.formats.test_cross_format import FIXTURES, fetched, nothing_kept, parsed, read, stream_of, streamed, way_back
from tests.goldens import Golden, orphans

REQUESTS: Final = {
    CHAT: "parallel_tools_with_text",
    RESPONSES: "parallel_tools",
    MESSAGES: "tools_parallel",
    GEMINI: "agent",
    OLLAMA: "tools",
}
STREAMS: Final = {
    CHAT: "parallel_tools_with_text",
    RESPONSES: "parallel_tools",
    MESSAGES: "thinking",
    GEMINI: "agent",
    OLLAMA: "thinking",
}
"""A recorded case of each format that has most of what can be said."""


def _request_file(client: WireFormat) -> str:
    return f"translation/request_of_{client}.json"


def _stream_file(upstream: WireFormat) -> str:
    return f"translation/stream_of_{upstream}.txt"


@pytest.mark.parametrize("client", FORMATS)
def test_a_request_for_each_target(client: WireFormat, golden: Golden) -> None:
    body = (FIXTURES / client / REQUESTS[client] / "request.json").read_bytes()
    outputs = {}
    for target in FORMATS:
        if target is client:
            continue
        sent = translate_request(fetched(parsed(client, body), target), able(target), thinking_of=nothing_kept)
        outputs[target.value] = {"dropped": sent.losses.paths, "body": msgspec.Raw(sent.body)}
    golden.check(_request_file(client), {"input": msgspec.Raw(body), "outputs": outputs})
    assert len(outputs) == len(FORMATS) - 1


@pytest.mark.parametrize("upstream", FORMATS)
def test_a_stream_for_each_client(upstream: WireFormat, golden: Golden) -> None:
    data = stream_of(upstream, STREAMS[upstream])
    parts = {"what came": data}
    for client in FORMATS:
        if client is not upstream:
            events = way_back(client, upstream).events(read(data, upstream))
            parts[f"as {client}"] = streamed(events, client)
    lines = [f"##### {title}\n\n{_without_blank_lines(part)}\n" for title, part in parts.items()]
    golden.check_text(_stream_file(upstream), "\n".join(lines))
    assert all(parts.values())


def _without_blank_lines(data: bytes) -> str:
    return "\n".join(line for line in data.decode().splitlines() if line)


def test_no_file_is_left_over() -> None:
    asked_for = {*map(_request_file, FORMATS), *map(_stream_file, FORMATS)}
    assert orphans("translation", asked_for) == set()
