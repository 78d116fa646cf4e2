"""AI: the thinking budget, the server's system prompt, and what prompt caches of providers saved."""

from __future__ import annotations

from typing import Any, Final

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.settings.tabs import Forms, tab

_RANGE: Final = "7d"
_MOST_NODES: Final = 200


@tab("ai")
def context(forms: Forms) -> dict[str, Any]:
    """Return the tokens that providers read from and wrote to their prompt caches in a week."""
    del forms
    rows = [row for row in api.get("/api/usage/analytics", range=_RANGE)["byProvider"] if row["provider"]]
    return {
        "caches": sorted(rows, key=lambda row: -row["cacheRead"]),
        "names": {node["id"]: node["name"] for node in api.get("/api/provider-nodes", limit=_MOST_NODES)["nodes"]},
    }
