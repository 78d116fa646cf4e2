"""`omniroute budget`, `omniroute limits` and limited keys: here, and against a server elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run, document
from tests.cli.goldens import check_list
from tests.goldens import Golden


def budgets(run: Run, *arguments: str) -> list[dict[str, Any]]:
    return listed(run("budget", "list", *arguments, "--json").stdout, "budgets")


def limits(run: Run, *arguments: str) -> list[dict[str, Any]]:
    return listed(run("limits", "list", *arguments, "--json").stdout, "limits")


def listed(text: str, noun: str) -> list[dict[str, Any]]:
    document = json.loads(text)
    rows: list[dict[str, Any]] = document[noun]
    assert document["total"] == len(rows)
    return rows


def key(run: Run, name: str = "laptop", *more: str) -> str:
    made: str = json.loads(run("keys", "create", name, *more, "--json").stdout)["id"]
    return made


class TestBudget:
    def test_the_life_of_a_budget(self, run: Run) -> None:
        key_id = key(run)
        made = run("budget", "set", "laptop", "5", "--period", "daily")
        assert (made.exit_code, made.stdout) == (Exit.DONE, "")
        assert "The daily budget of laptop is 5 USD." in made.stderr
        (row,) = budgets(run)
        assert (row["keyId"], row["keyName"], row["period"], row["limit"], row["state"]) == (
            key_id,
            "laptop",
            "daily",
            5.0,
            "ok",
        )
        changed = json.loads(
            run(
                *("budget", "set", key_id, "$7.50", "--period", "daily", "--warn", "0.5"),
                *("--reset-time", "06:30", "--time-zone", "Asia/Tokyo", "--json"),
            ).stdout
        )
        assert (changed["limit"], changed["warningThreshold"], changed["resetTime"], changed["timeZone"]) == (
            7.5,
            0.5,
            "06:30",
            "Asia/Tokyo",
        )
        assert changed["resetsAt"].endswith("T21:30:00.000Z")
        assert run("budget", "set", "laptop", "100").exit_code == Exit.DONE
        assert [row["period"] for row in budgets(run)] == ["daily", "monthly"]
        declined = run("budget", "remove", "laptop")
        assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
        assert run("budget", "remove", "laptop", "--period", "daily", "-y").exit_code == Exit.DONE
        assert [row["period"] for row in budgets(run, "--key", "laptop")] == ["monthly"]
        assert "Removed 1 budget of laptop." in run("budget", "remove", "laptop", "-y").stderr
        assert budgets(run) == []
        assert run("budget", "remove", "laptop", "-y").exit_code == Exit.MISUSE

    def test_the_table(self, run: Run) -> None:
        key(run)
        run("budget", "set", "*", "0.125", "--period", "weekly")
        run("budget", "set", "local", "0", "--period", "daily")
        run("budget", "set", "laptop", "1200")
        lines = run("budget", "list").stdout.splitlines()
        assert lines[0].split() == ["Key", "Period", "Limit", "Spent", "Remaining", "State", "Resets"]
        assert sorted(line.rsplit(maxsplit=1)[0].split() for line in lines[1:]) == [
            ["all", "callers", "weekly", "0.125", "0.00", "0.125", "ok"],
            ["laptop", "monthly", "1200.00", "0.00", "1200.00", "ok"],
            ["local", "daily", "0.00", "0.00", "0.00", "exceeded"],
        ]
        assert [row["keyId"] for row in budgets(run, "--key", "*")] == ["*"]
        assert [row["limit"] for row in budgets(run, "--key", "local")] == [0.0]
        csv = run("budget", "list", "--key", "local", "-o", "csv").stdout.splitlines()
        assert csv[0] == "keyName,period,limit,spent,remaining,state,resetsAt"
        assert csv[1].startswith("local,daily,0.0,0.0,0.0,exceeded,")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("nobody", "5"),
            ("laptop", "--", "-5"),
            ("laptop", "much"),
            ("laptop", "NaN"),
            ("laptop", "inf"),
            ("laptop", "1000000001"),
            ("laptop", "0.0000000001"),
            ("laptop", "5", "--period", "yearly"),
            ("laptop", "5", "--warn", "1.5"),
            ("laptop", "5", "--reset-time", "25:00"),
            ("laptop", "5", "--time-zone", "Mars/Olympus"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, run: Run, arguments: tuple[str, ...]) -> None:
        key(run)
        refused = run("budget", "set", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
        assert refused.stderr
        assert budgets(run) == []

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        key(remote)
        remote("budget", "set", "laptop", "5", "--period", "daily", "--warn", "0.5")
        remote("budget", "set", "*", "0.125")
        check_list(golden, both, "budget", "list")
        assert len(budgets(both, "--key", "laptop")) == 1
        assert "Removed 1 budget of laptop." in remote("budget", "delete", "laptop", "-y").stderr
        assert [row["keyId"] for row in budgets(both)] == ["*"]

    def test_a_name_that_several_keys_have_is_not_enough(self, run: Run) -> None:
        first = key(run, "twin")
        key(run, "twin")
        refused = run("budget", "set", "twin", "5")
        assert (refused.exit_code, first in refused.stderr) == (Exit.MISUSE, True)
        assert run("budget", "set", first, "5").exit_code == Exit.DONE
        assert run("budget", "list", "--key", "nobody").exit_code == Exit.MISUSE


class TestLimits:
    def test_the_life_of_a_limit(self, run: Run) -> None:
        key_id = key(run)
        made = run("limits", "set", "--key", "laptop", "--tokens", "100000")
        assert (made.exit_code, made.stdout) == (Exit.DONE, "")
        (row,) = limits(run)
        assert row["id"] in made.stderr
        assert (row["keyId"], row["scopeType"], row["tokenLimit"], row["period"], row["enabled"]) == (
            key_id,
            "global",
            100_000,
            "daily",
            True,
        )
        again = json.loads(run("limits", "set", "--key", key_id, "--tokens", "5", "--disabled", "--json").stdout)
        assert (again["id"], again["tokenLimit"], again["enabled"]) == (row["id"], 5, False)
        declined = run("limits", "remove", row["id"])
        assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
        assert run("limits", "remove", row["id"], "-y").exit_code == Exit.DONE
        assert limits(run) == []
        assert run("limits", "remove", row["id"], "-y").exit_code == Exit.MISUSE

    def test_the_table_and_what_is_removed_together(self, run: Run) -> None:
        run("limits", "set", "--key", "local", "--tokens", "9", "--scope", "provider:openai", "--period", "weekly")
        run("limits", "set", "--key", "local", "--tokens", "8", "--scope", "model:openai/gpt-x")
        run("limits", "set", "--key", "*", "--tokens", "7")
        run("limits", "set", "--key", "local", "--tokens", "6", "--period", "weekly")
        lines = [line.split() for line in run("limits", "list").stdout.splitlines()]
        assert lines[0] == ["Id", "Key", "Scope", "Period", "Limit", "Used", "Remaining", "Enabled", "Resets"]
        assert sorted(line[1:-1] for line in lines[1:]) == [
            ["all", "callers", "global", "daily", "7", "0", "7", "yes"],
            ["local", "global", "weekly", "6", "0", "6", "yes"],
            ["local", "model:openai/gpt-x", "daily", "8", "0", "8", "yes"],
            ["local", "provider:openai", "weekly", "9", "0", "9", "yes"],
        ]
        for arguments, left in (
            (("--scope", "provider:nobody"), [7, 9, 8, 6]),
            (("--scope", "model:openai/gpt-x"), [7, 9, 6]),
            (("--scope", "provider:openai", "--period", "daily"), [7, 9, 6]),
            (("--scope", "global", "--period", "daily"), [7, 9, 6]),
            (("--period", "weekly"), [7]),
        ):
            run("limits", "remove", "--key", "local", *arguments, "-y")
            assert [row["tokenLimit"] for row in limits(run)] == left

    @pytest.mark.parametrize(
        "arguments",
        [
            ("set", "--key", "nobody", "--tokens", "5"),
            ("set", "--key", "local"),
            ("set", "--tokens", "5"),
            ("set", "--key", "local", "--tokens", "-5"),
            ("set", "--key", "local", "--tokens", "5", "--scope", "provider:nobody"),
            ("set", "--key", "local", "--tokens", "5", "--scope", "provider"),
            ("set", "--key", "local", "--tokens", "5", "--scope", "planet:x"),
            ("set", "--key", "local", "--tokens", "5", "--period", "yearly"),
            ("remove", "-y"),
            ("remove", "tl_1", "--key", "local", "-y"),
            ("remove", "tl_1", "--period", "daily", "-y"),
            ("remove", "--key", "*", "-y"),
        ],
    )
    def test_what_has_no_meaning_is_refused(self, run: Run, arguments: tuple[str, ...]) -> None:
        refused = run("limits", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
        assert limits(run) == []

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        remote("limits", "set", "--key", "*", "--tokens", "7")
        made = document(
            remote(
                *("limits", "set", "--key", "local", "--tokens", "9", "--scope", "provider:cc"),
                *("--period", "weekly", "--json"),
            )
        )
        assert (made["scopeType"], made["scopeValue"]) == ("provider", "cc")
        check_list(golden, both, "limits", "list")
        assert limits(both, "--scope", "provider:claude") == [made]
        assert limits(both, "--scope", "global", "--period", "weekly") == []
        assert limits(both, "--period", "weekly", "--key", "local") == [made]
        assert remote("limits", "delete", made["id"], "-y").exit_code == Exit.DONE
        assert [row["keyId"] for row in limits(both)] == ["*"]


class TestLimitedKeys:
    def test_a_key_is_made_with_its_limits(self, run: Run) -> None:
        made = json.loads(run("keys", "create", "k", "--rpm", "60", "--budget", "2.5", "--json").stdout)
        assert made["rateLimits"] == [{"limit": 60, "windowSeconds": 60}]
        assert json.loads(run("keys", "list", "--json").stdout)["keys"][0]["rateLimits"] == made["rateLimits"]
        key(run, "other", "--budget", "1", "--period", "daily")
        assert {(row["keyName"], row["period"], row["limit"]) for row in budgets(run)} == {
            ("k", "monthly", 2.5),
            ("other", "daily", 1.0),
        }

    @pytest.mark.parametrize(
        "arguments",
        [("--rpm", "0"), ("--budget", "lots"), ("--budget", "0.00000000001"), ("--period", "daily")],
    )
    def test_bad_limits_make_no_key(self, run: Run, arguments: tuple[str, ...]) -> None:
        refused = run("keys", "create", "k", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
        assert json.loads(run("keys", "list", "--json").stdout)["total"] == 0
