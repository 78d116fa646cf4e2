"""OpenCode: OpenAI Chat Completions through the provider package that it carries for compatible hosts.

On a context-length error it summarises its history and goes on with the turn. Most of its time goes into starting, so
it runs once, as the headless server that its own front ends talk to; each conversation has a folder of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.compat import installed
from tests.compat.agents.workspace import TURN_S, Gateway, Turn, Workspace, end_group
from tests.e2e.processes import START_S, free_port, wait_until

_VARIABLES = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
_LISTENS = re.compile(r"listening on (http://[\d.]+:\d+)")
_OUTPUT_TOKENS = 4_000
_PROVIDER = "omniroute"


class OpenCodeServer:
    """The server of OpenCode that its command line attaches to."""

    def __init__(self, gateway: Gateway, models: Iterable[str], root: Path) -> None:
        self._workspace = Workspace(root)
        self._log_file = root / "serve.log"
        folder = self._workspace.home / ".config" / "opencode"
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("opencode.json").write_text(json.dumps(_configuration(gateway, models)), encoding="utf-8")
        self.url = ""
        self.session = requests.Session()
        self.session.trust_env = False

    def __enter__(self) -> Self:
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [installed.opencode(), "serve", "--port", str(free_port()), "--print-logs"],
                cwd=self._workspace.folder,
                env=self._workspace.environment(_VARIABLES),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        def address() -> str | None:
            assert self._process.poll() is None, self.log
            found = _LISTENS.search(self.log)
            return found[1] if found else None

        try:
            self.url = wait_until(address, within_s=START_S, what="OpenCode listens")
        except BaseException:
            end_group(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()
        end_group(self._process)

    @property
    def log(self) -> str:
        """Return what the server has printed."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")


def _configuration(gateway: Gateway, models: Iterable[str]) -> dict[str, Any]:
    # The window is only stated so that OpenCode has no reason to make its history smaller before it is told to.
    model = {"tool_call": True, "limit": {"context": 1_000_000, "output": _OUTPUT_TOKENS}}
    return {
        "autoupdate": False,
        "share": "disabled",
        "permission": "allow",
        "provider": {
            _PROVIDER: {
                "npm": "@ai-sdk/openai-compatible",
                "name": "OmniRoute",
                "options": {"baseURL": f"{gateway.url}/v1", "apiKey": gateway.key},
                "models": {name: {"name": name, **model} for name in models},
            }
        },
    }


class OpenCode:
    """One conversation."""

    def __init__(self, server: OpenCodeServer, workspace: Workspace) -> None:
        self._server = server
        self._folder = workspace.folder
        self._session = self._post("/session", {"title": "lab"})["id"]

    def turn(self, prompt: str, model: str, *, is_first: bool = True) -> Turn:
        """Say something and wait for the answer."""
        del is_first  # the session knows
        before = len(self._messages())
        asked = {"model": {"providerID": _PROVIDER, "modelID": model}, "parts": [{"type": "text", "text": prompt}]}
        answer = self._post(f"/session/{self._session}/message", asked)
        since = self._messages()[before:]
        error = answer["info"].get("error")
        return Turn(
            exit_code=0,
            text="".join(part["text"] for part in answer["parts"] if part["type"] == "text"),
            pieces=(),
            error=json.dumps(error) if error else "",
            compactions=sum(part["type"] == "compaction" for message in since for part in message["parts"]),
            output=f"{json.dumps(since, indent=1)}\n--- server ---\n{self._server.log}",
        )

    def _messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", f"/session/{self._session}/message", None)
        return found

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._call("POST", path, body)
        return answer

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        answer = self._server.session.request(
            method,
            self._server.url + path,
            params={"directory": str(self._folder)},
            json=body,
            timeout=TURN_S,
        )
        assert answer.status_code == 200, f"{answer.text}\n{self._server.log}"
        return answer.json()
