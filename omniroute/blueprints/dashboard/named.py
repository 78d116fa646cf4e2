"""Names that people type where the API wants ids: keys and combos are known by both."""

from __future__ import annotations

from typing import Any, Final

from omniroute.blueprints.dashboard import api

MOST_OFFERED: Final = 100
"""How many names a field offers at most; what is not offered can be typed."""
KEYLESS: Final = ("local", "env", "session")
"""Callers without a key, as the log names them."""


def key_id(text: str) -> str | None:
    """Return the id of the API key that a text names; the text itself where no key has that name."""
    return _id("/api/keys", "keys", text, ("key_", "*", *KEYLESS))


def combo_id(text: str) -> str | None:
    """Return the id of the combo that a text names; the text itself where no combo has that name."""
    return _id("/api/combos", "combos", text, ("combo_",))


def key_names() -> list[str]:
    """Return names of API keys to offer."""
    return [key["name"] for key in api.get("/api/keys", limit=MOST_OFFERED)["keys"]]


def combo_names() -> list[str]:
    """Return names of combos to offer."""
    return [combo["name"] for combo in api.get("/api/combos", limit=MOST_OFFERED)["combos"]]


def provider_names() -> list[str]:
    """Return the providers that have a connection, to offer."""
    connections: list[dict[str, Any]] = api.get("/api/providers", limit=200)["connections"]
    return sorted({one["provider"] for one in connections} | {"sandbox"})


def _id(path: str, list_name: str, text: str, known: tuple[str, ...]) -> str | None:
    wanted = text.strip()
    if not wanted or wanted in known or any(wanted.startswith(prefix) for prefix in known if prefix.endswith("_")):
        return wanted or None
    found: list[dict[str, Any]] = api.get(path, q=wanted, limit=MOST_OFFERED)[list_name]
    plain = wanted.casefold()
    return next((str(one["id"]) for one in found if one["name"].casefold() == plain), wanted)
