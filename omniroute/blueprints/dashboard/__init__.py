"""The pages: login, the overview, and what their forms do. Every action works without JavaScript."""

from __future__ import annotations

from omniroute.blueprints.dashboard.pages import blueprint
from omniroute.blueprints.dashboard.setup import init_app

__all__ = ["blueprint", "init_app"]
