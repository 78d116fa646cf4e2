"""A visitor of the pages of providers, with a scripted provider in place of the network."""

from __future__ import annotations

from typing import Any

from omniroute.errors import OmniRouteError
from omniroute.providers.upstream import UpstreamRequest
from tests.blueprints.dashboard.conftest import Pages
from tests.services.providers import Reply, ScriptedTransport, healthy, json_reply

KEY = "sk-live-0123456789abcdefghij"
REFUSED = json_reply({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, 401)


def picky(request: UpstreamRequest) -> Reply | OmniRouteError:
    """Refuse keys with `bad` in them."""
    return REFUSED if any("bad" in value for _name, value in request.headers) else healthy(request)


def connect(pages: Pages, provider: str = "groq", **fields: Any) -> str:
    """Store a connection and return its id."""
    made = pages.api("POST", "/api/providers", {"provider": provider, "apiKey": KEY, **fields})
    identity: str = made["connection"]["id"]
    return identity


def node(pages: Pages, prefix: str = "own", **fields: Any) -> str:
    """Store a custom endpoint and return its id."""
    body = {"name": "Own server", "prefix": prefix, "type": "openai-compatible", "baseUrl": "http://127.0.0.1:9/v1"}
    made = pages.api("POST", "/api/provider-nodes", {**body, "isLocal": True, **fields})
    identity: str = made["node"]["id"]
    return identity


def connections(pages: Pages, provider: str = "groq") -> list[dict[str, Any]]:
    """Return the connections of a provider in their order."""
    rows: list[dict[str, Any]] = pages.api("GET", f"/api/providers?provider={provider}")["connections"]
    return rows


def scripted(pages: Pages, monkeypatch: Any) -> ScriptedTransport:
    """Put a scripted provider in place of the network."""
    transport = ScriptedTransport()
    transport.handler = picky
    monkeypatch.setattr(pages.app.own.transport, "send", transport.send)
    return transport
