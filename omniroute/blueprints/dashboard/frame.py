"""What surrounds every page: the menu, the banners, what the operator has chosen for the look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, current_app, request, url_for
from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

from omniroute.container import container

_BANNERS: Final = 3


@dataclass(frozen=True, slots=True)
class Item:
    """A page of the menu.

    Attributes:
        name: how settings name it where they leave it out.
        endpoint: its view.
        begins: prefix of the addresses below it, at which it is marked as the current one too.
        words: further words by which the search finds it.
    """

    name: str
    endpoint: str
    label: LazyString
    icon: str
    begins: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Items that belong together."""

    name: str
    label: LazyString | str
    items: tuple[Item, ...]


MENU: Final = (
    Group(
        "route",
        "",
        (
            Item("home", "dashboard.home", _l("Home"), "home", "/dashboard", "overview start"),
            Item(
                "endpoints", "dashboard.endpoints", _l("Endpoints"), "plug", "/dashboard/endpoints", "address base url"
            ),
            Item("keys", "dashboard.keys", _l("API Manager"), "key", "/dashboard/keys", "api keys"),
            Item("providers", "dashboard.providers", _l("Providers"), "cloud", "/dashboard/providers", "connections"),
            Item("combos", "dashboard.combos", _l("Combos"), "layers", "/dashboard/combos", "fallback routing"),
            Item("auto-combo", "dashboard.auto_combo", _l("Auto Combo"), "spark", "/dashboard/auto-combo", "channels"),
        ),
    ),
    Group(
        "usage",
        _l("Usage"),
        (
            Item("usage", "dashboard.usage", _l("Usage"), "chart", "/dashboard/usage", "tokens analytics"),
            Item("costs", "dashboard.costs", _l("Costs"), "coins", "/dashboard/costs", "budget pricing money"),
            Item("quota", "dashboard.quota", _l("Quota & limits"), "gauge", "/dashboard/quota", "windows forecast"),
        ),
    ),
    Group(
        "health",
        _l("Health"),
        (
            Item("health", "dashboard.health", _l("Health"), "pulse", "/dashboard/health", "breakers cooldowns"),
            Item("logs", "dashboard.logs", _l("Logs"), "list", "/dashboard/logs", "requests live console"),
            Item("audit", "dashboard.audit", _l("Audit"), "shield", "/dashboard/audit", "changes history"),
        ),
    ),
    Group(
        "tools",
        _l("Tools"),
        (
            Item("translator", "dashboard.translator", _l("Translator"), "swap", "/dashboard/translator", "formats"),
            Item("playground", "dashboard.playground", _l("Playground"), "chat", "/dashboard/playground", "compare"),
            Item(
                "cli-tools", "dashboard.cli_tools", _l("CLI Tools"), "terminal", "/dashboard/cli-tools", "claude codex"
            ),
        ),
    ),
    Group(
        "settings",
        _l("Settings"),
        (
            Item("settings", "dashboard.settings", _l("Settings"), "sliders", "/dashboard/settings", "options"),
            Item(
                "access-tokens",
                "dashboard.access_tokens",
                _l("Access Tokens"),
                "token",
                "/dashboard/settings/access-tokens",
            ),
            Item("backups", "dashboard.backups", _l("Backups"), "archive", "/dashboard/backups", "restore export"),
        ),
    ),
)

# Which page helps against which notice; what is not here stands without a link.
_PAGE_OF_NOTICE: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "backup_failed": ("dashboard.backups", {}),
    "provider_down": ("dashboard.health", {}),
    "credential_refused": ("dashboard.providers", {"filter": "failing"}),
    "credential_unreadable": ("dashboard.providers", {"filter": "failing"}),
    "unusual_spend": ("dashboard.costs", {}),
    "job_failed": ("dashboard.health", {}),
    "job_late": ("dashboard.health", {}),
}


def init_app(app: Flask) -> None:
    """Give the templates of an application what the frame of pages needs."""
    app.context_processor(_appearance)
    app.jinja_env.globals.update(menu=menu, current_item=current_item, banners=banners, menu_items=menu_items)


def menu() -> Iterator[tuple[Group, list[Item]]]:
    """Give the groups of the menu with the items that the operator has not hidden."""
    hidden = frozenset(container().in_force.value("appearance", "hiddenMenuItems") or ())
    for group in MENU:
        items = [item for item in group.items if item.name not in hidden and _is_served(item)]
        if items:
            yield group, items


def menu_items() -> list[Item]:
    """Return all items of the menu, hidden ones too."""
    return [item for group in MENU for item in group.items if _is_served(item)]


def current_item() -> Item | None:
    """Return the item of the menu whose page is shown: the one with the longest matching address."""
    path = request.path
    found = [
        item
        for item in menu_items()
        if path == item.begins or (item.begins != "/dashboard" and path.startswith(item.begins + "/"))
    ]
    return max(found, key=lambda item: len(item.begins), default=None)


def banners() -> list[dict[str, Any]]:
    """Return what the operator should know wherever he is: failures first, a few at most."""
    found = container().health.overview().warnings
    shown = []
    for notice in found[:_BANNERS]:
        page = _PAGE_OF_NOTICE.get(notice.code)
        is_there = page is not None and page[0] in current_app.view_functions
        shown.append(
            {
                "code": notice.code,
                "message": notice.message,
                "remedy": notice.remedy,
                "is_failure": notice.is_failure,
                "link": url_for(page[0], **page[1]) if page is not None and is_there else None,
            }
        )
    return shown


def _is_served(item: Item) -> bool:
    return item.endpoint in current_app.view_functions


def _appearance() -> dict[str, Any]:
    """Return what the operator has chosen for the look of pages."""
    held = container()
    value = held.in_force.value
    return {
        "instance_name": held.in_force.current.instance_name,
        "theme": value("appearance", "theme"),
        "accent": value("appearance", "accent"),
        "density": value("appearance", "density"),
        "blurs_emails": value("appearance", "blurEmails"),
        "refresh_s": value("appearance", "refreshIntervalSec"),
        "served": current_app.view_functions,
    }
