"""Names that people type where the API wants ids: keys and combos are known by both.

What is offered to be typed comes from the configuration in memory: names alone do not need all that the API tells.
"""

from __future__ import annotations

from typing import Any, Final

from omniroute.blueprints.dashboard import api
from omniroute.container import container

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
    """Return names of API keys to offer, of the newest first."""
    keys = (key for key in container().snapshots.current.keys if key.revoked_at is None)
    newest = sorted(keys, key=lambda key: key.created_at, reverse=True)
    return [key.name for key in newest[:MOST_OFFERED]]


def combo_names() -> list[str]:
    """Return names of combos to offer."""
    return [combo.name for combo in container().snapshots.current.combos[:MOST_OFFERED]]


def provider_names() -> list[str]:
    """Return the providers that have a connection, to offer."""
    return sorted({row.provider for row in container().snapshots.current.connections} | {"sandbox"})


def connections() -> list[dict[str, str]]:
    """Return `id`, `name` and `providerName` of every connection, by name."""
    provider_of = container().directories.current.provider
    found = [
        {"id": row.id, "name": row.name, "providerName": getattr(provider_of(row.provider), "name", row.provider)}
        for row in container().snapshots.current.connections
    ]
    return sorted(found, key=lambda one: one["name"].casefold())


def _id(path: str, list_name: str, text: str, known: tuple[str, ...]) -> str | None:
    wanted = text.strip()
    if not wanted or wanted in known or any(wanted.startswith(prefix) for prefix in known if prefix.endswith("_")):
        return wanted or None
    found: list[dict[str, Any]] = api.get(path, q=wanted, limit=MOST_OFFERED)[list_name]
    plain = wanted.casefold()
    return next((str(one["id"]) for one in found if one["name"].casefold() == plain), wanted)
