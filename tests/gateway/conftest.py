"""An inference service over fake providers on real sockets, without a web server."""

from __future__ import annotations

import socket as plain_socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import pytest
from gevent import socket

from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import Surface
from omniroute.gateway.directory import Directory
from omniroute.gateway.handover import Answer, Call
from omniroute.gateway.inference import Inference
from omniroute.gateway.sandbox_transport import SandboxTransport
from omniroute.gateway.transport import HttpTransport, RoutedTransport
from omniroute.providers import catalog
from omniroute.providers.upstream import Deadlines
from omniroute.records import AuthType, Connection, Node, NodeType, RequestRecord, Snapshot
from omniroute.secret import Secret
from omniroute.services.access import Caller, CallerKind, ModelRules
from tests.fakes.upstream import FakeUpstream

KEY = "sk-upstream-credential-0123456789"


@dataclass
class Log:
    """Remembers what was settled."""

    records: list[RequestRecord] = field(default_factory=list)

    def put(self, record: RequestRecord) -> None:
        self.records.append(record)

    def observe(self, record: RequestRecord) -> None:
        assert record in self.records, "the log comes before the metrics"

    @property
    def only(self) -> RequestRecord:
        assert len(self.records) == 1, self.records
        return self.records[0]


_catalog = cache(catalog.load)
"""Read once: it takes longer than most tests."""


def quick_clocks(**changes: float) -> Clocks:
    limits = Deadlines(connect_s=1.0, headers_s=0.5, content_s=0.5, idle_s=0.3, total_s=5.0)
    values: dict[str, Any] = {"commit_after_s": 1.0, "heartbeat_s": 0.05, "client_write_s": 5.0}
    return Clocks(stream=limits, answer=limits, **{**values, **changes})


@dataclass
class Bench:
    """One inference service with what it was made of."""

    inference: Inference
    log: Log
    http: HttpTransport
    client: Any
    """The client's end of the socket pair that stands for its connection."""
    server_end: Any
    caller: Caller = field(default_factory=lambda: Caller(CallerKind.LOCAL, None, "local", "local", ModelRules()))

    def call(self, body: dict[str, Any] | bytes, surface: Surface = Surface.OPENAI_CHAT, **more: Any) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.inference.open(
            Call(
                request_id=f"req_{len(self.log.records)}",
                endpoint="/v1/chat/completions",
                surface=surface,
                body=data,
                caller=self.caller,
                client_socket=self.server_end,
                **more,
            )
        )


@pytest.fixture
def bench_of() -> Iterator[Callable[..., Bench]]:
    """Make a service whose node `up/` has one connection per given fake provider, in that order of priority.

    Several providers stand for several credentials of one service: each is a connection with its own address.
    """
    made: list[Bench] = []

    def make(
        *upstreams: FakeUpstream,
        node_type: NodeType = NodeType.OPENAI,
        api_type: str | None = None,
        clocks: Clocks | None = None,
    ) -> Bench:
        connections = []
        nodes = []
        for index, upstream in enumerate(upstreams):
            node_id = "node_up" if index == 0 else f"node_{index}"
            nodes.append(
                Node(
                    node_id,
                    node_id,
                    "up" if index == 0 else f"up{index}",
                    node_type,
                    upstream.url + "/v1",
                    api_type,
                    is_local=True,
                )
            )
            connections.append(
                Connection(
                    f"conn_{index}", node_id, AuthType.API_KEY, "c", index + 1, True, Secret(KEY), created_at=index
                )
            )
        directory = Directory.compile(Snapshot(1, tuple(connections), tuple(nodes)), _catalog())
        http = HttpTransport(guard=lambda host, port, **_: (host,), now=time.monotonic)
        log = Log()
        client, server_end = plain_socket.socketpair()
        bench = Bench(
            Inference(
                directory=lambda: _Merged(directory, [f"up{i}" if i else "up" for i in range(len(upstreams))]),  # type: ignore[arg-type,return-value]
                transport=RoutedTransport(http, SandboxTransport(now=time.monotonic)),
                request_log=log,
                observer=log,
                clocks=clocks or quick_clocks(),
                now=time.monotonic,
                wall=time.time,
                max_in_flight=100,
            ),
            log,
            http,
            socket.socket(fileno=client.detach()),
            socket.socket(fileno=server_end.detach()),
        )
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.http.close()
        bench.client.close()
        bench.server_end.close()


class _Merged:
    """Resolves `up/…` to the legs of all test nodes, as several connections of one provider would be."""

    def __init__(self, directory: Directory, prefixes: list[str]) -> None:
        self._directory = directory
        self._prefixes = prefixes

    def resolve_at(self, provider: str, name: str) -> Any:
        return self._directory.resolve_at(provider, name)

    def resolve(self, name: str) -> Any:
        if not name.startswith("up/"):
            return self._directory.resolve(name)
        model = name.removeprefix("up/")
        return tuple(target for prefix in self._prefixes for target in self._directory.resolve(f"{prefix}/{model}"))
