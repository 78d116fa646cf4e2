"""There is one way out: nothing but the transport, its tunnels and the guard's resolver opens or looks up anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "omniroute"

CLIENTS = frozenset(
    {
        "aiohttp",
        "asyncio",
        "ftplib",
        "geventhttpclient",
        "gevent.ssl",
        "http.client",
        "httpcore",
        "httpx",
        "httpx2",
        "imaplib",
        "nntplib",
        "paramiko",
        "poplib",
        "pycurl",
        "python_socks",
        "requests",
        "smtplib",
        "socks",
        "socksio",
        "ssl",
        "telnetlib",
        "treq",
        "urllib.request",
        "urllib3",
        "websocket",
        "websockets",
        "xmlrpc.client",
    }
)
SOCKETS = frozenset({"socket", "gevent.socket", "_socket"})
HARMLESS = frozenset({"gethostname", "inet_pton", "inet_ntop", "inet_aton", "gaierror", "herror", "timeout", "error"})
"""Of the socket module: beside its constants."""

_IMPORTERS = ("__import__", "import_module", "importlib.import_module")

ALLOWED = {
    "gateway/transport.py": "opens the connections to providers",
    "gateway/tunnels.py": "opens the connections through proxies",
    "gateway/egress.py": "looks names up for the guard",
    "gateway/watch.py": "looks whether a client is still there",
    "cli/client.py": "the command line's way to its own server",
    "cli/in_process.py": "writes a body with files as HTTP carries it, and sends it to nobody",
    "cli/running.py": "asks a server of this machine whether it lives",
    "cli/server.py": "tries whether the port is free before the server takes it",
}
"""What may touch the network, and why."""


def uses(source: str) -> Iterator[str]:
    """Yield what a module has of clients and sockets."""
    tree = ast.parse(source)
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _client(alias.name)
                if alias.name in SOCKETS:
                    modules.add(alias.asname or alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from _client(node.module or "")
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from _client(full)
                if full in SOCKETS:
                    modules.add(alias.asname or alias.name)
                elif node.module in SOCKETS and not _is_harmless(alias.name):
                    yield full
        elif isinstance(node, ast.Call) and _name_of(node.func) in _IMPORTERS:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from _client(argument.value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _name_of(node.value) in modules and not _is_harmless(node.attr):
            yield f"{_name_of(node.value)}.{node.attr}"


def _client(module: str) -> Iterator[str]:
    if any(module == client or module.startswith(f"{client}.") for client in CLIENTS):
        yield module


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name_of(node.value)}.{node.attr}" if isinstance(node.value, ast.Name) else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_harmless(name: str) -> bool:
    return name in HARMLESS or name.isupper()


@cache
def found(root: Path) -> dict[str, list[str]]:
    """Return what of clients and sockets each module has that has any."""
    by_path = {path.relative_to(root).as_posix(): list(uses(path.read_text())) for path in sorted(root.rglob("*.py"))}
    return {path: some for path, some in by_path.items() if some}


def test_nothing_else_reaches_out() -> None:
    elsewhere = {path: some for path, some in found(PACKAGE).items() if path not in ALLOWED}
    assert elsewhere == {}


def test_every_exception_is_needed() -> None:
    # A module that only peeks at a socket that it was given uses nothing but constants.
    assert set(ALLOWED) - set(found(PACKAGE)) <= {"gateway/watch.py"}


def test_only_the_transport_is_built_on_the_tunnels() -> None:
    names = (" HttpTransport(", " Tunnels(", ".send_through(")
    makers = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(name in path.read_text() for name in names)
    }
    makers -= {"cli/session.py"}  # a class of that name, which speaks to our own server
    assert makers == {"factory.py", "gateway/transport.py", "services/proxies.py"}


@pytest.mark.parametrize(
    "source",
    [
        "import requests",
        "import requests.adapters as a",
        "from requests import get",
        "import http.client",
        "from http import client",
        "from http.client import HTTPConnection",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import urllib3.util",
        "def later():\n    import httpx",
        "import socket\nsocket.create_connection(('x', 1))",
        "import socket as s\ns.socket()",
        "import socket\nsocket.getaddrinfo('x', 1)",
        "from socket import create_connection",
        "from gevent import socket\nsocket.socket()",
        "from gevent import ssl",
        "import gevent.socket\ngevent.socket.create_connection(('x', 1))",
        "import importlib\nimportlib.import_module('requests')",
        "__import__('socks')",
    ],
)
def test_a_planted_way_out_is_found(tmp_path: Path, source: str) -> None:
    (tmp_path / "planted.py").write_text(source + "\n")
    assert "planted.py" in found(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "import socket\nsocket.gethostname()",
        "import socket\nsocket.AF_INET6",
        "from socket import gethostname",
        "from omniroute.providers import requests",
        "from omniroute.providers.requests import build",
        "from urllib.parse import urlsplit",
        "import http",
        "from flask import request",
    ],
)
def test_what_reaches_nobody_is_left_alone(tmp_path: Path, source: str) -> None:
    (tmp_path / "planted.py").write_text(source + "\n")
    assert found(tmp_path) == {}
