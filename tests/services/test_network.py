"""By which addresses a server can be reached, as the host's own tables say."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from omniroute.services.network import Reachable, own_addresses, reachable
from omniroute.settings import Settings
from tests.harness import with_settings

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.168.1.0/24 2 0 2
           |-- 192.168.1.7
              /32 host LOCAL
     |-- 203.0.113.5
        /32 host LOCAL
Local:
           |-- 192.168.1.7
              /32 host LOCAL
           |-- 169.254.3.4
              /32 host LOCAL
"""
INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000021122fffe334455 02 40 20 80     eth0
fd000000000000000000000000000007 02 40 00 80     eth0
"""


@pytest.fixture
def addresses(tmp_path: Path) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
    (tmp_path / "trie").write_text(TRIE)
    (tmp_path / "if_inet6").write_text(INET6)
    return own_addresses(tmp_path / "trie", tmp_path / "if_inet6")


def test_the_tables_of_the_host_are_read(addresses: tuple[ipaddress.IPv4Address, ...]) -> None:
    assert [str(address) for address in addresses] == [
        "127.0.0.1",
        "::1",
        "192.168.1.7",
        "203.0.113.5",
        "fd00::7",
    ]


def test_a_host_without_tables_has_no_addresses(tmp_path: Path) -> None:
    assert own_addresses(tmp_path / "none", tmp_path / "none") == ()


def found(settings: Settings, addresses: tuple[ipaddress.IPv4Address, ...], **changes: object) -> list[Reachable]:
    return list(reachable(with_settings(settings, **changes), addresses))


def test_what_the_bind_address_means(settings: Settings, addresses: tuple[ipaddress.IPv4Address, ...]) -> None:
    base = Reachable("https://ai.example/gateway", "configured")
    fixed = {"base_url": "https://ai.example", "base_path": "/gateway", "port": 8080}
    assert found(settings, addresses, host="127.0.0.1", **fixed) == [
        base,
        Reachable("http://127.0.0.1:8080/gateway", "loopback"),
    ]
    assert [one.url for one in found(settings, addresses, host="0.0.0.0", **fixed)][1:] == [
        "http://127.0.0.1:8080/gateway",
        "http://192.168.1.7:8080/gateway",
        "http://203.0.113.5:8080/gateway",
    ]
    every = found(settings, addresses, host="::", **fixed)
    assert Reachable("http://[fd00::7]:8080/gateway", "private") in every
    assert len(every) == 6
    assert [one.url for one in found(settings, addresses, host="localhost", **fixed)][1:] == [
        "http://127.0.0.1:8080/gateway"
    ]
    assert found(settings, addresses, host="gateway.lan", **fixed) == [base]
    assert found(settings, addresses, host="8.8.8.8", **fixed)[1].scope == "public"


def test_this_host_has_a_loopback_address() -> None:
    assert all(address.version in (4, 6) for address in own_addresses())
