"""`omniroute combos`: here, and against a server elsewhere."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from omniroute.cli import Exit
from omniroute.storage.database import Database
from omniroute.storage.log_writer import LogWriter
from tests.cli.conftest import Both, Remote, Run
from tests.cli.goldens import check_list
from tests.goldens import Golden
from tests.routing.worlds import settled


def document(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("combos", *arguments, "--json")
    assert result.exit_code == Exit.DONE, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def listed(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = document(run, "list")["combos"]
    return rows


class TestCreate:
    def test_models_in_their_order_with_weights_and_settings(self, run: Run) -> None:
        made = document(
            run,
            "create",
            "fast",
            "sandbox/echo",
            "sandbox/story",
            "--strategy",
            "weighted",
            "--weight",
            "sandbox/story=2.5",
            "--config",
            "maxRetries=3",
        )
        assert (made["name"], made["strategy"], made["config"]) == ("fast", "weighted", {"maxRetries": 3})
        assert [(step["model"], step["weight"]) for step in made["models"]] == [
            ("sandbox/echo", 1.0),
            ("sandbox/story", 2.5),
        ]
        assert made["models"][0]["id"].startswith("step_")

    def test_a_table_has_no_data_but_says_what_was_made(self, run: Run) -> None:
        result = run("combos", "create", "fast", "sandbox/echo")
        assert (result.exit_code, result.stdout) == (Exit.DONE, "")
        assert "Created fast (combo_" in result.stderr

    def test_from_a_file(self, run: Run, home: Path) -> None:
        body = {
            "name": "other",
            "strategy": "round-robin",
            "models": [{"model": "sandbox/echo", "label": "Echo", "tags": ["a"]}, "auto"],
            "config": {"maxRetries": 1},
            "context_length": 9000,
            "allowedProviders": ["sandbox"],
        }
        (home / "combo.json").write_text(json.dumps(body), encoding="utf-8")
        made = document(
            run, "create", "mine", "--file", "combo.json", "--config", "maxAttempts=2", "--weight", "sandbox/echo=3"
        )
        assert (made["name"], made["strategy"], made["context_length"]) == ("mine", "round-robin", 9000)
        assert made["config"] == {"maxRetries": 1, "maxAttempts": 2}
        first, second = made["models"]
        assert (first["label"], first["tags"], first["weight"]) == ("Echo", ["a"], 3.0)
        assert (second["kind"], second["channel"]) == ("auto", "auto")
        assert made["allowedProviders"] == ["sandbox"]

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ((), "at least one model"),
            (("sandbox/echo", "--weight", "sandbox/story=1"), "is not a step"),
            (("sandbox/echo", "--weight", "sandbox/echo=many"), "from 0 to 100"),
            (("sandbox/echo", "--weight", "sandbox/echo=101"), "from 0 to 100"),
            (("sandbox/echo", "--weight", "sandbox/echo"), "NAME=VALUE"),
            (("sandbox/echo", "--config", "=1"), "NAME=VALUE"),
            (("sandbox/echo", "--config", "maxRetires=1"), "config.maxRetires"),
            (("sandbox/echo", "--strategy", "best"), "strategy"),
        ],
    )
    def test_misuse(self, run: Run, arguments: tuple[str, ...], word: str) -> None:
        result = run("combos", "create", "fast", *arguments)
        assert result.exit_code == Exit.MISUSE
        assert word in result.stderr
        assert listed(run) == []

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "combo.json, line 1: Expecting property name"),
            ('{\n"models": [}', "combo.json, line 2"),
            ("[]", "does not hold a JSON object"),
            ("[" * 100_000, "is not JSON"),
            ('{"models": ["sandbox/echo"], "weight": 1}', "weight"),
            ('{"models": [{"modell": "x"}]}', "modell"),
            ('{"models": [""]}', "models"),
            ('{"models": "sandbox/echo"}', "models"),
            ('{"models": ["sandbox/echo"], "strategy": "best"}', "strategy"),
            ('{"models": [{"model": "sandbox/echo", "weight": -1}]}', "weight"),
            ('{"models": ["sandbox/echo"], "context_length": 1}', "context_length"),
        ],
    )
    def test_a_file_that_holds_no_combo(self, remote: Remote, home: Path, text: str, word: str) -> None:
        (home / "combo.json").write_text(text, encoding="utf-8")
        result = remote("combos", "create", "fast", "--file", "combo.json")
        assert (result.exit_code, result.stdout) == (Exit.MISUSE, "")
        assert word in result.stderr
        assert listed(remote) == []

    def test_a_file_that_is_no_text_or_too_large(self, run: Run, home: Path) -> None:
        (home / "combo.json").write_bytes(b"\xff{}")
        assert "is not JSON" in run("combos", "create", "fast", "--file", "combo.json").stderr
        (home / "combo.json").write_bytes(b" " * (1 << 20) + b"{}")
        assert "larger than 1 MiB" in run("combos", "create", "fast", "--file", "combo.json").stderr


class TestList:
    def test_the_table(self, run: Run) -> None:
        run("combos", "create", "slow", "sandbox/story", "sandbox/echo")
        run("combos", "create", "fast", "sandbox/echo", "--strategy", "random")
        run("combos", "switch", "fast")
        result = run("combos", "list")
        assert [line.split() for line in result.stdout.splitlines()] == [
            ["Name", "Strategy", "Targets", "Requests", "24", "h", "Success"],
            ["slow", "priority", "sandbox/story,sandbox/echo", "0", "-"],
            ["*", "fast", "random", "sandbox/echo", "0", "-"],
        ]
        assert run("combo", "list").stdout == result.stdout
        found = run("combos", "list", "--search", "STORY", "-o", "csv").stdout.splitlines()
        assert found == [
            "isDefault,name,strategy,targets,requests,success",
            'no,slow,priority,"sandbox/story,sandbox/echo",0,',
        ]

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        remote("combos", "create", "both", "sandbox/story", "sandbox/echo", "--strategy", "weighted")
        remote("combo", "add", "fast", "sandbox/echo", "both", "auto")
        remote("combos", "switch", "fast")
        check_list(golden, both, "combos", "list")
        check_list(golden, both, "combos", "show", "fast")
        assert [row["name"] for row in listed(both)] == ["both", "fast"]

    def test_what_was_served_lately(self, run: Run, home: Path) -> None:
        made = document(run, "create", "fast", "sandbox/echo")
        database = Database(f"sqlite:///{home / 'data' / 'storage.sqlite'}")
        writer = LogWriter(database, home / "data" / "spool")
        for number in range(4):
            record = settled(request_id=f"req_{number}", requested_model="fast")
            record.time, record.combo_id = time.time(), made["id"]
            record.outcome = "success" if number else "failed"
            writer.put(record)
        writer.flush()
        writer.stop()
        database.dispose()
        assert [row["id"] for row in listed(run)] == [made["id"]]
        assert run("combos", "list").stdout.splitlines()[1].split()[-2:] == ["4", "75.0%"]


class TestShow:
    def test_how_its_steps_stand(self, run: Run) -> None:
        run("combos", "create", "inner", "sandbox/story")
        run("combos", "create", "fast", "sandbox/echo", "inner", "groq/llama-3.3-70b-versatile")
        result = run("combos", "show", "fast")
        assert result.exit_code == Exit.DONE
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines[1][:5] == ["1", "sandbox/echo", "sandbox", "1.0", "ok"]
        assert lines[2][:5] == ["2", "sandbox/story", "sandbox", "1.0", "ok"]
        assert lines[3] == ["3", "groq/llama-3.3-70b-versatile", "-", "1.0", "inactive", "0", "-", "-", "-"]
        assert "strategy priority" in result.stderr
        assert "Warning: 'groq/llama-3.3-70b-versatile' leads nowhere now" in result.stderr

    def test_as_a_document(self, run: Run) -> None:
        made = document(run, "create", "fast", "sandbox/echo")
        shown = document(run, "show", made["id"])
        assert {name: shown[name] for name in made} == made
        (step,) = shown["targets"]
        assert (step["step"], step["stepId"], step["health"]) == (1, made["models"][0]["id"], "ok")
        assert (step["connections"], step["usable"], step["inputUsdPer1M"]) == (1, 1, 0.0)
        assert shown["warnings"] == []

    def test_an_unknown_one(self, run: Run) -> None:
        result = run("combos", "show", "none")
        assert (result.exit_code, result.stdout) == (Exit.MISUSE, "")


class TestUpdate:
    def test_only_what_is_given_changes(self, run: Run) -> None:
        made = document(run, "create", "fast", "sandbox/echo", "sandbox/story", "--config", "maxRetries=3")
        changed = document(run, "update", "fast", "--weight", "sandbox/story=7", "--config", "maxAttempts=2")
        assert [step["id"] for step in changed["models"]] == [step["id"] for step in made["models"]]
        assert [step["weight"] for step in changed["models"]] == [1.0, 7.0]
        assert changed["config"] == {"maxRetries": 3, "maxAttempts": 2}
        changed = document(run, "update", "fast", "sandbox/story", "--config", "maxRetries=null", "--inactive")
        assert [step["id"] for step in changed["models"]] == [made["models"][1]["id"]]
        assert (changed["config"], changed["isActive"]) == ({"maxAttempts": 2}, False)
        changed = document(run, "update", "fast", "--rename", "faster", "--strategy", "random", "--active")
        assert (changed["name"], changed["strategy"], changed["isActive"]) == ("faster", "random", True)
        assert [row["name"] for row in listed(run)] == ["faster"]

    def test_a_file(self, run: Run, home: Path) -> None:
        run("combos", "create", "fast", "sandbox/echo")
        (home / "combo.json").write_text('{"description": "Mine", "isDefault": true}', encoding="utf-8")
        changed = document(run, "update", "fast", "--file", "combo.json")
        assert (changed["description"], changed["isDefault"]) == ("Mine", True)

    def test_misuse(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo")
        nothing = run("combos", "update", "fast")
        assert (nothing.exit_code, "what is to change" in nothing.stderr) == (Exit.MISUSE, True)
        assert run("combos", "update", "none", "--inactive").exit_code == Exit.MISUSE
        assert run("combos", "update", "fast", "--rename", "auto").exit_code == Exit.MISUSE


class TestDelete:
    def test_it_asks_and_declines_without_a_terminal(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo")
        declined = run("combos", "delete", "fast")
        assert declined.exit_code == Exit.MISUSE
        assert "--yes" in declined.stderr
        assert run("combos", "delete", "fast", "--yes").exit_code == Exit.DONE
        assert listed(run) == []

    def test_one_that_is_used_only_by_force(self, run: Run) -> None:
        run("combos", "create", "inner", "sandbox/echo")
        run("combos", "create", "outer", "inner")
        assert run("combos", "delete", "inner", "--yes").exit_code == Exit.MISUSE
        assert run("combos", "delete", "inner", "--yes", "--force").exit_code == Exit.DONE


class TestTest:
    def test_each_target_is_asked(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo", "sandbox/story")
        result = run("combos", "test", "fast")
        assert result.exit_code == Exit.DONE
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines[0] == ["Step", "Model", "Connection", "Status", "ms", "Error"]
        assert [line[:4] for line in lines[1:]] == [
            ["1", "sandbox/echo", "sandbox", "ok"],
            ["2", "sandbox/story", "sandbox", "ok"],
        ]

    def test_one_that_fails_ends_with_1(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo", "sandbox/http/500")
        result = run("combos", "test", "fast", "--json")
        body = json.loads(result.stdout)
        assert result.exit_code == Exit.FAILED
        assert [row["status"] for row in body["results"]] == ["ok", "error"]
        assert body["strategy"] == "priority"
        assert body["testedAt"].endswith("Z")

    def test_elsewhere_as_here(self, both_busy: Both, busy: Remote) -> None:
        busy("combos", "create", "fast", "sandbox/echo", "sandbox/http/500")

        def untimed(text: str) -> str:
            return re.sub(r" +", " ", re.sub(r"(ok|error) +\d+", r"\1 ms", text))

        result = both_busy("combos", "test", "fast", "--prompt", "Hello", without=untimed)
        assert (result.exit_code, "Not every target serves." in result.stderr) == (Exit.FAILED, True)

    def test_one_that_leads_nowhere_ends_with_1(self, run: Run) -> None:
        run("combos", "create", "fast", "groq/llama-3.3-70b-versatile")
        result = run("combos", "test", "fast")
        assert result.exit_code == Exit.FAILED
        assert "skipped" in result.stdout


class TestOrder:
    def test_those_that_are_named_come_first(self, run: Run) -> None:
        for name in ("a", "b", "c"):
            run("combos", "create", name, "sandbox/echo")
        assert run("combos", "reorder", "c", "b").exit_code == Exit.DONE
        assert [row["name"] for row in listed(run)] == ["c", "b", "a"]
        assert run("combos", "reorder", "none").exit_code == Exit.MISUSE

    def test_the_default_is_switched(self, run: Run) -> None:
        for name in ("a", "b"):
            run("combos", "create", name, "sandbox/echo")
        run("combos", "switch", "a")
        assert "b (combo_" in run("combos", "switch", "b").stderr
        assert [row["name"] for row in listed(run) if row["isDefault"]] == ["b"]
        assert run("combos", "switch", "--none").exit_code == Exit.DONE
        assert [row["name"] for row in listed(run) if row["isDefault"]] == []
        assert run("combos", "switch").exit_code == Exit.MISUSE
        assert run("combos", "switch", "a", "--none").exit_code == Exit.MISUSE
        assert run("combos", "switch", "nobody").exit_code == Exit.MISUSE

    def test_elsewhere(self, remote: Remote) -> None:
        for name in ("a", "b"):
            remote("combos", "create", name, "sandbox/echo")
        assert "The order is now: b, a." in remote("combos", "reorder", "b").stderr
        remote("combos", "switch", "a")
        assert [row["name"] for row in listed(remote) if row["isDefault"]] == ["a"]
        assert "No combo is the default." in remote("combos", "switch", "--none").stderr
        assert remote("combos", "remove", "a", "-y").exit_code == Exit.DONE
        assert [row["name"] for row in listed(remote)] == ["b"]
