"""`omniroute quota`: here, and against a server elsewhere."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from omniroute.cli import Exit
from omniroute.cli.local import open_services
from omniroute.records import GrantWindow, QuotaReading
from omniroute.services.keys import SYSTEM
from tests.cli.conftest import Both, Remote, Run, document
from tests.fakes.upstream import answer, fake_upstream

KEY = "gsk_0123456789abcdefghij"


@pytest.fixture
def connection(home: Path) -> str:
    """The id of a connection whose quota was read some minutes ago."""
    now = time.time()
    with open_services() as services:
        made = services.connections.create({"provider": "groq", "name": "Main", "apiKey": KEY}, SYSTEM).id
        windows = (
            GrantWindow("5h", 0.25, 1000, 750, "requests", 18_000.0, now + 9030),
            GrantWindow("credits", remaining=1234.5, unit="usd"),
        )
        services.routing.store.save_quotas(
            [QuotaReading(made, window, now - 180, "endpoint", "pro") for window in windows]
        )
    return made


def test_nothing_is_known(run: Run) -> None:
    assert run("quota").stdout.split() == ["Connection", "Plan", "Window", "Used", "Left", "Resets", "in", "Read"]


def test_windows_as_a_table(run: Run, connection: str) -> None:
    lines = run("quota").stdout.splitlines()
    assert lines[1].split("  ")[0] == "Main"
    first, second = (re.sub(r"3m( \d+s)? ago", "3m ago", line).split() for line in lines[1:])
    assert first == ["Main", "pro", "5h", "25%", "750", "requests", "2h", "30m", "3m", "ago"]
    assert second == ["Main", "pro", "credits", "-", "$1,234.50", "-", "3m", "ago"]


def test_windows_as_a_document(run: Run, connection: str) -> None:
    quota = json.loads(run("quota", "--json").stdout)["quotas"][0]
    assert (quota["connectionId"], quota["plan"], quota["stale"]) == (connection, "pro", False)
    assert [window["usedPercent"] for window in quota["windows"]] == [25.0, None]


def test_only_one_provider(run: Run, connection: str) -> None:
    assert len(run("quota", "--provider", "deepseek").stdout.splitlines()) == 1
    assert len(run("quota", "--provider", "groq").stdout.splitlines()) == 3


def test_a_refresh_asks_first(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"is_available": True, "balance_infos": [{"currency": "CNY", "total_balance": "7"}]}
    with fake_upstream(answer(json.dumps(body).encode()), answer(b"no", status=500)) as upstream:
        row = {
            "id": "mine",
            "urls": {"openai_chat": upstream.url + "/v1/chat/completions"},
            "usage_url": upstream.url + "/balance",
            "usage_shape": "deepseek",
            "is_local": True,
        }
        file = home / "providers.json"
        file.write_text(json.dumps({"providers": [row]}))
        monkeypatch.setenv("OMNIROUTE_PROVIDERS_FILE", str(file))
        with open_services() as services:
            services.connections.create({"provider": "mine", "name": "Own", "apiKey": KEY}, SYSTEM)
        assert "¥7.00" in run("quota", "--refresh").stdout
        failed = run("quota", "--refresh")
    assert failed.exit_code == Exit.DONE
    assert "¥7.00" in failed.stdout, "what was read before stays"
    assert "Own: The provider answered with status 500." in failed.stderr


def test_elsewhere_as_here(both: Both, remote: Remote) -> None:
    remote.server.api("POST", "/api/providers", {"provider": "deepseek", "name": "Own", "apiKey": KEY})
    nothing = document(both("quota", "--json"))["quotas"]
    assert [(one["connectionName"], one["windows"], one["hasReport"]) for one in nothing] == [("Own", [], True)]
    assert both("quota", "--provider", "groq").stdout.count("\n") == 1
    assert both("quota").stdout.splitlines()[1].split() == ["Own", "-", "-", "-", "-", "-", "-"]


def test_watching_ends_when_it_is_interrupted(run: Run, connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("omniroute.cli.quota.time.sleep", wait)
    result = run("quota", "--watch", "-o", "csv")
    assert (result.exit_code, looks) == (Exit.INTERRUPTED, [5.0, 5.0, 5.0])
    assert result.stdout.count("connection,plan,window") == 3
