"""A caller is local by the socket alone; any forwarding header makes it remote, whatever address it names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness import Gateway

FORWARDING = [
    "X-Forwarded-For",
    "X-Real-IP",
    "Forwarded",
    "Via",
    "CF-Connecting-IP",
    "True-Client-IP",
    "Tailscale-User-Login",
]


def test_a_forwarding_header_makes_a_loopback_peer_remote(gateway: Gateway) -> None:
    for header in FORWARDING:
        for value in ("127.0.0.1", "::1", "for=127.0.0.1", "localhost", ""):
            answer = gateway.client().get("/v1/models", headers={header: value})
            assert answer.status_code == 401, (header, value)
            assert answer.get_json()["error"]["code"] == "auth_required"


def test_a_remote_peer_cannot_become_local(gateway: Gateway) -> None:
    client = gateway.client(address="192.0.2.7", host="localhost:20128")
    assert client.get("/v1/models").status_code == 401
    for header in FORWARDING:
        assert client.get("/v1/models", headers={header: "127.0.0.1"}).status_code == 401, header


def test_private_ranges_are_not_loopback(gateway: Gateway) -> None:
    for peer in ("10.0.0.5", "192.168.1.2", "172.16.0.1", "100.64.0.9", "fd00::1", "fe80::1", "0.0.0.0"):
        assert gateway.client(address=peer, host="localhost:20128").get("/v1/models").status_code == 401, peer


def test_loopback_in_all_its_forms_is_local(gateway: Gateway) -> None:
    for peer in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", ""):
        assert gateway.client(address=peer, host="localhost:20128").get("/v1/models").status_code == 200, peer


@pytest.mark.parametrize("trust", ["1", "127.0.0.0/8", "127.0.0.1, ::1"])
def test_behind_a_trusted_proxy_everybody_is_remote(make_gateway: Callable[..., Gateway], trust: str) -> None:
    gateway = make_gateway(trust_proxy=trust)
    answer = gateway.client().get("/v1/models", headers={"X-Forwarded-For": "127.0.0.1"})
    assert answer.status_code == 401


def test_a_trusted_proxy_names_the_client_and_a_client_cannot_add_to_it(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(trust_proxy="10.0.0.0/8")
    key = gateway.issue(ipAllowlist=("192.0.2.7",)).secret
    proxy = gateway.client(address="10.0.0.1")

    def through(forwarded: str) -> int:
        return proxy.get(
            "/v1/models", headers={"X-Forwarded-For": forwarded, "Authorization": f"Bearer {key}"}
        ).status_code

    assert through("192.0.2.7") == 200
    assert through("203.0.113.1, 192.0.2.7") == 200
    assert through("192.0.2.7, 203.0.113.1") == 403  # what stands left of the proxy's own entry is the client's word
    assert through("192.0.2.7, 203.0.113.1, 10.0.0.9") == 403


def test_an_untrusted_peer_is_not_believed(gateway: Gateway) -> None:
    key = gateway.issue(ipAllowlist=("192.0.2.7",)).secret
    headers = {"X-Forwarded-For": "192.0.2.7", "Authorization": f"Bearer {key}"}
    answer = gateway.client(address="203.0.113.1").get("/v1/models", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["X-OmniRoute-Error-Code"] == "ip_not_allowed"


def test_a_public_base_url_ends_keyless_loopback(make_gateway: Callable[..., Gateway]) -> None:
    gateway = make_gateway(base_url="https://gateway.example")
    assert gateway.client().get("/v1/models").status_code == 401
    forced = make_gateway(base_url="https://gateway.example", loopback_keyless="true")
    assert forced.client().get("/v1/models").status_code == 200
    off = make_gateway(loopback_keyless="false")
    assert off.client().get("/v1/models").status_code == 401
