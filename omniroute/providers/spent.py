"""Which quota window is spent, where a refusal names it, and whether it is one of a model rather than of an account."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from omniroute.routing.families import names_family

UNIFIED: Final = "anthropic-ratelimit-unified-"
_STATUS: Final = "-status"
_OVERAGE: Final = "overage"
"""Whether more may be bought: rejected for most accounts, and no window of theirs."""
_CODEX: Final = ("primary", "secondary")
_MAX_NAME: Final = 100
_IN_TEXT: Final = re.compile(
    r"\b((?:(?!your |the |for |this |current |a )[a-z][\w.-]{0,30} )?"
    r"(?:\d{1,2}[- ]hour|hourly|daily|weekly|monthly))\b.{0,20}\b(?:limit|quota)"
    r"|\b(free-models-per-(?:day|min(?:ute)?))\b",
    re.IGNORECASE,
)
_FOR_MODEL: Final = re.compile(r"\blimit (?:reached|exceeded) for (?:the )?model\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Window:
    """A spent window. `is_of_model`: others on the same account may have room."""

    name: str | None = None
    is_of_model: bool = False


_UNNAMED: Final = Window()


def spent_window(headers: Mapping[str, str], error: Mapping[str, Any], message: str) -> Window:
    """Return the window that a refusal names; header names are in lower case."""
    rejected = rejected_windows(headers)
    if rejected:
        return Window(rejected[0], names_family(rejected[0]))
    for name in _CODEX:
        if headers.get(f"x-codex-{name}-used-percent", "").startswith("100"):
            return Window(name)
    for window in _structured(error):
        return window
    found = _IN_TEXT.search(message)
    if found is None:
        return _UNNAMED
    return Window((found[1] or found[2]).lower()[:_MAX_NAME], is_of_model=found[2] is not None)


def is_models_rate(error: Mapping[str, Any], message: str) -> bool:
    """Say whether a rate limit is one of the model alone."""
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("provider_name"), str):
        return True  # a reseller passes on the limit of who runs this model, and has others for others
    return any(window.is_of_model for window in _structured(error)) or _FOR_MODEL.search(message) is not None


def rejected_windows(headers: Mapping[str, str]) -> list[str]:
    """Return the subscription windows that refuse, such as `5h` or `7d_opus`; empty where none is named.

    A window of the whole account outweighs those of single families.
    """
    if headers.get(UNIFIED + "status") != "rejected":
        return []
    found = sorted(
        name
        for header, value in headers.items()
        if value == "rejected" and (name := _window_of(header)) and name != _OVERAGE
    )
    return [name for name in found if not names_family(name)] or found


def _window_of(header: str) -> str:
    if not (header.startswith(UNIFIED) and header.endswith(_STATUS)):
        return ""
    return header[len(UNIFIED) : -len(_STATUS)][:_MAX_NAME]


def _structured(error: Mapping[str, Any]) -> Iterator[Window]:
    """Yield the windows that a structured detail names."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        metadata = detail.get("metadata")
        if isinstance(metadata, dict):
            if metadata.get("model"):  # one model's own, and no window that its family would share
                yield Window(is_of_model=True)
            if isinstance(limit := metadata.get("quota_limit"), str) and limit:
                yield _google(limit)
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else ():
            if isinstance(violation, dict) and isinstance(name := violation.get("quotaId"), str) and name:
                yield _google(name)


def _google(name: str) -> Window:
    return Window(name[:_MAX_NAME], is_of_model="PerModel" in name)
