"""The addresses that this server can be reached at, as far as the host itself knows them; nobody is asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omniroute.settings import Settings

_FIB_TRIE: Final = Path("/proc/net/fib_trie")
_IF_INET6: Final = Path("/proc/net/if_inet6")
_IPV4: Final = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\s+/32 host LOCAL")
_IPV6: Final = re.compile(r"^([0-9a-f]{32}) ", re.MULTILINE)
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- compared with, not bound to

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Reachable:
    """An address of this server. `scope`: `configured`, `loopback`, `private` or `public`."""

    url: str
    scope: str


def reachable(settings: Settings, addresses: tuple[Address, ...]) -> tuple[Reachable, ...]:
    """Return where the server can be reached: what the operator says first, then what the bind address means."""
    found = {f"{settings.base_url}{settings.base_path}": "configured"}
    for address in _bound(settings.host, addresses):
        host = f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
        found.setdefault(f"http://{host}:{settings.port}{settings.base_path}", _scope(address))
    return tuple(Reachable(url, scope) for url, scope in found.items())


def own_addresses(fib_trie: Path = _FIB_TRIE, if_inet6: Path = _IF_INET6) -> tuple[Address, ...]:
    """Return the addresses of this host's interfaces; none where the system does not say."""
    found: set[Address] = {ipaddress.IPv4Address(text) for text in _IPV4.findall(_text(fib_trie))}
    found |= {ipaddress.IPv6Address(int(digits, 16)) for digits in _IPV6.findall(_text(if_inet6))}
    usable = [address for address in found if not address.is_link_local and not address.is_multicast]
    return tuple(sorted(usable, key=lambda address: (not address.is_loopback, address.version, int(address))))


def _bound(host: str, addresses: tuple[Address, ...]) -> Iterator[Address]:
    if host in _ANY:
        version = 4 if host == "0.0.0.0" else None  # noqa: S104 -- compared with, not bound to
        yield from (address for address in addresses if version in (None, address.version))
        return
    if host == "localhost":
        yield ipaddress.IPv4Address("127.0.0.1")
        return
    try:
        yield ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return


def _scope(address: Address) -> str:
    if address.is_loopback:
        return "loopback"
    return "public" if address.is_global else "private"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
