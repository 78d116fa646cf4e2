"""A PostgreSQL server of the test run's own: Debian's programs, a throw-away cluster, a Unix socket."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psycopg

_COUNTER: Final = itertools.count(1)
_START_DEADLINE_S: Final = 30.0


def programs() -> Path | None:
    """Return the directory with `initdb` and `postgres`, the newest version first; None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]), reverse=True)
    if found:
        return found[0].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class Server:
    """A running server; `create_database` gives empty databases."""

    def __init__(self, bin_dir: Path) -> None:
        self._bin = bin_dir
        # Short, because a socket's path is at most 107 bytes; not below pytest's directory, which only root may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="omni-pg-", dir="/tmp"))
        self._account = _account()
        if self._account is not None:
            os.chown(self.directory, self._account.pw_uid, self._account.pw_gid)
        self._data = self.directory / "data"
        self._run("initdb", "-D", str(self._data), "-U", "omniroute", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self._process = self._started()

    def create_database(self, template: str = "template0") -> str:
        """Create a database and return its URL."""
        name = f"test_{next(_COUNTER)}"
        with self._connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        name = url.partition("/" * 3)[2].partition("?")[0]
        with self._connect("postgres") as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql:///{name}?host={self.directory}&user=omniroute"

    def stop(self) -> None:
        """Stop the server and remove its files."""
        self._process.terminate()  # SIGTERM to the runuser or postgres process: smart shutdown
        try:
            with self._connect("postgres") as connection:
                connection.execute(
                    b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                )
        except psycopg.Error:
            pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _connect(self, name: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(f"host={self.directory} dbname={name} user=omniroute", autocommit=True)

    def _started(self) -> subprocess.Popen[bytes]:
        options = {"listen_addresses": "", "fsync": "off", "unix_socket_directories": str(self.directory)}
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        log = (self.directory / "log").open("wb")
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [str(self._bin / "postgres"), "-D", str(self._data), *arguments],
            stdout=log,
            stderr=log,
            **self._identity(),  # type: ignore[call-overload]
        )
        log.close()
        deadline = time.monotonic() + _START_DEADLINE_S
        while True:
            try:
                self._connect("postgres").close()
                return process
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, **self._identity())  # type: ignore[call-overload]

    def _identity(self) -> dict[str, object]:
        """PostgreSQL refuses to run as root."""
        if self._account is None:
            return {"cwd": "/"}
        return {"cwd": "/", "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
