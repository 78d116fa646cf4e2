"""Why an answer ended, in the vendor's words and in canonical ones."""

from __future__ import annotations

from typing import Final

from omniroute.formats.canonical import Stop

BROKEN: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
    }
)
"""Finish reasons of an answer that did not come about: it failed and may be asked for again."""

_STOPS: Final = {
    "STOP": Stop.END,
    "MAX_TOKENS": Stop.LENGTH,
    "CONTINUATION": Stop.LENGTH,
    "SAFETY": Stop.REFUSAL,
    "RECITATION": Stop.REFUSAL,
    "LANGUAGE": Stop.REFUSAL,
    "BLOCKLIST": Stop.REFUSAL,
    "PROHIBITED_CONTENT": Stop.REFUSAL,
    "SPII": Stop.REFUSAL,
    "IMAGE_SAFETY": Stop.REFUSAL,
    "IMAGE_PROHIBITED_CONTENT": Stop.REFUSAL,
    "IMAGE_RECITATION": Stop.REFUSAL,
    "MODEL_ARMOR": Stop.REFUSAL,
    "ESCALATION": Stop.REFUSAL,
    "PUP_LIMITED_DISABLED": Stop.REFUSAL,
}
_WORDS: Final = {
    Stop.END: "STOP",
    Stop.STOP_SEQUENCE: "STOP",
    Stop.LENGTH: "MAX_TOKENS",
    Stop.CONTEXT_FULL: "MAX_TOKENS",
    Stop.TOOL_USE: "STOP",
    Stop.PAUSE: "STOP",
    Stop.REFUSAL: "SAFETY",
}
UNSPECIFIED: Final = "FINISH_REASON_UNSPECIFIED"
TORN_CALL: Final = "MALFORMED_FUNCTION_CALL"


def stop_for(word: str) -> Stop:
    """Return the canonical reason; words that nobody knows end an answer like any other."""
    return _STOPS.get(word, Stop.END)


def word_for(stop: Stop, *, has_torn_call: bool) -> str:
    """Return the `finishReason` for a client.

    A call whose arguments are no object cannot be said; unless the answer was cut off, that is the vendor's word for a
    call that went wrong.
    """
    word = _WORDS[stop]
    return TORN_CALL if has_torn_call and word == "STOP" else word
