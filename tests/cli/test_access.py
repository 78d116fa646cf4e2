"""`omniroute keys` and `omniroute reset-password`: here, and against a server elsewhere."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from omniroute.cli import Exit
from omniroute.services.passwords import check_password
from tests.cli.conftest import Both, Remote, Run, document
from tests.cli.goldens import check_list
from tests.goldens import Golden

KEY = re.compile(r"sk-[0-9a-z]{12}-[A-Za-z0-9_-]{43}-[0-9a-f]{8}\n")


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "data" / "storage.sqlite")) as connection:
        return connection.execute(query).fetchall()


class TestKeys:
    def test_a_key_is_alone_on_stdout_and_only_its_hash_is_stored(self, run: Run, home: Path) -> None:
        result = run("keys", "create", "laptop")

        assert result.exit_code == Exit.DONE
        assert KEY.fullmatch(result.stdout)
        assert "(laptop). It is shown this once:" in result.stderr
        secret = result.stdout.strip().encode()
        files = [path for path in home.rglob("*") if path.is_file()]
        assert [path.name for path in files if secret in path.read_bytes()] == []

    def test_its_fields(self, run: Run) -> None:
        made = document(
            run(
                *("keys", "create", "x", "--scope", "manage", "--models", "sandbox/*", "--combos", "fast"),
                *("--expires", "7", "--rpm", "60", "--no-log", "--json"),
            )
        )
        shown = document(run("keys", "show", "x", "--json"))

        assert KEY.fullmatch(made["key"] + "\n")
        assert (made["name"], made["allowedModels"], made["allowedCombos"]) == ("x", ["sandbox/*"], ["fast"])
        assert (made["noLog"], made["rateLimits"]) == (True, [{"limit": 60, "windowSeconds": 60}])
        assert "manage" in made["scopes"]
        assert made["expiresAt"] > made["createdAt"]
        masked = f"{made['key'][:8]}…{made['key'][-4:]}"
        assert made.pop("maskedKey") == masked
        assert {name: shown[name] for name in made} == made | {"key": masked}
        assert document(run("keys", "list", "--json")) == {"keys": [shown], "total": 1}

    def test_the_table_masks(self, run: Run) -> None:
        secret = run("keys", "create", "laptop").stdout.strip()

        text = run("keys", "list").stdout

        head = "Id Name Key Scopes Models Status Budget Used Last used Expires"
        assert text.splitlines()[0].split() == head.split()
        assert f"{secret[:8]}…{secret[-4:]}" in text
        assert secret not in text

    def test_an_unknown_scope_is_refused(self, run: Run) -> None:
        result = run("keys", "create", "x", "--scope", "everything")

        assert result.exit_code == Exit.MISUSE
        assert "is not a scope" in result.stderr

    def test_revoked_by_name(self, run: Run, home: Path) -> None:
        run("keys", "create", "laptop")

        result = run("keys", "revoke", "laptop", "--yes")

        assert result.exit_code == Exit.DONE
        assert json.loads(run("keys", "list", "--json").stdout)["total"] == 0
        assert rows(home, "SELECT count(*) FROM api_keys WHERE revoked_at IS NOT NULL") == [(1,)]

    def test_nobody_to_ask_means_no(self, run: Run) -> None:
        run("keys", "create", "laptop")

        result = run("keys", "revoke", "laptop")

        assert result.exit_code == Exit.MISUSE
        assert "Add --yes" in result.stderr
        assert json.loads(run("keys", "list", "--json").stdout)["total"] == 1

    def test_an_ambiguous_or_unknown_name_is_refused(self, run: Run) -> None:
        run("keys", "create", "twin")
        run("keys", "create", "twin")

        twin, nobody = run("keys", "revoke", "twin", "--yes"), run("keys", "revoke", "nobody", "--yes")

        assert (twin.exit_code, nobody.exit_code) == (Exit.MISUSE, Exit.MISUSE)
        assert "Several have the name 'twin': key_" in twin.stderr
        assert "There is no API key with the id or name 'nobody'." in nobody.stderr

    def test_changes_are_audited(self, run: Run, home: Path) -> None:
        run("keys", "create", "laptop")
        run("keys", "revoke", "laptop", "--yes")

        actions = rows(home, "SELECT action, actor FROM audit_log WHERE target_kind = 'key' ORDER BY id")
        assert actions == [("key.created", "cli"), ("key.deleted", "cli")]

    def test_its_life(self, run: Run) -> None:
        made = document(run("keys", "add", "laptop", "--budget", "5", "--json"))
        row = run("keys", "list").stdout.splitlines()[1]
        assert ("$5.00 monthly" in row, " 0%" in row, " active " in row) == (True, True, True)
        changed = document(
            run(
                *("keys", "set", "laptop", "--name", "desk", "--rpm", "9", "--without-models", "gpt-*", "--no-log"),
                *("--hide-paid", "--max-concurrent", "2", "--json"),
            )
        )
        assert (changed["id"], changed["name"], changed["noLog"]) == (made["id"], "desk", True)
        assert (changed["blockedModels"], changed["maxConcurrent"]) == (["gpt-*"], 2)
        cleared = document(run("keys", "update", "desk", "--clear", "rpm", "--clear", "--without-models", "--json"))
        assert (cleared["rateLimits"], cleared["blockedModels"], cleared["noLog"]) == ([], [], True)
        assert run("keys", "disable", "desk").exit_code == Exit.DONE
        assert document(run("keys", "show", "desk", "--json"))["state"] == "disabled"
        assert run("keys", "enable", made["id"]).exit_code == Exit.DONE
        assert document(run("keys", "list", "--search", "DESK", "--json"))["keys"][0]["state"] == "active"
        declined = run("keys", "regenerate", "desk")
        assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
        again = run("keys", "regenerate", "desk", "--grace", "60")
        assert KEY.fullmatch(again.stdout)
        assert again.stdout.strip() != made["key"]
        assert "Request rules" in run("keys", "show", "desk").stdout

    @pytest.mark.parametrize(
        "arguments",
        [
            ("set", "laptop"),
            ("set", "laptop", "--clear", "everything"),
            ("set", "laptop", "--clear", "name"),
            ("set", "nobody", "--rpm", "5"),
            ("add", "two", "words"),
            ("add", "openai", "sk-x"),
            ("show", "nobody"),
            ("reveal", "laptop"),
        ],
    )
    def test_misuse(self, remote: Remote, arguments: tuple[str, ...]) -> None:
        remote("keys", "add", "laptop")
        refused = remote("keys", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "") or (
            arguments[0] == "reveal" and refused.exit_code == Exit.NOT_ALLOWED
        )

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        remote("keys", "create", "laptop", "--budget", "5", "--period", "daily", "--expires", "7")
        secret = remote("keys", "add", "desk", "--models", "sandbox/*").stdout
        assert KEY.fullmatch(secret)
        check_list(golden, both, "keys", "list")
        both("keys", "show", "desk")
        assert remote("keys", "delete", "desk", "-y").exit_code == Exit.DONE
        assert both("keys", "list").stdout.count("\n") == 2

    def test_a_first_start_keeps_stdout_clean(self, run: Run) -> None:
        """The first password is announced, but not where a program reads the key."""
        result = run("keys", "create")

        assert KEY.fullmatch(result.stdout)
        assert "first password" in result.stderr.lower()


class TestResetPassword:
    def stored(self, home: Path) -> str:
        return str(rows(home, "SELECT password_hash FROM credentials")[0][0])

    def test_generated(self, run: Run, home: Path) -> None:
        result = run("reset-password", "--generate")

        assert result.exit_code == Exit.DONE
        assert re.fullmatch(r"[A-Za-z2-9]{20}\n", result.stdout)
        assert check_password(result.stdout.strip(), self.stored(home))

    def test_piped_in(self, run: Run, home: Path) -> None:
        result = run("reset-password", "--stdin", stdin="a new and better one\n")

        assert (result.exit_code, result.stdout) == (Exit.DONE, "")
        assert check_password("a new and better one", self.stored(home))

    @pytest.mark.parametrize("password", ["short", "CHANGEME", "", "x" * 201])
    def test_one_that_breaks_the_rules_is_refused(self, run: Run, home: Path, password: str) -> None:
        run("reset-password", "--stdin", stdin="a new and better one\n")

        result = run("reset-password", "--stdin", stdin=f"{password}\n")

        assert result.exit_code == Exit.MISUSE
        assert result.stderr.startswith("Error: password: ")
        assert check_password("a new and better one", self.stored(home))

    def test_nobody_to_ask(self, run: Run, home: Path) -> None:
        result = run("reset-password")

        assert result.exit_code == Exit.MISUSE
        assert "use --stdin or --generate" in result.stderr
        assert list(home.iterdir()) == []

    def test_two_sources_exclude_each_other(self, run: Run) -> None:
        assert run("reset-password", "--stdin", "--generate").exit_code == Exit.MISUSE

    def test_sessions_end_and_lockouts_are_lifted(self, run: Run, home: Path) -> None:
        run("keys", "list")
        with closing(sqlite3.connect(home / "data" / "storage.sqlite")) as connection, connection:
            connection.execute(
                "INSERT INTO login_attempts (address, failures, window_start, locked_until)"
                " VALUES ('192.0.2.1', 5, 4000000000, 4000000900)"
            )

        result = run("reset-password", "--generate")

        assert "Sessions ended: 0." in result.stderr
        assert rows(home, "SELECT count(*) FROM login_attempts") == [(0,)]
        assert ("auth.password.reset", "cli") in rows(home, "SELECT action, actor FROM audit_log")
