"""The load generator against a server of a few lines that does wrong on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from omnibench.streams import StreamJob, StreamReport, drive

CHUNKS = 20

Play = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
"""Sends one answer; the number says which stream of the run it is."""


def _event(number: int) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%d word "}}]}\n\n' % number


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _events(writer: asyncio.StreamWriter, numbers: list[int], *, is_finished: bool = True) -> None:
    writer.write(HEAD + _chunk(ROLE))
    for number in numbers:
        writer.write(_chunk(_event(number)))
        await writer.drain()
    if is_finished:
        writer.write(_chunk(DONE) + b"0\r\n\r\n")


def _run(play: Play, *, streams: int = 3, deadline_s: float = 20.0) -> StreamReport:
    async def serve_and_drive() -> StreamReport:
        answers: list[asyncio.Task[None]] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            number = len(answers)
            answers.append(asyncio.ensure_future(play(writer, number)))
            try:
                await answers[number]
                await writer.drain()
            except (asyncio.CancelledError, ConnectionError):
                writer.transport.abort()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        headers = {"Authorization": "Bearer sk-test"}
        job = StreamJob(port, "/v1/chat/completions", "{}", headers, streams, CHUNKS, deadline_s=deadline_s)
        try:
            return await drive(job)
        finally:
            for task in answers:
                task.cancel()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
            server.close()
            await server.wait_closed()

    return asyncio.run(serve_and_drive())


def _wrong(report: StreamReport) -> tuple[int, int, int, int, int]:
    return report.lost, report.duplicated, report.reordered, report.cut, report.refused


def test_whole_streams_are_whole() -> None:
    async def play(writer: asyncio.StreamWriter, _number: int) -> None:
        await _events(writer, list(range(CHUNKS)))

    report = _run(play)
    assert _wrong(report) == (0, 0, 0, 0, 0)
    assert report.is_whole
    assert (report.whole, report.chunks, report.peak_open) == (3, 3 * CHUNKS, 3)
    assert 0 < report.first_content_p50_ms <= report.first_content_max_ms
    assert report.chunks_per_s > 0


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ([n for n in range(CHUNKS) if n != 7], (1, 0, 0, 0, 0)),
        ([*range(CHUNKS), CHUNKS - 1], (0, 1, 0, 0, 0)),
        ([1, 0, *range(2, CHUNKS)], (0, 0, 1, 0, 0)),
    ],
)
def test_one_bad_stream_among_good_ones_is_noticed(numbers: list[int], wrong: tuple[int, ...]) -> None:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        await _events(writer, numbers if number == 1 else list(range(CHUNKS)))

    report = _run(play)
    assert _wrong(report) == wrong
    assert report.whole == 2
    assert not report.is_whole


def test_a_stream_that_is_cut_counts_as_cut_and_its_rest_as_lost() -> None:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        await _events(writer, list(range(15 if number == 0 else CHUNKS)), is_finished=number != 0)

    report = _run(play)
    assert _wrong(report) == (5, 0, 0, 1, 0)
    assert report.problems == ("ended without [DONE]",)


def test_a_refusal_counts_as_refused() -> None:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 2:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
        else:
            await _events(writer, list(range(CHUNKS)))

    report = _run(play)
    assert _wrong(report) == (CHUNKS, 0, 0, 0, 1)
    assert "503" in report.problems[0]


def test_a_silent_stream_is_given_up_at_the_deadline() -> None:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        await _events(writer, list(range(CHUNKS)), is_finished=number != 0)
        if number == 0:
            await asyncio.Event().wait()

    report = _run(play, deadline_s=0.5)
    assert (report.whole, report.cut, report.lost) == (2, 1, 0)
    assert "deadline" in report.problems[0]


def test_framing_that_falls_anywhere_changes_nothing() -> None:
    body = ROLE + b"".join(_event(n) for n in range(CHUNKS)) + b": a comment\n\n" + DONE

    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        size = 11 + 7 * number
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        for byte in HEAD + b"".join(map(_chunk, pieces)) + b"0\r\n\r\n":
            writer.write(bytes([byte]))

    assert _wrong(_run(play)) == (0, 0, 0, 0, 0)


def test_an_address_where_nobody_listens_loses_everything() -> None:
    async def drive_nowhere() -> StreamReport:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await drive(StreamJob(port, "/", "{}", {}, 2, CHUNKS, deadline_s=5))

    report = asyncio.run(drive_nowhere())
    assert (report.whole, report.lost, report.cut) == (0, 2 * CHUNKS, 2)
