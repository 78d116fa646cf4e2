"""`omniroute providers`, `nodes`, `models`: here without a server, and against one elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run

KEY = "gsk_" + "k" * 40


@pytest.fixture
def node(run: Run) -> str:
    made = run("nodes", "add", "my models", "--prefix", "mine", "--url", "http://127.0.0.1:9/v1", "--local")
    assert made.exit_code == Exit.DONE, made.output
    return made.stdout.strip()


class TestProviders:
    def test_the_life_of_an_account(self, run: Run) -> None:
        made = run("providers", "add", "groq", "--name", "a", "--api-key-stdin", "--priority", "3", stdin=f"{KEY}\n")
        identity = made.stdout.strip()
        assert (made.exit_code, identity.startswith("conn_")) == (Exit.DONE, True), made.output
        assert run("providers", "set", "a", "--name", "b", "--rpm", "20").exit_code == Exit.DONE
        shown = json.loads(run("providers", "show", "b", "--json").stdout)
        assert (shown["id"], shown["priority"], shown["requestsPerMinute"]) == (identity, 3, 20)
        assert KEY not in json.dumps(shown)
        assert run("providers", "disable", identity).exit_code == Exit.DONE
        row = json.loads(run("providers", "list", "--provider", "groq", "--json").stdout)["connections"][0]
        assert row["isActive"] is False
        assert "switched off" in run("providers", "list").stdout
        assert run("providers", "enable", "b").exit_code == Exit.DONE
        assert run("providers", "reset", "b").exit_code == Exit.DONE
        rotated = run("providers", "rotate", "b", "--api-key-stdin", "--skip-test", stdin=f"{KEY}2\n")
        assert rotated.exit_code == Exit.DONE
        assert run("providers", "remove", "b").exit_code == Exit.MISUSE  # nobody to ask
        assert run("providers", "remove", "b", "--yes").exit_code == Exit.DONE
        assert json.loads(run("providers", "list", "--json").stdout)["connections"] == []

    def test_where_a_key_may_come_from(self, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "key").write_text(f"{KEY}\n")
        monkeypatch.setenv("MY_KEY", KEY)
        for name, option in (("a", ["--api-key-file", "key"]), ("b", ["--api-key-env", "MY_KEY"])):
            assert run("providers", "add", "groq", "--name", name, *option).exit_code == Exit.DONE
        for option in (["--api-key-file", "none"], ["--api-key-env", "NONE"], []):
            result = run("providers", "add", "groq", *option)
            assert (result.exit_code, result.stdout) == (Exit.MISUSE, "")

    def test_a_new_key_that_does_not_work_is_not_taken(self, run: Run, node: str) -> None:
        run("providers", "add", "mine", "--name", "a", "--api-key-stdin", stdin="old-key-0123456789\n")
        before = json.loads(run("providers", "show", "a", "--json").stdout)["apiKey"]
        result = run("providers", "rotate", "a", "--api-key-stdin", stdin="new-key-0123456789\n")
        assert result.exit_code == Exit.FAILED
        assert "so the old one stays" in result.stderr
        assert json.loads(run("providers", "show", "a", "--json").stdout)["apiKey"] == before

    def test_what_is_not_there(self, run: Run) -> None:
        for arguments in (
            ["show", "x"],
            ["add", "grok"],
            ["remove", "x", "--yes"],
            ["test", "x"],
            ["set", "x", "--rpm", "1"],
        ):
            result = run("providers", *arguments, stdin="k\n")
            assert (result.exit_code, result.stdout) == (Exit.MISUSE, ""), arguments
            assert "There is no" in result.stderr

    def test_available_is_narrowed(self, both: Both) -> None:
        rows = json.loads(both("providers", "available", "--tier", "local", "--json").stdout)["providers"]
        assert rows
        assert {row["tier"] for row in rows} == {"local"}
        found = json.loads(both("providers", "available", "--search", "groq", "--json").stdout)["providers"]
        assert "groq" in {row["id"] for row in found}

    def test_testing_says_who_failed(self, run: Run, node: str) -> None:
        run("providers", "add", "mine", "--name", "a", "--api-key-stdin", stdin="key-0123456789\n")
        result = run("providers", "test", "a")
        assert result.exit_code == Exit.FAILED
        assert result.stdout.splitlines()[1].split()[1:3] == ["a", "failed"]
        assert run("providers", "test").exit_code == Exit.MISUSE
        assert run("providers", "test", "a", "--all").exit_code == Exit.MISUSE

    def test_testing_all_is_a_job_of_the_server(self, busy: Remote, run: Run) -> None:
        assert run("providers", "test", "--all").exit_code == Exit.NOT_RUNNING
        busy("nodes", "add", "n", "--prefix", "n", "--url", "http://127.0.0.1:9/v1", "--local")
        busy("providers", "add", "n", "--name", "a", "--api-key-stdin", stdin="key-0123456789\n")
        result = busy("providers", "test-all", "--all", "--json")
        rows = json.loads(result.stdout)["results"]
        assert (result.exit_code, [row["valid"] for row in rows]) == (Exit.FAILED, [False])

    def test_importing_a_list(self, run: Run, home: Path) -> None:
        (home / "a.csv").write_text(f"provider,name,apiKey,priority\ngroq,a,{KEY},2\nnope,b,x,1\n")
        (home / "a.json").write_text(json.dumps([{"provider": "groq", "name": "c", "apiKey": f"{KEY}c"}]))
        result = run("providers", "import", "a.csv", "--json")
        rows = json.loads(result.stdout)["results"]
        assert (result.exit_code, [row["status"] for row in rows]) == (Exit.FAILED, ["created", "failed"])
        assert KEY not in result.stdout
        assert run("providers", "import", "a.json").exit_code == Exit.DONE
        names = [row["name"] for row in json.loads(run("providers", "list", "--json").stdout)["connections"]]
        assert sorted(names) == ["a", "c"]

    @pytest.mark.parametrize("content", ["", "name\na\n", "[1]", "{", '{"entries": 5}'])
    def test_a_list_that_is_none(self, run: Run, home: Path, content: str) -> None:
        (home / "a").write_text(content)
        assert run("providers", "import", "a").exit_code == Exit.MISUSE
        assert run("providers", "import", "missing").exit_code == Exit.MISUSE

    def test_status_and_metrics(self, busy: Remote) -> None:
        busy("providers", "add", "groq", "--name", "a", "--api-key-stdin", stdin=f"{KEY}\n")
        rows = json.loads(busy("providers", "status", "--json").stdout)["connections"]
        assert [(row["name"], row["breaker"]) for row in rows] == [("a", "closed")]
        assert busy("providers", "metrics", "--period", "7d").exit_code == Exit.DONE

    def test_a_write_token_may_not_touch_accounts(self, remote: Remote) -> None:
        result = remote("providers", "add", "groq", "--api-key-stdin", stdin=f"{KEY}\n", scope="write")
        assert result.exit_code == Exit.NOT_ALLOWED
        assert "needs 'admin'" in result.stderr


class TestNodes:
    def test_the_life_of_an_endpoint(self, run: Run, node: str) -> None:
        assert (
            run("nodes", "update", "mine", "--name", "theirs", "--url", "http://127.0.0.1:8/v1").exit_code == Exit.DONE
        )
        row = json.loads(run("nodes", "list", "--json").stdout)["nodes"][0]
        assert (row["id"], row["name"], row["baseUrl"]) == (node, "theirs", "http://127.0.0.1:8/v1")
        assert run("nodes", "list").stdout.splitlines()[1].split()[-2:] == ["yes", "0"]
        assert run("nodes", "remove", "theirs").exit_code == Exit.MISUSE
        assert run("nodes", "remove", "mine", "--yes").exit_code == Exit.DONE
        assert run("nodes", "remove", "mine", "--yes").exit_code == Exit.MISUSE

    def test_a_private_address_must_be_marked(self, run: Run) -> None:
        result = run("nodes", "add", "x", "--prefix", "x", "--url", "http://127.0.0.1:9/v1")
        assert result.exit_code == Exit.MISUSE
        assert "marked local" in result.stderr

    def test_validating_stores_nothing(self, run: Run) -> None:
        result = run("nodes", "validate", "http://127.0.0.1:9/v1", "--local")
        assert (result.exit_code, "Reachable   no" in result.stdout) == (Exit.FAILED, True)
        assert json.loads(run("nodes", "list", "--json").stdout)["nodes"] == []


class TestModels:
    def test_the_short_forms_list(self, both: Both) -> None:
        whole = both("models", "list").stdout
        assert whole.splitlines()[0].split()[:2] == ["Model", "Provider"]
        assert both("models").stdout == whole
        assert both("models", "sandbox").stdout == both("models", "list", "sandbox").stdout
        assert "sandbox/echo" in both("models", "--search", "echo").stdout

    def test_a_model_of_ones_own(self, run: Run, node: str) -> None:
        run("providers", "add", "mine", "--name", "a", "--api-key-stdin", stdin="key-0123456789\n")
        added = run("models", "add", "mine", "big", "--context", "5000", "--vision", "--name", "Big One")
        assert added.exit_code == Exit.DONE, added.output
        (row,) = json.loads(run("models", "mine", "--json").stdout)["models"]
        assert (row["id"], row["contextLength"], row["name"]) == ("mine/big", 5000, "Big One")
        assert run("models", "hide", "mine", "big").exit_code == Exit.DONE
        assert json.loads(run("models", "mine", "--json").stdout)["models"] == []
        assert run("models", "show", "mine", "big").exit_code == Exit.DONE
        assert run("models", "remove", "mine", "big").exit_code == Exit.MISUSE
        assert run("models", "remove", "mine", "big", "--yes").exit_code == Exit.DONE
        assert json.loads(run("models", "mine", "--json").stdout)["models"] == []

    def test_testing_needs_a_server(self, run: Run, busy: Remote) -> None:
        assert run("models", "test", "sandbox/echo").exit_code == Exit.NOT_RUNNING
        good = busy("models", "test", "sandbox/echo", "--repeat", "2", "--json")
        assert (good.exit_code, [row["ok"] for row in json.loads(good.stdout)["results"]]) == (Exit.DONE, [True, True])
        assert busy("models", "test", "sandbox/fail-500").exit_code == Exit.FAILED
