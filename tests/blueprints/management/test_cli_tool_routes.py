"""`/api/cli-tools`: what coding tools need, and setting up those of this host."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omniroute.clients.tools import TOOLS
from omniroute.services import client_tools
from omniroute.services.access_tokens import Scope
from omniroute.services.keys import SYSTEM
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app

MODEL = "sandbox/echo"
MANY = [tool.id for tool in TOOLS if tool.id not in ("cline", "cursor")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the server's user, with a directory for programs of its own."""
    found = tmp_path / "home"
    (found / "bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.setenv("PATH", f"{found / 'bin'}:/usr/bin:/bin")
    for name in ("XDG_CONFIG_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    return found


@pytest.fixture
def app(settings: Settings, home: Path) -> Iterator[App]:
    with whole_app(settings, cli_allow_config_writes=True, allow_key_reveal=True) as built:
        yield built


def program(home: Path, name: str, text: str) -> None:
    file = home / "bin" / name
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


def snippet(app: App, tool: str, query: str = "") -> dict[str, Any]:
    answer = app.admin.get(f"/api/cli-tools/{tool}/snippet?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


# --- what tools need -------------------------------------------------------------------------------------------------


def test_the_tools(app: App) -> None:
    found = {tool["id"]: tool for tool in app.admin.get("/api/cli-tools").get_json()["tools"]}
    assert list(found) == [tool.id for tool in TOOLS]
    assert found["claude"]["baseUrl"] == "http://localhost:20128"
    assert found["codex"]["baseUrl"] == "http://localhost:20128/v1"
    assert found["codex"]["files"] == ["~/.codex/config.toml"]


@pytest.mark.parametrize("tool", [tool.id for tool in TOOLS])
def test_every_tool_has_a_snippet(app: App, tool: str) -> None:
    found = snippet(app, tool, f"model={MODEL}")
    text = json.dumps(found)
    assert MODEL in text
    assert "localhost:20128" in text
    assert "sk-" not in text


def test_a_snippet_for_another_address_and_system(app: App) -> None:
    found = snippet(app, "claude", f"model={MODEL}&os=windows&baseUrl=https://ai.example.com")
    assert found["files"][0]["path"] == "%USERPROFILE%\\.claude\\settings.json"
    assert found["environment"]["ANTHROPIC_BASE_URL"] == "https://ai.example.com"
    assert found["environment"]["ANTHROPIC_AUTH_TOKEN"] == "$env:OMNIROUTE_API_KEY"
    assert found["commands"][0].startswith("$env:OMNIROUTE_API_KEY = '…'")


def test_the_default_combo_is_what_a_tool_begins_with(app: App) -> None:
    app.own.combos.create({"name": "mine", "models": [MODEL]}, SYSTEM)
    app.own.snapshots.refresh()
    assert snippet(app, "codex")["model"] == "mine"


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("nothing/snippet", 404, None),
        ("codex/snippet?model=sandbox/ecko", 400, "model"),
        ("codex/snippet?os=beos", 400, "os"),
        ("codex/snippet?baseUrl=ftp://x", 400, "baseUrl"),
        ("codex/snippet?baseUrl=http://%5B", 400, "baseUrl"),
        (f"codex/snippet?model={MODEL}&keyId=key_none", 404, None),
    ],
)
def test_what_cannot_be_told_is_refused(app: App, path: str, status: int, field: str | None) -> None:
    answer = app.admin.get(f"/api/cli-tools/{path}")
    assert answer.status_code == status
    assert field is None or error_of(answer)["details"][0]["field"] == field


def test_the_key_is_named_and_shown_only_when_asked(app: App) -> None:
    issued = app.own.keys.create({"name": "laptop"}, SYSTEM)
    app.own.snapshots.refresh()
    named = snippet(app, "claude", f"model={MODEL}&keyId={issued.key.id}")
    assert "'laptop'" in named["note"]
    assert issued.secret not in json.dumps(named)
    shown = snippet(app, "claude", f"model={MODEL}&keyId={issued.key.id}&reveal=true")
    assert shown["environment"]["OMNIROUTE_API_KEY"] == issued.secret
    assert issued.secret in shown["commands"][0]
    windows = snippet(app, "claude", f"model={MODEL}&keyId={issued.key.id}&reveal=true&os=windows")
    assert windows["commands"][0].startswith(f"$env:OMNIROUTE_API_KEY = '{issued.secret}'")


def test_a_reader_is_shown_no_key(app: App) -> None:
    reader = app.client(app.own.access_tokens.create("reader", Scope.READ, None, SYSTEM).secret)
    assert reader.get(f"/api/cli-tools/claude/snippet?model={MODEL}").status_code == 200
    refused = reader.get(f"/api/cli-tools/claude/snippet?model={MODEL}&keyId=x&reveal=true")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "scope_insufficient")


# --- this host -------------------------------------------------------------------------------------------------------


def test_tools_are_found(app: App, home: Path) -> None:
    program(home, "claude", 'echo "9.8.7 ($OMNIROUTE_SECRET_FOR_TEST)"')
    program(home, "codex", "exit 3")
    (home / ".claude").mkdir()
    (home / ".claude/settings.json").write_text('{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:20128"}}', "utf-8")
    found = {tool["id"]: tool for tool in app.admin.get("/api/cli-tools/detect").get_json()["tools"]}
    claude = found["claude"]
    assert (claude["installed"], claude["version"], claude["configured"]) == (True, "9.8.7 ()", True)
    assert (found["codex"]["installed"], found["codex"]["version"]) == (True, None)
    assert (found["crush"]["installed"], found["crush"]["configured"]) == (False, False)


def test_a_program_is_not_given_the_secrets_of_the_server(
    app: App, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", "must not be seen")
    program(home, "claude", 'echo "1 $JWT_SECRET"')
    found = {tool["id"]: tool for tool in app.admin.get("/api/cli-tools/detect").get_json()["tools"]}
    assert found["claude"]["version"] == "1"


def test_a_program_that_hangs_is_ended_with_all_that_it_started(
    app: App, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tools, "_TIMEOUT_S", 0.2)
    program(home, "codex", "sleep 60 & sleep 60")
    began = time.monotonic()
    found = {tool["id"]: tool for tool in app.admin.get("/api/cli-tools/detect").get_json()["tools"]}
    assert (found["codex"]["installed"], found["codex"]["version"]) == (True, None)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("tool", MANY)
def test_a_tool_is_set_up_and_put_back(app: App, home: Path, tool: str) -> None:
    given = {"tool": tool, "model": MODEL}
    tried = app.admin.post("/api/cli-tools/apply", json={**given, "dryRun": True}).get_json()
    assert (tried["applied"], tried["written"]) == (False, [])
    assert "+++" in tried["diff"]
    assert not any(file.is_file() for file in home.rglob("*"))
    done = app.admin.post("/api/cli-tools/apply", json=given).get_json()
    assert done["diff"] == tried["diff"]
    paths = [Path(one["path"]) for one in done["written"]]
    assert paths
    assert all(path.is_relative_to(home) and path.is_file() for path in paths)
    back = app.admin.delete("/api/cli-tools/apply", json={"tool": tool}).get_json()
    assert back["restored"] == [str(path) for path in paths]
    assert not any(path.exists() for path in paths)


def test_what_a_file_held_is_kept_and_put_back(app: App, home: Path) -> None:
    file = home / ".codex/config.toml"
    file.parent.mkdir()
    file.write_text('# mine\napproval_policy = "never"\n', encoding="utf-8")
    (written,) = app.admin.post("/api/cli-tools/apply", json={"tool": "codex", "model": MODEL}).get_json()["written"]
    assert "# mine" in file.read_text("utf-8")
    assert Path(written["backup"]).read_text("utf-8") == '# mine\napproval_policy = "never"\n'
    again = app.admin.post("/api/cli-tools/apply", json={"tool": "codex", "model": MODEL}).get_json()
    assert (again["written"], again["diff"]) == ([], "")
    assert app.admin.delete("/api/cli-tools/apply", json={"tool": "codex"}).status_code == 200
    assert file.read_text("utf-8") == '# mine\napproval_policy = "never"\n'
    nothing = app.admin.delete("/api/cli-tools/apply", json={"tool": "codex"})
    assert nothing.status_code == 404
    rows = app.admin.get("/api/audit?action=client_files.changed").get_json()
    assert rows["total"] == 2


def test_a_file_that_cannot_be_read_is_left_alone(app: App, home: Path) -> None:
    file = home / ".codex/config.toml"
    file.parent.mkdir()
    file.write_text("[broken", encoding="utf-8")
    answer = app.admin.post("/api/cli-tools/apply", json={"tool": "codex", "model": MODEL})
    assert (answer.status_code, error_of(answer)["code"]) == (409, "file_unreadable")
    assert file.read_text("utf-8") == "[broken"


def test_a_place_that_cannot_be_written_is_said(app: App, home: Path) -> None:
    (home / ".codex").write_text("not a directory", "utf-8")
    answer = app.admin.post("/api/cli-tools/apply", json={"tool": "codex", "model": MODEL})
    assert answer.status_code == 409
    assert error_of(answer)["code"] in ("file_unreadable", "file_not_writable")


def test_a_tool_without_files_is_set_up_by_hand(app: App) -> None:
    answer = app.admin.post("/api/cli-tools/apply", json={"tool": "cursor", "model": MODEL})
    assert error_of(answer)["details"][0]["field"] == "tool"


def test_nothing_is_written_unless_it_is_allowed(settings: Settings, home: Path) -> None:
    with whole_app(settings) as app:
        given = {"tool": "codex", "model": MODEL}
        refused = app.admin.post("/api/cli-tools/apply", json=given)
        assert (refused.status_code, error_of(refused)["code"]) == (403, "config_writes_disabled")
        assert app.admin.delete("/api/cli-tools/apply", json={"tool": "codex"}).status_code == 403
        assert app.admin.post("/api/cli-tools/apply", json={**given, "dryRun": True}).status_code == 200
        assert app.admin.get("/api/cli-tools").get_json()["allowWrites"] is False
    assert not (home / ".codex").exists()


def test_files_of_this_host_are_for_callers_on_it(app: App) -> None:
    elsewhere = app.client(app.admin_key, address="198.51.100.7")
    assert elsewhere.get("/api/cli-tools").status_code == 200
    assert elsewhere.get("/api/cli-tools/detect").status_code == 403
    assert elsewhere.post("/api/cli-tools/apply", json={"tool": "codex"}).status_code == 403
    assert elsewhere.delete("/api/cli-tools/apply", json={"tool": "codex"}).status_code == 403
