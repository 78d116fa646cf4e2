"""Models that a field offers: combos first, then models that can be called. What is not offered can be typed."""

from __future__ import annotations

from typing import Final

from omniroute.blueprints.dashboard import api, named

_MOST: Final = 50


def offered() -> list[str]:
    """Return names to begin with; a script finds the others while one types."""
    models = api.get("/api/models", active=True, type="chat", limit=_MOST)["models"]
    return [*named.combo_names()[:_MOST], *(model["id"] for model in models)]
