"""Claude Code: Anthropic Messages with a Bearer key.

On "prompt is too long" it summarises its history, with the oldest turns left out until the summary request fits, and
goes on with the turn.
"""

from __future__ import annotations

from tests.compat import installed
from tests.compat.agents.workspace import Gateway, Turn, Workspace

_FLAGS = (
    *("--print", "--output-format", "stream-json", "--verbose", "--include-partial-messages"),
    "--dangerously-skip-permissions",
)


class ClaudeCode:
    """One conversation."""

    def __init__(self, gateway: Gateway, workspace: Workspace) -> None:
        self._workspace = workspace
        self._variables = {
            "ANTHROPIC_BASE_URL": gateway.url,
            "ANTHROPIC_AUTH_TOKEN": gateway.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            # Root may skip the questions for permission only where it says that nothing can come to harm.
            "IS_SANDBOX": "1",
        }

    def turn(self, prompt: str, model: str, *, is_first: bool = True) -> Turn:
        """Say something and wait for the answer."""
        command = [installed.claude_code(), *_FLAGS, "--model", model, *(() if is_first else ("--continue",))]
        ended = self._workspace.call(command, self._variables, prompt)
        result = next((event for event in ended.events if event.get("type") == "result"), {})
        streamed = [event["event"] for event in ended.events if event.get("type") == "stream_event"]
        deltas = [event["delta"] for event in streamed if event.get("type") == "content_block_delta"]
        is_error = bool(result.get("is_error", True))
        return Turn(
            exit_code=ended.exit_code,
            text="" if is_error else str(result.get("result", "")),
            pieces=tuple(delta["text"] for delta in deltas if delta.get("type") == "text_delta"),
            error=str(result.get("result", ended.complaints)) if is_error else "",
            compactions=sum(event.get("subtype") == "compact_boundary" for event in ended.events),
            output=ended.all_output,
        )
