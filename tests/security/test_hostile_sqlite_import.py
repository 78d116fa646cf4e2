"""A database file with traps in it, brought over HTTP: nothing of it runs, and nothing changes unless it is clean."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

TRAPS = {
    "trigger": (
        "CREATE TRIGGER trap AFTER INSERT ON settings BEGIN DELETE FROM api_keys; END",
        "CREATE TRIGGER trap2 BEFORE DELETE ON combos BEGIN SELECT RAISE(ABORT, 'caught'); END",
    ),
    "endless view": (
        "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    ),
    "virtual table": ("CREATE VIRTUAL TABLE notes USING fts5(text)",),
    "generated column": (
        "CREATE TABLE costly (a, b AS (hex(zeroblob(100000000))))",
        "INSERT INTO costly (a) VALUES (1)",
    ),
    "names with quotes": ('CREATE TABLE "x""; DROP TABLE combos; --" (a)',),
}
FAKES = {
    "view for a table": ("ALTER TABLE combos RENAME TO hidden", "CREATE VIEW combos AS SELECT * FROM hidden"),
    "virtual table for a table": ("DROP TABLE combos", "CREATE VIRTUAL TABLE combos USING fts5(name)"),
    "newer schema": ("INSERT INTO schema_version VALUES (9999, 'x', 'x', 1)",),
    "wrong types": ("UPDATE config_version SET version = 'many'", "UPDATE settings SET value_json = x'ff'"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with whole_app(Settings(data_dir=tmp_path_factory.mktemp("hostile") / "data", app_log_to_file=False)) as built:
        policy = {"schedule": "0 3 * * *"}
        assert built.admin.patch("/api/db-backups", json=policy).status_code == 200
        yield built


@pytest.fixture
def brought(app: App, tmp_path: Path) -> Path:
    path = tmp_path / "brought.sqlite"
    path.write_bytes(app.admin.get("/api/db-backups/export").get_data())
    return path


def edited(path: Path, statements: tuple[str, ...]) -> bytes:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path.read_bytes()


def upload(app: App, data: bytes) -> TestResponse:
    boundary, body = encode_multipart({"file": FileStorage(io.BytesIO(data), "brought.sqlite")})
    kind = f"multipart/form-data; boundary={boundary}"
    return app.admin.post("/api/db-backups/import", data=body, content_type=kind)


@pytest.mark.parametrize("trap", TRAPS)
def test_traps_do_nothing(app: App, brought: Path, trap: str) -> None:
    response = upload(app, edited(brought, TRAPS[trap]))
    assert response.status_code == 200, response.get_json()
    names = app.own.database.read(
        lambda sql: set(sql.exec_driver_sql("SELECT name FROM sqlite_master").scalars().all())
    )
    assert names.isdisjoint({"trap", "trap2", "endless", "notes", "costly"})
    assert "combos" in names
    assert app.admin.get("/api/db-backups").status_code == 200, "the keys are still there"


@pytest.mark.parametrize("fake", FAKES)
def test_what_only_looks_right_is_refused(app: App, brought: Path, fake: str) -> None:
    before = len(app.admin.get("/api/db-backups").get_json()["backups"])
    response = upload(app, edited(brought, FAKES[fake]))
    assert (response.status_code, error_of(response)["code"]) == (400, "import_invalid")
    assert len(app.admin.get("/api/db-backups").get_json()["backups"]) == before
