"""An inference service over fake providers on real sockets, without a web server."""

from __future__ import annotations

import socket as plain_socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import gevent
import msgspec
import pytest
from gevent import socket

from omniroute.gateway.clocks import Clocks
from omniroute.gateway.dialects import Surface
from omniroute.gateway.directory import Directories, Directory, Target
from omniroute.gateway.handover import CANCELLED_STATUS, Answer, Call
from omniroute.gateway.inference import Inference
from omniroute.gateway.routing import Routing
from omniroute.gateway.sandbox_transport import SandboxTransport
from omniroute.gateway.session_keys import SessionKeys
from omniroute.gateway.transport import HttpTransport, RoutedTransport
from omniroute.providers import catalog
from omniroute.providers.upstream import Deadlines
from omniroute.records import AuthType, Combo, ComboStep, Connection, Node, NodeType, PriceRow, RequestRecord, Snapshot
from omniroute.routing.options import Option
from omniroute.secret import Secret
from omniroute.services.access import Caller, CallerKind, ModelRules
from omniroute.storage.state import StateStore
from tests.fakes.upstream import FakeUpstream
from tests.gateway.gating import FakeStore

QUICK: dict[tuple[str, str], Any] = {
    ("combo-defaults", "config"): {"retryDelayMs": 0, "maxRetries": 0},
    ("resilience", "waitForCooldown"): {"enabled": False},
}
"""No pauses: what they are for is tested where the clock is."""
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
    routing: Routing
    http: HttpTransport
    client: Any
    """The client's end of the socket pair that stands for its connection."""
    server_end: Any
    caller: Caller = field(default_factory=lambda: Caller(CallerKind.LOCAL, None, "local", "local", ModelRules()))

    def call(self, body: dict[str, Any] | bytes, surface: Surface = Surface.OPENAI_CHAT, **more: Any) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.inference.open(
            Call(
                request_id=f"req_{len(self.log.records) + len(self.inference.runs)}",
                endpoint="/v1/chat/completions",
                surface=surface,
                body=data,
                caller=self.caller,
                client_socket=self.server_end,
                **more,
            )
        )

    def forget_failures(self) -> None:
        """Let nobody rest any more, as if nothing had failed before."""
        self.routing.board.copy.replace({})


@pytest.fixture
def bench_of() -> Iterator[Callable[..., Bench]]:
    """Make a service whose node `up/` has one connection per given fake provider, in that order of priority.

    `combo` are the models behind the name `mix`, in order. Services of one `store` share it as workers do.

    Several providers stand for several credentials of one service: each is a connection with its own address.
    """
    made: list[Bench] = []

    def make(
        *upstreams: FakeUpstream,
        node_type: NodeType = NodeType.OPENAI,
        api_type: str | None = None,
        clocks: Clocks | None = None,
        settings: Mapping[tuple[str, str], Any] | None = None,
        combo: Sequence[str] = (),
        store: StateStore | None = None,
        is_local: bool = True,
        prices: Sequence[PriceRow] = (),
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
                    is_local=is_local,
                )
            )
            connections.append(
                Connection(
                    f"conn_{index}", node_id, AuthType.API_KEY, "c", index + 1, True, Secret(KEY), created_at=index
                )
            )
        prefixes = [f"up{i}" if i else "up" for i in range(len(upstreams))]
        steps = tuple(ComboStep(f"step_{place}", model=name) for place, name in enumerate(combo))
        combos = (Combo("combo_mix", "mix", steps=steps),) if combo else ()
        snapshot = Snapshot(
            1, tuple(connections), tuple(nodes), settings=settings or QUICK, combos=combos, prices=tuple(prices)
        )
        directories = Directories(_catalog(), snapshot)
        directories.current = _Merged(directories.current, prefixes)  # type: ignore[assignment]
        routing = Routing.build(
            store=store or FakeStore(time.time),  # type: ignore[arg-type]
            directories=directories,
            snapshot=snapshot,
            fixed={},
            gateway_version="test",
        )
        http = HttpTransport(guard=lambda host, port, **_: (host,), now=time.monotonic)
        log = Log()
        client, server_end = plain_socket.socketpair()
        bench = Bench(
            Inference(
                router=routing.router,
                sessions=SessionKeys(b"test"),
                transport=RoutedTransport(http, SandboxTransport(now=time.monotonic)),
                request_log=log,
                observer=log,
                clocks=clocks or quick_clocks(),
                now=time.monotonic,
                wall=time.time,
                sleep=gevent.sleep,
                max_in_flight=100,
            ),
            log,
            routing,
            http,
            socket.socket(fileno=client.detach()),
            socket.socket(fileno=server_end.detach()),
        )
        made.append(bench)
        return bench

    yield make
    for bench in made:
        for run in tuple(bench.inference.runs.values()):  # those of a test that failed before it closed its streams
            run.close("cancelled", status=CANCELLED_STATUS)
        bench.http.close()
        bench.client.close()
        bench.server_end.close()


class _Merged:
    """A directory in which `up/…` has the accounts of all test nodes, as several connections of one provider would."""

    def __init__(self, directory: Directory, prefixes: list[str]) -> None:
        self._directory = directory
        self._prefixes = prefixes
        self._made: dict[str, Option] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._directory, name)

    def find(self, name: str) -> tuple[Option, ...]:
        if not name.startswith("up/"):
            return self._directory.find(name)
        if name not in self._made:
            model = name.removeprefix("up/")
            parts = [self._directory.find(f"{prefix}/{model}")[0] for prefix in self._prefixes]
            accounts = tuple(replace(account, provider="node_up") for part in parts for account in part.accounts)
            handles = {key: target for part in parts for key, target in part.handles.items()}
            self._made[name] = replace(parts[0], accounts=accounts, handles=handles)
        return (self._made[name],)

    def resolve(self, name: str) -> tuple[Target, ...]:
        return tuple(target for option in self.find(name) for target in option.handles.values())
