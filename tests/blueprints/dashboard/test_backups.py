"""Backups: made, restored by name, deleted, imported; the rules; and what is said when something is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from tests.blueprints.dashboard.conftest import ORIGIN, Pages, field_of, text_of

PATH = "/dashboard/backups"


@pytest.fixture
def backup(pages: Pages) -> str:
    """The id of a backup in which the server is called before."""
    pages.api("PATCH", "/api/settings", {"instanceName": "before"})
    made = pages.api("PUT", "/api/db-backups")["backup"]["id"]
    pages.api("PATCH", "/api/settings", {"instanceName": "after"})
    return str(made)


def name_of(pages: Pages) -> str:
    return str(pages.api("GET", "/api/settings")["settings"]["general"]["instanceName"])


def test_backups_are_listed_with_what_is_known_of_them(pages: Pages, backup: str) -> None:
    page = pages.get(PATH)
    assert backup in page
    assert "By hand" in page
    assert "verified" in page
    assert "/api/db-backups/export" in page
    assert "/api/db-backups/exportAll" in page
    assert backup in pages.get(f"{PATH}?sort=sizeBytes")


def test_no_backup_yet(pages: Pages) -> None:
    for one in pages.api("GET", "/api/db-backups")["backups"]:
        pages.api("DELETE", f"/api/db-backups/{one['id']}")
    assert "No backup yet" in pages.get(PATH)


def test_a_backup_is_made_unless_the_newest_is_the_same(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"instanceName": "studio"})
    assert "A verified backup was made." in pages.after(pages.post(f"{PATH}/make"))
    assert "no other was made" in pages.after(pages.post(f"{PATH}/make"))


def test_a_restore_asks_for_the_name_and_says_what_it_did(pages: Pages, backup: str) -> None:
    page = pages.get(f"{PATH}/restore?id={backup}")
    assert "The present data is backed up" in page
    wrong = {"id": backup, "name": "yes", "encryptionKey": "secret-key", "replaceAccess": "true"}
    page = text_of(pages.post(f"{PATH}/restore", wrong, expect=400))
    assert "is not the name of this backup" in page
    assert field_of(page, "name") == "yes"
    assert "secret-key" not in page
    assert name_of(pages) == "after"
    page = pages.after(pages.post(f"{PATH}/restore", {"id": backup, "name": backup}))
    assert "The backup is in force." in page
    assert "What was there before is in the backup" in page
    assert name_of(pages) == "before"


def test_a_restore_that_is_refused_changes_nothing(pages: Pages, backup: str) -> None:
    (pages.app.own.settings.data_dir / "backups" / backup).write_bytes(b"SQLite format 3\0" + bytes(5000))
    page = text_of(pages.post(f"{PATH}/restore", {"id": backup, "name": backup, "encryptionKey": "k"}, expect=400))
    assert "backup_invalid" in page
    assert name_of(pages) == "after"


def test_a_restore_of_nothing(pages: Pages) -> None:
    assert pages.client.get(f"{PATH}/restore?id=db_none").status_code == 404


def test_a_backup_is_deleted(pages: Pages, backup: str) -> None:
    assert "The backup is deleted." in pages.after(pages.post(f"{PATH}/delete", {"id": backup}))
    assert backup not in pages.get(PATH)
    assert "(code not_found)" in pages.after(pages.post(f"{PATH}/delete", {"id": backup}))


def test_the_rules_are_saved_shown_with_their_source_and_reset(pages: Pages) -> None:
    form = {"schedule": "0 4 * * *", "keepLatest": "7", "retentionDays": "30"}
    page = pages.after(pages.post(f"{PATH}/rules", form))
    assert "The rules are saved." in page
    assert field_of(page, "keepLatest") == "7"
    assert "Default: 20" in page
    pages.post("/dashboard/settings/reset", {"path": "advanced.backupKeepLatest"})
    assert field_of(pages.get(PATH), "keepLatest") == "20"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"keepLatest": "many"}, "keepLatest"),
        ({"schedule": "at night"}, "schedule"),
        ({"retentionDays": "-1"}, "retentionDays"),
    ],
)
def test_wrong_rules_keep_what_was_typed(pages: Pages, wrong: dict[str, str], field: str) -> None:
    form = {"schedule": "off", "keepLatest": "7", "retentionDays": "30", **wrong}
    page = text_of(pages.post(f"{PATH}/rules", form, expect=400))
    assert field_of(page, field) == wrong[field]
    assert f'id="f-{field}-fault"' in page
    assert pages.api("GET", "/api/db-backups")["policy"]["keepLatest"] == 20


def test_clean_up_keeps_the_newest(pages: Pages, backup: str) -> None:
    pages.api("PUT", "/api/db-backups")
    pages.api("PATCH", "/api/db-backups", {"keepLatest": 1})
    page = pages.after(pages.post(f"{PATH}/clean-up"))
    assert "deleted." in page
    assert len(pages.api("GET", "/api/db-backups")["backups"]) == 1


def send(pages: Pages, content: bytes | None, name: str = "other.sqlite", **fields: str) -> Any:
    data: dict[str, Any] = dict(fields)
    if content is not None:
        data["file"] = FileStorage(io.BytesIO(content), name)
    boundary, body = encode_multipart(data)
    kind = f"multipart/form-data; boundary={boundary}"
    return pages.client.post(f"{PATH}/import", data=body, headers=ORIGIN, content_type=kind)


def test_the_data_of_a_file_is_taken_in(pages: Pages) -> None:
    pages.api("PATCH", "/api/settings", {"instanceName": "before"})
    exported = pages.client.get("/api/db-backups/export").data
    pages.api("PATCH", "/api/settings", {"instanceName": "after"})
    answer = send(pages, exported, "späte Kopie.sqlite")
    page = text_of(answer)
    assert answer.status_code == 200, page
    assert "The data of späte Kopie.sqlite is in force" in page
    assert "What was there before" in page
    assert name_of(pages) == "before"


@pytest.mark.parametrize(
    ("content", "name", "failed"),
    [
        (b"not a database, but long enough to be looked at" * 30, "a.sqlite", "It is a database of SQLite"),
        (b"x", "a.txt", "The name ends in .sqlite"),
    ],
)
def test_a_file_that_fails_a_check_is_refused_and_the_check_is_named(
    pages: Pages, content: bytes, name: str, failed: str
) -> None:
    pages.api("PATCH", "/api/settings", {"instanceName": "here"})
    answer = send(pages, content, name, encryptionKey="the-key")
    assert answer.status_code == 400
    page = text_of(answer)
    assert failed in page
    assert "import_invalid" in page
    assert "the-key" not in page
    assert name_of(pages) == "here"


def test_an_import_without_a_file(pages: Pages) -> None:
    answer = send(pages, None)
    assert answer.status_code == 400
    assert "No file was chosen." in text_of(answer)


def test_what_fails_is_told(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    from omniroute.blueprints.dashboard import api

    def refuse(*_given: Any, **_query: Any) -> Any:
        raise api.Refused(503, {"message": "The disk is full.", "code": "storage_error"})

    monkeypatch.setattr(api, "put", refuse)
    monkeypatch.setattr(api, "delete", refuse)
    for where in ("make", "clean-up"):
        assert "The disk is full (code storage_error)" in pages.after(pages.post(f"{PATH}/{where}"))
