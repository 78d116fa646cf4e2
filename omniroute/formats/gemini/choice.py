"""Whether tools may or must be called, in the vendor's words."""

from __future__ import annotations

from typing import Any

from omniroute.formats.canonical import ChoiceMode, ToolChoice


def render_choice(choice: ToolChoice) -> dict[str, Any] | None:
    """Return the calling mode; None where it is what is understood anyway."""
    match choice.mode:
        case ChoiceMode.AUTO if not choice.names:
            return None
        case ChoiceMode.NONE:
            return {"mode": "NONE"}
        case ChoiceMode.AUTO:
            mode = "VALIDATED"  # the mode AUTO takes no names, this one is the same with names
        case _:
            mode = "ANY"
    return {"mode": mode, "allowedFunctionNames": choice.names} if choice.names else {"mode": mode}
