"""The outbound guard: every spelling, every range, and names that change their answer."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import UpstreamUnreachable, UrlBlocked
from omniroute.gateway.egress import Egress, Reach, UrlClass, parse_url, reach_of
from omniroute.settings import Settings

PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


class Names:
    """A resolver with scripted answers: the n-th look-up of a name gets its n-th answer, the last one stays."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(some) for name, some in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        some = self.answers.get(host)
        if some is None:
            raise OSError("no such name")
        return some.pop(0) if len(some) > 1 else some[0]


def guard(settings: Settings, names: Names | None = None, **changes: Any) -> Egress:
    return Egress(dataclasses.replace(settings, **changes), resolver=names or Names())


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://api.example.com/v1", "api.example.com", 443),
        ("HTTPS://API.Example.com", "api.example.com", 443),
        ("http://10.0.0.1:8080/", "10.0.0.1", 8080),
        ("https://[2606:2800:21f::1]:8443/x?y=1", "[2606:2800:21f::1]", 8443),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443),
        ("http://model_server:11434/v1", "model_server", 11434),
        ("https://1e100.example", "1e100.example", 443),
    ],
)
def test_reads_plain_urls(url: str, host: str, port: int) -> None:
    destination = parse_url(url)
    assert (destination.host, destination.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.com/", "scheme"),
        ("https:example.com", "scheme"),
        ("https:/example.com", "scheme"),
        ("//example.com", "scheme"),
        ("example.com", "scheme"),
        ("https://user@example.com/", "user_info"),
        ("https://user:pw@example.com/", "user_info"),
        ("https://example.com@127.0.0.1/", "user_info"),
        ("https://exa mple.com/", "characters"),
        ("https://example.com/\r\nHost: x", "characters"),
        ("https://example.com\t/", "characters"),
        ("https://example.com\\@127.0.0.1/", "characters"),
        ("https://ex\x00ample.com/", "characters"),
        ("https://bücher.example/", "characters"),
        ("https://①②⑦.0.0.1/", "characters"),
        ("https://127。0。0。1/", "characters"),
        ("https://exam\u200bple.com/", "characters"),
        ("https://2130706433/", "address_spelling"),
        ("https://0x7f000001/", "address_spelling"),
        ("https://0x7f.0.0.1/", "address_spelling"),
        ("https://0177.0.0.1/", "address_spelling"),
        ("https://017700000001/", "address_spelling"),
        ("https://127.1/", "address_spelling"),
        ("https://127.0.1/", "address_spelling"),
        ("https://127.0.0.0x1/", "address_spelling"),
        ("https://00000127.0.0.1/", "address_spelling"),
        ("https://a.b.0x/", "address_spelling"),
        ("https://1.2.3.4.5/", "address_spelling"),
        ("https://127.0.0.1./", "trailing_dot"),
        ("https://example.com./", "trailing_dot"),
        ("https://256.1.1.1/", "host"),
        ("https://[::1%25eth0]/", "host"),
        ("https://[fe80::1%eth0]/", "host"),
        ("https://[::1]evil.example/", "host"),
        ("https://[::ffff:1.2.3]/", "syntax"),
        ("https://exa%6dple.com/", "host"),
        ("https://-bad.example/", "host"),
        ("https://a..b/", "host"),
        ("https://.example.com/", "host"),
        (f"https://{'a' * 64}.example/", "host"),
        (f"https://{'a.' * 130}example/", "host"),
        ("https://", "host"),
        ("https:///path", "host"),
        ("https://example.com:/", "host"),
        ("https://example.com:0/", "host"),
        ("https://example.com:99999/", "syntax"),
        ("https://example.com:80a/", "syntax"),
        ("https://[::1/", "syntax"),
        ("https://example.com/" + "a" * 2048, "length"),
    ],
)
def test_ssrf_spellings_are_refused(url: str, reason: str) -> None:
    with pytest.raises(UrlBlocked) as caught:
        parse_url(url)
    assert caught.value.extras == {"reason": reason}
    assert caught.value.http_status == 422


RANGES = [
    (PUBLIC, Reach.PUBLIC),
    (PUBLIC_V6, Reach.PUBLIC),
    ("9.255.255.255", Reach.PUBLIC),
    ("172.32.0.1", Reach.PUBLIC),
    ("100.128.0.1", Reach.PUBLIC),
    ("10.0.0.1", Reach.PRIVATE),
    ("172.16.0.1", Reach.PRIVATE),
    ("172.31.255.255", Reach.PRIVATE),
    ("192.168.1.1", Reach.PRIVATE),
    ("100.64.0.1", Reach.PRIVATE),
    ("fd12:3456::1", Reach.PRIVATE),
    ("127.0.0.1", Reach.LOOPBACK),
    ("127.255.255.254", Reach.LOOPBACK),
    ("::1", Reach.LOOPBACK),
    ("0.0.0.0", Reach.RESERVED),
    ("0.1.2.3", Reach.RESERVED),
    ("169.254.1.1", Reach.RESERVED),
    ("192.0.0.8", Reach.RESERVED),
    ("192.0.2.1", Reach.RESERVED),
    ("198.18.0.1", Reach.RESERVED),
    ("198.51.100.1", Reach.RESERVED),
    ("203.0.113.1", Reach.RESERVED),
    ("224.0.0.1", Reach.RESERVED),
    ("240.0.0.1", Reach.RESERVED),
    ("255.255.255.255", Reach.RESERVED),
    ("::", Reach.RESERVED),
    ("::2", Reach.RESERVED),
    ("fe80::1", Reach.RESERVED),
    ("fec0::1", Reach.RESERVED),
    ("ff02::1", Reach.RESERVED),
    ("2001:db8::1", Reach.RESERVED),
    ("100::1", Reach.RESERVED),
    ("4000::1", Reach.RESERVED),
    ("169.254.169.254", Reach.METADATA),
    ("169.254.170.2", Reach.METADATA),
    ("100.100.100.200", Reach.METADATA),
    ("168.63.129.16", Reach.METADATA),
    ("fd00:ec2::254", Reach.METADATA),
    ("::ffff:127.0.0.1", Reach.LOOPBACK),
    ("::ffff:10.0.0.1", Reach.PRIVATE),
    ("::ffff:169.254.169.254", Reach.METADATA),
    (f"::ffff:{PUBLIC}", Reach.PUBLIC),
    ("::127.0.0.1", Reach.LOOPBACK),
    ("::ffff:0:127.0.0.1", Reach.LOOPBACK),
    ("64:ff9b::7f00:1", Reach.LOOPBACK),
    ("64:ff9b::a9fe:a9fe", Reach.METADATA),
    ("64:ff9b:1::10.0.0.1", Reach.PRIVATE),
    ("2002:7f00:1::", Reach.LOOPBACK),
    ("2002:a9fe:a9fe::1", Reach.METADATA),
    ("2002:c0a8:101::1", Reach.PRIVATE),
    ("2001:0:7f00:1::", Reach.RESERVED),
]


@pytest.mark.parametrize(("text", "reach"), RANGES)
def test_ssrf_ranges(text: str, reach: Reach) -> None:
    assert reach_of(ipaddress.ip_address(text)) is reach


def test_ssrf_teredo_is_judged_by_both_of_its_addresses() -> None:
    # server 1.2.3.4 is public; the client part is stored inverted
    client = ipaddress.IPv4Address("169.254.169.254")
    inverted = int(client) ^ 0xFFFFFFFF
    address = ipaddress.IPv6Address((0x20010000 << 96) | (int(ipaddress.IPv4Address("1.2.3.4")) << 64) | inverted)
    assert reach_of(address) is Reach.METADATA


@pytest.mark.parametrize(("text", "reach"), RANGES)
@pytest.mark.parametrize("is_local", [False, True])
@pytest.mark.parametrize("url_class", list(UrlClass))
def test_ssrf_a_name_is_as_good_as_its_address(
    settings: Settings, text: str, reach: Reach, is_local: bool, url_class: UrlClass
) -> None:
    egress = guard(settings, Names(name=[[text]]), allow_private_provider_urls=True)
    may = reach is Reach.PUBLIC or (
        is_local and url_class is not UrlClass.FOREIGN and reach in (Reach.LOOPBACK, Reach.PRIVATE)
    )
    if may:
        assert egress.resolve("name", 443, is_local=is_local, url_class=url_class) == (text,)
    else:
        with pytest.raises(UrlBlocked) as caught:
            egress.resolve("name", 443, is_local=is_local, url_class=url_class)
        assert text not in str(caught.value)
        assert caught.value.extras == {"reason": reach.value}


def test_ssrf_mixed_answers_are_refused_whole(settings: Settings) -> None:
    egress = guard(settings, Names(mixed=[[PUBLIC, "127.0.0.1"]], mixed6=[[PUBLIC_V6, "fe80::1%2"]]))
    for name in ("mixed", "mixed6"):
        with pytest.raises(UrlBlocked):
            egress.resolve(name, 443, is_local=False)


def test_ssrf_rebinding_gets_what_was_checked(settings: Settings) -> None:
    names = Names(rebind_example=[[PUBLIC], ["127.0.0.1"]])
    egress = guard(settings, names)
    assert egress.resolve("rebind.example", 443, is_local=False) == (PUBLIC,)
    assert names.asked == ["rebind.example"], "one connection, one look-up"
    with pytest.raises(UrlBlocked):
        egress.resolve("rebind.example", 443, is_local=False)


def test_ssrf_the_resolver_is_not_trusted(settings: Settings) -> None:
    egress = guard(settings, Names(odd=[["not an address"]], none=[[]]))
    with pytest.raises(UrlBlocked):
        egress.resolve("odd", 443, is_local=False)
    with pytest.raises(UpstreamUnreachable):
        egress.resolve("none", 443, is_local=False)
    with pytest.raises(UpstreamUnreachable):
        egress.resolve("missing", 443, is_local=False)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "a..b", "name.", "", "127.0.0.1."])
def test_ssrf_spellings_do_not_reach_the_resolver(settings: Settings, host: str) -> None:
    names = Names()
    with pytest.raises(UrlBlocked):
        guard(settings, names).resolve(host, 443, is_local=True)
    assert names.asked == []


@pytest.mark.parametrize("url", ["http://metadata.google.internal/", "https://METADATA.google.internal/x"])
def test_ssrf_metadata_names(settings: Settings, url: str) -> None:
    egress = guard(settings, ssrf_guard_enabled=False, allow_private_provider_urls=True)
    with pytest.raises(UrlBlocked) as caught:
        egress.check_url(url, is_local=True)
    assert caught.value.extras == {"reason": "metadata"}
    with pytest.raises(UrlBlocked):
        egress.resolve("Metadata.Google.Internal", 80, is_local=True)


def test_ssrf_metadata_addresses_are_refused_with_the_guard_off(settings: Settings) -> None:
    egress = guard(settings, Names(sneaky=[["169.254.169.254"]], home=[["192.168.0.9"]]), ssrf_guard_enabled=False)
    with pytest.raises(UrlBlocked):
        egress.resolve("sneaky", 80, is_local=True)
    assert egress.resolve("home", 80, is_local=False) == ("192.168.0.9",)
    with pytest.raises(UrlBlocked):
        egress.resolve("home", 80, is_local=False, url_class=UrlClass.FOREIGN)


@pytest.mark.parametrize(
    ("url", "is_local", "changes", "reason"),
    [
        ("https://api.example.com/v1", False, {}, None),
        ("http://api.example.com/v1", False, {}, "plain_http"),
        ("http://api.example.com/v1", True, {}, None),
        ("http://127.0.0.1:1234/v1", True, {}, None),
        ("http://localhost:1234/v1", True, {}, None),
        ("http://[::1]:1234/v1", True, {}, None),
        ("https://127.0.0.1/v1", False, {}, "loopback"),
        ("http://127.0.0.1/v1", True, {"allow_local_provider_urls": False}, "loopback"),
        ("http://192.168.1.5/v1", True, {}, "private"),
        ("http://192.168.1.5/v1", True, {"allow_private_provider_urls": True}, None),
        ("https://192.168.1.5/v1", False, {"allow_private_provider_urls": True}, "private"),
        ("http://0.0.0.0:8080/", True, {"allow_private_provider_urls": True}, "reserved"),
        ("http://[::ffff:127.0.0.1]/", False, {"ssrf_guard_enabled": True}, "plain_http"),
        ("https://[::ffff:7f00:1]/", False, {}, "loopback"),
    ],
)
def test_operator_urls(
    settings: Settings, url: str, is_local: bool, changes: dict[str, Any], reason: str | None
) -> None:
    egress = guard(settings, **changes)
    if reason is None:
        assert egress.check_url(url, is_local=is_local).host in url
    else:
        with pytest.raises(UrlBlocked) as caught:
            egress.check_url(url, is_local=is_local)
        assert caught.value.extras == {"reason": reason}


def test_foreign_urls_use_web_ports_and_https(settings: Settings) -> None:
    egress = guard(settings)
    for url in ("https://example.com:22/", "http://example.com/", "https://127.0.0.1/"):
        with pytest.raises(UrlBlocked):
            egress.check_url(url, url_class=UrlClass.FOREIGN, is_local=True)
    assert egress.check_url("https://example.com:8443/x", url_class=UrlClass.FOREIGN).port == 8443


def test_the_transport_asks_by_two_marks(settings: Settings) -> None:
    egress = guard(settings, Names(localhost=[["127.0.0.1"]]))
    assert egress("localhost", 11434, is_local=True, is_operator=False) == ("127.0.0.1",)
    assert egress("::1", 11434, is_local=True, is_operator=True) == ("::1",)
    with pytest.raises(UrlBlocked):
        egress("localhost", 11434, is_local=False, is_operator=True)


hosts = st.one_of(
    st.ip_addresses().map(lambda a: f"[{a}]" if a.version == 6 else str(a)),
    st.integers(0, 2**32 - 1).map(str),
    st.integers(0, 2**32 - 1).map(hex),
    st.from_regex(r"\A[0-9a-fx.:\[\]%@-]{1,20}\Z"),
    st.sampled_from(["localhost", "metadata", "metadata.google.internal", "api.example.com", "xn--a"]),
    st.text(max_size=12),
)


@given(
    hosts,
    st.sampled_from(["https://", "http://", "HTTPS:\\\\", "//", "https:", "https://x@"]),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(UrlClass),
)
def test_ssrf_no_generated_url_leads_to_a_forbidden_address(
    host: str, scheme: str, answers: list[str], is_local: bool, allow_private: bool, url_class: UrlClass
) -> None:
    settings = Settings(data_dir=None, allow_private_provider_urls=allow_private)  # type: ignore[arg-type]
    egress = Egress(settings, resolver=lambda _host, _port: answers)
    try:
        destination = egress.check_url(f"{scheme}{host}/v1", url_class=url_class, is_local=is_local)
        pinned = egress.resolve(destination.host, destination.port, is_local=is_local, url_class=url_class)
    except UrlBlocked:
        return
    allowed = {Reach.PUBLIC}
    if is_local and url_class is not UrlClass.FOREIGN:
        allowed |= {Reach.LOOPBACK, Reach.PRIVATE} if allow_private else {Reach.LOOPBACK}
    assert pinned
    assert {reach_of(ipaddress.ip_address(address)) for address in pinned} <= allowed
