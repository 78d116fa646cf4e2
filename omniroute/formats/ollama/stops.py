"""Why an answer ended, in the words of Ollama."""

from __future__ import annotations

from omniroute.formats.canonical import Stop

LENGTHS = frozenset({Stop.LENGTH, Stop.CONTEXT_FULL})


def render_stop(stop: Stop) -> str:
    """Return `done_reason`."""
    return "length" if stop in LENGTHS else "stop"
