"""Why an answer ended, in the words of the format and of the many hosts that copy it."""

from __future__ import annotations

from typing import Final

from omniroute.formats.canonical import Stop

_STOPS: Final = {
    "stop": Stop.END,
    "eos": Stop.END,
    "eos_token": Stop.END,
    "end": Stop.END,
    "end_turn": Stop.END,
    "complete": Stop.END,
    "completed": Stop.END,
    "stop_sequence": Stop.STOP_SEQUENCE,
    "length": Stop.LENGTH,
    "max_tokens": Stop.LENGTH,
    "max_output_tokens": Stop.LENGTH,
    "model_length": Stop.CONTEXT_FULL,
    "model_context_window_exceeded": Stop.CONTEXT_FULL,
    "tool_calls": Stop.TOOL_USE,
    "tool_call": Stop.TOOL_USE,
    "tool_use": Stop.TOOL_USE,
    "function_call": Stop.TOOL_USE,
    "pause_turn": Stop.PAUSE,
    "content_filter": Stop.REFUSAL,
    "sensitive": Stop.REFUSAL,
    "safety": Stop.REFUSAL,
    "refusal": Stop.REFUSAL,
    "recitation": Stop.REFUSAL,
    "blocklist": Stop.REFUSAL,
    "prohibited_content": Stop.REFUSAL,
    "spii": Stop.REFUSAL,
}
_FAILURES: Final = frozenset(
    {"error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled"}
)
_FINISHES: Final = {
    Stop.END: "stop",
    Stop.STOP_SEQUENCE: "stop",
    Stop.PAUSE: "stop",
    Stop.LENGTH: "length",
    Stop.CONTEXT_FULL: "length",
    Stop.TOOL_USE: "tool_calls",
    Stop.REFUSAL: "content_filter",
}


def is_failure(reason: str) -> bool:
    """Say whether a reason means that the answer broke off."""
    return reason.lower() in _FAILURES


def stop_from(reason: str, matched: object = None) -> tuple[Stop, str | None]:
    """Return the stop of a finish reason, and the stop sequence.

    An unknown word is an end like any other. `matched` is what some servers report beside it: the stop sequence found,
    the number of the token that stopped them, or a vendor's own reason.
    """
    stop = _STOPS.get(reason.lower(), Stop.END)
    is_sequence = stop in (Stop.END, Stop.STOP_SEQUENCE) and isinstance(matched, str) and matched != ""
    if is_sequence and isinstance(matched, str) and matched.lower() not in _STOPS:
        return Stop.STOP_SEQUENCE, matched
    return stop, None


def finish_for(stop: Stop, *, has_refusal: bool = False, is_legacy: bool = False) -> str:
    """Return the finish reason of a stop: a model that says why it refuses has not been filtered."""
    if stop is Stop.REFUSAL and has_refusal:
        return "stop"
    if stop is Stop.TOOL_USE and is_legacy:
        return "function_call"
    return _FINISHES[stop]
