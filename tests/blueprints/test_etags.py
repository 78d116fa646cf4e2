"""Whole JSON answers of management say what they are; who has them already is told so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from omniroute.settings import Settings
from tests.blueprints.app import App, whole_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    data_dir = tmp_path_factory.mktemp("etags") / "data"
    with whole_app(Settings(data_dir=data_dir, app_log_to_file=False)) as built:
        yield built


def test_a_list_that_is_the_same_is_not_sent_again(app: App) -> None:
    first = app.admin.get("/api/keys")
    etag = first.headers["ETag"]
    assert etag.startswith('W/"')
    again = app.admin.get("/api/keys", headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag
    assert "Content-Type" not in again.headers
    assert again.headers["X-OmniRoute-Version"]
    app.key(name="another")
    changed = app.admin.get("/api/keys", headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


@pytest.mark.parametrize("sent", ["*", 'W/"nothing", {}', "{}"])
def test_any_of_several_marks_counts(app: App, sent: str) -> None:
    etag = app.admin.get("/api/combos").headers["ETag"]
    answer = app.admin.get("/api/combos", headers={"If-None-Match": sent.format(etag)})
    assert answer.status_code == 304


def test_head_has_the_mark_of_get(app: App) -> None:
    etag = app.admin.get("/api/combos").headers["ETag"]
    head = app.admin.head("/api/combos")
    assert (head.status_code, head.headers["ETag"], head.data) == (200, etag, b"")
    assert app.admin.head("/api/combos", headers={"If-None-Match": etag}).status_code == 304


def test_another_mark_is_answered_whole(app: App) -> None:
    answer = app.admin.get("/api/combos", headers={"If-None-Match": 'W/"other"'})
    assert answer.status_code == 200
    assert answer.get_json()["combos"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/keys/nobody"),
        ("GET", "/api/usage/export"),
        ("GET", "/healthz"),
        ("GET", "/api/auth/status"),
        ("POST", "/api/routing/simulate"),
    ],
)
def test_what_is_no_such_answer_has_no_mark(app: App, method: str, path: str) -> None:
    answer = app.admin.open(path, method=method, json={"model": "m"} if method == "POST" else None)
    assert "ETag" not in answer.headers


def test_a_caller_without_a_credential_learns_nothing(app: App) -> None:
    etag = app.admin.get("/api/keys").headers["ETag"]
    assert app.client().get("/api/keys", headers={"If-None-Match": etag}).status_code == 401


def test_large_answers_are_not_digested(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omniroute.blueprints.etags._LARGEST", 10)
    assert "ETag" not in app.admin.get("/api/keys").headers
