"""`omniroute pricing`: here, and against a server elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from omniroute.cli import Exit
from tests.cli.conftest import Both, Remote, Run
from tests.cli.goldens import check_list
from tests.goldens import Golden


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    document = json.loads(run("pricing", "list", *arguments, "--json").stdout)
    rows: list[dict[str, Any]] = document["prices"]
    assert document["total"] == len(rows)
    return rows


def test_the_life_of_a_price(run: Run) -> None:
    made = run("pricing", "set", "openai/gpt-4.1", "--input", "1.50", "--output", "6")
    assert (made.exit_code, made.stdout) == (Exit.DONE, "")
    assert "openai/gpt-4.1: in 1.5, out 6 USD per 1M (override)." in made.stderr
    (row,) = listed(run, "--source", "override")
    assert (row["provider"], row["model"], row["input"], row["output"]) == ("openai", "gpt-4.1", 1.5, 6)
    assert row["unit"] == "1M"
    shown = json.loads(run("pricing", "set", "openai/gpt-4.1", "--input", "none", "--json").stdout)
    assert (shown["input"], shown["output"], shown["source"]) == (2, 6, "override")
    assert "in 2, out 6" in run("pricing", "set", "openai/gpt-4.1", "--output", "6").stderr
    declined = run("pricing", "reset", "openai/gpt-4.1")
    assert (declined.exit_code, "--yes" in declined.stderr) == (Exit.MISUSE, True)
    gone = run("pricing", "reset", "openai/gpt-4.1", "-y")
    assert (gone.exit_code, "Dropped 1 price." in gone.stderr) == (Exit.DONE, True)
    assert listed(run, "--source", "override") == []
    assert run("pricing", "reset", "openai/gpt-4.1", "-y").exit_code == Exit.MISUSE


def test_the_table(run: Run) -> None:
    run("pricing", "set", "sandbox/echo", "--input", "0.5", "--output", "2", "--cached", "0.05")
    run("pricing", "set", "sandbox/made-up", "--per-image", "0.04")

    result = run("pricing", "list", "--source", "override")

    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Model", "In", "Out", "Cached", "Source"],
        ["sandbox/echo", "0.5", "2", "0.05", "override"],
        ["sandbox/made-up", "-", "-", "-", "override"],
    ]


def test_lists_are_narrowed(run: Run) -> None:
    assert {row["provider"] for row in listed(run, "--provider", "cc")} == {"claude"}
    assert all("opus" in row["model"] for row in listed(run, "--search", "OPUS"))
    assert listed(run, "--source", "import") == []
    assert listed(run, "--unpriced") == []
    assert run("pricing", "list", "--provider", "nobody").exit_code == Exit.MISUSE


def test_prices_per_thousand(run: Run) -> None:
    run("pricing", "set", "openai/own-1", "--input", "0.0015", "--per-request", "0.01", "--unit", "1K")

    (row,) = listed(run, "--source", "override")
    (small,) = listed(run, "--source", "override", "--unit", "1K")

    assert (row["input"], row["perRequest"]) == (1.5, 0.01)
    assert (small["input"], small["perRequest"]) == (0.0015, 0.01)


def test_all_of_a_provider_is_dropped_at_once(run: Run) -> None:
    for name in ("a", "b"):
        run("pricing", "set", f"openai/{name}", "--input", "1")

    assert "Dropped 2 prices." in run("pricing", "reset", "openai", "-y").stderr


def test_a_price_that_is_gone_is_told(run: Run) -> None:
    run("pricing", "set", "openai/own-1", "--input", "1")

    assert "openai/own-1 has no price now." in run("pricing", "set", "openai/own-1", "--input", "none").stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gpt-5", "--input", "1"], "provider/model"),
        (["openai/", "--input", "1"], "provider/model"),
        (["nobody/gpt-5", "--input", "1"], "is not a provider"),
        (["openai/gpt-5"], "at least one price"),
        (["openai/gpt-5", "--input", "-1"], "must be from 0"),
        (["openai/gpt-5", "--input", "cheap"], "must be a number"),
        (["openai/gpt-5", "--input", ""], "must be a number"),
        (["/gpt-5", "--input", "1"], "provider/model"),
        (["openai/gpt-5", "--cache-write", "NaN"], "must be from 0"),
        (["openai/gpt-5", "--input", "1", "--unit", "1G"], "1G"),
    ],
)
def test_what_cannot_be_meant_is_misuse(remote: Remote, arguments: list[str], says: str) -> None:
    result = remote("pricing", "set", *arguments)

    assert (result.exit_code, says in result.stderr) == (Exit.MISUSE, True), result.stderr


def test_prices_are_imported(run: Run) -> None:
    dry = run("pricing", "sync", "--dry-run", "--json")
    assert dry.exit_code == Exit.DONE
    assert "would change" in dry.stderr
    rows = json.loads(dry.stdout)["changed"]
    assert {row["source"] for row in rows} == {"import"}
    assert listed(run, "--source", "import") == []
    assert run("pricing", "sync").exit_code == Exit.DONE
    assert len(listed(run, "--source", "import")) == len(rows) > 20
    assert run("pricing", "sync", "--source", "list").exit_code == Exit.MISUSE


def test_elsewhere_as_here(both: Both, remote: Remote, golden: Golden) -> None:
    remote("pricing", "set", "sandbox/echo", "--input", "0.5", "--output", "2", "--cached", "0.05")
    remote("pricing", "set", "openai/tiny", "--input", "0.000000001")
    check_list(golden, both, "pricing", "list", "--source", "override")
    whole = listed(both)
    assert len(whole) > 200, "more than a page"
    assert [row["model"] for row in listed(remote, "--limit", "3")] == [row["model"] for row in whole[:3]]
    assert listed(remote, "--search", "openai/TINY")[0]["input"] == 1e-9
    lines = remote("pricing", "list", "--search", "openai/tiny", "-o", "csv").stdout.splitlines()
    assert lines == ["name,input,output,cached,source", "openai/tiny,1e-09,,,override"]
    assert "Dropped 1 price." in remote("pricing", "reset", "openai/tiny", "-y").stderr
    dry = json.loads(remote("pricing", "import", "--dry-run", "--json").stdout)
    assert (dry["dryRun"], dry["source"]) == (True, "package")
    assert {row["source"] for row in dry["changed"]} == {"import"}
