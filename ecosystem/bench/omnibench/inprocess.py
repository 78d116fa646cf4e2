"""What a translation costs by itself: no sockets, no web server, one process that does nothing else.

Runs as a process of its own (`python -m omnibench.inprocess`, a job as JSON on standard input, the report as JSON on
standard output), so that it can be bound to the worker's core. Everything goes through the gateway's own exchange, so
that what a request costs there is all in the figures: whole bodies from the scan to the rendered bytes, streams from
the provider's bytes to the client's.

The least time of many runs is quoted: what disturbs a run only ever adds to it.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omnibench import agents, wire
from omnibench.processes import bound_to
from omnibench.targets import REPOSITORY

UPSTREAMS: Final = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
CLIENTS: Final = UPSTREAMS
_TURNS: Final = 5
"""How often a job comes round: the repetitions of one thing lie apart, so that a slow second does not fall on one."""


@dataclass(frozen=True, slots=True)
class Job:
    """How often to repeat."""

    requests: int
    streams: int


@dataclass(frozen=True, slots=True)
class RequestCost:
    """Least CPU milliseconds of a body of the Messages format on its way to an upstream format, by phase."""

    upstream: str
    bytes: int
    scan_ms: float
    parse_ms: float
    render_ms: float
    """Preparing for the target included."""

    @property
    def total_ms(self) -> float:
        """Return the time of all phases."""
        return self.scan_ms + self.parse_ms + self.render_ms


@dataclass(frozen=True, slots=True)
class StreamCost:
    """Least CPU microseconds per upstream event, the mean over a stream with its beginning and its end."""

    client: str
    upstream: str
    events: int
    event_us: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured."""

    requests: tuple[RequestCost, ...]
    streams: tuple[StreamCost, ...]


def run(job: Job) -> Report:
    """Measure in this process."""
    bench = _Bench()
    gc.collect()
    gc.freeze()
    requests: dict[str, RequestCost] = {}
    streams: dict[tuple[str, str], StreamCost] = {}
    for _ in range(_TURNS):
        for upstream in UPSTREAMS:
            if upstream != "anthropic_messages":
                cost = bench.request(upstream, max(1, job.requests // _TURNS))
                requests[upstream] = least_request(requests.get(upstream), cost)
        for client in CLIENTS:
            for upstream in UPSTREAMS:
                if client != upstream:
                    found = bench.stream(client, upstream, max(1, job.streams // _TURNS))
                    before = streams.get((client, upstream))
                    streams[client, upstream] = found if before is None or found.event_us < before.event_us else before
    return Report(tuple(requests.values()), tuple(streams.values()))


def least_request(one: RequestCost | None, other: RequestCost) -> RequestCost:
    """Return the lesser time of each phase."""
    if one is None:
        return other
    phases = ("scan_ms", "parse_ms", "render_ms")
    return dataclasses.replace(one, **{name: min(getattr(one, name), getattr(other, name)) for name in phases})


class _Bench:
    """The gateway's parts around a translation, and targets of each upstream format."""

    def __init__(self) -> None:
        # Only this process needs the package under test.
        from omniroute.formats.codec import no_pause
        from omniroute.formats.splice import scan
        from omniroute.gateway.dialects import DIALECTS, Surface
        from omniroute.gateway.directory import Directory
        from omniroute.gateway.exchange import Inquiry, Translation, exchange_with
        from omniroute.providers import catalog
        from omniroute.records import AuthType, Connection, Node, NodeType, Snapshot
        from omniroute.secret import Secret

        kinds: Mapping[str, tuple[NodeType, str | None]] = {
            "openai_chat": (NodeType.OPENAI, "chat"),
            "openai_responses": (NodeType.OPENAI, "responses"),
            "anthropic_messages": (NodeType.ANTHROPIC, None),
            "gemini": (NodeType.GEMINI, None),
            "ollama": (NodeType.OLLAMA, None),
        }
        nodes = [
            Node(f"node_{name}", name, f"bench-{name}", kind, "http://127.0.0.1:9/v1", api, is_local=True)
            for name, (kind, api) in kinds.items()
        ]
        connections = [
            Connection(f"conn_{node.name}", node.id, AuthType.API_KEY, "c", 1, True, Secret("sk-of-no-one"))
            for node in nodes
        ]
        directory = Directory.compile(Snapshot(1, tuple(connections), tuple(nodes)), catalog.load())
        self._targets = {name: directory.resolve(f"bench-{name}/{_MODEL}")[0] for name in kinds}
        surfaces = {
            "openai_chat": Surface.OPENAI_CHAT,
            "openai_responses": Surface.OPENAI_RESPONSES,
            "anthropic_messages": Surface.ANTHROPIC_MESSAGES,
            "gemini": Surface.GEMINI,
            "ollama": Surface.OLLAMA_CHAT,
        }
        self._dialects = {name: DIALECTS[surface] for name, surface in surfaces.items()}
        self._scan = scan
        self._exchange_with = exchange_with
        self._translation = Translation
        self._new_inquiry: Callable[[str, Any, bool], Any] = lambda client, top, is_stream: Inquiry(
            self._dialects[client], top, "a model", is_stream, "req_1", "key_1", _Backing(), no_pause
        )
        self._agent = agents.usual("a model")
        self._streams = wire.streams()

    def request(self, upstream: str, repetitions: int) -> RequestCost:
        """Translate the agent's body for an upstream."""
        dialect = self._dialects["anthropic_messages"]
        least: RequestCost | None = None
        for _ in range(repetitions):
            began = time.process_time()
            top = self._scan(self._agent, acted_on=dialect.acted_on)
            scanned = time.process_time()
            inquiry = self._new_inquiry("anthropic_messages", top, False)
            exchange = self._exchange_with(inquiry, self._targets[upstream])
            assert isinstance(exchange, self._translation)  # noqa: S101 - no target here speaks the client's format
            inquiry.request  # noqa: B018 - parses on first use
            parsed = time.process_time()
            body = exchange.body()
            ended = time.process_time()
            assert body.startswith(b"{")  # noqa: S101 - a request, not an error
            cost = RequestCost(
                upstream,
                len(self._agent),
                1e3 * (scanned - began),
                1e3 * (parsed - scanned),
                1e3 * (ended - parsed),
            )
            least = least_request(least, cost)
        assert least is not None  # noqa: S101 - at least one repetition
        return least

    def stream(self, client: str, upstream: str, repetitions: int) -> StreamCost:
        """Pass the vendor's stream through to a client, one event at a time."""
        events = self._streams[upstream]
        top = self._scan(CLIENT_BODIES[client])
        inquiry = self._new_inquiry(client, top, True)
        least = float("inf")
        for _ in range(repetitions):
            exchange = self._exchange_with(inquiry, self._targets[upstream])
            assert exchange is not None  # noqa: S101 - every target here speaks some format
            exchange.body()
            began = time.process_time()
            stream = exchange.stream(_no_trailer)
            size = 0
            for event in events:
                size += len(stream.feed(event))
            if not stream.is_complete:
                size += len(stream.end())
            least = min(least, time.process_time() - began)
            if stream.error is not None or not stream.is_complete or size < 10_000:
                raise AssertionError(f"{upstream} to {client}: the stream did not come through ({size} bytes)")
        return StreamCost(client, upstream, len(events), 1e6 * least / len(events))


_MODEL: Final = "echo"
_SCHEMA: Final = {"type": "object", "properties": {"file_path": {"type": "string"}, "new_string": {"type": "string"}}}
_TOOL: Final = {"name": "read_file", "description": "Reads."}
_FUNCTION: Final = {**_TOOL, "parameters": _SCHEMA}
_SAID: Final = [{"role": "user", "content": "Read it."}]


def _body(**members: Any) -> bytes:
    return json.dumps({"model": "a model", "stream": True, **members}).encode()


CLIENT_BODIES: Final[Mapping[str, bytes]] = {
    "openai_chat": _body(
        messages=_SAID, tools=[{"type": "function", "function": _FUNCTION}], stream_options={"include_usage": True}
    ),
    "openai_responses": _body(input="Read it.", tools=[{"type": "function", **_FUNCTION}]),
    "anthropic_messages": _body(messages=_SAID, max_tokens=4096, tools=[{**_TOOL, "input_schema": _SCHEMA}]),
    "gemini": _body(
        contents=[{"role": "user", "parts": [{"text": "Read it."}]}], tools=[{"functionDeclarations": [_FUNCTION]}]
    ),
    "ollama": _body(messages=_SAID, tools=[{"type": "function", "function": _FUNCTION}]),
}
"""A short request of each client, with the tool that the streams call."""


class _Backing:
    """Stands for the gateway around an exchange: nothing is kept, nothing is to be fetched."""

    def fetch_media(self, urls: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        raise AssertionError(urls)

    def thinking_of(self, key_id: str, call_id: str) -> None:
        del key_id, call_id

    def remember(self, key_id: str, kept: object) -> None:
        del key_id, kept

    def wall(self) -> float:
        return 1_790_000_000.0


def _no_trailer(usage: object) -> bytes:
    del usage
    return b""


def run_in_process(job: Job, cores: Iterable[int] | None = None) -> Report:
    """Run a job in a child process bound to `cores`.

    Raises:
        RuntimeError: the child did not report.
    """
    folder = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join((folder, str(REPOSITORY)))
    with bound_to(cores):
        child = subprocess.run(
            [sys.executable, "-m", "omnibench.inprocess"],
            check=False,
            input=json.dumps(dataclasses.asdict(job)),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
            timeout=300,
        )
    if child.returncode:
        raise RuntimeError(f"the measurement of translations failed: {child.stderr[-2000:]}")
    fields = json.loads(child.stdout)
    return Report(
        tuple(RequestCost(**cost) for cost in fields["requests"]),
        tuple(StreamCost(**cost) for cost in fields["streams"]),
    )


def main() -> None:
    """Read a job from standard input, run it, print the report."""
    report = run(Job(**json.load(sys.stdin)))
    json.dump(dataclasses.asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
