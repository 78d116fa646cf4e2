"""Loopback trust falls with a foreign Host: a name that was rebound to this machine opens nothing."""

from __future__ import annotations

import pytest

from omniroute.services.first_start import write_cli_token
from tests.harness import Gateway

FOREIGN = [
    "evil.example",
    "evil.example:20128",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost:20128/x",
    "evil@localhost",
    "localhost:evil",
    "[::1",
    "192.0.2.10:20128",
    "0.0.0.0:20128",
    "",
]
OWN = ["localhost", "localhost:20128", "LOCALHOST:20128", "127.0.0.1:20128", "127.9.9.9", "[::1]:20128", "[::1]"]


def test_a_foreign_host_ends_keyless_inference(gateway: Gateway) -> None:
    for host in FOREIGN:
        assert gateway.client(host=host).get("/v1/models").status_code == 401, host
    for host in OWN:
        assert gateway.client(host=host).get("/v1/models").status_code == 200, host


def test_a_foreign_host_ends_anonymous_management(gateway: Gateway) -> None:
    gateway.store("security", "requireLogin", False)
    for host in FOREIGN:
        assert gateway.client(host=host).get("/api/keys").status_code == 401, host
        assert gateway.client(host=host).get("/dashboard").status_code == 302, host
    assert gateway.client().get("/api/keys").status_code == 200


def test_a_foreign_host_ends_the_cli_token(gateway: Gateway) -> None:
    runtime = gateway.settings.data_dir / "runtime"
    write_cli_token(runtime)
    headers = {"X-OmniRoute-CLI-Token": (runtime / "cli-token").read_text().strip()}
    assert gateway.client().get("/api/keys", headers=headers).status_code == 200
    for host in FOREIGN:
        assert gateway.client(host=host).get("/api/keys", headers=headers).status_code == 401, host


def test_the_host_cannot_give_trust(gateway: Gateway) -> None:
    for host in OWN:
        assert gateway.client(address="192.0.2.7", host=host).get("/v1/models").status_code == 401


@pytest.mark.parametrize("path", ["/metrics"])
def test_routes_open_on_loopback_follow_the_same_rule(gateway: Gateway, path: str) -> None:
    assert gateway.client().get(path).status_code == 200
    assert gateway.client(host="evil.example").get(path).status_code == 401
    assert gateway.client(address="192.0.2.7").get(path).status_code == 401
