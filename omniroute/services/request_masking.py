"""What may be shown or kept of a request to a provider, and what in it is a credential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from omniroute.providers.upstream import UpstreamRequest

MASK: Final = "[masked]"
_LEAST_SECRET: Final = 8
_SHOWN_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "http-referer", "user-agent", "x-title"}
    | {"anthropic-beta", "anthropic-version", "openai-beta"}
)
"""Headers of requests whose values hold no credential."""
_SHOWN_PARAMETERS: Final = frozenset({"alt", "api-version", "beta"})


def is_shown(name: str) -> bool:
    """Say whether the value of a header of a request holds no credential."""
    return name.lower() in _SHOWN_HEADERS or name.lower().startswith("x-stainless-")


def masked_value(value: str) -> str:
    """Return what stands for the value of a header; of a credential its scheme is left."""
    scheme, _, rest = value.partition(" ")
    return f"{scheme} {MASK}" if rest and scheme.isalpha() else MASK


def shown_url(url: str) -> str:
    """Return an address without user, and without the values of parameters that may hold a credential."""
    parts = urlsplit(url)
    shown = []
    for pair in parts.query.split("&") if parts.query else ():
        name, _, _value = pair.partition("=")
        shown.append(pair if name in _SHOWN_PARAMETERS else f"{name}={MASK}")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "&".join(shown), ""))


def secrets_of(request: UpstreamRequest) -> tuple[str, ...]:
    """Return what must not be shown, wherever it stands: the values of what is masked."""
    found: list[str] = []
    for name, value in request.headers:
        if not is_shown(name):
            found += [value, value.partition(" ")[2]]
    for pair in urlsplit(request.url).query.split("&"):
        name, _, value = pair.partition("=")
        found += () if name in _SHOWN_PARAMETERS else (value,)
    return tuple(value for value in dict.fromkeys(found) if len(value) >= _LEAST_SECRET)


def without(text: str, secrets: Sequence[str]) -> str:
    """Return a text in which each of the secrets is masked."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
