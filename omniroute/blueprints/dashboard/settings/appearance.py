"""Appearance: theme, colour, language, and what the menu leaves out."""

from __future__ import annotations

from typing import Any

from omniroute.blueprints.dashboard import frame
from omniroute.blueprints.dashboard.settings.tabs import Forms, tab


@tab("appearance")
def context(forms: Forms) -> dict[str, Any]:
    """Return the pages of the menu by name, and which of them are left out now."""
    hidden = forms["menu"].value("hiddenMenuItems")
    names = hidden.splitlines() if isinstance(hidden, str) else list(hidden)
    return {"menu_entries": [(item.name, item.label) for item in frame.menu_items()], "hidden": names}
