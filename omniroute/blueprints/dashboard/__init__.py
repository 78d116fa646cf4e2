"""The pages. Each does by forms what the API does by requests, and works without JavaScript.

One module per page of the menu; what they share: `api` (the management API, asked within the process), `rendering`
(pages and blocks of them), `form_state` (forms that are shown again), `figures` (numbers), `charts`, `frame` (what
surrounds a page). A page knows no service: what it shows and does goes through the API.
"""

from __future__ import annotations

from omniroute.blueprints.dashboard import account, home, login, shell
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.setup import init_app

__all__ = ["account", "blueprint", "home", "init_app", "login", "shell"]
