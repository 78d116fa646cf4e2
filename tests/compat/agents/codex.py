"""Codex: OpenAI Responses, streamed, nothing stored.

A context-length error ends the turn with a message of its own, and Codex counts the window that it believes in as full,
less what it had counted before. If that is above its limit for making room, the next turn of the conversation begins
with a summary; for a window much smaller than it believes in, the limit must be stated.
"""

from __future__ import annotations

from tests.compat import installed
from tests.compat.agents.workspace import Gateway, Turn, Workspace

_CONFIGURATION = """\
model_provider = "omniroute"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
model_auto_compact_token_limit = 100000

[analytics]
enabled = false

[feedback]
enabled = false

[features]
apps = false
plugins = false

[model_providers.omniroute]
name = "OmniRoute"
base_url = "{url}/v1"
env_key = "OMNIROUTE_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


class Codex:
    """One conversation."""

    def __init__(self, gateway: Gateway, workspace: Workspace) -> None:
        self._workspace = workspace
        self._variables = {"OMNIROUTE_API_KEY": gateway.key}
        folder = workspace.home / ".codex"
        folder.mkdir(exist_ok=True)
        folder.joinpath("config.toml").write_text(_CONFIGURATION.format(url=gateway.url), encoding="utf-8")

    def turn(self, prompt: str, model: str, *, is_first: bool = True) -> Turn:
        """Say something and wait for the answer."""
        which = () if is_first else ("resume", "--last")
        command = [installed.codex(), "exec", "--skip-git-repo-check", "--json", "--model", model, *which, "-"]
        ended = self._workspace.call(command, self._variables, prompt)
        items = [event["item"] for event in ended.events if event.get("type") == "item.completed"]
        said = [str(item["text"]) for item in items if item.get("type") == "agent_message"]
        failed = [event["error"]["message"] for event in ended.events if event.get("type") == "turn.failed"]
        return Turn(
            exit_code=ended.exit_code,
            text=said[-1] if said else "",
            pieces=tuple(said),
            error=failed[-1] if failed else "",
            compactions=sum(item.get("type") == "context_compaction" for item in items),
            output=ended.all_output,
        )
