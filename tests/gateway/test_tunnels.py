"""Connections through real proxies that behave, refuse, stall and break off."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from omniroute.errors import ProxyUnavailable, UpstreamError, UpstreamTimeout, UrlBlocked
from omniroute.gateway.answers import read_all
from omniroute.gateway.egress import Egress
from omniroute.gateway.media_fetch import MediaFetch
from omniroute.gateway.proxies import ProxyChoice
from omniroute.gateway.transport import HttpTransport
from omniroute.gateway.tunnels import REST_S
from omniroute.providers.upstream import Deadlines, Sender, UpstreamRequest
from omniroute.records import Proxy, ProxyBinding, ProxyLevel, ProxyType, Snapshot
from omniroute.secret import Secret
from omniroute.settings import Settings
from tests.fakes.proxies import FakeProxy, fake_proxy
from tests.fakes.tls import Authority, new_authority, tls_upstream
from tests.fakes.upstream import answer, fake_upstream, hang_up, serving, stream

QUICK = Deadlines(connect_s=1.0, headers_s=1.0, content_s=1.0, idle_s=1.0, total_s=2.0)
HASTY = dataclasses.replace(QUICK, connect_s=0.1)
KINDS = ("http", "https", "socks5")
PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
PASSWORD = "a long password of the proxy"
NAMES = {"api.example.com": [PUBLIC], "two.example.com": [PUBLIC_V6, PUBLIC], "inner.example.com": ["10.0.0.9"]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("tls"))


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@dataclass
class Office:
    """A transport with a proxy before everything, and the look-ups that it made."""

    transport: HttpTransport
    clock: Clock
    asked: list[str]
    choice: ProxyChoice

    def send(self, url: str, deadlines: Deadlines = QUICK, **more: Any) -> Any:
        return self.transport.send(UpstreamRequest("POST", url, (("X-A", "b"),), b"{}", deadlines, **more))

    def read(self, url: str, **more: Any) -> bytes:
        response = self.send(url, **more)
        try:
            return read_all(response, 2.0, 1 << 20, time.monotonic)
        finally:
            response.close()


OfficeOf = Callable[..., Office]


@pytest.fixture
def office(settings: Settings, authority: Authority) -> Iterator[OfficeOf]:
    made: list[HttpTransport] = []

    def build(kind: str, fake: FakeProxy | int, *, username: str | None = None, **changes: Any) -> Office:
        asked: list[str] = []

        def resolver(host: str, port: int) -> list[str]:
            asked.append(host)
            if host in NAMES:
                return NAMES[host]
            return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)]

        port = fake if isinstance(fake, int) else fake.port
        password = None if username is None else Secret(PASSWORD)
        proxy = Proxy("proxy_1", "office", ProxyType(kind), "localhost", port, username, password)
        binding = ProxyBinding(ProxyLevel.GLOBAL, "", proxy.id)
        egress = Egress(settings, resolver=resolver)
        chosen = ProxyChoice(
            dataclasses.replace(settings, **changes),
            egress,
            Snapshot(1, proxies=(proxy,), proxy_bindings=(binding,)),
        )
        clock = Clock()
        transport = HttpTransport(guard=egress, now=clock, ca_bundle=authority.bundle, proxies=chosen)
        made.append(transport)
        return Office(transport, clock, asked, chosen)

    yield build
    for transport in made:
        transport.close()
        assert transport.open_connections == 0


def refused(office: Office, url: str = "https://api.example.com/v1", **more: Any) -> str:
    with pytest.raises(ProxyUnavailable) as caught:
        office.send(url, **more)
    error = caught.value
    assert (error.http_status, error.error_code) == (503, "proxy_unavailable")
    assert "'office'" in error.message
    assert PASSWORD not in error.message
    assert office.transport.open_connections == 0
    return error.message


# --- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_encrypted_call_goes_through_a_tunnel(office: OfficeOf, authority: Authority, kind: str) -> None:
    with (
        tls_upstream(authority, answer(b'{"ok":1}')) as upstream,
        fake_proxy(kind, upstream.port, authority) as proxy,
    ):
        out = office(kind, proxy)
        assert out.read("https://api.example.com/v1/x?y=1") == b'{"ok":1}'
        assert proxy.asked == [f"{PUBLIC}:443"], "the address is pinned, and the proxy looks nothing up"
        assert upstream.received[0].headers["host"] == "api.example.com"
        assert upstream.received[0].head.startswith(b"POST /v1/x?y=1 HTTP/1.1")
        assert "proxy-authorization" not in upstream.received[0].headers


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_call_arrives(office: OfficeOf, authority: Authority, kind: str) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        out = office(kind, proxy)
        assert out.read("http://api.example.com:8080/v1/x", is_local=True) == b"1"
        is_tunnel = kind == "socks5"
        assert proxy.asked == [f"{PUBLIC}:8080" if is_tunnel else f"http://{PUBLIC}:8080/v1/x"]
        assert upstream.received[0].head.startswith(b"POST /v1/x HTTP/1.1")
        assert upstream.received[0].headers["host"] == "api.example.com:8080"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_streams_arrive_piece_by_piece(office: OfficeOf, authority: Authority, kind: str, scheme: str) -> None:
    acts = stream(b"data: 1\n\n", 0.05, b"data: 2\n\n")
    running = fake_upstream(acts) if scheme == "http" else tls_upstream(authority, acts)
    with running as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        response = office(kind, proxy).send(f"{scheme}://api.example.com/v1", is_local=True)
        assert response.read(1.0) == b"data: 1\n\n"
        assert response.read(1.0) == b"data: 2\n\n"
        assert response.read(1.0) == b""
        response.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_body_and_a_large_answer_pass(office: OfficeOf, authority: Authority, kind: str) -> None:
    big = b"x" * 900_000
    with tls_upstream(authority, answer(big)) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        out = office(kind, proxy)
        request = UpstreamRequest("POST", "https://api.example.com/", (), big, QUICK)
        response = out.transport.send(request)
        assert read_all(response, 5.0, 1 << 20, time.monotonic) == big
        response.close()
        assert upstream.received[0].body == big


@pytest.mark.parametrize("kind", KINDS)
def test_tunnels_are_reused(office: OfficeOf, authority: Authority, kind: str) -> None:
    with tls_upstream(authority, answer(b"1")) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        out = office(kind, proxy)
        assert [out.read("https://api.example.com/a"), out.read("https://api.example.com/b")] == [b"1", b"1"]
        assert (proxy.opened, upstream.opened, len(upstream.received)) == (1, 1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_can_be_aborted_from_outside(office: OfficeOf, authority: Authority, kind: str) -> None:
    with (
        tls_upstream(authority, stream(b"data: 1\n\n", 5.0, b"data: 2\n\n")) as upstream,
        fake_proxy(kind, upstream.port, authority) as proxy,
    ):
        response = office(kind, proxy).send("https://api.example.com/v1")
        assert response.read(1.0)
        response.abort()
        began = time.monotonic()
        with contextlib.suppress(UpstreamError):
            response.read(4.0)
        assert time.monotonic() - began < 2.0
        response.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_behind_a_tunnel_is_checked(office: OfficeOf, authority: Authority, kind: str) -> None:
    NAMES["other.example.com"] = [PUBLIC]
    with tls_upstream(authority, answer(b"1")) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        assert "certificate" in refused(office(kind, proxy), "https://other.example.com/")
        assert upstream.received == []


def test_the_certificate_of_a_proxy_is_checked(office: OfficeOf, authority: Authority) -> None:
    with fake_proxy("https", 1, authority) as proxy:
        out = office("https", proxy)
        out.transport._ca_bundle = None  # the system knows nothing of this run's authority
        assert "has a certificate that is not valid" in refused(out)
        assert proxy.asked == []


def test_an_address_of_the_other_family_is_tried_next(office: OfficeOf, authority: Authority) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("http", upstream.port) as proxy:
        proxy.fate = 502
        assert "status 502" in refused(office("http", proxy), "https://two.example.com/")
        assert proxy.asked == [f"[{PUBLIC_V6}]:443", f"{PUBLIC}:443"]
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("socks5", upstream.port) as proxy:
        proxy.fate = 3
        assert "cannot reach the provider's network" in refused(office("socks5", proxy), "https://two.example.com/")
        assert proxy.asked == [f"{PUBLIC_V6}:443", f"{PUBLIC}:443"]


def test_a_refusal_by_rule_is_final(office: OfficeOf) -> None:
    with fake_proxy("http", 1, fate=403) as proxy:
        assert "status 403" in refused(office("http", proxy), "https://two.example.com/")
        assert len(proxy.asked) == 1
    with fake_proxy("socks5", 1, fate=2) as proxy:
        assert "does not allow" in refused(office("socks5", proxy), "https://two.example.com/")
        assert len(proxy.asked) == 1


# --- user and password -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_login_is_sent(office: OfficeOf, authority: Authority, kind: str, scheme: str) -> None:
    running = fake_upstream(answer(b"1")) if scheme == "http" else tls_upstream(authority, answer(b"1"))
    with running as upstream, fake_proxy(kind, upstream.port, authority, login=("ann", PASSWORD)) as proxy:
        out = office(kind, proxy, username="ann")
        assert out.read(f"{scheme}://api.example.com/", is_local=True) == b"1"
        assert proxy.logins == [f"ann:{PASSWORD}"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_wrong_login_is_told(office: OfficeOf, authority: Authority, kind: str, scheme: str) -> None:
    with fake_proxy(kind, 1, authority, login=("ann", "another")) as proxy:
        said = refused(office(kind, proxy, username="ann"), f"{scheme}://api.example.com/", is_local=True)
        assert "does not accept its user name and password" in said
    with fake_proxy(kind, 1, authority, login=("ann", "another")) as proxy:
        said = refused(office(kind, proxy), f"{scheme}://api.example.com/", is_local=True)
        assert "wants a user name and password" in said


# --- a proxy that fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down(office: OfficeOf, kind: str, scheme: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        out = office(kind, closed.getsockname()[1])
        assert "cannot be reached" in refused(out, f"{scheme}://api.example.com/", is_local=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_stalls(office: OfficeOf, authority: Authority, kind: str) -> None:
    with fake_proxy(kind, 1, authority, fate="stall") as proxy:
        began = time.monotonic()
        assert "does not answer in time" in refused(office(kind, proxy), deadlines=HASTY)
        assert time.monotonic() - began < 1.0


def test_a_proxy_that_stalls_within_its_own_tls(office: OfficeOf) -> None:
    with fake_proxy("socks5", 1, fate="stall") as proxy:  # waits for what a TLS client never sends
        assert "does not answer in time" in refused(office("https", proxy), deadlines=HASTY)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fate", ["close", "garbage"])
def test_a_proxy_that_breaks_off_or_says_nonsense(office: OfficeOf, authority: Authority, kind: str, fate: str) -> None:
    with fake_proxy(kind, 1, authority, fate=fate) as proxy:
        said = refused(office(kind, proxy))
        assert ("breaks" in said) if fate == "close" else ("does not speak its protocol" in said)


def test_bytes_before_the_tunnel_are_not_taken_for_the_providers(office: OfficeOf) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("http", upstream.port, fate="surplus") as proxy:
        assert "does not speak its protocol" in refused(office("http", proxy))


def test_a_provider_that_hangs_up_behind_a_tunnel(office: OfficeOf, authority: Authority) -> None:
    with serving(lambda sock, _address: sock.close()) as port, fake_proxy("http", port) as proxy:
        assert "while TLS with the provider begins" in refused(office("http", proxy))


def test_what_fails_after_the_tunnel_is_the_providers(office: OfficeOf, authority: Authority) -> None:
    with tls_upstream(authority, hang_up) as upstream, fake_proxy("http", upstream.port) as proxy:
        with pytest.raises(UpstreamError) as caught:
            office("http", proxy).send("https://api.example.com/")
        assert not isinstance(caught.value, ProxyUnavailable)


def test_a_proxy_whose_name_does_not_resolve(office: OfficeOf) -> None:
    out = office("http", 3128)
    proxy = Proxy("proxy_2", "office", ProxyType.HTTP, "localhost", 3128)
    way = out.choice.trial(dataclasses.replace(proxy, host="nowhere.invalid"))

    def resolver(host: str, port: int) -> list[str]:
        raise OSError

    out.choice.guard = Egress(Settings(data_dir=None), resolver=resolver)  # type: ignore[arg-type]
    with pytest.raises(ProxyUnavailable, match="does not resolve"):
        out.transport.send_through(UpstreamRequest("GET", f"https://{PUBLIC}/", (), b"", QUICK), way)


# --- rests -----------------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_down_rests_for_all_destinations(office: OfficeOf, authority: Authority) -> None:
    NAMES["b.example.com"] = [PUBLIC]
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("http", upstream.port, fate=407) as proxy:
        out = office("http", proxy)
        refused(out)
        with pytest.raises(ProxyUnavailable) as caught:
            out.send("http://b.example.com/", is_local=True)
        assert proxy.opened == 1, "it is left alone"
        assert caught.value.retry_after_s == pytest.approx(REST_S, abs=1.0)
        proxy.fate = ""
        out.clock.ahead = REST_S + 0.1
        assert out.read("http://b.example.com/", is_local=True) == b"1"


def test_a_refused_destination_rests_alone(office: OfficeOf) -> None:
    NAMES["b.example.com"] = [PUBLIC]
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("http", upstream.port, fate=403) as proxy:
        out = office("http", proxy)
        refused(out)
        proxy.fate = ""
        assert out.read("http://b.example.com/", is_local=True) == b"1"
        out.transport.close()
        refused(out)
        assert proxy.opened == 2


def test_without_the_proxy_where_the_operator_says_so(office: OfficeOf, caplog: pytest.LogCaptureFixture) -> None:
    with fake_upstream(answer(b"1")) as upstream, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        out = office("socks5", closed.getsockname()[1], proxy_fail_open=True)
        assert out.read(f"{upstream.url}/", is_local=True) == b"1"
        assert out.read(f"{upstream.url}/", is_local=True) == b"1"
        assert upstream.opened == 1
    assert "PROXY_FAIL_OPEN" in caplog.text


def test_no_socks_where_the_operator_rules_it_out(office: OfficeOf) -> None:
    with fake_proxy("socks5", 1) as proxy:
        assert "ENABLE_SOCKS5_PROXY" in refused(office("socks5", proxy, enable_socks5_proxy=False))
        assert proxy.opened == 0


# --- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0.0.0.0/",
        "https://169.254.169.254/latest",
        "https://metadata.google.internal/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost./",
    ],
)
def test_ssrf_proxy_path(office: OfficeOf, authority: Authority, kind: str, remote: bool, url: str) -> None:
    with fake_proxy(kind, 1, authority) as proxy:
        out = office(kind, proxy, proxy_dns=remote)
        with pytest.raises(UrlBlocked):
            out.send(url)
        assert (proxy.opened, proxy.asked) == (0, []), "the check comes before the proxy"


@pytest.mark.parametrize("kind", KINDS)
def test_ssrf_proxy_path_of_names(office: OfficeOf, authority: Authority, kind: str) -> None:
    with fake_proxy(kind, 1, authority) as proxy:
        out = office(kind, proxy)
        with pytest.raises(UrlBlocked):
            out.send("https://inner.example.com/")
        with pytest.raises(UrlBlocked):
            out.send("http://inner.example.com/", is_local=True)
        assert (proxy.opened, proxy.asked) == (0, [])


@pytest.mark.parametrize("kind", [*KINDS, "socks5h"])
def test_proxy_dns_only_on_request(office: OfficeOf, authority: Authority, kind: str) -> None:
    with tls_upstream(authority, answer(b"1")) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        out = office(kind, proxy, proxy_dns=kind != "socks5h")
        assert out.read("https://api.example.com/") == b"1"
        assert proxy.asked == ["api.example.com:443"]
        assert set(out.asked) == {"localhost"}, "only the proxy itself is looked up"


@pytest.mark.parametrize("kind", ["http", "https"])
def test_proxy_dns_of_what_is_forwarded(office: OfficeOf, authority: Authority, kind: str) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy(kind, upstream.port, authority) as proxy:
        out = office(kind, proxy, proxy_dns=True)
        assert out.read("http://api.example.com/v1", is_local=True) == b"1"
        assert proxy.asked == ["http://api.example.com:80/v1"]


def test_pinned_addresses_stay_pinned_whatever_the_proxy_could_look_up(office: OfficeOf) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("socks5", upstream.port) as proxy:
        out = office("socks5", proxy, proxy_dns=True)
        assert out.read("http://api.example.com/", is_local=True, addresses=("93.184.215.15",)) == b"1"
        assert proxy.asked == ["93.184.215.15:80"]


@pytest.mark.parametrize("host", ["169.254.169.254", "10.1.1.1", "0.0.0.0", "metadata.google.internal", "127.1"])
def test_ssrf_a_proxy_may_not_be_anywhere(office: OfficeOf, host: str) -> None:
    out = office("http", 3128)
    way = out.choice.trial(Proxy("proxy_2", "office", ProxyType.HTTP, host, 3128))
    with pytest.raises(ProxyUnavailable, match="at an address that is not allowed"):
        out.transport.send_through(UpstreamRequest("GET", "https://api.example.com/", (), b"", QUICK), way)


# --- what belongs to whom --------------------------------------------------------------------------------------------


def test_connections_of_different_ways_are_kept_apart(settings: Settings) -> None:
    egress = Egress(settings)
    with (
        fake_upstream(answer(b"1")) as upstream,
        fake_proxy("socks5", upstream.port) as one,
        fake_proxy("socks5", upstream.port) as two,
    ):
        proxies = tuple(
            Proxy(f"proxy_{n}", f"p{n}", ProxyType.SOCKS5, "127.0.0.1", fake.port) for n, fake in enumerate((one, two))
        )
        bindings = tuple(ProxyBinding(ProxyLevel.KEY, f"key_{n}", proxy.id) for n, proxy in enumerate(proxies))
        chosen = ProxyChoice(settings, egress, Snapshot(1, proxies=proxies, proxy_bindings=bindings))
        transport = HttpTransport(guard=egress, now=time.monotonic, proxies=chosen)
        for key in ("key_0", "key_1", "key_0", "", "key_1"):
            sender = Sender(key=key)
            request = UpstreamRequest("GET", f"{upstream.url}/", (), b"", QUICK, is_local=True, sender=sender)
            response = transport.send(request)
            assert read_all(response, 1.0, 100, time.monotonic) == b"1"
            response.close()
        transport.close()
        assert (one.opened, two.opened, upstream.opened) == (1, 1, 3)
        assert transport.open_connections == 0


def test_idle_ways_are_forgotten(office: OfficeOf) -> None:
    with fake_upstream(answer(b"1")) as upstream, fake_proxy("socks5", upstream.port) as proxy:
        out = office("socks5", proxy)
        assert out.read(f"{upstream.url}/", is_local=True) == b"1"
        assert out.transport.open_connections == 1
        out.clock.ahead = 60.0
        out.transport.close_idle()
        assert out.transport.open_connections == 0
        assert out.transport._idle == {}


def test_a_slow_lookup_of_the_provider_is_not_the_proxys(office: OfficeOf) -> None:
    import gevent

    with fake_proxy("http", 1) as proxy:
        out = office("http", proxy)

        def guard(*_: Any, **__: Any) -> tuple[str, ...]:
            gevent.sleep(5)
            return ()

        out.transport._guard = guard
        with pytest.raises(UpstreamTimeout):
            out.send("https://api.example.com/", deadlines=HASTY)
        assert proxy.opened == 0


def test_media_that_callers_name_go_through_the_proxy_and_stay_pinned(office: OfficeOf, authority: Authority) -> None:
    picture = answer(b"\x89PNG\r\n\x1a\n", content_type="image/png")
    with tls_upstream(authority, picture) as upstream, fake_proxy("http", upstream.port) as proxy:
        out = office("http", proxy, proxy_dns=True)
        fetch = MediaFetch(out.transport, check_url=lambda _url: (PUBLIC,), now=time.monotonic)
        assert fetch.fetch(("https://api.example.com/a.png",))["https://api.example.com/a.png"][0] == "image/png"
        assert proxy.asked == [f"{PUBLIC}:443"]


def test_a_dead_proxy_is_not_blamed_on_a_media_url(office: OfficeOf) -> None:
    with fake_proxy("http", 1, fate=403) as proxy:
        fetch = MediaFetch(office("http", proxy).transport, check_url=lambda _url: (PUBLIC,), now=time.monotonic)
        with pytest.raises(ProxyUnavailable):
            fetch.fetch(("https://api.example.com/a.png",))
