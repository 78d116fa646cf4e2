"""Backups, secrets, configuration, logs, health, chat, and the life of the server, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run, document
from tests.e2e.processes import free_port, wait_until

KEY = "gsk_" + "k" * 40


def connect(run: Run, name: str = "a") -> None:
    assert run("providers", "add", "groq", "--name", name, "--api-key-stdin", stdin=f"{KEY}\n").exit_code == Exit.DONE


class TestBackups:
    def test_there_and_back(self, run: Run, home: Path) -> None:
        connect(run)
        made = document(run("backup", "--json"))
        assert Path(made["path"]).is_file()
        assert run("backup").stdout == ""  # nothing has changed
        connect(run, "b")
        done = document(run("restore", made["id"], "--yes", "--json"))
        assert done["connectionCount"] == 1
        names = [row["name"] for row in document(run("providers", "list", "--json"))["connections"]]
        assert names == ["a"]
        listed = document(run("backup", "list", "--json"))["backups"]
        assert {row["reason"] for row in listed} >= {"manual", "pre-restore"}
        assert document(run("restore", "--list", "--json"))["backups"] == listed
        assert run("backup", "delete", made["id"]).exit_code == Exit.MISUSE
        assert run("backup", "delete", made["id"], "--yes").exit_code == Exit.DONE

    def test_a_bundle_moves_to_another_machine(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(run)
        (home / "pass").write_text("a passphrase of some length\n")
        made = run("backup", "create", "--out", "b.tar.gz", "--with-keys", "--passphrase-file", "pass")
        assert made.exit_code == Exit.DONE, made.output
        assert KEY.encode() not in (home / "b.tar.gz").read_bytes()
        assert run("backup", "create", "--out", "b.tar.gz").exit_code == Exit.MISUSE  # it exists
        monkeypatch.setenv("DATA_DIR", str(home / "elsewhere"))
        wrong = run("restore", "b.tar.gz", "--yes", "--encryption-key-file", "none")
        assert wrong.exit_code == Exit.MISUSE
        done = document(run("restore", "b.tar.gz", "--yes", "--passphrase-file", "pass", "--json"))
        assert (done["connectionCount"], done["credentialsReadable"], done["credentialsUnreadable"]) == (1, 1, 0)
        assert document(run("secrets", "check", "--json"))["opened"] == 1

    def test_a_database_that_does_not_open(self, run: Run, home: Path) -> None:
        connect(run)
        made = document(run("backup", "--json"))
        database = home / "data" / "storage.sqlite"
        database.write_bytes(b"this was a database once, before the disk had other ideas")
        for beside in home.glob("data/storage.sqlite-*"):
            beside.unlink()
        assert run("providers", "list").exit_code == Exit.MISUSE
        assert made["id"] in run("restore").stderr
        assert run("restore", made["id"], "--yes").exit_code == Exit.DONE
        assert [row["name"] for row in document(run("providers", "list", "--json"))["connections"]] == ["a"]
        assert list(home.glob("data/storage.sqlite.damaged-*"))

    @pytest.mark.parametrize("name", ["x.sqlite", "x.tar.gz"])
    def test_foreign_files_change_nothing(self, run: Run, home: Path, name: str) -> None:
        connect(run)
        (home / name).write_bytes(b"x" * 8192)
        for arguments in (["restore", name, "--yes"], ["import", name, "--yes"]):
            assert run(*arguments).exit_code == Exit.MISUSE, arguments
        assert len(document(run("providers", "list", "--json"))["connections"]) == 1

    def test_exports(self, run: Run, remote: Remote, home: Path) -> None:
        for runner in (run, remote):
            for options, head in (([], b"SQLite"), (["--all"], b"\x1f\x8b"), (["--settings"], b"{")):
                target = home / "out.sqlite"
                assert runner("export", str(target), *options).exit_code == Exit.DONE
                assert target.read_bytes().startswith(head)
                assert target.stat().st_mode & 0o077 == 0
                assert runner("export", str(target), *options).exit_code == Exit.MISUSE  # it exists
                target.unlink()
        assert run("export", "x", "--all", "--settings").exit_code == Exit.MISUSE

    def test_an_export_is_taken_in_elsewhere(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(run)
        run("export", "x.sqlite")
        monkeypatch.setenv("DATA_DIR", str(home / "elsewhere"))
        assert run("import", "x.sqlite").exit_code == Exit.MISUSE  # nobody to ask
        done = document(run("import", "x.sqlite", "--yes", "--json"))
        assert (done["connectionCount"], done["credentialsUnreadable"]) == (1, 1)

    def test_a_schedule(self, run: Run) -> None:
        assert document(run("backup", "schedule", "0 4 * * *", "--json"))["schedule"] == "0 4 * * *"
        assert run("backup", "schedule", "whenever").exit_code == Exit.MISUSE
        assert document(run("backup", "schedule", "off", "--json"))["nextRunAt"] is None


class TestSecrets:
    def test_rotating(self, run: Run, home: Path) -> None:
        connect(run)
        before = (home / "data" / "secrets" / "encryption_key").read_text()
        assert run("secrets", "rotate").exit_code == Exit.MISUSE
        report = document(run("secrets", "rotate", "--yes", "--json"))
        assert report["rewritten"] == 1
        assert (home / "data" / "secrets" / "encryption_key").read_text() != before
        assert document(run("secrets", "check", "--json"))["opened"] == 1

    def test_a_lost_key(self, run: Run, home: Path) -> None:
        connect(run)
        (home / "data" / "secrets" / "encryption_key").unlink()
        assert run("secrets", "check").exit_code == Exit.FAILED
        result = run("secrets", "new-key", "--yes")
        assert result.exit_code == Exit.DONE
        assert "omniroute providers rotate conn_" in result.stderr


class TestConfiguration:
    def test_one_setting(self, run: Run) -> None:
        assert run("config", "get", "advanced.backupCron").exit_code in (Exit.DONE, Exit.MISUSE)
        assert run("config", "set", "general.instanceName", "attic").exit_code == Exit.DONE
        assert run("config", "get", "general.instanceName").stdout == "attic\n"
        assert run("config", "unset", "instanceName").exit_code == Exit.DONE
        assert run("config", "get", "general.instanceName").stdout != "attic\n"
        assert run("config", "set", "routing.stickyLimit", "7").exit_code == Exit.DONE
        rows = document(run("config", "list", "--section", "routing", "--json"))["settings"]
        assert {"routing.stickyLimit": 7}.items() <= {row["key"]: row["value"] for row in rows}.items()

    @pytest.mark.parametrize(("key", "value"), [("nothing.here", "1"), ("advanced.logLevel", "shout")])
    def test_what_cannot_be_set(self, run: Run, key: str, value: str) -> None:
        assert run("config", "set", key, value).exit_code == Exit.MISUSE

    def test_a_variable_of_the_environment_stands(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEL_SYNC_INTERVAL_HOURS", "5")
        result = run("config", "set", "advanced.modelSyncIntervalHours", "6")
        assert (result.exit_code, "MODEL_SYNC_INTERVAL_HOURS" in result.stderr) == (Exit.MISUSE, True)

    def test_the_whole_as_one_file(self, run: Run, remote: Remote, home: Path) -> None:
        run("combos", "create", "main", "sandbox/echo", "sandbox/story")
        run("aliases", "set", "gpt-*", "main")
        assert run("config", "export", "all.yaml").exit_code == Exit.DONE
        text = (home / "all.yaml").read_text()
        assert "  - name: main\n" in text

        planned = remote("config", "apply", "all.yaml", "--dry-run")
        assert (planned.exit_code, "+ combo main" in planned.stdout) == (Exit.DONE, True)
        assert document(remote("combos", "list", "--json"))["combos"] == []
        assert remote("config", "apply", "all.yaml").exit_code == Exit.MISUSE  # nobody to ask
        assert remote("config", "apply", "all.yaml", "--yes").exit_code == Exit.DONE
        assert [row["name"] for row in document(remote("combos", "list", "--json"))["combos"]] == ["main"]
        again = remote("config", "apply", "all.yaml", "--yes")
        assert (again.exit_code, "Nothing would change." in again.stderr) == (Exit.DONE, True)
        assert remote("config", "export").stdout.partition("combos:")[2] == text.partition("combos:")[2]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("version: 1\ncombos:\n  - name: [x\n", "line 4"),
            ("- 1\n", "does not hold a configuration"),
            ("version: 1\ncombos: 2026-01-01\n", "holds a value that no setting takes"),
            ("version: 1\ncombs: []\n", "combs"),
            ("version: 9\n", "version"),
        ],
    )
    def test_a_file_that_is_wrong_changes_nothing(self, run: Run, home: Path, text: str, said: str) -> None:
        (home / "c.yaml").write_text(text)
        result = run("config", "apply", "c.yaml", "--yes")
        assert (result.exit_code, said in result.stderr) == (Exit.MISUSE, True), result.stderr


class TestWatching:
    def test_logs_of_requests(self, busy: Remote) -> None:
        busy.ask("sandbox/echo")
        written = lambda: document(busy("logs", "--requests", "--model", "echo", "--json"))["logs"]  # noqa: E731
        assert wait_until(written, within_s=10, what="the row is in the log")
        table = busy("logs", "--requests", "--lines", "1")
        assert table.stdout.split()[:4] == ["Time", "Status", "Model", "Provider"]
        assert busy("logs", "--requests", "--level", "info").exit_code == Exit.MISUSE
        assert busy("logs", "--key", "nobody").exit_code == Exit.MISUSE

    def test_logs_to_a_file(self, busy: Remote, home: Path) -> None:
        request_id = busy.ask("sandbox/echo").headers["X-OmniRoute-Request-Id"]

        def written() -> bool:
            rows = document(busy("logs", "--requests", "--json"))["logs"]
            return request_id in [row["requestId"] for row in rows]

        wait_until(written, within_s=10, what="the row is in the log")
        assert busy("logs", "--requests", "--export", "rows.jsonl").exit_code == Exit.DONE
        rows = [json.loads(line) for line in (home / "rows.jsonl").read_text().splitlines()]
        assert [row["provider"] for row in rows if row["requestId"] == request_id] == ["sandbox"]
        assert busy("logs", "--requests", "--export", "rows.jsonl").exit_code == Exit.MISUSE

    def test_following_needs_a_server(self, run: Run) -> None:
        assert run("logs", "--follow").exit_code == Exit.NOT_RUNNING
        assert run("health").exit_code == Exit.NOT_RUNNING

    def test_health(self, busy: Remote) -> None:
        found = document(busy("health", "--json"))
        assert found["status"] in ("healthy", "degraded")
        assert "uptimeSec" in busy("health").stdout
        assert set(document(busy("health", "--alerts", "--json"))) >= {"status", "warnings"}

    def test_audit(self, run: Run, home: Path) -> None:
        connect(run)
        rows = document(run("audit", "list", "--action", "provider.credentials.created", "--json"))["entries"]
        assert [row["actor"] for row in rows] == ["cli"]
        assert run("audit", "verify").exit_code == Exit.DONE
        assert run("audit", "export", "a.jsonl").exit_code == Exit.DONE
        assert KEY not in (home / "a.jsonl").read_text()


class TestChat:
    @pytest.mark.parametrize("options", [[], ["--no-stream"], ["--json"]])
    def test_one_turn(self, busy: Remote, options: list[str]) -> None:
        key = busy("keys", "add", "chat").stdout.strip()
        result = busy("chat", "say this back", "-m", "sandbox/echo", "--api-key", key, *options)
        assert (result.exit_code, "say this back" in result.stdout) == (Exit.DONE, True), result.output

    def test_what_belongs_to_it(self, busy: Remote, home: Path) -> None:
        key = busy("keys", "add", "chat").stdout.strip()
        (home / "note.txt").write_text("from the file")
        result = busy(
            "chat", "--file", "note.txt", "--stdin", "-m", "sandbox/echo", "--api-key", key, stdin="from the pipe"
        )
        assert "from the file" in result.stdout
        assert "from the pipe" in result.stdout

    def test_refusals(self, busy: Remote, run: Run) -> None:
        key = busy("keys", "add", "chat").stdout.strip()
        assert busy("chat", "x", "-m", "sandbox/no-such", "--api-key", key).exit_code == Exit.MISUSE
        assert busy("chat", "x", "--api-key", "sk-wrong").exit_code != Exit.DONE
        assert busy("chat", "--api-key", key).exit_code == Exit.MISUSE
        assert run("chat", "x").exit_code == Exit.NOT_RUNNING


class TestMachine:
    def test_what_belongs_to_it_refuses_a_server_elsewhere(self, remote: Remote) -> None:
        for command in (
            ["stop"],
            ["restart"],
            ["setup", "--list"],
            ["doctor"],
            ["reset-password", "--generate"],
            ["secrets", "check"],
            ["migrate"],
            ["env"],
            ["backup"],
            ["restore", "--list"],
            ["uninstall"],
            ["server"],
        ):
            result = remote(*command)
            assert (result.exit_code, result.stdout) == (Exit.MISUSE, ""), command
            assert "on the server's own machine only" in result.stderr

    def test_the_life_of_a_server(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEB_CONCURRENCY", "1")
        port = str(free_port())
        assert run("stop").exit_code == Exit.NOT_RUNNING
        started = run("server", "--daemon", "--port", port)
        assert started.exit_code == Exit.DONE, started.output
        try:
            first = document(run("status", "--json"))
            assert (first["address"], first["running"]) == (f"http://127.0.0.1:{port}", True)
            assert document(run("health", "--json"))["status"] == "healthy"
            assert run("chat", "hello", "-m", "sandbox/echo").stdout == "hello\n"
            assert run("server", "--daemon", "--port", port).exit_code == Exit.FAILED  # the port is taken
            assert run("restart").exit_code == Exit.DONE
            second = document(run("status", "--json"))
            assert (second["address"], second["pid"] == first["pid"]) == (first["address"], False)
        finally:
            stopped = run("stop")
        assert stopped.exit_code == Exit.DONE
        assert run("status").exit_code == Exit.NOT_RUNNING

    def test_a_server_that_cannot_start_says_why(self, run: Run, home: Path) -> None:
        (home / "data").mkdir()
        (home / "data" / "storage.sqlite").write_bytes(b"not a database, but long enough to be taken for one")
        result = run("server", "--daemon", "--port", str(free_port()))
        assert result.exit_code == Exit.FAILED
        assert "damaged" in result.stderr

    def test_setting_up_can_be_repeated(self, run: Run) -> None:
        arguments = ("setup", "--non-interactive", "--password-stdin", "--provider", "groq", "--api-key-stdin")
        more = ("--combo", "main=groq/llama-3.3-70b-versatile,sandbox/echo", "--key", "laptop", "--json")
        first = run(*arguments, *more, stdin=f"long-enough-1\n{KEY}\n")
        second = run(*arguments, *more, stdin=f"long-enough-1\n{KEY}\n")
        assert document(first)["key"].startswith("sk-")
        assert "key" not in document(second)
        assert document(first)["connection"]["id"] == document(second)["connection"]["id"]
        assert len(document(run("combos", "list", "--json"))["combos"]) == 1

    def test_setting_up_says_what_is_missing(self, run: Run) -> None:
        result = run("setup", "--non-interactive", "--provider", "groq")
        assert (result.exit_code, "GROQ_API_KEY" in result.stderr) == (Exit.MISUSE, True)
        assert run("setup").exit_code == Exit.MISUSE  # nobody to ask
        assert run("setup", "--non-interactive", "--combo", "main").exit_code == Exit.MISUSE

    def test_what_a_key_of_the_environment_is_called(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GROQ_API_KEY", KEY)
        rows = document(run("setup", "--list", "--json"))["providers"]
        assert [row["id"] for row in rows if row["found"]] == ["groq"]
        assert KEY not in json.dumps(rows)

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, run: Run, home: Path, shell: str) -> None:
        printed = run("completion", shell)
        assert (printed.exit_code, "_OMNIROUTE_COMPLETE" in printed.stdout) == (Exit.DONE, True)
        assert run("completion", shell, "--install").exit_code == Exit.DONE
        assert [path for path in home.rglob("*omniroute*") if path.is_file()]
        assert run("uninstall").exit_code == Exit.DONE
        assert [path for path in home.rglob("*omniroute*") if path.is_file()] == []

    def test_uninstalling_with_the_data(self, run: Run, home: Path) -> None:
        assert run("uninstall", "--full", "--yes").exit_code == Exit.MISUSE  # nothing of ours is there
        run("keys", "list")
        assert run("uninstall", "--full").exit_code == Exit.MISUSE  # nobody to ask
        assert run("uninstall", "--full", "--yes").exit_code == Exit.DONE
        assert not (home / "data").exists()

    def test_a_page(self, both: Both, run: Run, remote: Remote) -> None:
        assert remote("open", "requests", "--url").stdout == f"{remote.url}/dashboard/requests\n"
        assert run("open", "--url").stdout.endswith("/dashboard\n")

    def test_doctor_asks_the_accounts(self, run: Run) -> None:
        run("nodes", "add", "n", "--prefix", "n", "--url", "http://127.0.0.1:9/v1", "--local")
        run("providers", "add", "n", "--name", "a", "--api-key-stdin", stdin="key-0123456789\n")
        run("combos", "create", "main", "sandbox/echo")
        found = json.loads(run("doctor", "--no-live", "--json").stdout)
        names = {check["name"] for check in found["checks"]}
        assert {"credentials", "providers", "combos", "prices", "jobs", "quota"} <= names
        live = run("doctor", "--json")
        assert live.exit_code == Exit.FAILED  # nobody listens there
        checks = [check for check in json.loads(live.stdout)["checks"] if check["name"] == "providers"]
        assert [check["status"] for check in checks] == ["fail"]

    def test_doctor_mends_rights(self, run: Run, home: Path) -> None:
        run("keys", "list")
        (home / "data" / "secrets").chmod(0o755)
        assert run("doctor", "--no-live").exit_code == Exit.FAILED
        mended = run("doctor", "--no-live", "--fix")
        assert mended.exit_code == Exit.DONE, mended.output
        assert (home / "data" / "secrets").stat().st_mode & 0o077 == 0
