"""The safety net of the tests themselves: no environment, no network."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import gevent.socket
import pytest

from omniroute.settings import Settings, variables
from tests.conftest import NetworkRefused


@pytest.mark.parametrize("module", [socket, gevent.socket])
def test_the_network_is_refused(module: object) -> None:
    create: type[socket.socket] = getattr(module, "socket")  # noqa: B009 -- two modules, one name
    with create(socket.AF_INET, socket.SOCK_STREAM) as connection, pytest.raises(NetworkRefused):
        connection.connect(("192.0.2.1", 80))


def test_names_are_not_looked_up() -> None:
    with pytest.raises(NetworkRefused):
        socket.getaddrinfo("example.com", 443)


def test_datagrams_are_refused_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection, pytest.raises(NetworkRefused):
        connection.sendto(b"x", ("192.0.2.1", 53))


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as connection:
            assert connection.getpeername() == address


def test_the_environment_is_scrubbed() -> None:
    names = {name for variable in variables().values() for name in variable.names}

    assert names & set(os.environ) == set()
    assert not [name for name in os.environ if name.lower().endswith(("_proxy", "_api_key"))]
    assert Path(os.environ["HOME"]).name.startswith("omniroute-test-home-")


def test_the_settings_are_the_tests_own(settings: Settings, tmp_path: Path) -> None:
    assert settings.data_dir == tmp_path / "data"
    assert settings.data_dir.stat().st_mode & 0o777 == 0o700
