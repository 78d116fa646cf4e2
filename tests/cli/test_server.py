"""`omniroute server`: what is checked before, and what the process becomes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniroute.cli import Exit, Failure
from omniroute.cli.server import GUNICORN, check_port_is_free, child_command, child_environment, chosen_options
from omniroute.settings import Settings
from tests.cli.conftest import Run


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class TestRefusals:
    def test_a_value_that_does_not_fit(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEB_CONCURRENCY", "lots")

        result = run("server")

        assert result.exit_code == Exit.MISUSE
        assert result.stderr == (
            "Error: WEB_CONCURRENCY (the environment) is not valid: it takes a whole number from 1 to 64.\n"
        )

    def test_an_option_that_does_not_fit(self, run: Run) -> None:
        result = run("server", "--port", "70000")

        assert result.exit_code == Exit.MISUSE
        assert "OMNIROUTE_PORT (the command line) is not valid" in result.stderr

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("INITIAL_PASSWORD", "CHANGEME"),
            ("INITIAL_PASSWORD", "123456"),
            ("JWT_SECRET", "omniroute-default-secret-change-me"),
            ("API_KEY_SECRET", "endpoint-proxy-api-key-secret"),
            ("JWT_SECRET", "too-short-a-secret"),
            ("OMNIROUTE_API_KEY", "short-key"),
        ],
    )
    def test_an_unsafe_value_on_a_public_bind(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv(name, value)

        result = run("server", "--host", "0.0.0.0")

        assert result.exit_code == Exit.MISUSE
        assert f"  {name} has " in result.stderr
        assert value not in result.stderr

    def test_nothing_is_created_by_a_refused_start(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INITIAL_PASSWORD", "CHANGEME")

        run("server", "--host", "0.0.0.0")

        assert list(home.iterdir()) == []

    def test_a_port_that_is_taken(self, run: Run, taken_port: int) -> None:
        result = run("server", "--port", str(taken_port))

        assert result.exit_code == Exit.FAILED
        assert f"Port {taken_port} on 127.0.0.1 is taken" in result.stderr

    def test_an_address_of_another_machine(self) -> None:
        with pytest.raises(Failure, match=r"192\.0\.2\.1 is no address of this machine") as caught:
            check_port_is_free("192.0.2.1", 0)
        assert caught.value.exit_code == Exit.MISUSE

    def test_a_data_directory_that_is_a_file(self, run: Run, home: Path) -> None:
        (home / "file").touch()

        result = run("server", "--data-dir", str(home / "file" / "data"))

        assert result.exit_code == Exit.FAILED
        assert "cannot be made" in result.stderr

    def test_a_free_port_passes(self, free_port: int) -> None:
        check_port_is_free("127.0.0.1", free_port)
        check_port_is_free("localhost", free_port)

        with socket.create_server(("127.0.0.1", free_port)) as listener:
            assert listener.getsockname()[1] == free_port


class TestChild:
    def test_options_become_variables(self) -> None:
        chosen = chosen_options(port=1, host="::1", workers=3, data_dir="data")

        assert chosen == {
            "OMNIROUTE_PORT": "1",
            "OMNIROUTE_HOST": "::1",
            "WEB_CONCURRENCY": "3",
            "DATA_DIR": str(Path.cwd() / "data"),
        }
        assert chosen_options(port=None, host=None, workers=None, data_dir=None) == {}

    def test_the_child_reads_the_same_settings_without_warnings(self, tmp_path: Path) -> None:
        environ = {"HOME": "/h", "PORT": "1", "HOST": "127.0.0.9", "OMNIROUTE_DATA_DIR": "/elsewhere", "X": "y"}
        options = chosen_options(port=2, host="127.0.0.3", workers=None, data_dir=str(tmp_path))

        before = Settings.load(environ, None, options=options)
        child = child_environment(environ, options)
        after = Settings.load(child, None)

        assert before == after
        assert [n for n in after.notices if n.level == "warning"] == []
        assert child["X"] == "y"
        assert (after.port, after.host, after.data_dir) == (2, "127.0.0.3", tmp_path)

    def test_without_options_the_environment_stays(self) -> None:
        assert child_environment({"PORT": "1", "X": "y"}, {}) == {"PORT": "1", "X": "y"}

    def test_it_is_gunicorn_with_our_profile(self) -> None:
        assert child_command() == [sys.executable, *GUNICORN]

    def test_the_process_is_replaced(self, tmp_path: Path) -> None:
        """The same process id runs what it became, with the environment it was given."""
        program = (
            "import os, sys\nfrom omniroute.cli.server import become\n"
            "print(os.getpid(), flush=True)\n"
            "become([sys.executable, '-c', 'import os; print(os.getpid(), os.environ[\"A\"])'], {'A': 'b'})"
        )
        root = Path(__file__).resolve().parents[2]

        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, env=dict(os.environ)
        )

        first, second = done.stdout.splitlines()
        assert second == f"{first} b"
