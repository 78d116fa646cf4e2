"""The one guard on every address that the gateway calls.

A URL is parsed once by a strict parser and a host is resolved once; every address that the name has must be allowed,
and the connection goes to exactly those addresses. So a name that answers differently the second time, or with one
public and one private address, leads nowhere.

    supplied URL  ── check_url ──>  Destination(host, port)     when it is saved, and when it is used
    Destination   ── resolve   ──>  pinned addresses            when a connection is opened

Refusals carry the class of reason and never the address that a name resolved to.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from omniroute.errors import UpstreamUnreachable, UrlBlocked
from omniroute.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
"""Host name and port to addresses as text; raises OSError when the name has none."""


class UrlClass(StrEnum):
    """Who chose an address, which decides what it may be."""

    CATALOGUE = "catalogue"
    OPERATOR = "operator"
    FOREIGN = "foreign"
    ENVIRONMENT = "environment"
    """Set by whoever starts the server, who is on its machine already: private networks and the machine itself too."""


class Reach(StrEnum):
    """How far away an address is, from harmless to never."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    RESERVED = "reserved"
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Destination:
    """The parts of a checked URL that a connection needs. `address` is set when the host is written as one."""

    scheme: str
    host: str
    port: int
    address: Address | None


MAX_URL: Final = 2048
_FOREIGN_PORTS: Final = frozenset({80, 443, 8443})
_UNCLEAN: Final = re.compile(r"[^\x21-\x7e]|[\\<>\"^`{|}]")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^:\[\]%]{1,255})(?::[0-9]{1,5})?")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What the C library would read as an IPv4 address although it is not four decimal numbers: "2130706433", "0x7f.1",
# "0177.0.0.1", "127.1". A real top-level domain never is a number.
_NUMERIC_TAIL: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_PLAIN_OCTETS: Final = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")

_METADATA_NAMES: Final = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.com",
        "metadata.azure.internal",
        "metadata.oraclecloud.com",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "metadata.packet.net",
        "instance-data",
        "instance-data.ec2.internal",
        "rancher-metadata",
        "kubernetes.default.svc",
    }
)
_METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",  # container credentials
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",  # platform agent; public by range
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)
_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
_RESERVED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "169.254.0.0/16",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
_GLOBAL_V6: Final = ipaddress.ip_network("2000::/3")
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL: Final = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_TRANSLATED: Final = ipaddress.ip_network("::ffff:0:0:0/96")


# --- addresses -----------------------------------------------------------------------------------------------------


def reach_of(address: Address) -> Reach:
    """Classify an address; an IPv6 form that embeds an IPv4 address counts as the worse of both."""
    if address in _METADATA_ADDRESSES:
        return Reach.METADATA
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return Reach.RESERVED
        embedded = _embedded(address)
        if embedded:
            return max((reach_of(inner) for inner in embedded), key=list(Reach).index)
    if address.is_loopback:
        return Reach.LOOPBACK
    if any(address in network for network in _PRIVATE):
        return Reach.PRIVATE
    if any(address in network for network in _RESERVED):
        return Reach.RESERVED
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_V6:
        return Reach.RESERVED
    return Reach.PUBLIC


def _embedded(address: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses that a mapped, compatible, 6to4, NAT64 or Teredo address stands for."""
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address.teredo is not None:
        return address.teredo
    low = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _NAT64 or address in _NAT64_LOCAL or address in _TRANSLATED:
        return (low,)
    if address in _COMPATIBLE and int(address) > 0xFFFF:
        return (low,)
    return ()


# --- URLs ----------------------------------------------------------------------------------------------------------


def parse_url(url: str) -> Destination:
    """Take a URL apart, refusing every spelling that two parsers could read differently.

    Raises:
        UrlBlocked: with extras `reason`.
    """
    if len(url) > MAX_URL:
        raise _blocked("length", "The URL is too long.")
    if _UNCLEAN.search(url):
        raise _blocked("characters", "The URL holds characters that are not allowed in one.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _blocked("syntax", "The URL cannot be read.") from None
    if parts.scheme not in ("http", "https") or not url.lower().startswith(f"{parts.scheme}://"):
        raise _blocked("scheme", "The URL must start with https:// or http://.")
    if "@" in parts.netloc:
        raise _blocked("user_info", "The URL must not hold a user name or password.")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None or port == 0:
        raise _blocked("host", "The URL's host or port is not valid.")
    host = authority[1].lower()
    return Destination(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), _literal(host))


def _literal(host: str) -> Address | None:
    """Return the address that `host` spells, None for a name, and refuse what lies between."""
    if host.startswith("["):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise _blocked("host", "The URL's address is not valid.") from None
        if address.scope_id is not None:
            raise _blocked("host", "The URL's address must not name an interface.")
        return address
    if _PLAIN_OCTETS.fullmatch(host):
        try:
            return ipaddress.IPv4Address(host)
        except ValueError:
            raise _blocked("host", "The URL's address is not valid.") from None
    if not host or len(host) > 253:
        raise _blocked("host", "The URL has no valid host name.")
    if host.endswith("."):
        raise _blocked("trailing_dot", "The URL's host name must not end with a dot.")
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise _blocked("host", "The URL's host name is not valid; write an international name in its xn-- form.")
    if _NUMERIC_TAIL.fullmatch(labels[-1]):
        raise _blocked("address_spelling", "Write an address as four decimal numbers.")
    return None


def _blocked(reason: str, message: str) -> UrlBlocked:
    return UrlBlocked(message, extras={"reason": reason})


# --- the guard -----------------------------------------------------------------------------------------------------


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system's resolver; under gevent this waits without holding the hub."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Egress:
    """Decides where the gateway may connect. Holds rules, no state."""

    __slots__ = ("_allows_loopback", "_allows_private", "_is_enabled", "_resolver")

    def __init__(self, settings: Settings, *, resolver: Resolver = system_resolver) -> None:
        self._is_enabled = settings.ssrf_guard_enabled
        self._allows_loopback = settings.allow_local_provider_urls
        self._allows_private = settings.allow_private_provider_urls
        self._resolver = resolver

    def check_url(self, url: str, *, url_class: UrlClass = UrlClass.OPERATOR, is_local: bool = False) -> Destination:
        """Check the spelling of a supplied URL and, when its host is an address, the address.

        The name is not resolved here: what it points at now says nothing about later. Use :meth:`resolve` with the
        result when a connection is opened, and also at save time to tell the operator at once.

        Raises:
            UrlBlocked: the URL may not be used.
        """
        destination = parse_url(url)
        may_be_plain = is_local and url_class is not UrlClass.FOREIGN
        if destination.scheme == "http" and not may_be_plain and self._is_enabled:
            raise _blocked("plain_http", "Plain http is only for a target that is marked local.")
        if url_class is UrlClass.FOREIGN and destination.port not in _FOREIGN_PORTS:
            raise _blocked("port", "The URL's port is not allowed.")
        self._check_name(destination.host)
        if destination.address is not None:
            self._check_address(destination.address, url_class=url_class, is_local=is_local)
        return destination

    def resolve(
        self, host: str, port: int, *, is_local: bool, url_class: UrlClass = UrlClass.OPERATOR
    ) -> tuple[str, ...]:
        """Resolve a host once and return its addresses, all of them allowed, for the connection to be pinned to.

        Raises:
            UrlBlocked: the name or one of its addresses is forbidden.
            UpstreamUnreachable: the name does not resolve.
        """
        literal = self.check_host(host, is_local=is_local, url_class=url_class)
        if literal is not None:
            return (str(literal),)
        try:
            answers = self._resolver(host.lower(), port)
        except (OSError, UnicodeError) as error:
            raise UpstreamUnreachable("The provider's host name does not resolve.") from error
        if not answers:
            raise UpstreamUnreachable("The provider's host name does not resolve.")
        for answer in answers:
            try:
                address = ipaddress.ip_address(answer)
            except ValueError:
                raise _blocked("address", "The host resolves to something that is not an address.") from None
            self._check_address(address, url_class=url_class, is_local=is_local)
        return tuple(answers)

    def check_host(self, host: str, *, is_local: bool, url_class: UrlClass = UrlClass.OPERATOR) -> Address | None:
        """Check what can be checked of a host without a look-up; return the address where it is written as one.

        Raises:
            UrlBlocked: its spelling, its name or its address is forbidden.
        """
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host.lower()
        literal = _literal(name)
        self._check_name(name)
        if literal is not None:
            self._check_address(literal, url_class=url_class, is_local=is_local)
        return literal

    def proxy_addresses(self, host: str, port: int, *, is_from_environment: bool) -> tuple[str, ...]:
        """Resolve an outbound proxy. There is no mark to set on one: being a proxy counts as being marked local.

        Raises:
            UrlBlocked: it may not be used.
            UpstreamUnreachable: its name does not resolve.
        """
        url_class = UrlClass.ENVIRONMENT if is_from_environment else UrlClass.OPERATOR
        return self.resolve(host, port, is_local=True, url_class=url_class)

    def check_beyond_proxy(self, host: str, *, is_local: bool, is_operator: bool) -> None:
        """Check a host whose name the proxy will look up.

        Raises:
            UrlBlocked: its spelling, its name or its address is forbidden.
        """
        self.check_host(host, is_local=is_local, url_class=UrlClass.OPERATOR if is_operator else UrlClass.CATALOGUE)

    def check_foreign(self, url: str) -> tuple[str, ...]:
        """Check a URL that a caller of the gateway supplied, and return the addresses that its name has.

        Raises:
            UrlBlocked: the URL may not be used.
            UpstreamUnreachable: the name does not resolve.
        """
        destination = self.check_url(url, url_class=UrlClass.FOREIGN)
        return self.resolve(destination.host, destination.port, is_local=False, url_class=UrlClass.FOREIGN)

    def __call__(self, host: str, port: int, *, is_local: bool, is_operator: bool) -> tuple[str, ...]:
        """Resolve for the transport: a catalogue row declared local may reach loopback like an operator's node."""
        return self.resolve(
            host, port, is_local=is_local, url_class=UrlClass.OPERATOR if is_operator else UrlClass.CATALOGUE
        )

    def _check_name(self, host: str) -> None:
        if host in _METADATA_NAMES or host.endswith(".metadata.google.internal"):
            raise _blocked("metadata", "Cloud metadata services are never called.")

    def _check_address(self, address: Address, *, url_class: UrlClass, is_local: bool) -> None:
        reach = reach_of(address)
        is_trusted = url_class is UrlClass.ENVIRONMENT and is_local
        match reach:
            case Reach.PUBLIC:
                return
            case Reach.LOOPBACK | Reach.PRIVATE if is_trusted:
                return
            case Reach.METADATA:
                raise _blocked("metadata", "Cloud metadata services are never called.")
            case Reach.LOOPBACK:
                if is_local and self._allows_loopback and url_class is not UrlClass.FOREIGN:
                    return
                message = "The address is this machine's own; a target there must be marked local."
            case Reach.PRIVATE:
                if is_local and self._allows_private and url_class is not UrlClass.FOREIGN:
                    return
                message = (
                    "The address is in a private network; a target there must be marked local, and "
                    "OMNIROUTE_ALLOW_PRIVATE_PROVIDER_URLS must be on, also for a proxy there."
                )
            case _:
                message = "The address is in a reserved range."
        if self._is_enabled or url_class is UrlClass.FOREIGN:
            raise _blocked(reach.value, message)
