"""Which outbound proxy a request takes: compiled when the configuration changes, then only looked up.

The first that is there counts: the proxy of the API key, of the combo that was asked for, of the provider, the global
one, the environment's. A connection with its proxies switched off keeps to the first two. This machine's own loopback
is reached through a proxy only if the proxy is on this machine as well: elsewhere the same address is another machine.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Protocol

from omniroute.gateway.ports import UpstreamResponse
from omniroute.providers.upstream import Sender, UpstreamRequest, on_behalf
from omniroute.records import Proxy, ProxyLevel, ProxyType, Snapshot
from omniroute.settings import Settings, is_loopback_host

SOCKS: Final = frozenset({ProxyType.SOCKS5, ProxyType.SOCKS5H})
_DEPENDED_ON: Final = ("proxies", "proxy_bindings")
_CACHED_HOSTS: Final = 1024

Send = Callable[[UpstreamRequest], UpstreamResponse]


class ProxyGuard(Protocol):
    """What of the outbound guard concerns proxies (`gateway.egress`)."""

    def proxy_addresses(self, host: str, port: int, *, is_from_environment: bool) -> tuple[str, ...]:
        """Resolve a proxy.

        Raises:
            UrlBlocked: it may not be used.
            UpstreamUnreachable: its name does not resolve.
        """
        ...

    def check_beyond_proxy(self, host: str, *, is_local: bool, is_operator: bool) -> None:
        """Check a host whose name the proxy looks up; raises UrlBlocked."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """A proxy as connections go through it.

    Attributes:
        key: keeps its connections apart from all others; changes with everything that they depend on.
        level, level_id: what it was chosen for.
        problem: why it cannot be used, as the end of a sentence; None where nothing is known to be wrong.
        has_remote_dns: it looks names up.
        authorization: the header line for an HTTP proxy; empty where it wants none.
    """

    key: str = field(repr=False)
    proxy: Proxy
    level: ProxyLevel
    level_id: str = ""
    problem: str | None = None
    has_remote_dns: bool = False
    authorization: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return repr(self.proxy.name)

    @property
    def is_socks(self) -> bool:
        """Whether it is spoken to in SOCKS5."""
        return self.proxy.type in SOCKS

    @property
    def is_on_this_machine(self) -> bool:
        """Whether its loopback is ours."""
        return _is_loopback(self.proxy.host)


class Ways:
    """The ways out of one configuration."""

    def __init__(self, bound: Mapping[tuple[ProxyLevel, str], Way], direct: Iterable[str], rest: Environment) -> None:
        """`bound`: by level and id; `direct`: connections that use no proxy of provider, globe and environment."""
        self._of_key = _level(bound, ProxyLevel.KEY)
        self._of_combo = _level(bound, ProxyLevel.COMBO)
        self._of_provider = _level(bound, ProxyLevel.PROVIDER)
        self._global = bound.get((ProxyLevel.GLOBAL, ""))
        self._direct = frozenset(direct)
        self._environment = rest

    def of(self, sender: Sender, scheme: str, host: str, port: int) -> Way | None:
        """Return the way of a request; None for no proxy."""
        way = self._of_key.get(sender.key) or self._of_combo.get(sender.combo)
        if way is None and sender.connection not in self._direct:
            way = self._of_provider.get(sender.provider) or self._global or self._environment.of(scheme, host, port)
        if way is not None and _is_loopback(host) and not way.is_on_this_machine:
            return None
        return way

    def concern(self, *, key: str, combo: str) -> bool:
        """Say whether there is a proxy of this API key or combo."""
        return key in self._of_key or combo in self._of_combo


def _level(bound: Mapping[tuple[ProxyLevel, str], Way], level: ProxyLevel) -> dict[str, Way]:
    return {level_id: way for (of, level_id), way in bound.items() if of is level}


class Environment:
    """The proxies that the server was started with."""

    def __init__(self, settings: Settings) -> None:
        everything = _way_of_environment(settings.all_proxy, "ALL_PROXY", settings)
        self._ways = {
            "http": _way_of_environment(settings.http_proxy, "HTTP_PROXY", settings) or everything,
            "https": _way_of_environment(settings.https_proxy, "HTTPS_PROXY", settings) or everything,
        }
        self.exceptions = settings.no_proxy
        self._is_excepted = lru_cache(maxsize=_CACHED_HOSTS)(_Exceptions(settings.no_proxy))

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not any(self._ways.values())

    def of(self, scheme: str, host: str, port: int) -> Way | None:
        """Return the way to a host; None for no proxy."""
        way = self._ways[scheme]
        return None if way is None or self._is_excepted(host, port) else way

    def proxies(self) -> Mapping[str, Proxy | None]:
        """Return the proxies by the scheme of the address that they are for."""
        return {scheme: None if way is None else way.proxy for scheme, way in self._ways.items()}


class _Exceptions:
    """`NO_PROXY`: `*`, hosts and the domains below them, addresses, networks, each with a port or without."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._is_all = False
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            self._add(entry.lower())

    def _add(self, entry: str) -> None:
        if entry == "*":
            self._is_all = True
            return
        try:
            self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
        except ValueError:
            host, colon, port = entry.rpartition(":")
            if not colon or not port.isdecimal():
                host, port = entry, ""
            name = host.strip("[]").removeprefix("*").removeprefix(".")
            if name:
                self._names.append((name, int(port) if port else None))

    def __call__(self, host: str, port: int) -> bool:
        """Say whether a host is an exception."""
        if self._is_all:
            return True
        name = host.strip("[]").lower()
        if any(
            (only is None or only == port) and (name == known or name.endswith(f".{known}"))
            for known, only in self._names
        ):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class ProxyChoice:
    """Holds the ways of the current snapshot. One per worker; `current` is a plain attribute read."""

    def __init__(self, settings: Settings, guard: ProxyGuard, snapshot: Snapshot) -> None:
        self._settings = settings
        self._of: Snapshot | None = None
        self._trials = 0
        self.environment = Environment(settings)
        self.guard = guard
        self.is_fail_open = settings.proxy_fail_open
        self.current: Ways | None = None
        """None while there are no proxies at all."""
        self.rebuild(snapshot)

    def rebuild(self, snapshot: Snapshot) -> None:
        """Follow a new snapshot."""
        known, self._of = self._of, snapshot
        if known is not None and not _is_changed(known, snapshot):
            return
        bindings = snapshot.proxy_bindings
        if not bindings and self.environment.is_empty:
            self.current = None
            return
        proxies = {proxy.id: proxy for proxy in snapshot.proxies}
        bound = {
            (one.level, one.level_id): way_through(proxies[one.proxy_id], one.level, one.level_id, self._settings)
            for one in bindings
            if one.proxy_id in proxies
        }
        direct = (connection.id for connection in snapshot.connections if not connection.proxy_enabled)
        self.current = Ways(bound, direct, self.environment)

    def trial(self, proxy: Proxy) -> Way:
        """Return the way through a proxy that need not be stored; it shares nothing with any other."""
        self._trials += 1
        way = way_through(proxy, ProxyLevel.GLOBAL, "", self._settings)
        return replace(way, key=f"{way.key}|{self._trials}")

    def problem_of(self, proxy: Proxy) -> str | None:
        """Return why a proxy cannot be used, as the end of a sentence; None where nothing is known to be wrong."""
        return _problem(proxy, self._settings)

    def on_behalf(self, send: Send, *, key: str, combo: str = "") -> Send:
        """Return `send`, or one that says for which API key and combo, where a proxy depends on that."""
        ways = self.current
        if ways is None or not ways.concern(key=key, combo=combo):
            return send
        return lambda request: send(on_behalf(request, key=key, combo=combo))


def _is_changed(known: Snapshot, snapshot: Snapshot) -> bool:
    if any(getattr(snapshot, name) != getattr(known, name) for name in _DEPENDED_ON):
        return True
    return {(one.id, one.proxy_enabled) for one in known.connections} != {
        (one.id, one.proxy_enabled) for one in snapshot.connections
    }


def way_through(proxy: Proxy, level: ProxyLevel, level_id: str, settings: Settings) -> Way:
    """Return a proxy with everything that connections through it need."""
    password = "" if proxy.password is None else proxy.password.reveal()
    digest = blake2b(password.encode(), digest_size=8).hexdigest()
    authorization = b""
    if proxy.username is not None:
        pair = base64.b64encode(f"{proxy.username}:{password}".encode())
        authorization = b"Proxy-Authorization: Basic %b\r\n" % pair
    facts = (proxy.id or proxy.name, proxy.type, proxy.host, proxy.port, proxy.username or "", digest)
    return Way(
        key="|".join(map(str, facts)),
        proxy=proxy,
        level=level,
        level_id=level_id,
        problem=_problem(proxy, settings),
        has_remote_dns=settings.proxy_dns or proxy.type is ProxyType.SOCKS5H,
        authorization=authorization,
    )


def _way_of_environment(proxy: Proxy | None, name: str, settings: Settings) -> Way | None:
    return None if proxy is None else way_through(replace(proxy, name=name), ProxyLevel.ENVIRONMENT, "", settings)


def _problem(proxy: Proxy, settings: Settings) -> str | None:
    if not proxy.is_active:
        return "is switched off"
    if proxy.is_unreadable:
        return "has a password that the present encryption key does not open"
    if proxy.type in SOCKS and not settings.enable_socks5_proxy:
        return "is a SOCKS5 proxy, which ENABLE_SOCKS5_PROXY=false rules out"
    return None


@lru_cache(maxsize=_CACHED_HOSTS)
def _is_loopback(host: str) -> bool:
    return is_loopback_host(host)
