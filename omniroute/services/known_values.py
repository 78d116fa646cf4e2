"""Values that are printed in manuals and samples, and so protect nothing."""

from __future__ import annotations

from typing import Final

KNOWN_PASSWORDS: Final = frozenset({"CHANGEME", "123456"})
"""Passwords of samples; compared without regard to case, because guesses are made that way too."""

KNOWN_SECRETS: Final = frozenset(
    {
        "omniroute-default-secret-change-me",
        "endpoint-proxy-api-key-secret",
        "change-me-to-a-long-random-string",
        "replace-with-48-random-bytes",
    }
)
"""Secrets of samples and of this project's own documentation."""

_FOLDED: Final = frozenset(value.casefold() for value in KNOWN_PASSWORDS | KNOWN_SECRETS)


def is_known(value: str) -> bool:
    """Tell whether a value is printed somewhere for everybody to read."""
    return value.strip().casefold() in _FOLDED
