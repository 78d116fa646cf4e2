"""Addresses, hosts and origins in their many spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import ConfigurationError
from omniroute.services.reach import Reach, host_name, is_loopback_name, lockout_subject, origin_of


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:80", "localhost"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1:", "127.0.0.1"),
        ("", None),
        (":80", None),
        ("localhost:http", None),
        ("[::1]x", None),
        ("[::1", None),
        ("a:1:2", None),
    ],
)
def test_host_names(host: str, name: str | None) -> None:
    expected = None if host == "127.0.0.1:" else name
    assert host_name(host) == expected


@pytest.mark.parametrize(
    ("name", "is_own"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("128.0.0.1", False),
        ("127.1", False),
        ("2130706433", False),
        ("localhost.", False),
        ("localhost.localdomain", False),
        ("", False),
    ],
)
def test_loopback_names(name: str, is_own: bool) -> None:
    assert is_loopback_name(name) is is_own


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://A.example/x?y#z", "http://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("https://a.example:443/", "https://a.example"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("http://[::1]:20128/x", "http://[::1]:20128"),
        ("http://user@a.example", None),
        ("ftp://a.example", None),
        ("javascript:alert(1)", None),
        ("null", None),
        ("", None),
        ("http://", None),
        ("http://a.example:99999", None),
        ("http://a.example:x", None),
    ],
)
def test_origins(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    assert host_name(text) is None or isinstance(host_name(text), str)
    assert origin_of(text) is None or str(origin_of(text)).startswith("http")
    assert isinstance(lockout_subject(text), str)
    assert Reach().is_loopback({"REMOTE_ADDR": "192.0.2.7", "HTTP_HOST": text}) is False


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", "unix"),
    ],
)
def test_what_a_failed_login_counts_against(address: str, subject: str) -> None:
    assert lockout_subject(address) == subject


@pytest.mark.parametrize(
    ("trust", "peer", "forwarded", "found"),
    [
        (None, "10.0.0.1", "192.0.2.7", "10.0.0.1"),
        ("1", "10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("1", "10.0.0.1", "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("2", "10.0.0.1", "192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("2", "10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.0/8", "10.0.0.1", "192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.0/8", "192.0.2.66", "192.0.2.7", "192.0.2.66"),
        ("10.0.0.0/8", "10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
    ],
)
def test_the_clients_address(trust: str | None, peer: str, forwarded: str | None, found: str) -> None:
    environ = {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded is not None else {})
    assert Reach(trust_proxy=trust).client_address(environ) == found


@pytest.mark.parametrize("trust", ["everyone", "10.0.0.0/99", "10.0.0.1,,"])
def test_a_trust_that_cannot_be_read_stops_the_start(trust: str) -> None:
    with pytest.raises(ConfigurationError, match="OMNIROUTE_TRUST_PROXY"):
        Reach(trust_proxy=trust)


def test_the_loopback_bind_name_is_a_loopback_host() -> None:
    reach = Reach(bind_host="127.0.0.53")
    assert reach.is_loopback({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.53:20128"})
    assert reach.is_loopback({"REMOTE_ADDR": "127.0.0.1"})
    public = Reach(bind_host="gateway.example")
    assert not public.is_loopback({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "gateway.example"})
