"""Nothing that a caller or an operator supplies leads a connection to where it may not go."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import OmniRouteError, UrlBlocked
from omniroute.gateway.egress import Egress, Reach, UrlClass, reach_of
from omniroute.gateway.media_fetch import MediaFetch
from omniroute.gateway.transport import HttpTransport
from omniroute.providers.spec import PARAMETERS
from omniroute.providers.upstream import Deadlines, UpstreamRequest
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app
from tests.fakes.upstream import answer, fake_upstream

PUBLIC = "93.184.215.14"
QUICK = Deadlines(connect_s=1.0, headers_s=1.0, content_s=1.0, idle_s=1.0, total_s=2.0)
SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "10.0.0.1",
    "192.168.0.1",
    "172.16.0.1",
    "100.64.0.1",
    "169.254.1.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "224.0.0.1",
    "255.255.255.255",
    "metadata.google.internal",
    "localhost",
    "localhost.",
    "x@127.0.0.1",
    "127.0.0.1#x",
    "１２７.0.0.1",
    "①②⑦.0.0.1",
    "127。0。0。1",
]


class Recording(HttpTransport):
    """Notes where connections would go, and opens none."""

    def __init__(self, guard: Egress) -> None:
        super().__init__(guard=guard, now=time.monotonic)
        self.opened: list[str] = []

    def _open(self, scheme: str, host: str, address: str, *rest: Any) -> Any:
        self.opened.append(address)
        raise OSError


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("ssrf") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        built.own.egress._resolver = lambda host, _port: ["127.0.0.1" if host == "localhost" else PUBLIC]
        yield built


@pytest.mark.parametrize("host", SPELLINGS)
def test_ssrf_base_urls_of_nodes(app: App, host: str) -> None:
    node = {"name": "n", "prefix": "n", "type": "openai-compatible", "baseUrl": f"https://{host}/v1"}
    for path in ("/api/provider-nodes", "/api/provider-nodes/validate"):
        body = node if path.endswith("nodes") else {"type": node["type"], "baseUrl": node["baseUrl"]}
        response = app.admin.post(path, json=body)
        assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked"), path
    assert app.admin.get("/api/provider-nodes").get_json()["total"] == 0


@pytest.mark.parametrize("host", ["169.254.169.254", "metadata.google.internal", "0.0.0.0", "10.0.0.1", "127.1"])
def test_ssrf_the_local_mark_opens_the_machine_and_no_more(app: App, host: str) -> None:
    node = {"name": "n", "prefix": "n", "type": "openai-compatible", "baseUrl": f"http://{host}/v1", "isLocal": True}
    response = app.admin.post("/api/provider-nodes", json=node)
    assert (response.status_code, error_of(response)["code"]) == (422, "url_blocked")


@pytest.mark.parametrize("host", SPELLINGS)
def test_ssrf_base_urls_inside_objects(app: App, host: str) -> None:
    if host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"):
        return  # a local provider is one of this machine
    if host in ("[64:ff9b::7f00:1]", "[2002:7f00:1::]"):
        return  # another way to write the same
    for data in ("providerData", "providerSpecificData"):
        body = {"provider": "ollama", data: {"baseUrl": f"http://{host}/"}}
        response = app.admin.post("/api/providers", json=body)
        assert response.status_code in (400, 422), host


REGIONS = ["us-east-1.evil.example", "x/../y", "@evil.example", "x#", "x?", "evil.example/", "%2e", "a b", "x\n"]


def test_ssrf_region_and_resource_strings(app: App) -> None:
    tried = 0
    for row in app.own.directories.catalogue:
        in_addresses = [name for name in row.parameters if any(f"{{{name}}}" in url for url in row.urls.values())]
        for name in in_addresses:
            for region in REGIONS:
                tried += 1
                if not PARAMETERS[name].fullmatch(region):
                    continue
                for url in row.urls.values():  # some have dots in their names, below the vendor's domain
                    _, is_in_host, fixed = url.partition("://")[2].partition("/")[0].rpartition(f"{{{name}}}")
                    host = urlsplit(url.replace(f"{{{name}}}", region)).hostname or ""
                    assert not is_in_host or fixed.startswith("."), (row.id, name)
                    assert not is_in_host or host.endswith(fixed), (row.id, name, region)
    assert tried > 20
    for region in REGIONS:
        body = {"provider": "azure", "apiKey": "sk-0123456789abcdefghij", "providerData": {"resource": region}}
        assert app.admin.post("/api/providers", json=body).status_code == 400


def test_ssrf_a_redirect_is_never_followed(settings: Settings) -> None:
    with fake_upstream(answer(b"secret")) as inner:
        for status in (301, 302, 303, 307, 308):
            moved = answer(b"", status=status, headers={"Location": f"{inner.url}/latest/meta-data"})
            with fake_upstream(moved) as outer:
                transport = HttpTransport(guard=Egress(settings), now=time.monotonic)
                url = f"{outer.url}/v1/models"
                response = transport.send(UpstreamRequest("GET", url, (("Authorization", "k"),), b"", QUICK, True))
                assert response.status == status
                response.close()
                transport.close()
        assert inner.received == []


@pytest.mark.parametrize("host", SPELLINGS)
def test_ssrf_media_urls_of_callers(settings: Settings, host: str) -> None:
    egress = Egress(settings, resolver=lambda name, _port: ["127.0.0.1" if name == "localhost" else PUBLIC])
    transport = Recording(egress)
    fetch = MediaFetch(transport, check_url=egress.check_foreign, now=time.monotonic)
    for scheme in ("https", "http"):
        with pytest.raises(OmniRouteError) as caught:
            fetch.fetch((f"{scheme}://{host}/a.png",))
        assert 400 <= caught.value.http_status < 500
    assert transport.opened == []


def test_ssrf_a_hop_to_the_inside_is_refused(settings: Settings) -> None:
    egress = Egress(settings, resolver=lambda _name, _port: [PUBLIC])
    checked: list[str] = []

    def check(url: str) -> tuple[str, ...]:
        checked.append(url)
        return egress.check_foreign(url) if len(checked) > 1 else ("127.0.0.1",)

    moved = answer(b"", status=302, headers={"Location": "https://169.254.169.254/latest"})
    with fake_upstream(moved) as outer:
        transport = HttpTransport(guard=egress, now=time.monotonic)
        fetch = MediaFetch(transport, check_url=check, now=time.monotonic)
        with pytest.raises(OmniRouteError) as caught:
            fetch.fetch((f"{outer.url}/a.png",))
        assert caught.value.error_code == "url_blocked"
        transport.close()
    assert checked[1] == "https://169.254.169.254/latest"


def test_ssrf_a_resolver_that_changes_its_mind(settings: Settings) -> None:
    answers = [[PUBLIC], ["127.0.0.1"]]
    asked: list[str] = []

    def resolver(host: str, _port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    transport = Recording(Egress(settings, resolver=resolver))
    request = UpstreamRequest("GET", "https://rebind.example.com/", (), b"", QUICK)
    with pytest.raises(OmniRouteError):
        transport.send(request)
    assert (transport.opened, asked) == ([PUBLIC], ["rebind.example.com"])
    with pytest.raises(UrlBlocked):
        transport.send(request)
    assert transport.opened == [PUBLIC]


hosts = st.one_of(
    st.ip_addresses().map(lambda a: f"[{a}]" if a.version == 6 else str(a)),
    st.sampled_from(SPELLINGS),
    st.integers(0, 2**32 - 1).map(str),
    st.from_regex(r"\A[0-9a-fx.:\[\]%@-]{1,20}\Z"),
    st.sampled_from(["api.example.com", "a.b", "xn--a"]),
    st.text(max_size=12),
)


@given(
    hosts,
    st.sampled_from(["https://", "http://", "//", "https:", "HTTPS://", "https://x@"]),
    st.lists(st.ip_addresses().map(str), min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_ssrf_no_socket_is_opened_to_where_it_may_not_go(
    host: str, scheme: str, answers: list[str], is_local: bool, is_operator: bool, allows_private: bool
) -> None:
    settings = Settings(data_dir=None, allow_private_provider_urls=allows_private)  # type: ignore[arg-type]
    transport = Recording(Egress(settings, resolver=lambda _host, _port: answers))
    with contextlib.suppress(OmniRouteError):
        transport.send(UpstreamRequest("GET", f"{scheme}{host}/v1", (), b"", QUICK, is_local, is_operator))
    allowed = {Reach.PUBLIC}
    if is_local:
        allowed |= {Reach.LOOPBACK, Reach.PRIVATE} if allows_private else {Reach.LOOPBACK}
    assert {reach_of(ipaddress.ip_address(address)) for address in transport.opened} <= allowed


@given(hosts, st.lists(st.ip_addresses().map(str), min_size=1, max_size=3), st.booleans())
def test_ssrf_a_proxy_is_where_it_may_be(host: str, answers: list[str], is_from_environment: bool) -> None:
    egress = Egress(Settings(data_dir=None), resolver=lambda _host, _port: answers)  # type: ignore[arg-type]
    try:
        found = egress.proxy_addresses(host, 3128, is_from_environment=is_from_environment)
    except OmniRouteError:
        return
    allowed = {Reach.PUBLIC, Reach.LOOPBACK} | ({Reach.PRIVATE} if is_from_environment else set())
    assert found
    assert {reach_of(ipaddress.ip_address(address)) for address in found} <= allowed


def test_only_the_environment_may_name_private_proxies(settings: Settings) -> None:
    egress = Egress(settings)
    for address in ("10.0.0.1", "127.0.0.1", "192.168.1.1"):
        assert egress.proxy_addresses(address, 3128, is_from_environment=True) == (address,)
    with pytest.raises(UrlBlocked, match="OMNIROUTE_ALLOW_PRIVATE_PROVIDER_URLS"):
        egress.proxy_addresses("10.0.0.1", 3128, is_from_environment=False)
    for url_class in (UrlClass.ENVIRONMENT, UrlClass.OPERATOR):
        with pytest.raises(UrlBlocked):
            egress.check_host("169.254.169.254", is_local=True, url_class=url_class)
