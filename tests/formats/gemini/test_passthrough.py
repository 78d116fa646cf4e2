from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import ServerDraining, UpstreamProtocolError
from omniroute.formats.gemini.array import ArrayFraming, ArrayStream, render_in_array
from omniroute.formats.gemini.stream import GeminiStream
from omniroute.formats.usage import NOT_REPORTED, Usage
from tests.formats.gemini.fixtures import STREAMS, stream_of

SSE = [case for case in STREAMS if case not in {"array", "malformed", "oddities"}]


def _no_trailer(usage: Usage) -> bytes:
    raise AssertionError("nothing but chunks may stand in this stream")


def _stream(requested: str | None = None) -> GeminiStream:
    return GeminiStream(requested, _no_trailer)


@pytest.mark.parametrize("case", SSE)
def test_bytes_stay_as_they_are_and_the_end_of_bytes_completes(case: str) -> None:
    data = stream_of(case)
    stream = _stream()
    assert stream.feed(data) == data
    assert stream.is_finished
    assert stream.end() == b""
    assert stream.usage != NOT_REPORTED


@given(st.sampled_from(SSE), st.lists(st.integers(0, 4000), max_size=6))
def test_any_cuts_forward_the_same(case: str, cuts: list[int]) -> None:
    data = stream_of(case)
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    stream = _stream("mine")
    out = b"".join(stream.feed(data[a:b]) for a, b in pairwise(bounds))
    assert out + stream.end() == _stream("mine").feed(data)


def test_usage_is_that_of_the_last_chunk() -> None:
    stream = _stream()
    stream.feed(stream_of("agent"))
    assert stream.usage == Usage(input=6021, output=224, cache_read=4096, reasoning=180)


def test_chunks_before_content_are_held_and_a_stream_without_any_is_committed_by_its_end() -> None:
    first = b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"}}]}\n\n'
    last = b'data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1}}\n\n'
    stream = _stream()
    assert stream.feed(first) == b""
    assert not stream.has_content
    assert stream.feed(last) == first + last
    assert stream.end() == b""
    blocked = _stream()
    assert blocked.feed(stream_of("blocked")) == stream_of("blocked")


@pytest.mark.parametrize(
    "part", ['{"functionCall":{"name":"f"}}', '{"text":"x","thought":true}', '{"inlineData":{}}', '{"new":1}', "7"]
)
def test_any_part_that_says_something_is_content(part: str) -> None:
    stream = _stream()
    stream.feed(f'data: {{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}\n\n'.encode())
    assert stream.has_content


@pytest.mark.parametrize("case", SSE)
def test_t35_a_stream_cut_at_every_byte_is_never_taken_for_whole(case: str) -> None:
    data = stream_of(case).replace(b"\r\n", b"\n")
    for cut in range(len(data.rstrip())):
        stream = _stream()
        stream.feed(data[:cut])
        if stream.is_finished:  # a reason has been seen: nothing of the answer is missing
            assert b"finishReason" in data[:cut] or b"blockReason" in data[:cut]
            continue
        with pytest.raises(UpstreamProtocolError):
            stream.end()


def test_a_last_chunk_without_its_blank_line_counts() -> None:
    data = stream_of("text").rstrip()
    stream = _stream()
    out = stream.feed(data)
    assert not stream.is_finished
    assert (out + stream.end()).rstrip() == data
    assert stream.is_complete


def test_a_host_that_goes_on_after_a_reason_is_not_finished() -> None:
    stream = _stream()
    stream.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}\n\n')
    stream.feed(b'data: {"candidates":[{"content":{"parts":[{"text":"b"}]}}]}\n\n')
    stream.feed(b'data: {"usageMetadata":{"promptTokenCount":1}}\n\n')
    assert not stream.is_finished
    with pytest.raises(UpstreamProtocolError):
        stream.end()


def test_several_candidates_end_one_by_one() -> None:
    stream = GeminiStream(None, _no_trailer, candidates=2)
    stream.feed(b'data: {"candidates":[{"finishReason":"STOP","index":1}]}\n\n')
    with pytest.raises(UpstreamProtocolError):
        stream.end()
    stream.feed(b'data: {"candidates":[{"finishReason":"STOP"}]}\n\n')
    assert stream.is_finished


def test_lines_that_are_not_data_are_withheld() -> None:
    data = stream_of("text")
    stream = _stream()
    noisy = b": ping\n\n" + data.replace(b"\r\n\r\n", b"\r\n\r\n: x\n\n") + b"event: ping\n\n"
    assert stream.feed(noisy) == data


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error": {"code": 503}}\n\n',
        b'data: [{"error": {"code": 503}}]\n\n',
        b'[{\n"error": {\n"code": 503\n}\n}\n]\n\n',
        b'data: {"error":\ndata: {"code": 503}}\n\n',
    ],
)
def test_an_error_is_kept_and_not_forwarded(error: bytes) -> None:
    for before in (b"", b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\n\n'):
        stream = _stream()
        assert stream.feed(before + error) == before
        assert stream.error is not None
        assert json.loads(stream.error) == {"error": {"code": 503}}
        frame = stream.raw_error(stream.error)
        assert frame == b'data: {"error":{"code":503}}\n\n'


def test_chunks_that_are_not_json_are_refused_and_odd_ones_forwarded() -> None:
    with pytest.raises(UpstreamProtocolError):
        _stream().feed(b"data: {nope}\n\n")
    stream = _stream()
    odd = b'data: {"candidates": 7}\n\n'
    assert stream.feed(odd) == b""
    assert not stream.has_content
    assert stream.feed(b"data: []\n\n" + stream_of("text"))[:24] == odd[:24]


def test_t61_the_model_name_is_put_back_in_every_chunk_and_nowhere_else() -> None:
    data = stream_of("text")
    out = _stream("my/model").feed(data)
    chunks = [json.loads(event[6:]) for event in out.decode().split("\r\n\r\n") if event]
    was = [json.loads(event[6:]) for event in data.decode().split("\r\n\r\n") if event]
    assert [chunk.pop("modelVersion") for chunk in chunks] == ["my/model"] * 3
    for chunk in was:
        del chunk["modelVersion"]
    assert chunks == was


def test_t61_arguments_that_look_like_a_model_name_stay() -> None:
    call = '{"functionCall":{"name":"f","args":{"modelVersion":"real","model":"real"}}}'
    data = f'data: {{"candidates":[{{"content":{{"parts":[{call}]}}}}],"modelVersion":"real"}}\n\n'.encode()
    out = _stream("mine").feed(data)
    assert b'"args":{"modelVersion":"real","model":"real"}' in out
    assert out.endswith(b'"modelVersion":"mine"}\n\n')
    nameless = b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]}}]}\n\n'
    assert _stream("mine").feed(nameless) == nameless
    numbered = nameless.replace(b"}]}\n", b'}],"modelVersion":7}\n')
    assert _stream("mine").feed(numbered) == numbered


def test_t61_a_chunk_on_many_lines_stays_one_event() -> None:
    data = b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]}}],\ndata:  "modelVersion": "real"}\n\n'
    out = _stream("mine").feed(data)
    assert json.loads(b"".join(line[6:] for line in out.splitlines()))["modelVersion"] == "mine"


def test_a_picture_of_some_megabytes_is_one_chunk() -> None:
    part = b'{"inlineData":{"mimeType":"image/png","data":"' + b"A" * (6 << 20) + b'"}}'
    data = b'data: {"candidates":[{"content":{"parts":[' + part + b']},"finishReason":"STOP"}]}\n\n'
    stream = _stream()
    out = b"".join(stream.feed(data[start : start + 65536]) for start in range(0, len(data), 65536))
    assert out == data


def test_errors_of_ours_are_chunks() -> None:
    frame = _stream().fail(ServerDraining(), "req_1")
    assert json.loads(frame[6:])["error"]["status"] == "UNAVAILABLE"
    assert frame.endswith(b"\n\n")


# --- as one array ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SSE)
def test_a_stream_becomes_an_array(case: str) -> None:
    data = stream_of(case)
    stream = ArrayStream(_stream())
    pieces = [stream.feed(data[i : i + 100]) for i in range(0, len(data), 100)]
    pieces.append(stream.end())
    expected = [json.loads(event[6:]) for event in data.decode().split("\r\n\r\n") if event]
    assert json.loads(b"".join(pieces)) == expected
    assert stream.is_complete
    assert stream.has_content
    assert stream.usage != NOT_REPORTED
    assert stream.is_verbatim
    assert stream.end() == b""


def test_heartbeats_stand_between_elements() -> None:
    framing = ArrayFraming()
    pieces = [framing.write(piece) for piece in (b"\n", b'data: {"a":1}\n\n', b"\n", b'data: {"b":\ndata: 2}\n\n', b"")]
    assert pieces == [b"\n", b'[{"a":1}', b"\n", b',\n{"b":\n2}', b""]
    assert json.loads(b"".join(pieces) + framing.close()) == [{"a": 1}, {"b": 2}]
    assert framing.close() == b""
    assert framing.write(b"data: 1\n\n") == b""
    assert ArrayFraming().close() == b"[]"


def test_an_error_is_the_last_element() -> None:
    stream = ArrayStream(_stream())
    said = stream.feed(stream_of("text")[:400])
    ended = json.loads(said + stream.fail(ServerDraining(), "req_1"))
    assert ended[-1]["error"]["code"] == 503
    assert len(ended) > 1
    failed = ArrayStream(_stream())
    failed.feed(b'data: {"error": {"code": 503}}\n\n')
    assert failed.error == b'{"error": {"code": 503}}'
    assert json.loads(failed.raw_error(failed.error)) == [{"error": {"code": 503}}]
    assert json.loads(render_in_array(ServerDraining(), "req_1"))[0]["error"]["status"] == "UNAVAILABLE"


def test_a_stream_that_breaks_off_ends_its_array_with_the_error() -> None:
    stream = ArrayStream(_stream())
    said = stream.feed(stream_of("text")[:300])
    with pytest.raises(UpstreamProtocolError) as caught:
        stream.end()
    assert json.loads(said + stream.fail(caught.value, "req_1"))[-1]["error"]["status"] == "INTERNAL"
