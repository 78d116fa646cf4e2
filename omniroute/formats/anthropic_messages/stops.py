"""Why an answer ended, in the words of Messages."""

from __future__ import annotations

from typing import Final

from omniroute.formats.canonical import Request, Stop

_STOPS: Final = {
    "end_turn": Stop.END,
    "max_tokens": Stop.LENGTH,
    "stop_sequence": Stop.STOP_SEQUENCE,
    "tool_use": Stop.TOOL_USE,
    "pause_turn": Stop.PAUSE,
    "refusal": Stop.REFUSAL,
    "model_context_window_exceeded": Stop.CONTEXT_FULL,
}
_WORDS: Final = {stop: word for word, stop in _STOPS.items()}


def parse_stop(word: str | None) -> Stop:
    """Return what a provider's word means; a word that is not known, or none, is a plain end."""
    return _STOPS.get(word or "", Stop.END)


def render_stop(stop: Stop, sequence: str | None, request: Request) -> tuple[str, str | None]:
    """Return `stop_reason` and `stop_sequence`; the sequence must be named, so it is where there was only one."""
    if stop is not Stop.STOP_SEQUENCE:
        return _WORDS[stop], None
    if sequence is None and len(request.stop) == 1:
        sequence = request.stop[0]
    return _WORDS[stop], sequence
