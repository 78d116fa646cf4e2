"""What belongs to no page of the menu: the search, the language, and what makes the dashboard installable."""

from __future__ import annotations

from typing import Any, Final

from flask import Response, current_app, jsonify, make_response, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as WsgiResponse

from omniroute.blueprints import guard
from omniroute.blueprints.dashboard import api, frame
from omniroute.blueprints.dashboard.blueprint import blueprint
from omniroute.blueprints.dashboard.languages import COOKIE, COOKIE_LIFETIME_S
from omniroute.blueprints.dashboard.rendering import page
from omniroute.services.setting_definitions import LANGUAGES

_LONGEST_SEARCH: Final = 200
_MOST_OF_A_KIND: Final = 8


@blueprint.get("/dashboard/search")
def search() -> WsgiResponse:
    """Find pages, providers, combos, models, keys and requests by a part of their name."""
    wanted = request.args.get("q", "").strip()[:_LONGEST_SEARCH]
    results = _found(wanted)
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        return jsonify(results=results)
    return page("dashboard/search.html", wanted=wanted, results=results)


@blueprint.post("/dashboard/language")
def choose_language() -> WsgiResponse:
    """Remember in which language this browser wants its pages."""
    language = request.form.get("language", "")
    response = redirect(guard.safe_next(request.form.get("next"), url_for("dashboard.home")), 303)
    if language in LANGUAGES:
        response.set_cookie(
            COOKIE,
            language,
            max_age=COOKIE_LIFETIME_S,
            path=request.script_root or "/",
            httponly=True,
            samesite="Lax",
            secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
        )
    return response


@blueprint.get("/manifest.webmanifest")
def manifest() -> Response:
    """Return what a browser needs to install the dashboard as an application."""
    icon = url_for("static", filename="img/mark.svg")
    maskable = url_for("static", filename="img/mark-maskable.svg")
    document = {
        "name": "OmniRoute",
        "short_name": "OmniRoute",
        "id": url_for("dashboard.home"),
        "start_url": url_for("dashboard.home"),
        "scope": (request.script_root or "") + "/",
        "display": "standalone",
        "background_color": "#f6f7f9",
        "theme_color": "#1f5eff",
        "icons": [
            {"src": icon, "sizes": "any", "type": "image/svg+xml", "purpose": "any"},
            {"src": maskable, "sizes": "any", "type": "image/svg+xml", "purpose": "maskable"},
        ],
    }
    response = make_response(document)
    response.mimetype = "application/manifest+json"
    response.headers["Cache-Control"] = "max-age=3600"
    return response


@blueprint.get("/sw.js")
def service_worker() -> WsgiResponse:
    """Return the script that shows a page of ours while the server cannot be reached."""
    response = current_app.send_static_file("js/sw.js")
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/offline")
def offline() -> str:
    """Show that the server cannot be reached; browsers keep this page."""
    return render_template("offline.html")


def _found(wanted: str) -> list[dict[str, str]]:
    plain = wanted.casefold()
    results = [
        {"kind": _("Page"), "label": str(item.label), "href": url_for(item.endpoint)}
        for item in frame.menu_items()
        if plain in f"{item.label} {item.name} {item.words}".casefold()
    ]
    if len(wanted) < 2:
        return results
    if wanted.startswith("req_"):
        return [*results, *_link(_("Request"), [(wanted, wanted)], "dashboard.request_detail", "log_id")]
    providers = api.get("/api/providers/available")["providers"]
    keys = api.get("/api/keys", q=wanted, limit=_MOST_OF_A_KIND)["keys"]
    combos = api.get("/api/combos", q=wanted, limit=_MOST_OF_A_KIND)["combos"]
    models = api.get("/api/models", q=wanted, limit=_MOST_OF_A_KIND)["models"]
    known = [(one["id"], one["name"]) for one in providers if plain in f"{one['id']} {one['name']}".casefold()]
    return [
        *results,
        *_link(_("Provider"), known[:_MOST_OF_A_KIND], "dashboard.provider", "provider"),
        *_link(_("Combo"), [(one["id"], one["name"]) for one in combos], "dashboard.combo", "combo_id"),
        *_link(_("API key"), [(one["id"], one["name"]) for one in keys], "dashboard.key", "key_id"),
        *_link(_("Model"), [(_provider_of(one), one["id"]) for one in models], "dashboard.provider", "provider"),
    ]


def _provider_of(model: dict[str, Any]) -> str:
    return str(model.get("provider") or str(model["id"]).partition("/")[0])


def _link(kind: str, found: list[tuple[str, str]], endpoint: str, argument: str) -> list[dict[str, str]]:
    if endpoint not in current_app.view_functions:
        return []
    return [{"kind": kind, "label": label, "href": url_for(endpoint, **_named(argument, id_))} for id_, label in found]


def _named(argument: str, value: str) -> dict[str, Any]:
    return {argument: value}
