"""The page of settings: its tabs, the search over all of them, and saving what is a row of the table of settings."""

from __future__ import annotations

from typing import Any, Final

from flask import request, url_for
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api
from omniroute.blueprints.dashboard.api import Refused
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.rendering import done, failed
from omniroute.blueprints.dashboard.rendering import page as rendered
from omniroute.blueprints.dashboard.settings import (
    advanced,
    ai,
    appearance,
    configuration,
    general,
    resilience,
    routing,
    security,
    tabs,
    texts,
    values,
)
from omniroute.blueprints.dashboard.settings.groups import ELSEWHERE, GROUPS, TABS, group_of
from omniroute.errors import NotFound

PARTS: Final = (advanced, ai, appearance, configuration, general, resilience, routing, security)
"""The modules of the tabs: each attaches its own views."""
_LONGEST_SEARCH: Final = 100
# What is no row of the table of settings: tab, heading, name, and further words by which it is found.
_PLACES: Final[tuple[tuple[str, str, LazyString, str], ...]] = (
    ("general", "storage", _l("System & Storage"), "database size integrity check vacuum repair path disk"),
    ("general", "purge", _l("Purge"), "delete remove rows logs usage audit quota"),
    ("general", "spending", _l("Models without a price"), "budget unpriced refuse allow"),
    ("general", "process", _l("Restart and shut down"), "stop server"),
    ("ai", "prompt-cache", _l("Prompt cache"), "tokens read written hit rate provider"),
    ("security", "login", _l("Login"), "require password session"),
    ("security", "addresses", _l("Access by address"), "ip filter block allow ban cidr network"),
    ("security", "locked", _l("Locked addresses"), "brute force unlock failed login"),
    ("security", "origins", _l("Allowed origins"), "cors csrf"),
    ("security", "tiers", _l("Route tiers"), "authorization table admin read write"),
    ("routing", "accounts", _l("Accounts of a provider"), "strategy sticky round robin affinity ambiguous"),
    ("routing", "provider-rules", _l("Rules for single providers"), "block strategy override"),
    ("routing", "combo-defaults", _l("Defaults of combos"), "strategy retries timeout"),
    ("routing", "aliases", _l("Aliases"), "wildcard pattern name model rule"),
    ("routing", "mappings", _l("Patterns that lead to combos"), "model combo mapping wildcard"),
    ("routing", "chains", _l("Fallback chains"), "models exhausted next"),
    ("routing", "tester", _l("Which rule matches"), "simulate test route"),
    ("resilience", "resilience", _l("Resilience"), "queue cooldown breaker lockout wait profile rate limit pacing"),
    ("advanced", "proxies", _l("Proxies"), "outbound socks http global provider combo key test"),
    ("advanced", "flags", _l("Feature flags"), "metrics hedging comments continuation"),
    ("advanced", "configuration", _l("Export and import of settings"), "json configuration document dry run"),
)


@blueprint.get("/dashboard/settings")
def settings() -> Response:
    """Show a tab, or what the search finds."""
    wanted = request.args.get("q", "").strip()[:_LONGEST_SEARCH]
    if wanted:
        return _search_page(wanted)
    name = request.args.get("tab", "general")
    return tabs.show(name if name in TABS else "general")


@blueprint.post("/dashboard/settings/values/<group>")
def save_settings(group: str) -> Response:
    """Save the changed settings of one heading."""
    found = GROUPS.get(group)
    if found is None:
        raise NotFound("There are no such settings.")
    rows = values.rows_of(api.get("/api/settings/fields")["fields"])
    given = values.changed((rows[name] for name in found.names), request.form)
    back = tabs.at(found.section, group)
    if not given:
        return done(_("Nothing was changed."), back, "info")
    try:
        api.patch("/api/settings", {found.section: given})
    except Refused as refused:
        names = {f"{found.section}.{name}": name for name in found.names}
        form = FormState.typed(request.form, refused, names)
        return tabs.show(found.section, 400, {group: form})
    return done(_("Saved: %(names)s.", names=", ".join(rows[name]["label"] for name in given)), back)


@blueprint.post("/dashboard/settings/reset")
def reset_setting() -> Response:
    """Give one setting back to its default."""
    section, _dot, name = request.form.get("path", "").partition(".")
    tab = section if section in TABS else "general"
    back = url_for("dashboard.backups") if group_of(name) == "backups" else tabs.at(tab, group_of(name))
    try:
        api.patch("/api/settings", {section: {name: None}})
    except Refused as refused:
        return failed(refused, back)
    row = values.rows_of(api.get("/api/settings/fields", q=name)["fields"]).get(name)
    label = row["label"] if row else name
    return done(_("%(name)s is what it was at first.", name=label), back)


def _search_page(wanted: str) -> Response:
    rows = values.rows_of(api.get("/api/settings/fields")["fields"])
    plain = wanted.casefold()
    found = [
        {"tab": _tab_of(row), "href": _address_of(row), **row}
        for row in rows.values()
        if plain in f"{row['label']} {row['hint']} {row['name']} {row['description']} {row['variable']}".casefold()
    ]
    places = [
        {"tab": str(TABS[tab]), "label": str(label), "href": tabs.at(tab, anchor)}
        for tab, anchor, label, words in _PLACES
        if plain in f"{label} {words}".casefold()
    ]
    return rendered(
        "dashboard/settings/search.html",
        wanted=wanted,
        found=found,
        places=places,
        tab="",
        tabs=[(one, label, url_for("dashboard.settings", tab=one)) for one, label in TABS.items()],
        shown_choice=texts.choice,
    )


def _tab_of(row: dict[str, Any]) -> str:
    return _("Backups") if ELSEWHERE.get(row["name"]) == "backups" else str(TABS[row["section"]])


def _address_of(row: dict[str, Any]) -> str:
    if ELSEWHERE.get(row["name"]) == "backups":
        return url_for("dashboard.backups", _anchor="rules")
    return tabs.at(row["section"], group_of(row["name"]))
