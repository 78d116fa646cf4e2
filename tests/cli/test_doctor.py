"""`omniroute doctor`: each check with something to find and with nothing to find."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from omniroute import __version__
from omniroute.cli import Exit, checks
from omniroute.cli.checks import Finding, Status, Subject
from omniroute.secret import Secret
from omniroute.settings import Settings
from omniroute.storage.database import Database
from omniroute.storage.schema import ensure_schema, newest_version
from tests.cli.conftest import Run

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _quiet_place(home: Path) -> None:
    """No second data directory in the home or working directory."""


@pytest.fixture
def subject(settings: Settings, home: Path) -> Subject:
    return Subject(settings, lambda: NOW, home)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.storage_url)
    ensure_schema(database, backup=str, log=logging.getLogger("test"), data_dir=settings.data_dir)
    yield database
    database.dispose()


def with_settings(subject: Subject, **changes: object) -> Subject:
    return replace(subject, settings=replace(subject.settings, **changes))  # type: ignore[arg-type]


def statuses(findings: list[Finding] | Iterator[Finding]) -> list[tuple[str, str]]:
    return [(finding.name, finding.status.value) for finding in findings]


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = list(findings)
    return found


def make_secrets(settings: Settings) -> None:
    settings.secrets_dir.mkdir(mode=0o700)
    for name in ("jwt_secret", "api_key_secret", "encryption_key"):
        path = settings.secrets_dir / name
        path.touch(mode=0o600)


class TestPython:
    def test_this_one_will_do(self, subject: Subject) -> None:
        assert only(checks.check_python(subject)).status is Status.OK

    def test_a_missing_module_is_named(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "_MODULES", ("flask", "not_installed_at_all"))

        found = only(checks.check_python(subject))

        assert found.status is Status.FAIL
        assert found.data["missing"] == ["not_installed_at_all"]


class TestDataDirectory:
    def test_in_order(self, subject: Subject) -> None:
        assert statuses(checks.check_data_directory(subject)) == [("data directory", "ok"), ("disk", "ok")]

    def test_not_there_yet(self, subject: Subject, tmp_path: Path) -> None:
        found = list(checks.check_data_directory(with_settings(subject, data_dir=tmp_path / "new")))

        assert found[0].status is Status.WARN
        assert not (tmp_path / "new").exists()

    def test_open_to_others(self, subject: Subject) -> None:
        subject.settings.data_dir.chmod(0o755)

        found = next(checks.check_data_directory(subject))

        assert found.status is Status.FAIL
        assert found.hint == f"chmod 700 {subject.settings.data_dir}"

    def test_a_file(self, subject: Subject, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        assert only(checks.check_data_directory(with_settings(subject, data_dir=tmp_path / "file"))).status == "fail"

    def test_the_data_is_elsewhere(self, subject: Subject) -> None:
        other = subject.home / ".omniroute"
        other.mkdir()
        (other / "storage.sqlite").touch()

        assert statuses(checks.check_data_directory(subject))[1] == ("data directory", "fail")

        (subject.settings.data_dir / "storage.sqlite").touch()
        assert statuses(checks.check_data_directory(subject))[1] == ("data directory", "warn")

    def test_a_full_disk(self, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "_LOW_DISK", 1.0)

        assert statuses(checks.check_data_directory(subject))[-1] == ("disk", "fail")


class TestSecrets:
    def test_none_yet(self, subject: Subject) -> None:
        assert only(checks.check_secrets(subject)).status is Status.WARN

    def test_in_order(self, subject: Subject) -> None:
        make_secrets(subject.settings)

        assert only(checks.check_secrets(subject)) == Finding("secrets", Status.OK, "Present and private.")

    def test_readable_by_others(self, subject: Subject) -> None:
        make_secrets(subject.settings)
        (subject.settings.secrets_dir / "jwt_secret").chmod(0o640)

        found = only(checks.check_secrets(subject))

        assert (found.status, found.message) == (Status.FAIL, "Open to other users: jwt_secret.")

    def test_one_is_gone(self, subject: Subject) -> None:
        make_secrets(subject.settings)
        (subject.settings.secrets_dir / "encryption_key").unlink()

        assert only(checks.check_secrets(subject)).data["missing"] == ["encryption_key"]

    def test_one_that_the_environment_gives_need_not_be_there(self, subject: Subject) -> None:
        make_secrets(subject.settings)
        (subject.settings.secrets_dir / "encryption_key").unlink()

        found = only(checks.check_secrets(with_settings(subject, encryption_key=Secret("k" * 40))))

        assert found.status is Status.OK

    def test_a_published_value_is_a_failure_even_on_loopback(self, subject: Subject) -> None:
        make_secrets(subject.settings)

        found = only(checks.check_secrets(with_settings(subject, initial_password=Secret("CHANGEME"))))

        assert found.status is Status.FAIL
        assert found.message.startswith("INITIAL_PASSWORD")
        assert "CHANGEME" not in f"{found.message}{found.hint}"


class TestDatabase:
    def test_none_yet(self, subject: Subject) -> None:
        assert only(checks.check_database(subject)).status is Status.WARN
        assert not (subject.settings.data_dir / "storage.sqlite").exists()

    def test_in_order(self, subject: Subject, database: Database) -> None:
        found = only(checks.check_database(subject))

        assert found.status is Status.OK
        assert found.data == {"kind": "SQLite", "version": newest_version(), "newest": newest_version()}

    @pytest.mark.parametrize(("step", "words"), [(1, "is newer than this program's"), (-1, "this version needs")])
    def test_another_version(self, subject: Subject, database: Database, step: int, words: str) -> None:
        with database.connected(is_write=True) as connection:
            older = "DELETE FROM schema_version WHERE version < (SELECT max(version) FROM schema_version)"
            connection.exec_driver_sql(older)
            connection.exec_driver_sql(f"UPDATE schema_version SET version = version + {step}")
            connection.commit()

        found = only(checks.check_database(subject))

        assert found.status is Status.FAIL
        assert words in found.message

    def test_not_a_database(self, subject: Subject) -> None:
        (subject.settings.data_dir / "storage.sqlite").write_bytes(b"something else entirely")

        found = [f for f in checks.run_all(subject) if f.name == "database"]

        assert [f.status for f in found] == [Status.FAIL]
        assert (subject.settings.data_dir / "storage.sqlite").read_bytes() == b"something else entirely"

    def test_damage(self, subject: Subject, database: Database) -> None:
        database.dispose()
        path = subject.settings.data_dir / "storage.sqlite"
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
        path.write_bytes(content)

        assert Status.FAIL in {f.status for f in checks.run_all(subject) if f.name == "database"}

    def test_readable_by_others(self, subject: Subject, database: Database) -> None:
        (subject.settings.data_dir / "storage.sqlite").chmod(0o644)

        assert statuses(checks.check_database(subject)) == [("database", "ok"), ("database", "fail")]

    def test_a_log_that_has_run_away(
        self, subject: Subject, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checks, "_LARGE_WAL_BYTES", -1)
        with database.connected():
            assert statuses(checks.check_database(subject))[-1] == ("database", "fail")


class TestBackup:
    def test_nothing_to_copy(self, subject: Subject) -> None:
        assert list(checks.check_backup(subject)) == []

    @pytest.mark.parametrize(("age_s", "status"), [(3600, Status.OK), (5 * 86400, Status.WARN), (None, Status.WARN)])
    def test_the_newest_counts(self, subject: Subject, age_s: int | None, status: Status) -> None:
        (subject.settings.data_dir / "storage.sqlite").touch()
        backups = subject.settings.data_dir / "backups"
        backups.mkdir()
        for age in [] if age_s is None else [age_s, age_s + 86400]:
            file = backups / f"db_{age}_manual.sqlite"
            file.touch()
            os.utime(file, (NOW - age, NOW - age))

        assert only(checks.check_backup(subject)).status is status

    def test_the_operator_does_it(self, subject: Subject) -> None:
        assert only(checks.check_backup(with_settings(subject, disable_sqlite_auto_backup=True))).status is Status.OK


class TestExposure:
    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({}, Status.OK),
            ({"host": "0.0.0.0"}, Status.WARN),
            ({"host": "0.0.0.0", "trust_proxy": "1"}, Status.OK),
            ({"host": "0.0.0.0", "base_url": "https://o.example"}, Status.OK),
        ],
    )
    def test_who_can_reach_it(self, subject: Subject, changes: dict[str, str], status: Status) -> None:
        assert only(checks.check_exposure(with_settings(subject, **changes))).status is status


class TestServer:
    def test_a_port_that_is_taken_by_something_silent(self, subject: Subject) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            listener.close()
            with socket.socket() as silent:
                silent.bind(("127.0.0.1", port))
                found = only(checks.check_server(with_settings(subject, port=port)))

        assert (found.name, found.status) == ("port", Status.FAIL)

    def test_a_free_port(self, subject: Subject) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        assert statuses(checks.check_server(with_settings(subject, port=port))) == [("port", "ok"), ("server", "ok")]

    def test_a_process_that_does_not_answer(self, subject: Subject) -> None:
        subject.settings.runtime_dir.mkdir()
        facts = {"pid": os.getpid(), "address": "http://127.0.0.1:1"}
        (subject.settings.runtime_dir / "server.json").write_text(json.dumps(facts))

        found = only(checks.check_server(subject))

        assert (found.name, found.status) == ("server", Status.FAIL)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _free_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            monkeypatch.setenv("OMNIROUTE_PORT", str(listener.getsockname()[1]))

    def test_json(self, run: Run) -> None:
        result = run("doctor", "--json")

        document = json.loads(result.stdout)
        assert result.exit_code == Exit.DONE
        assert document["status"] == "warn"
        assert document["version"] == __version__
        assert sum(document["summary"].values()) == len(document["checks"])
        assert set(document["checks"][0]) == {"name", "status", "message", "hint", "data"}

    def test_a_failure_is_exit_code_1(self, run: Run, home: Path) -> None:
        (home / "data").mkdir(mode=0o755)
        (home / "data").chmod(0o755)

        result = run("doctor")

        assert result.exit_code == Exit.FAILED
        assert f"FAIL  data directory  {home / 'data'} is open to other users." in result.stdout
        assert f"→ chmod 700 {home / 'data'}" in result.stdout

    def test_it_changes_nothing(self, run: Run, home: Path) -> None:
        run("doctor")

        assert list(home.iterdir()) == []

    def test_a_list_for_programs(self, run: Run) -> None:
        rows = [json.loads(line) for line in run("doctor", "-o", "jsonl").stdout.splitlines()]

        assert [row["name"] for row in rows][:2] == ["python", "configuration"]
