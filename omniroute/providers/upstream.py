"""A request to a provider as a value; `gateway.transport` sends it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Time limits of one attempt in seconds; measured on the provider's bytes only."""

    connect_s: float = 10.0
    headers_s: float = 60.0
    content_s: float = 80.0
    idle_s: float = 120.0
    total_s: float = 600.0

    def within(self, left_s: float) -> Deadlines:
        """Return these limits where none is longer than `left_s`."""
        left = max(left_s, 0.001)
        return Deadlines(
            connect_s=min(self.connect_s, left),
            headers_s=min(self.headers_s, left),
            content_s=min(self.content_s, left),
            idle_s=self.idle_s,
            total_s=min(self.total_s, left),
        )


@dataclass(frozen=True, slots=True)
class Sender:
    """On whose behalf a request leaves: the way that it takes depends on that.

    Attributes:
        provider: provider or node id.
        connection: connection id.
        key: row id of the API key.
        combo: id of the combo that was asked for.
    """

    provider: str = ""
    connection: str = ""
    key: str = ""
    combo: str = ""


NOBODY: Final = Sender()
"""Of what the server asks for itself."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One HTTP request to a provider, complete with its credential.

    Attributes:
        url: absolute; `https://…`, `http://…`, or `sandbox:<path>` for the simulated provider in this process.
        headers: name and value pairs without Host, Content-Length and Connection, which the transport adds.
        is_local: the operator declared this target local, so loopback (and, by setting, private) addresses are allowed.
        is_operator: the URL was supplied by the operator (a node), not fixed by a catalogue row.
        stream: the caller will read the answer piece by piece.
        addresses: where the host was found and allowed already: the connection goes there, without another look-up.
        sender: on whose behalf it leaves.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    deadlines: Deadlines = Deadlines()
    is_local: bool = False
    is_operator: bool = False
    stream: bool = False
    addresses: tuple[str, ...] = ()
    sender: Sender = NOBODY


def on_behalf(request: UpstreamRequest, *, key: str = "", combo: str = "") -> UpstreamRequest:
    """Return a request that says for which API key and combo it is made."""
    return replace(request, sender=replace(request.sender, key=key, combo=combo))
