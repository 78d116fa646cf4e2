"""The pages. Each does by forms what the API does by requests, and works without JavaScript.

One module per page of the menu; what they share: `api` (the management API, asked within the process), `rendering`
(pages and blocks of them), `form_state` (forms that are shown again), `figures` (numbers), `charts`, `frame` (what
surrounds a page). A page knows no service: what it shows and does goes through the API.
"""

from __future__ import annotations

from omniroute.blueprints.dashboard import (
    access_tokens,
    account,
    audit,
    auto_combo,
    backups,
    cli_tools,
    combo,
    combo_edit,
    combos,
    costs,
    endpoints,
    guide,
    health,
    home,
    key,
    keys,
    login,
    logs,
    playground,
    provider,
    provider_advanced,
    provider_connect,
    provider_connection,
    provider_models,
    providers,
    quota,
    request_detail,
    shell,
    translator,
    usage,
)
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.settings import page as settings
from omniroute.blueprints.dashboard.setup import init_app

__all__ = [
    "access_tokens",
    "account",
    "audit",
    "auto_combo",
    "backups",
    "blueprint",
    "cli_tools",
    "combo",
    "combo_edit",
    "combos",
    "costs",
    "endpoints",
    "guide",
    "health",
    "home",
    "init_app",
    "key",
    "keys",
    "login",
    "logs",
    "playground",
    "provider",
    "provider_advanced",
    "provider_connect",
    "provider_connection",
    "provider_models",
    "providers",
    "quota",
    "request_detail",
    "settings",
    "shell",
    "translator",
    "usage",
]
