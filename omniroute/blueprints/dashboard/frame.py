"""What surrounds every page: the menu, the banners, what the operator has chosen for the look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, current_app, request, url_for
from flask_babel import LazyString, get_locale
from flask_babel import lazy_gettext as _l

from omniroute.container import container
from omniroute.services.notices import Notice

_BANNERS: Final = 3
_NOTICED_S: Final = 5.0
_MOST_MENUS: Final = 50
_KEY: Final = "omniroute.frames"


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


@dataclass(frozen=True, slots=True)
class Link:
    """An item of the menu as a page shows it."""

    name: str
    href: str
    label: str
    icon: str
    begins: str


@dataclass(slots=True)
class _Frames:
    """What is the same for many pages of one application, so that not each of them has to make it.

    Attributes:
        menus: the shown groups and all links, by language, mount and what is hidden.
        notices: what an operator should know, until `notices_until` (monotonic seconds) and for one configuration.
    """

    menus: dict[tuple[str, str, frozenset[str]], tuple[list[tuple[str, str, list[Link]]], list[Link]]]
    notices: tuple[Notice, ...] = ()
    notices_until: float = 0.0
    version: int = -1


def init_app(app: Flask) -> None:
    """Give the templates of an application what the frame of pages needs."""
    app.extensions[_KEY] = _Frames({})
    app.context_processor(_appearance)
    app.jinja_env.globals.update(menu=menu, current_item=current_item, banners=banners, menu_links=menu_links)


def menu() -> list[tuple[str, str, list[Link]]]:
    """Return the groups of the menu, each with its name and label, with the items that the operator has not hidden."""
    return _menus()[0]


def menu_links() -> list[Link]:
    """Return all items of the menu, hidden ones too."""
    return _menus()[1]


def menu_items() -> list[Item]:
    """Return all items of the menu with the words by which they are found."""
    return [item for group in MENU for item in group.items if _is_served(item)]


def current_item() -> Link | None:
    """Return the item of the menu whose page is shown: the one with the longest matching address."""
    path = request.path
    found = [
        link
        for link in menu_links()
        if path == link.begins or (link.begins != "/dashboard" and path.startswith(link.begins + "/"))
    ]
    return max(found, key=lambda link: len(link.begins), default=None)


def banners() -> list[dict[str, Any]]:
    """Return what the operator should know wherever he is: failures first, a few at most."""
    shown = []
    for notice in _notices()[:_BANNERS]:
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


def _notices() -> tuple[Notice, ...]:
    """Return what is wrong, looked up every few seconds at most: it takes several questions to the database."""
    kept: _Frames = current_app.extensions[_KEY]
    held = container()
    version = held.snapshots.current.version
    now = time.monotonic()
    if now >= kept.notices_until or version != kept.version:
        kept.notices = held.health.overview().warnings
        kept.notices_until, kept.version = now + _NOTICED_S, version
    return kept.notices


def _menus() -> tuple[list[tuple[str, str, list[Link]]], list[Link]]:
    kept: _Frames = current_app.extensions[_KEY]
    hidden = frozenset(container().in_force.value("appearance", "hiddenMenuItems") or ())
    key = (str(get_locale()), request.script_root, hidden)
    found = kept.menus.get(key)
    if found is None:
        if len(kept.menus) >= _MOST_MENUS:
            kept.menus.clear()
        found = kept.menus[key] = _made_menu(hidden)
    return found


def _made_menu(hidden: frozenset[str]) -> tuple[list[tuple[str, str, list[Link]]], list[Link]]:
    groups, links = [], []
    for group in MENU:
        own = [
            Link(item.name, url_for(item.endpoint), str(item.label), item.icon, item.begins)
            for item in group.items
            if _is_served(item)
        ]
        links += own
        shown = [link for link in own if link.name not in hidden]
        if shown:
            groups.append((group.name, str(group.label), shown))
    return groups, links


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
