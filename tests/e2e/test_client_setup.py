"""The path of a new user, with real programs: set up the server, then tools with the files that we write for them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from omniroute.cli import Exit
from tests.compat import installed
from tests.e2e.processes import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
WORDS = "the harbour at seven"
QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "IS_SANDBOX": "1",
}


@dataclass(frozen=True)
class Machine:
    """A person's machine: a home, a project, and the tools on the path."""

    home: Path
    port: int
    variables: dict[str, str]

    @property
    def project(self) -> Path:
        return self.home / "project"

    def run(self, *arguments: str, stdin: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments,
            env=self.variables | more,
            cwd=self.project,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )

    def omniroute(self, *arguments: str, stdin: str | None = None, **more: str) -> str:
        """Run a command of ours that has to work, and return what it prints."""
        done = self.run(sys.executable, "-m", "omniroute", *arguments, stdin=stdin, **more)
        assert done.returncode == Exit.DONE, (arguments, done.stdout, done.stderr)
        return done.stdout


def machine_at(home: Path) -> Machine:
    """Return a machine with nothing on it but the tools."""
    programs = home / "bin"
    programs.mkdir(parents=True)
    (home / "project").mkdir()
    for name, program in (
        ("claude", installed.claude_code()),
        ("codex", installed.codex()),
        ("opencode", installed.opencode()),
    ):
        (programs / name).symlink_to(program)
    gemini = programs / "gemini"
    gemini.write_text(f'#!/bin/sh\nexec {installed.node()} {installed.gemini_cli()} "$@"\n')
    gemini.chmod(0o755)
    port = free_port()
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "DATA_DIR": str(home / "data"),
        "OMNIROUTE_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "WEB_CONCURRENCY": "1",
        **QUIET,
    }
    return Machine(home, port, variables)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the server set up and running, and a key in the environment."""
    home = tmp_path_factory.mktemp("person")
    shutil.rmtree(home)
    made = machine_at(home)
    made.omniroute(
        "setup", "--non-interactive", "--password-stdin", "--combo", "main=sandbox/echo", stdin="long-enough-1\n"
    )
    made.omniroute("combos", "switch", "main")
    made.omniroute("server", "--daemon")
    try:
        key = made.omniroute("keys", "add", "tools").strip()
        yield Machine(made.home, made.port, made.variables | {"OMNIROUTE_API_KEY": key})
    finally:
        made.omniroute("stop")


def test_the_path_of_a_new_user(tmp_path: Path) -> None:
    """Install, set up, add an endpoint, make a key, set Claude Code up, one turn."""
    other, person = machine_at(tmp_path / "other"), machine_at(tmp_path / "person")
    # The endpoint of their own is a second gateway, as a local model server would be.
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "omniroute", "sandbox", "--port", str(other.port)],
        env=other.variables,
        cwd=other.project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        person.omniroute("setup", "--non-interactive", "--password-stdin", stdin="long-enough-1\n")
        person.omniroute("server", "--daemon")
        url = f"http://127.0.0.1:{other.port}/v1"
        person.omniroute("nodes", "add", "mine", "--prefix", "mine", "--type", "openai", "--url", url, "--local")
        person.omniroute("providers", "add", "mine", "--api-key-stdin", "--test", stdin="sk-sandbox-0123456789\n")
        key = person.omniroute("keys", "add", "laptop").strip()
        person.omniroute("setup-claude", "--model", "mine/echo", "--yes")

        done = person.run("claude", "-p", WORDS, OMNIROUTE_API_KEY=key)

        assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)

        def asked() -> set[tuple[str, str]]:
            rows = json.loads(person.omniroute("logs", "--requests", "--json"))["logs"]
            return {(row["model"], row["requestedModel"]) for row in rows if row["apiKeyName"] == "laptop"}

        wait_until(asked, within_s=15, what="the turn is in the log")  # rows come in batches
        assert asked() == {("echo", "mine/echo")}
        assert key not in (person.home / ".claude" / "settings.json").read_text()
    finally:
        person.run(sys.executable, "-m", "omniroute", "stop")
        sandbox.terminate()
        sandbox.wait(10)


def test_claude_code_with_the_written_file(machine: Machine) -> None:
    settings = machine.home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{\n  "includeCoAuthoredBy": false\n}\n')

    machine.omniroute("setup-claude", "--yes")

    done = machine.run("claude", "-p", WORDS)
    assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)
    assert json.loads(settings.read_text())["includeCoAuthoredBy"] is False
    machine.omniroute("setup-claude", "--undo")
    assert settings.read_text() == '{\n  "includeCoAuthoredBy": false\n}\n'


def test_codex_with_the_written_file_and_with_a_profile(machine: Machine) -> None:
    machine.omniroute("setup-codex", "--model", "sandbox/echo", "--yes")
    printed = machine.omniroute("configure", "codex", "--provider", "sandbox", "--model", "json", "--name", "second")

    done = machine.run("codex", "exec", "--skip-git-repo-check", WORDS)
    with_profile = machine.run("codex", "exec", "--skip-git-repo-check", "--profile", "second", WORDS)

    assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)
    assert printed.splitlines()[-1] == "codex --profile second"
    assert with_profile.returncode == 0, (with_profile.stdout, with_profile.stderr)

    def are_logged() -> bool:
        rows = json.loads(machine.omniroute("logs", "--requests", "--json"))["logs"]
        return {"sandbox/echo", "sandbox/json"} <= {row["requestedModel"] for row in rows}

    wait_until(are_logged, within_s=15, what="both models were asked")  # rows come in batches


def test_gemini_cli_with_the_written_files(machine: Machine) -> None:
    machine.omniroute("setup-gemini", "--model", "sandbox/echo", "--yes")

    key = machine.variables["OMNIROUTE_API_KEY"]
    done = machine.run("gemini", "--skip-trust", "-p", WORDS, GEMINI_API_KEY=key)

    assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)


def test_opencode_with_the_written_file(machine: Machine) -> None:
    machine.omniroute("setup-opencode", "--model", "sandbox/echo", "--only", "sandbox/e*", "--yes")

    done = machine.run("opencode", "run", WORDS)

    assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)


@pytest.mark.parametrize("tool", ["claude", "codex"])
def test_launching_writes_nothing(machine: Machine, tmp_path: Path, tool: str) -> None:
    home = tmp_path / "home"
    (home / ".claude").mkdir(parents=True)
    own = machine.variables | {"HOME": str(home), "OMNIROUTE_CONFIG": str(home / "contexts.json")}
    said = ("-p", WORDS) if tool == "claude" else ("exec", "--skip-git-repo-check", WORDS)

    done = machine.run(sys.executable, "-m", "omniroute", "launch", tool, "--model", "main", "--", *said, **own)

    assert (done.returncode, WORDS in done.stdout) == (0, True), (done.stdout, done.stderr)
    assert not (home / ".claude" / "settings.json").exists()
    assert not (home / ".codex" / "config.toml").exists()


def test_a_tool_that_is_not_installed(machine: Machine) -> None:
    done = machine.run(sys.executable, "-m", "omniroute", "launch", "claude", PATH="/usr/bin:/bin")

    assert done.returncode == Exit.MISUSE
    assert "Install it with: npm install -g @anthropic-ai/claude-code" in done.stderr
