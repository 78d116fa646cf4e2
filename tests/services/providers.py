"""Connections, nodes and model lists on a real database, with a scripted provider in place of the network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omniroute.errors import OmniRouteError
from omniroute.gateway.directory import Directories
from omniroute.gateway.egress import Egress
from omniroute.gateway.health_board import HealthBoard
from omniroute.gateway.ports import ReadTimeout
from omniroute.providers import catalog
from omniroute.providers.upstream import UpstreamRequest
from omniroute.records import RequestRecord
from omniroute.routing.resilience import DEFAULTS
from omniroute.services.connections import Connections
from omniroute.services.models import Models
from omniroute.services.nodes import Nodes
from omniroute.services.probe import Prober
from omniroute.services.standings import Standings
from omniroute.storage.secrets import Cipher
from omniroute.storage.state import StateStore
from tests import harness

CATALOGUE = catalog.load()
ADDRESSES = {"localhost": ["127.0.0.1"], "rebind.example": ["10.0.0.1"]}


@dataclass
class Reply:
    """A scripted answer."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    stalls: bool = False


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), headers=headers)


ANSWER = json_reply({"id": "1", "choices": [{"message": {"content": "Hi"}}], "usage": {}})
EVENTS = Reply(body=b'data: {"choices":[]}\n\n', content_type="text/event-stream; charset=utf-8")


class Response:
    """An answer in two pieces."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = {"content-type": reply.content_type, **reply.headers}
        half = len(reply.body) // 2
        self._pieces = [piece for piece in (reply.body[:half], reply.body[half:]) if piece]
        self._stalls = reply.stalls
        self.is_closed = False

    def read(self, timeout_s: float) -> bytes:
        if self._stalls:
            raise ReadTimeout
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.close()


Handler = Callable[[UpstreamRequest], Reply | OmniRouteError]


class ScriptedTransport:
    """Answers by a function of the request and remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[UpstreamRequest] = []
        self.responses: list[Response] = []
        self.handler: Handler = healthy

    def send(self, request: UpstreamRequest) -> Response:
        self.sent.append(request)
        reply = self.handler(request)
        if isinstance(reply, OmniRouteError):
            raise reply
        self.responses.append(Response(reply))
        return self.responses[-1]

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.body) for request in self.sent if request.body]

    @property
    def are_all_closed(self) -> bool:
        return all(response.is_closed for response in self.responses)


def healthy(request: UpstreamRequest) -> Reply:
    """Answer like a provider that works."""
    if request.method == "GET":
        return json_reply({"data": [{"id": "model-a"}, {"id": "model-b"}]})
    return EVENTS if request.stream else ANSWER


@dataclass
class Log:
    """Remembers rows."""

    records: list[RequestRecord] = field(default_factory=list)

    def put(self, record: RequestRecord) -> None:
        self.records.append(record)


@dataclass
class Providers:
    """The services under test with what they stand on."""

    gateway: harness.Gateway
    directories: Directories
    transport: ScriptedTransport
    log: Log
    board: HealthBoard
    connections: Connections
    nodes: Nodes
    models: Models

    @property
    def asked_by(self) -> Sequence[Any]:
        return self.gateway.audited()


def resolve(host: str, port: int) -> Sequence[str]:
    del port
    if host not in ADDRESSES:
        raise OSError("no such name")
    return ADDRESSES[host]


def providers_of(gateway: harness.Gateway) -> Providers:
    """Build the services on a gateway's database."""
    directories = Directories(CATALOGUE, gateway.snapshots.current)
    gateway.snapshots.subscribe(directories.rebuild)
    transport = ScriptedTransport()
    egress = Egress(gateway.settings, resolver=resolve)
    prober = Prober(transport=transport, now=gateway.clock, monotonic=gateway.clock)
    log = Log()
    cipher = Cipher(bytes(32))
    store = StateStore(gateway.database, gateway.clock)
    board = HealthBoard(store=store, now=gateway.clock, rng=random.Random(1), settings=lambda: DEFAULTS)
    connections = Connections(
        database=gateway.database,
        cipher=cipher,
        audit=gateway.audit,
        directories=directories,
        egress=egress,
        prober=prober,
        standings=Standings(board=board, directories=directories, now=gateway.clock),
        now=gateway.clock,
        request_log=log,
        snapshots=gateway.snapshots,
    )
    nodes = Nodes(
        database=gateway.database,
        cipher=cipher,
        audit=gateway.audit,
        directories=directories,
        egress=egress,
        prober=prober,
        now=gateway.clock,
    )
    models = Models(directories=directories)
    return Providers(gateway, directories, transport, log, board, connections, nodes, models)
