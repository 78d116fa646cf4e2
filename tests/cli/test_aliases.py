"""`omniroute aliases`: on a real installation, without a running server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Run


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    document = json.loads(run("aliases", "list", *arguments, "--json").stdout)
    rows: list[dict[str, Any]] = document["aliases"]
    assert document["total"] == len(rows)
    return rows


def test_the_life_of_an_alias(run: Run) -> None:
    made = run("aliases", "set", "fast", "sandbox/echo")
    assert (made.exit_code, made.stdout) == (Exit.DONE, "")
    assert "fast leads to sandbox/echo." in made.stderr
    (row,) = listed(run)
    assert (row["pattern"], row["target"], row["priority"], row["enabled"], row["hits"]) == (
        "fast",
        "sandbox/echo",
        0,
        True,
        0,
    )
    assert row["id"].startswith("alias_")
    again = run("aliases", "set", "fast", "sandbox/story", "--priority", "-5", "--disabled", "--json")
    changed = json.loads(again.stdout)
    assert (changed["id"], changed["target"], changed["priority"], changed["enabled"]) == (
        row["id"],
        "sandbox/story",
        -5,
        False,
    )
    declined = run("aliases", "remove", "fast")
    assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
    assert run("aliases", "remove", "fast", "-y").exit_code == Exit.DONE
    assert listed(run) == []
    assert run("aliases", "remove", "fast", "-y").exit_code == Exit.MISUSE


def test_the_table(run: Run) -> None:
    run("aliases", "set", "gpt-*", "sandbox/echo")
    run("aliases", "set", "tale", "sandbox/story", "--priority", "3")
    result = run("aliases", "list")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Pattern", "Target", "Priority", "Enabled", "Hits"],
        ["gpt-*", "sandbox/echo", "0", "yes", "0"],
        ["tale", "sandbox/story", "3", "yes", "0"],
    ]
    assert [row["pattern"] for row in listed(run, "--search", "STORY")] == ["tale"]
    assert [row["pattern"] for row in listed(run, "--search", "gpt")] == ["gpt-*"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("auto", "sandbox/echo"),
        ("fast", "fast"),
        ("fast", "sandbox/*"),
        ("fast", "combo/none"),
        ("fast", "sandbox/echo", "--priority", "1001"),
    ],
)
def test_what_leads_nowhere_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("aliases", "set", *arguments).exit_code == Exit.MISUSE
    assert listed(run) == []


def test_a_request_follows_it(run: Run) -> None:
    run("aliases", "set", "gpt-*", "sandbox/echo")
    result = run("simulate", "gpt-9")
    assert result.exit_code == Exit.DONE
    assert "sandbox/echo" in result.stdout
