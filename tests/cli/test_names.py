"""`omniroute chains` and `omniroute mappings`: here, and against a server elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run, document
from tests.cli.goldens import check_list
from tests.goldens import Golden


def rows(run: Run, noun: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(run(noun, "list", *arguments, "--json"))[noun]
    return found


class TestChains:
    def test_the_life_of_a_chain(self, run: Run) -> None:
        made = run("chains", "set", "last resort", "sandbox/echo", "auto")
        assert (made.exit_code, made.stdout) == (Exit.DONE, "")
        assert "last resort: sandbox/echo, auto, for *." in made.stderr
        (first,) = rows(run, "chains")
        assert (first["models"], first["match"], first["enabled"]) == (["sandbox/echo", "auto"], ["*"], True)
        changed = document(
            run(
                *("chains", "set", "last resort", "sandbox/story", "--match", "gpt-*", "--match", "o1"),
                *("--order", "7", "--disabled", "--json"),
            )
        )
        assert (changed["id"], changed["models"]) == (first["id"], ["sandbox/story"])
        assert (changed["match"], changed["order"], changed["enabled"]) == (["gpt-*", "o1"], 7, False)
        declined = run("chains", "remove", "last resort")
        assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
        assert run("chains", "remove", first["id"], "-y").exit_code == Exit.DONE
        assert rows(run, "chains") == []
        assert run("chains", "remove", "last resort", "-y").exit_code == Exit.MISUSE

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        remote("chains", "set", "b", "sandbox/echo", "--order", "2", "--match", "gpt-*")
        remote("chains", "set", "a", "sandbox/story", "sandbox/echo", "--order", "1", "--disabled")
        check_list(golden, both, "chains", "list")
        assert [row["name"] for row in rows(both, "chains", "--search", "STORY")] == ["a"]
        assert remote("chains", "delete", "a", "-y").exit_code == Exit.DONE
        assert [row["name"] for row in rows(both, "chains")] == ["b"]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("x",),
            ("x", "auto", "sandbox/echo"),
            ("x", "auto/none"),
            ("x", "sandbox/*"),
            ("x", "sandbox/echo", "--order", "-1"),
            ("x", "sandbox/echo", "--match", ""),
        ],
    )
    def test_what_is_no_chain_is_refused(self, remote: Remote, arguments: tuple[str, ...]) -> None:
        refused = remote("chains", "set", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
        assert rows(remote, "chains") == []


class TestMappings:
    def test_the_life_of_a_mapping(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo")
        run("combos", "create", "slow", "sandbox/story")
        made = run("mappings", "set", "claude-*", "fast")
        assert (made.exit_code, made.stdout) == (Exit.DONE, "")
        assert "claude-* leads to the combo fast." in made.stderr
        (first,) = rows(run, "mappings")
        assert (first["pattern"], first["comboName"], first["priority"], first["enabled"]) == (
            "claude-*",
            "fast",
            0,
            True,
        )
        changed = document(
            run(
                *("mappings", "set", "claude-*", "slow", "--priority", "3", "--disabled"),
                *("--description", "Night shift", "--json"),
            )
        )
        assert (changed["id"], changed["comboName"], changed["priority"]) == (first["id"], "slow", 3)
        assert (changed["enabled"], changed["description"]) == (False, "Night shift")
        declined = run("mappings", "remove", "claude-*")
        assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
        assert run("mappings", "remove", "claude-*", "-y").exit_code == Exit.DONE
        assert rows(run, "mappings") == []
        assert run("mappings", "remove", "claude-*", "-y").exit_code == Exit.MISUSE

    def test_a_request_follows_it(self, run: Run) -> None:
        run("combos", "create", "fast", "sandbox/echo")
        run("mappings", "set", "claude-*", "fast")
        assert "sandbox/echo" in run("simulate", "claude-9").stdout

    def test_elsewhere_as_here(self, both: Both, remote: Remote, golden: Golden) -> None:
        remote("combos", "create", "fast", "sandbox/echo")
        remote("mappings", "set", "claude-*", "fast", "--description", "All of them")
        remote("mappings", "add", "o?", "fast", "--priority", "5")
        check_list(golden, both, "mappings", "list")
        assert [row["pattern"] for row in rows(both, "mappings", "--search", "ALL OF")] == ["claude-*"]
        assert remote("mappings", "delete", "o?", "-y").exit_code == Exit.DONE
        assert [row["pattern"] for row in rows(both, "mappings")] == ["claude-*"]

    def test_one_pattern_that_two_mappings_have(self, remote: Remote) -> None:
        combo = document(remote("combos", "create", "fast", "sandbox/echo", "--json"))["id"]
        for _ in range(2):
            remote.server.api("POST", "/api/model-combo-mappings", {"pattern": "x*", "comboId": combo})
        for arguments in (("set", "x*", "fast"), ("remove", "x*", "-y")):
            refused = remote("mappings", *arguments)
            assert (refused.exit_code, refused.stderr.count("map_")) == (Exit.MISUSE, 2)

    @pytest.mark.parametrize("arguments", [("x*", "nobody"), ("auto", "fast"), ("x*", "fast", "--priority", "1001")])
    def test_what_leads_nowhere_is_refused(self, remote: Remote, arguments: tuple[str, ...]) -> None:
        remote("combos", "create", "fast", "sandbox/echo")
        refused = remote("mappings", "set", *arguments)
        assert (refused.exit_code, refused.stdout) == (Exit.MISUSE, "")
        assert rows(remote, "mappings") == []
