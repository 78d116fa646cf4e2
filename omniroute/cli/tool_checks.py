"""What `doctor --clients` looks at: the coding tools on this machine, and whether they point here."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from omniroute.cli.checks import Finding, Status
from omniroute.cli.session import Session

_TIMEOUT_S: Final = 15.0
# Program, and the files in which its address may stand, below the home directory.
TOOLS: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": (".claude/settings.json",),
    "codex": (".codex/config.toml",),
    "opencode": (".config/opencode/opencode.json", ".config/opencode/opencode.jsonc"),
    "gemini": (".gemini/settings.json", ".gemini/.env"),
    "qwen": (".qwen/settings.json",),
    "aider": (".aider.conf.yml",),
    "goose": (".config/goose/config.yaml",),
}


def run_all(session: Session) -> list[Finding]:
    """Look for each tool."""
    address = session.target.base_url
    if session.target.is_here:
        from omniroute.cli.running import address_of

        address = address_of(session.local_settings())
    return [finding for tool, files in TOOLS.items() for finding in _look(tool, files, address)]


def _look(tool: str, files: tuple[str, ...], address: str) -> Iterator[Finding]:
    program = shutil.which(tool)
    if program is None:
        return
    version = _version(program)
    if version is None:
        yield Finding(
            "tools", Status.WARN, f"{tool} is installed but does not say its version.", f"Run: {tool} --version"
        )
        return
    port = address.rpartition(":")[2]
    texts = [_text(Path.home() / file) for file in files]
    data = {"tool": tool, "version": version}
    if any(address in text or f"localhost:{port}" in text for text in texts):
        yield Finding("tools", Status.OK, f"{tool} {version} points at {address}.", None, data)
    else:
        hint = f"omniroute setup-{tool}, or omniroute launch {tool} without changing its files."
        yield Finding("tools", Status.WARN, f"{tool} {version} does not point at {address}.", hint, data)


def _version(program: str) -> str | None:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0][:60] if done.returncode == 0 and lines else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
