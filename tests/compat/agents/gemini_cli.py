"""Gemini CLI: Gemini, streamed with `alt=sse`; summaries come from the call that is not streamed.

A context-length error ends the turn with the upstream's words. Before a turn the history is summarised when it takes up
more than a share of the window that Gemini CLI believes in, a million tokens for models that it does not know; the
share is a setting, and so is the model that summarises. The summary is kept only when it is smaller than what it
replaces, by the tokens that were reported.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.compat import installed
from tests.compat.agents.workspace import Gateway, Turn, Workspace

_SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
}


class GeminiCli:
    """One conversation."""

    def __init__(self, gateway: Gateway, workspace: Workspace) -> None:
        self._workspace = workspace
        self._model_settings: dict[str, float] = {}
        self._variables = {
            "GEMINI_API_KEY": gateway.key,
            "GOOGLE_GEMINI_BASE_URL": gateway.url,
            # Without it the program starts a second time, only to get more memory.
            "GEMINI_CLI_NO_RELAUNCH": "true",
            "NODE_COMPILE_CACHE": str(installed.INSTALLED / "compiled"),
        }

    def summarise_from_now_on(self) -> None:
        """Have the history summarised before each turn, as its user can by a setting."""
        self._model_settings = {"compressionThreshold": 0.01}

    def turn(self, prompt: str, model: str, *, is_first: bool = True) -> Turn:
        """Say something and wait for the answer."""
        summaries = {"chat-compression-default": {"modelConfig": {"model": model}}}
        settings = {**_SETTINGS, "model": self._model_settings, "modelConfigs": {"customAliases": summaries}}
        folder = self._workspace.home / ".gemini"
        folder.mkdir(exist_ok=True)
        folder.joinpath("settings.json").write_text(json.dumps(settings), encoding="utf-8")
        which = () if is_first else ("--resume", "latest")
        flags = ("--model", model, "--yolo", "--output-format", "stream-json", *which)
        command: list[str | Path] = [installed.node(), installed.gemini_cli(), *flags]
        ended = self._workspace.call(command, self._variables, prompt)
        said = [event for event in ended.events if event.get("type") == "message" and event.get("role") == "assistant"]
        result = next((event for event in ended.events if event.get("type") == "result"), {})
        pieces = tuple(str(event["content"]) for event in said)
        return Turn(
            exit_code=ended.exit_code,
            text="".join(pieces),
            pieces=pieces,
            error=str(result.get("error", {}).get("message", "")) if result.get("status") != "success" else "",
            compactions=0,
            output=ended.all_output,
        )
