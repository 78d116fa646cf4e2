"""`/api/db-backups` over HTTP."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from omniroute.secret import Secret
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

LIMIT_MB = 2


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    settings = Settings(data_dir=tmp_path / "data", app_log_to_file=False, db_import_max_mb=LIMIT_MB)
    with whole_app(settings) as built:
        yield built


def add_node(app: App, prefix: str = "box") -> None:
    made = {
        "name": prefix,
        "prefix": prefix,
        "type": "openai-compatible",
        "baseUrl": "http://127.0.0.1:9/v1",
        "isLocal": True,
    }
    node = app.admin.post("/api/provider-nodes", json=made)
    assert node.status_code == 201, node.get_json()
    body = {"provider": node.get_json()["node"]["id"], "apiKey": "sk-upstream-0123456789"}
    assert app.admin.post("/api/providers", json=body).status_code == 201


def prefixes(app: App) -> list[str]:
    return [node["prefix"] for node in app.admin.get("/api/provider-nodes").get_json()["nodes"]]


def upload(app: App, data: bytes, name: str = "brought.sqlite", **fields: Any) -> TestResponse:
    body, kind = encoded(data, name, **fields)
    return app.admin.post("/api/db-backups/import", data=body, content_type=kind)


def encoded(data: bytes, name: str = "x.sqlite", **fields: Any) -> tuple[bytes, str]:
    """In memory, where the client's own way would leave a file open."""
    boundary, body = encode_multipart({"file": FileStorage(io.BytesIO(data), name), **fields})
    return body, f"multipart/form-data; boundary={boundary}"


def exported(app: App) -> bytes:
    response = app.admin.get("/api/db-backups/export")
    assert response.status_code == 200
    return response.get_data()


def test_a_backup_is_made_listed_restored_and_removed(app: App) -> None:
    empty = app.admin.put("/api/db-backups").get_json()
    assert empty["created"] is True
    first = empty["backup"]
    assert (first["reason"], first["connectionCount"], first["verified"]) == ("manual", 0, True)
    assert first["createdAt"].endswith("Z")
    assert app.admin.put("/api/db-backups").get_json() == {"created": False, "reason": "unchanged"}
    add_node(app)
    second = app.admin.put("/api/db-backups").get_json()["backup"]
    assert second["connectionCount"] == 1
    listed = app.admin.get("/api/db-backups")
    assert listed.headers["X-Total-Count"] == "2"
    document = listed.get_json()
    assert document["backups"] == [second, first]
    assert (document["total"], document["limit"], document["offset"]) == (2, 50, 0)
    done = app.admin.post("/api/db-backups", json={"backupId": first["id"]}).get_json()
    assert done["restored"] is True
    assert done["safetyBackup"]["reason"] == "pre-restore"
    assert (done["connectionCount"], done["nodeCount"], done["migratedFrom"]) == (0, 0, None)
    assert prefixes(app) == []
    done = app.admin.post("/api/db-backups", json={"backupId": second["id"]}).get_json()
    assert (done["connectionCount"], done["credentialsReadable"], done["credentialsUnreadable"]) == (1, 1, 0)
    assert prefixes(app) == ["box"]
    removed = app.admin.delete(f"/api/db-backups/{first['id']}")
    assert removed.get_json() == {"success": True, "id": first["id"]}
    assert app.admin.delete(f"/api/db-backups/{first['id']}").status_code == 404
    actions = [entry.action for entry in app.own.audit.entries(limit=100, action="backup.")[0]]
    assert actions.count("backup.restored") == 2
    assert actions.count("backup.deleted") == 1
    assert actions.count("backup.created") == 4
    assert {entry.actor for entry in app.own.audit.entries(limit=100, action="backup.restored")[0]} != {"system"}


def test_a_list_is_ordered_searched_and_cut(app: App) -> None:
    for prefix in ("a", "b", "c"):
        add_node(app, prefix)
        app.admin.put("/api/db-backups")
    ids = [row["id"] for row in app.admin.get("/api/db-backups").get_json()["backups"]]
    assert ids == sorted(ids, reverse=True)
    page = app.admin.get("/api/db-backups?sort=createdAt&limit=1&offset=1").get_json()
    assert [row["id"] for row in page["backups"]] == [ids[1]]
    assert app.admin.get("/api/db-backups?q=pre-import").get_json()["backups"] == []
    assert error_of(app.admin.get("/api/db-backups?sort=colour"))["code"] == "validation_failed"


def test_a_copy_from_elsewhere_is_verified_when_it_is_seen(app: App, tmp_path: Path) -> None:
    add_node(app)
    directory = app.own.backups.directory
    directory.mkdir(exist_ok=True)
    good = directory / "db_20200101T000000000000Z_manual.sqlite"
    good.write_bytes(exported(app))
    bad = directory / "db_20200102T000000000000Z_manual.sqlite"
    bad.write_bytes(good.read_bytes()[:-5000])
    rows = {row["id"]: row for row in app.admin.get("/api/db-backups").get_json()["backups"]}
    assert (rows[good.name]["verified"], rows[good.name]["connectionCount"]) == (True, 1)
    assert (rows[bad.name]["verified"], rows[bad.name]["connectionCount"]) == (False, None)
    good.write_bytes(b"x" * 9000)
    rows = {row["id"]: row for row in app.admin.get("/api/db-backups").get_json()["backups"]}
    assert rows[good.name]["verified"] is False
    error = error_of(app.admin.post("/api/db-backups", json={"backupId": bad.name}))
    assert error["code"] == "backup_invalid"
    assert error["details"]["check"] in ("open", "quick_check")


def test_the_rules_are_shown_changed_and_applied(app: App) -> None:
    assert app.admin.get("/api/db-backups").get_json()["policy"] | {"nextRunAt": None} == {
        "schedule": "0 3 * * *",
        "nextRunAt": None,
        "automatic": True,
        "keepLatest": 20,
        "retentionDays": 0,
    }
    changed = app.admin.patch("/api/db-backups", json={"schedule": "30 4 * * Sun", "keepLatest": 2, "retentionDays": 7})
    policy = changed.get_json()["policy"]
    assert (policy["schedule"], policy["keepLatest"], policy["retentionDays"]) == ("30 4 * * sun", 2, 7)
    assert policy["nextRunAt"].endswith("T04:30:00.000Z")
    for prefix in ("a", "b", "c"):
        add_node(app, prefix)
        app.admin.put("/api/db-backups")
    assert app.admin.get("/api/db-backups").get_json()["total"] == 2
    assert app.admin.delete("/api/db-backups", json={"keepLatest": 1}).get_json() == {"deleted": 1}
    assert app.admin.delete("/api/db-backups").get_json() == {"deleted": 0}
    off = app.admin.patch("/api/db-backups", json={"schedule": "off"}).get_json()["policy"]
    assert (off["schedule"], off["nextRunAt"]) == ("off", None)
    (entry, *_) = app.own.audit.entries(limit=1, action="settings.changed")[0]
    assert entry.details == {"advanced.backupCron": {"old": "30 4 * * sun", "new": "off"}}
    for wrong in (
        {"schedule": "at noon"},
        {"schedule": "61 * * * *"},
        {"keepLatest": 0},
        {"keepLatest": 201},
        {"retentionDays": 3651},
        {"colour": 1},
    ):
        assert app.admin.patch("/api/db-backups", json=wrong).status_code == 400


def test_a_rule_that_the_environment_sets_stays(tmp_path: Path) -> None:
    settings = Settings.load(
        {"HOME": str(tmp_path), "DATA_DIR": str(tmp_path / "data"), "DB_BACKUP_CRON": "0 5 * * *"}, None
    )
    with whole_app(settings, app_log_to_file=False) as app:
        error = error_of(app.admin.patch("/api/db-backups", json={"schedule": "off"}))
        assert (error["code"], "DB_BACKUP_CRON" in error["message"]) == ("fixed_by_environment", True)
        assert app.admin.get("/api/db-backups").get_json()["policy"]["schedule"] == "0 5 * * *"


def test_exports_are_attachments(app: App) -> None:
    add_node(app)
    response = app.admin.get("/api/db-backups/export")
    assert response.mimetype == "application/vnd.sqlite3"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="omniroute-backup-')
    data = response.get_data()
    assert int(response.headers["Content-Length"]) == len(data)
    assert response.headers["Cache-Control"] == "no-store"
    everything = app.admin.get("/api/db-backups/exportAll")
    assert everything.mimetype == "application/gzip"
    assert everything.headers["Content-Disposition"].endswith('.tar.gz"')
    with tarfile.open(fileobj=io.BytesIO(everything.get_data())) as archive:
        assert archive.getnames()[0] == "metadata.json"
    head = app.admin.head("/api/db-backups/export")
    assert head.status_code == 200
    assert head.get_data() == b""
    head.close()
    assert [file.name for file in app.own.backups.directory.iterdir()] == []


def test_an_import_replaces_the_data_and_says_what_came(app: App) -> None:
    add_node(app)
    data = exported(app)
    add_node(app, "later")
    document = upload(app, data, "../../my backup.sqlite").get_json()
    assert document["imported"] is True
    assert document["filename"] == "my backup.sqlite"
    assert document["safetyBackup"]["reason"] == "pre-import"
    assert (document["connectionCount"], document["nodeCount"], document["comboCount"]) == (1, 1, 0)
    assert (document["credentialsReadable"], document["tables"]) == (1, {})
    assert prefixes(app) == ["box"]
    assert list(app.own.backups.directory.glob(".work-*")) == []


def test_an_import_takes_the_key_of_the_source(app: App, tmp_path: Path) -> None:
    key = "another-key-of-another-server-0123456789"
    with whole_app(Settings(data_dir=tmp_path / "other", app_log_to_file=False, encryption_key=Secret(key))) as other:
        add_node(other)
        data = exported(other)
    client = app.client()  # API keys come with the file; a session stays
    assert client.post("/api/auth/login", json={"password": "correct horse battery"}).status_code == 200
    headers = {"Origin": "http://localhost:20128"}

    def bring(**fields: str) -> TestResponse:
        body, kind = encoded(data, **fields)
        return client.post("/api/db-backups/import", data=body, content_type=kind, headers=headers)

    assert bring().get_json()["credentialsUnreadable"] == 1
    assert bring(encryptionKey=key).get_json()["credentialsReadable"] == 1
    error = error_of(bring(encryptionKey="short"))
    assert (error["code"], error["details"][0]["field"]) == ("validation_failed", "encryptionKey")
    assert app.admin.get("/api/db-backups").status_code == 401


@pytest.mark.parametrize(
    ("data", "name", "check"),
    [
        (b"hello" * 2000, "x.sqlite", "header"),
        (b"SQLite format 3\x00" + bytes(100), "x.sqlite", "size"),
        (b"SQLite format 3\x00" + bytes(9000), "x.sqlite", "header"),
        (b"SQLite format 3\x00" + bytes(9000), "x.zip", "extension"),
        (b"", "x.sqlite", "header"),
    ],
)
def test_a_refused_import_names_its_check(app: App, data: bytes, name: str, check: str) -> None:
    add_node(app)
    response = upload(app, data, name)
    error = error_of(response)
    assert (response.status_code, error["code"], error["details"]) == (400, "import_invalid", {"check": check})
    assert prefixes(app) == ["box"]


def test_a_configuration_that_cannot_be_built_is_refused(app: App, tmp_path: Path) -> None:
    add_node(app)
    path = tmp_path / "odd.sqlite"
    path.write_bytes(exported(app))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE provider_connections SET auth_type = 'telepathy'")
    error = error_of(upload(app, path.read_bytes()))
    assert error["details"] == {"check": "content"}
    assert app.admin.get("/api/provider-nodes").status_code == 200


def test_a_file_above_the_limit_is_refused_while_it_is_read(app: App) -> None:
    large = b"SQLite format 3\x00" + bytes((LIMIT_MB << 20) + 1)
    for response in (upload(app, large), upload(app, large + bytes(1 << 20))):
        assert response.status_code == 413
        assert error_of(response)["code"] == "too_large"
    assert not app.own.backups.directory.exists() or list(app.own.backups.directory.iterdir()) == []


def multipart(*parts: bytes, boundary: str = "b") -> tuple[bytes, str]:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return body, f"multipart/form-data; boundary={boundary}"


FIELD = b'Content-Disposition: form-data; name="n%d"\r\n\r\n1'
FILE = b'Content-Disposition: form-data; name="file"; filename="x.sqlite"\r\n\r\nSQLite format 3'


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{}", "application/json", 415, "unsupported_media_type"),
        (b"file=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (*multipart(), 400, "validation_failed"),
        (*multipart(FILE, FILE), 400, "invalid_multipart"),
        (*multipart(FILE, b'Content-Disposition: form-data; name="colour"\r\n\r\nred'), 400, "validation_failed"),
        (*multipart(FILE.replace(b'"file"', b'"other"')), 400, "validation_failed"),
        (
            *multipart(FILE, b'Content-Disposition: form-data; name="encryptionKey"\r\n\r\n' + b"k" * 5000),
            400,
            "validation_failed",
        ),
        (
            *multipart(*[b'Content-Disposition: form-data; name="n%d"\r\n\r\n1' % n for n in range(20)]),
            413,
            "too_large",
        ),
        (*multipart(FILE, boundary="c"), 400, "invalid_multipart"),
        (b"--b\r\n" + FILE, "multipart/form-data; boundary=b", 400, "invalid_multipart"),
        (b"x", "multipart/form-data", 400, "invalid_multipart"),
        (b"--b\r\nX: " + b"y" * 300_000, "multipart/form-data; boundary=b", 413, "too_large"),
    ],
)
def test_malformed_uploads_are_refused(app: App, body: bytes, kind: str, status: int, code: str) -> None:
    response = app.admin.post("/api/db-backups/import", data=body, content_type=kind)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_the_session_of_the_dashboard_may_bring_a_file(app: App) -> None:
    """A page of another address of this server proves itself by its token, for which the form is looked at."""
    add_node(app)
    data = exported(app)
    client = app.client()
    login = client.post("/api/auth/login", json={"password": "correct horse battery"})
    assert login.status_code == 200
    token = client.get("/api/auth/csrf").get_json()["token"]
    elsewhere = {"Origin": "https://elsewhere.example"}

    def bring(file: bytes, headers: dict[str, str]) -> int:
        body, kind = encoded(file)
        return client.post("/api/db-backups/import", data=body, content_type=kind, headers=headers).status_code

    assert bring(data, {**elsewhere, "X-OmniRoute-CSRF": token}) == 200
    assert bring(bytes((LIMIT_MB << 20) + 10), {**elsewhere, "X-OmniRoute-CSRF": token}) == 413
    assert bring(data, elsewhere) == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/db-backups"),
        ("PUT", "/api/db-backups"),
        ("POST", "/api/db-backups"),
        ("PATCH", "/api/db-backups"),
        ("DELETE", "/api/db-backups"),
        ("DELETE", "/api/db-backups/x"),
        ("GET", "/api/db-backups/export"),
        ("GET", "/api/db-backups/exportAll"),
        ("POST", "/api/db-backups/import"),
    ],
)
def test_only_admins_get_near(app: App, method: str, path: str) -> None:
    reader = app.key(scopes=("chat",))
    assert app.client(reader).open(path, method=method).status_code == 403
    assert app.client(address="192.0.2.7").open(path, method=method).status_code == 401
    assert app.client().open(path, method=method).status_code == 401


def test_only_one_replaces_at_a_time(app: App) -> None:
    with app.own.imports.receiving():
        made = app.own.backups.create()
        assert made is not None
        for response in (
            upload(app, b"x"),
            app.admin.post("/api/db-backups", json={"backupId": made.id}),
        ):
            assert (response.status_code, error_of(response)["code"]) == (409, "busy")


def test_answers_say_nothing_about_the_inside(app: App, tmp_path: Path) -> None:
    add_node(app)
    key = (tmp_path / "data" / "secrets" / "encryption_key").read_text().strip()
    texts = [
        app.admin.put("/api/db-backups").get_data(as_text=True),
        app.admin.get("/api/db-backups").get_data(as_text=True),
        upload(app, b"SQLite format 3\x00" + os.urandom(9000)).get_data(as_text=True),
        upload(app, exported(app)).get_data(as_text=True),
        json.dumps([dict(entry.details) for entry in app.own.audit.entries(limit=50)[0]]),
    ]
    for text in texts:
        assert str(tmp_path) not in text
        assert key not in text
        assert "sk-upstream" not in text
