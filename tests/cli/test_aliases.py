"""`omniroute aliases`: here, and against a server elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run, document
from tests.cli.goldens import check_list
from tests.goldens import Golden


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    found = document(run("aliases", "list", *arguments, "--json"))
    rows: list[dict[str, Any]] = found["aliases"]
    assert found["total"] == len(rows)
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


def test_elsewhere_as_here(both: Both, remote: Remote, golden: Golden) -> None:
    assert remote("aliases", "add", "gpt-*", "sandbox/echo").stdout == ""
    made = json.loads(remote("aliases", "set", "tale", "sandbox/story", "--priority", "3", "--json").stdout)
    check_list(golden, both, "aliases", "list")
    assert [row["pattern"] for row in listed(both, "--search", "STORY")] == ["tale"]
    assert listed(both, "--limit", "1")[0]["pattern"] == "gpt-*"
    assert listed(both)[1] == made
    assert remote("aliases", "delete", "tale", "-y").exit_code == Exit.DONE
    assert [row["pattern"] for row in listed(both)] == ["gpt-*"]


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
def test_what_leads_nowhere_is_refused(remote: Remote, arguments: tuple[str, ...]) -> None:
    refused = remote("aliases", "set", *arguments)
    assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
    assert listed(remote) == []


def test_a_request_follows_it(run: Run) -> None:
    run("aliases", "set", "gpt-*", "sandbox/echo")
    result = run("simulate", "gpt-9")
    assert result.exit_code == Exit.DONE
    assert "sandbox/echo" in result.stdout
