"""Planted secrets are found in clear nowhere: not in the database, its log and copies, nor in exports and answers."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

from omniroute.settings import Settings
from tests.blueprints.app import whole_app

PROVIDER_KEY = "sk-planted-provider-0123456789abcdef"
HEADER = "planted-header-0123456789abcdef"
PASSWORD = "correct horse battery"


def test_no_artefact_holds_a_planted_secret(tmp_path: Path) -> None:
    home = tmp_path / "data"
    with whole_app(Settings(data_dir=home)) as app:
        node = {"name": "n", "prefix": "n", "type": "openai-compatible", "baseUrl": "http://127.0.0.1:9/v1"}
        made = app.admin.post(
            "/api/provider-nodes", json={**node, "isLocal": True, "customHeaders": {"X-Key": HEADER}}
        ).get_json()["node"]
        connection = app.admin.post("/api/providers", json={"provider": made["id"], "apiKey": PROVIDER_KEY})
        assert connection.status_code == 201
        caller = app.key()
        session = app.client()
        login = session.post("/api/auth/login", json={"password": PASSWORD})
        cookie = login.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
        backup = app.admin.put("/api/db-backups").get_json()["backup"]
        # What is removed or changed must not survive on a page that is not in use any more.
        app.admin.put(
            f"/api/providers/{connection.get_json()['connection']['id']}", json={"apiKey": PROVIDER_KEY[::-1]}
        )
        answers = {
            "restore": app.admin.post("/api/db-backups", json={"backupId": backup["id"]}).get_data(),
            "list": app.admin.get("/api/db-backups").get_data(),
            "providers": app.admin.get("/api/providers").get_data(),
            "audit": app.admin.get("/api/audit?limit=200").get_data(),
            "export": app.admin.get("/api/db-backups/export").get_data(),
            "everything": app.admin.get("/api/db-backups/exportAll").get_data(),
        }
        keys = {file.name: file.read_text().strip() for file in (home / "secrets").iterdir() if file.name != ".lock"}
        artefacts = {str(file): file.read_bytes() for file in home.rglob("*") if file.is_file()}
        artefacts = {name: data for name, data in artefacts.items() if "/secrets/" not in name}
        sealed = app.own.secrets.cipher().key_id.encode()
        admin = app.admin_key
    assert any(name.endswith("-wal") for name in artefacts)
    assert any("backups/db_" in name for name in artefacts)
    assert any(name.endswith(".log") for name in artefacts)
    with tarfile.open(fileobj=io.BytesIO(answers["everything"])) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            answers[member.name] = file.read()
    answers["unzipped"] = gzip.decompress(answers["everything"])
    planted = [PROVIDER_KEY, PROVIDER_KEY[::-1], HEADER, caller, admin, PASSWORD, cookie, *keys.values()]
    for name, data in {**artefacts, **answers}.items():
        for secret in planted:
            assert secret.encode() not in data, f"{secret[:12]}… is in {name}"
    blanked = ("everything", "unzipped", *(name for name in answers if name.endswith((".json", ".csv", ".sqlite"))))
    for name in blanked:
        assert b"v1:" + sealed not in answers[name], f"ciphertext is in {name}"
    assert b"v1:" + sealed in answers["export"], "as it is stored"
