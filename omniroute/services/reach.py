"""Where a request comes from, by evidence of the socket: loopback or not, the caller's address, the browser's origin.

Headers can only take trust away, except forwarding headers of a peer that the operator named in
`OMNIROUTE_TRUST_PROXY`. Everything works on the WSGI environment, because the inference path reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final
from urllib.parse import urlsplit

from omniroute.errors import ConfigurationError

Environ = Mapping[str, Any]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORWARDING: Final = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
    "HTTP_VIA",
    "HTTP_CF_CONNECTING_IP",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_TAILSCALE_USER_LOGIN",
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Reach:
    """Answers who is on the other side of the socket.

    Args:
        bind_host: the address or name that the server binds; a loopback name counts as a loopback Host.
        base_url: the address that users reach the server by; its origin may send mutations.
        allowed_origins: further origins that may send mutations.
        trust_proxy: number of proxies in front, or a comma-separated list of their networks; None trusts nobody.
    """

    def __init__(
        self,
        *,
        bind_host: str = "127.0.0.1",
        base_url: str = "http://localhost:20128",
        allowed_origins: Iterable[str] = (),
        trust_proxy: str | None = None,
    ) -> None:
        self._bind_name = bind_host.lower() if is_loopback_name(bind_host) else "localhost"
        self._hops, self._proxies = _trusted(trust_proxy)
        self.base_origin = origin_of(base_url)
        self.is_base_url_loopback = is_loopback_name(urlsplit(base_url).hostname or "")
        self._fixed_origins = frozenset(
            origin for origin in (self.base_origin, *map(origin_of, allowed_origins)) if origin is not None
        )

    def is_loopback(self, environ: Environ) -> bool:
        """Tell whether the caller sits on this host: loopback peer, no forwarding header, no foreign Host."""
        if not is_loopback_peer(environ.get("REMOTE_ADDR")):
            return False
        if any(name in environ for name in _FORWARDING):
            return False
        host = environ.get("HTTP_HOST")
        if host is None:
            return True
        name = host_name(host)
        return name is not None and (name == self._bind_name or is_loopback_name(name))

    def client_address(self, environ: Environ) -> str:
        """Return the caller's address: the peer's, or what a trusted proxy says in `X-Forwarded-For`."""
        peer = str(environ.get("REMOTE_ADDR") or "")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if not forwarded or not self._is_trusted(peer):
            return _plain(peer)
        chain = [part.strip() for part in forwarded.split(",")]
        if self._hops:
            found = chain[-self._hops] if len(chain) >= self._hops else chain[0]
        else:
            found = next((part for part in reversed(chain) if not self._is_trusted(part)), chain[0])
        return _plain(found) if _parsed(found) is not None else _plain(peer)

    def is_https(self, environ: Environ) -> bool:
        """Tell whether the caller's connection is encrypted, as far as we or a trusted proxy can say."""
        return self._scheme(environ) == "https"

    def origin_verdict(self, environ: Environ) -> tuple[bool, str | None]:
        """Tell whether the request provably comes from one of our own pages, and the origin that it names.

        The origin is that of the `Origin` header, else of `Referer`; `(False, None)` when neither was sent.
        """
        sent = environ.get("HTTP_ORIGIN")
        if sent is None:
            referer = environ.get("HTTP_REFERER")
            if not referer:
                return False, None
            sent = origin_of(referer) or "null"
        origin = origin_of(sent)
        if origin is None:
            return False, sent[:200]
        return origin in self._fixed_origins or origin == self.own_origin(environ), origin

    def own_origin(self, environ: Environ) -> str | None:
        """Return the origin that the browser used to reach the server."""
        host = environ.get("HTTP_HOST")
        forwarded = environ.get("HTTP_X_FORWARDED_HOST")
        if forwarded and self._is_trusted(str(environ.get("REMOTE_ADDR") or "")):
            host = forwarded.split(",")[0].strip()
        return origin_of(f"{self._scheme(environ)}://{host}") if host else None

    def _scheme(self, environ: Environ) -> str:
        forwarded = environ.get("HTTP_X_FORWARDED_PROTO")
        if forwarded and self._is_trusted(str(environ.get("REMOTE_ADDR") or "")):
            return "https" if forwarded.split(",")[0].strip().lower() == "https" else "http"
        return str(environ.get("wsgi.url_scheme", "http"))

    def _is_trusted(self, peer: str) -> bool:
        if self._hops:
            return True
        if not self._proxies:
            return False
        address = _parsed(peer)
        return address is not None and any(address in network for network in self._proxies)


def _trusted(text: str | None) -> tuple[int, tuple[Network, ...]]:
    if not text:
        return 0, ()
    if text.strip().isdigit():
        return int(text), ()
    try:
        return 0, tuple(ip_network(part.strip(), strict=False) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(
            "OMNIROUTE_TRUST_PROXY must be a number of proxies or a comma-separated list of networks."
        ) from None


def is_loopback_peer(peer: str | None) -> bool:
    """Tell whether a socket peer is on this host; an absent or empty address is the server's own Unix socket."""
    if peer == "127.0.0.1" or not peer:
        return True
    address = _parsed(peer)
    return address is not None and address.is_loopback


def is_loopback_name(name: str) -> bool:
    """Tell whether a host name or address literal means this host."""
    bare = name.lower().strip("[]")
    if bare == "localhost":
        return True
    address = _parsed(bare)
    return address is not None and address.is_loopback


def host_name(host: str) -> str | None:
    """Return the name part of a Host header in lower case; None when it is not `name[:port]`."""
    text = host.strip().lower()
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        return name if bracket and (not rest or (rest[0] == ":" and rest[1:].isdigit())) else None
    name, colon, port = text.partition(":")
    return name if name and (not colon or port.isdigit()) else None


def origin_of(url: str) -> str | None:
    """Return `scheme://host[:port]` in its canonical spelling; None for anything but an http(s) URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.username is not None:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, _DEFAULT_PORTS[parts.scheme]) else "")


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain(text: str) -> str:
    address = _parsed(text)
    return str(address) if address is not None else text[:64]


def parse_address(text: str) -> Address | None:
    """Return an address with mapped IPv6 forms unfolded, or None when the text is none."""
    return _parsed(text)


def lockout_subject(address: str) -> str:
    """Return what a login failure counts against: the address, or the /64 of an IPv6 one."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed) if parsed is not None else "unix"
