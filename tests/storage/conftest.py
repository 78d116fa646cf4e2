"""Databases for the tests: each test of `url` runs on SQLite and on PostgreSQL, each time in an empty database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omniroute.records import AttemptRecord, RequestRecord
from omniroute.secret import Secret
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema
from omniroute.storage.secrets import Cipher
from tests.storage import postgres_server

NOW = 1_800_000_000.0
KINDS = ("sqlite", "postgres") if postgres_server.programs() else ("sqlite",)
"""PostgreSQL only where its programs are: `apt-get install postgresql`."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    bin_dir = postgres_server.programs()
    assert bin_dir is not None
    server = postgres_server.Server(bin_dir)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: postgres_server.Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the schema, to be copied: quicker than creating it for every test."""
    database = Database(postgres.create_database())
    create(database, tmp_path_factory.mktemp("template"))
    name = database.engine.url.database
    database.dispose()
    assert name is not None
    return name


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database: empty, or for tests that use `database` about to have the schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'storage.sqlite'}"
        return
    server: postgres_server.Server = request.getfixturevalue("postgres")
    has_schema = "database" in request.fixturenames
    address = server.create_database(request.getfixturevalue("postgres_template") if has_schema else "template0")
    yield address
    server.drop_database(address)


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Database]]:
    """Open the database once more, as another worker would."""
    databases: list[Database] = []

    def open_again() -> Database:
        databases.append(Database(url))
        return databases[-1]

    yield open_again
    for database in databases:
        database.dispose()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@pytest.fixture
def database(opened: Callable[[], Database], data_dir: Path) -> Database:
    """A database with the schema."""
    fresh = opened()
    create(fresh, data_dir)
    return fresh


@pytest.fixture
def cipher() -> Cipher:
    return Cipher(bytes(range(32)))


def create(database: Database, data_dir: Path) -> None:
    ensure_schema(database, backup=no_backup, log=logging.getLogger("test"), data_dir=data_dir)


def no_backup(reason: str) -> None:
    raise AssertionError(f"a backup was not expected ({reason})")


def record(request_id: str = "req_1", **changes: object) -> RequestRecord:
    """A settled request."""
    attempt = AttemptRecord("sandbox", "conn_1", "echo", 200, None, None, 0.5, 1.0, 2.0, 3.0)
    fields: dict[str, object] = {
        "time": NOW,
        "endpoint": "/v1/chat/completions",
        "client_format": "openai_chat",
        "requested_model": "sandbox/echo",
        "status": 200,
        "outcome": "success",
        "provider": "sandbox",
        "model": "echo",
        "connection_id": "conn_1",
        "api_key_id": "key_1",
        "tokens_in": 10,
        "tokens_out": 20,
        "duration_ms": 120.5,
        "ttft_ms": 40.25,
        "attempts": (attempt,),
    }
    return RequestRecord(request_id, **{**fields, **changes})  # type: ignore[arg-type]


SECRET = Secret("sk-canary-0123456789abcdef")
