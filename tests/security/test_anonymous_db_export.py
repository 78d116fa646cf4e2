"""What reveals or replaces everything asks for a credential, also where login is switched off."""

from __future__ import annotations

from pathlib import Path

from omniroute.settings import Settings
from tests.blueprints.app import whole_app


def test_exports_imports_and_restores_have_no_anonymous_form(tmp_path: Path) -> None:
    with whole_app(Settings(data_dir=tmp_path / "data", app_log_to_file=False)) as app:
        answer = app.admin.post(
            "/api/settings/require-login", json={"requireLogin": False, "currentPassword": "correct horse battery"}
        )
        assert answer.status_code == 200, answer.get_json()
        local = app.client()
        assert local.get("/api/db-backups").status_code == 200, "the rest is open to a local visitor now"
        for method, path in (
            ("GET", "/api/db-backups/export"),
            ("HEAD", "/api/db-backups/export"),
            ("GET", "/api/db-backups/exportAll"),
            ("POST", "/api/db-backups/import"),
            ("POST", "/api/db-backups"),
        ):
            assert local.open(path, method=method).status_code == 401, path
