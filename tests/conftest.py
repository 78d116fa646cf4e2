"""What every test can rely on: an empty environment, a home of its own, and no network but this machine's."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from omniroute.settings import Settings
from tests.goldens import Golden

_LONG = frozenset({"browser", "compat", "e2e", "storage"})
"""Folders whose tests start processes."""
_KEPT = ("PATH", "TMPDIR", "CI", "VIRTUAL_ENV", "SYSTEMROOT", "LD_LIBRARY_PATH")


def _scrub_environment() -> None:
    """Leave of the caller's environment only what programs need to start; his settings and keys must not be seen."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)
    os.environ.update(
        HOME=tempfile.mkdtemp(prefix="omniroute-test-home-"),
        LANG="C.UTF-8",
        TZ="UTC",
        NO_COLOR="1",
        PYTHONDONTWRITEBYTECODE="1",
    )


class NetworkRefused(AssertionError):
    """A test tried to reach something beyond this machine."""


def _address(host: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _is_local_host(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: below `socket`, gevent and every client library, so none of them can be forgotten."""
    match event:
        case "socket.connect" | "socket.sendto" | "socket.sendmsg":
            address = arguments[1]
            if isinstance(address, tuple) and not _is_local_host(address[0]):
                raise NetworkRefused(f"{event} to {address[0]}")
        case "socket.getaddrinfo" | "socket.gethostbyname" | "socket.gethostbyaddr":
            # Reading an address needs nobody; looking up a name does.
            if not _is_local_host(arguments[0]) and _address(arguments[0]) is None:
                raise NetworkRefused(f"{event} of {arguments[0]!r}")
        case _:
            pass


def pytest_addoption(parser: pytest.Parser) -> None:
    """Golden files are written anew on demand; the change then shows in review."""
    parser.addoption("--update-golden", action="store_true", help="write what the code gives into tests/golden")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: a file that runs for minutes must not be begun when the others are done."""
    items.sort(key=lambda item: not _takes_long(item.path))


def _takes_long(path: Path) -> bool:
    return not _LONG.isdisjoint(path.relative_to(Path(__file__).parent).parts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have measured beside what they judged."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{report.nodeid}: {name}: {value}")


_scrub_environment()
sys.addaudithook(_refuse_network)
# The same examples in every run; a slow machine is no failure.
hypothesis.settings.register_profile(
    "omniroute",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("omniroute")


@pytest.fixture(autouse=True)
def _environment_is_left_as_it_was() -> Iterator[None]:
    before = dict(os.environ)
    before.pop("PYTEST_CURRENT_TEST", None)
    yield
    after = dict(os.environ)
    after.pop("PYTEST_CURRENT_TEST", None)
    if after != before:
        os.environ.clear()
        os.environ.update(before)
        pytest.fail(f"the test changed the environment: {sorted(set(after.items()) ^ set(before.items()))}")


@pytest.fixture(autouse=True)
def _process_is_left_as_it_was() -> Iterator[None]:
    """Building an application configures logging and tightens the umask for the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)
    root.setLevel(level)
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a server whose data directory is the test's own."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    return Settings(data_dir=data_dir, instance_name="test", app_log_to_file=False)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """What was given before, to hold what is given now against."""
    return Golden(is_updating=bool(request.config.getoption("--update-golden")))
