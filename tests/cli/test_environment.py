"""`omniroute env`: what is set, without what must not be shown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from omniroute.settings import variables
from tests.cli.conftest import Run

SECRET = "a-secret-of-more-than-thirty-two-characters"


@pytest.fixture(autouse=True)
def _some_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIROUTE_METRICS", "on")
    monkeypatch.setenv("JWT_SECRET", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:{SECRET}@h/d")
    (home / ".env").write_text("OMNIROUTE_PORT=5\n")


def test_the_table(run: Run, home: Path) -> None:
    assert run("env").stdout.splitlines() == [
        "Name               Value" + " " * (len(str(home / "data")) - 3) + "Source",
        f"DATA_DIR           {home / 'data'}  DATA_DIR in the environment",
        "OMNIROUTE_PORT     5" + " " * (len(str(home / "data")) + 1) + "OMNIROUTE_PORT in ./.env",
        "OMNIROUTE_METRICS  true" + " " * (len(str(home / "data")) - 2) + "OMNIROUTE_METRICS in the environment",
        "DATABASE_URL       postgresql://…" + " " * (len(str(home / "data")) - 12) + "DATABASE_URL in the environment",
        "JWT_SECRET         set" + " " * (len(str(home / "data")) - 1) + "JWT_SECRET in the environment",
    ]


def test_json(run: Run) -> None:
    document = json.loads(run("env", "--json").stdout)

    assert document["total"] == 5
    assert document["variables"][1] == {"name": "OMNIROUTE_PORT", "value": "5", "source": "OMNIROUTE_PORT in ./.env"}


def test_jsonl_and_csv(run: Run) -> None:
    lines = [json.loads(line) for line in run("env", "-o", "jsonl").stdout.splitlines()]
    rows = list(csv.reader(io.StringIO(run("env", "-o", "csv").stdout)))

    assert [line["name"] for line in lines] == [row[0] for row in rows[1:]]
    assert rows[0] == ["name", "value", "source"]


def test_all_shows_every_setting(run: Run) -> None:
    document = json.loads(run("env", "--all", "--json").stdout)

    assert [row["name"] for row in document["variables"]] == [v.name for v in variables().values()]


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_no_secret_is_shown(run: Run, form: str) -> None:
    result = run("env", "--all", "-o", form)

    assert result.exit_code == 0
    assert SECRET not in result.output


def test_warnings_go_to_stderr(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIROUTE_METRIC", "on")

    result = run("env", "--json")

    assert "Warning: OMNIROUTE_METRIC in the environment is not a setting" in result.stderr
    assert json.loads(result.stdout)["total"] == 5
