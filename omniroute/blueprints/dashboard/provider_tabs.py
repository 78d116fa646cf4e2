"""The page of one provider: what each of its tabs shows. The views that change things show it again through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from omniroute.blueprints.dashboard import api, provider_fields, provider_states
from omniroute.blueprints.dashboard.form_state import FormState
from omniroute.blueprints.dashboard.provider_connect import API_TYPES, EXAMPLES, node_types
from omniroute.blueprints.dashboard.rendering import page

KINDS: Final = ("chat", "embedding", "image", "audio", "rerank", "moderation", "video", "music", "search", "ocr")
FORMATS: Final = ("chat", "responses", "messages", "gemini", "ollama")
WORDS: Final = ("supportsTools", "supportsVision", "supportsReasoning", "supportsJsonSchema")
PROXY_TYPES: Final = ("http", "https", "socks5", "socks5h")

_PER_PAGE: Final = 50
_LONGEST: Final = 200
_SHOWN: Final[Mapping[str, Mapping[str, bool]]] = {"active": {"active": True}, "hidden": {"hidden": True}}
_SORTS: Final = frozenset({"id", "name", "type", "contextLength"})
_STRATEGIES: Final = (
    "fill-first",
    "round-robin",
    "p2c",
    "random",
    "least-used",
    "cost-optimized",
    "expiring-first",
)

_SIMULATED: Final = "sandbox"

Tab = Callable[[Mapping[str, Any]], dict[str, Any]]


def shown(row: Mapping[str, Any], *, tab: str = "", status: int = 200, **context: Any) -> Response:
    """Return the page of a provider.

    Args:
        row: the provider.
        tab: which of its tabs; that of the address unless given.
        status: of the answer.
        context: takes the place of what the tab has, for forms that are shown again.
    """
    loaders: Mapping[str, tuple[str, Tab]] = {
        "connections": (_("Connections"), _connections),
        "models": (_("Available Models"), _models),
        "custom": (_("Custom Models"), _custom),
        "advanced": (_("Advanced"), _advanced),
    }
    if row["id"] == _SIMULATED:  # its models are what they are, and it has nothing to set
        loaders = {name: loaders[name] for name in ("connections", "models")}
    wanted = tab or request.args.get("tab", "")
    wanted = wanted if wanted in loaders else "connections"
    here = url_for("dashboard.provider", provider=row["id"])
    return page(
        "dashboard/provider.html",
        blocks=("rows", "models", "trial"),
        status=status,
        provider=row,
        tab=wanted,
        tabs=[
            (name, label, here if name == "connections" else f"{here}?tab={name}")
            for name, (label, _load) in loaders.items()
        ],
        obstacle=provider_states.obstacle(row),
        group=provider_states.GROUPS[provider_states.group_of(row)],
        **{**loaders[wanted][1](row), **context},
    )


def _connections(row: Mapping[str, Any]) -> dict[str, Any]:
    offset = max(0, request.args.get("offset", 0, type=int) or 0)
    found = api.get("/api/providers", provider=row["id"], limit=_PER_PAGE, offset=offset)
    rows = found["connections"]
    quotas = {one["connectionId"]: one for one in api.get("/api/usage/quota", provider=row["id"])["quotas"]}
    routing = api.get("/api/settings")["settings"]["routing"]
    return {
        "rows": rows,
        "quotas": quotas,
        "total": found["total"],
        "limit": _PER_PAGE,
        "offset": offset,
        "result": None,
        "form": FormState(routing["providers"].get(row["id"], {})),
        "usual": routing,
        "strategies": strategies(),
    }


def strategies() -> list[tuple[str, str]]:
    """Return the ways to choose an account, with their names."""
    names = (
        _("Fill first"),
        _("Round robin"),
        _("Better of two"),
        _("Random"),
        _("Least used"),
        _("Cheapest first"),
        _("Expiring first"),
    )
    return list(zip(_STRATEGIES, names, strict=True))


def _models(row: Mapping[str, Any]) -> dict[str, Any]:
    args = request.args
    wanted, kind, chosen = args.get("q", "").strip()[:_LONGEST], args.get("type", ""), args.get("show", "")
    sort, offset = args.get("sort", ""), max(0, args.get("offset", 0, type=int) or 0)
    found = api.get(
        "/api/models",
        provider=row["id"],
        q=wanted,
        type=kind if kind in KINDS else None,
        sort=sort if sort.lstrip("-") in _SORTS else None,
        limit=_PER_PAGE,
        offset=offset,
        **_SHOWN.get(chosen, {}),
    )
    return {
        "models": found["models"],
        "total": found["total"],
        "limit": _PER_PAGE,
        "offset": offset,
        "wanted": wanted,
        "kind": kind,
        "show": chosen,
        "kinds": KINDS,
        "result": None,
        "form": FormState(),
    }


def _custom(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tab of declared models shows; `edit` in the query opens one of them."""
    offset = max(0, request.args.get("offset", 0, type=int) or 0)
    found = api.get("/api/provider-models", provider=row["id"], limit=_PER_PAGE, offset=offset)
    edited = request.args.get("edit", "")
    chosen = next((one for one in found["models"] if one["modelId"] == edited), None)
    typed = {"modelId": request.args.get("id", "")[:_LONGEST]}
    return {
        "models": found["models"],
        "total": found["total"],
        "limit": _PER_PAGE,
        "offset": offset,
        "form": FormState(_declared(chosen) if chosen is not None else typed),
        "edited": chosen["modelId"] if chosen is not None else "",
        "type_options": [(name, name) for name in KINDS],
        "format_options": [(name, name) for name in FORMATS],
        "words": list(zip(WORDS, (_("Tools"), _("Images"), _("Reasoning"), _("JSON schema")), strict=True)),
        "answers": [("", _("not stated")), ("yes", _("yes")), ("no", _("no"))],
    }


def _declared(found: Mapping[str, Any]) -> dict[str, Any]:
    names = ("modelId", "modelName", "type", "contextLength", "maxOutputTokens")
    answers = {True: "yes", False: "no", None: ""}
    formats = {"openai_chat": "chat", "openai_responses": "responses", "anthropic_messages": "messages"}
    spelt = formats.get(found["apiFormat"] or "", found["apiFormat"])
    return {
        **{name: found[name] for name in names},
        "apiFormat": spelt,
        **{word: answers[found[word]] for word in WORDS},
    }


def _advanced(row: Mapping[str, Any]) -> dict[str, Any]:
    filters = api.get(f"/api/providers/{api.segment(row['id'])}/param-filters")
    settings = api.get("/api/settings/proxy")
    own = settings["providers"].get(row["id"])
    routing = api.get("/api/settings")["settings"]["routing"]["providers"].get(row["id"], {})
    node = api.get(f"/api/provider-nodes/{row['id']}")["node"] if row["isNode"] else None
    return {
        "filters": FormState(
            {"strip": "\n".join(filters["strip"]), "force": provider_fields.json_text(filters["force"])}
        ),
        "proxy": own,
        "usual_proxy": settings["global"],
        "proxy_options": [
            (one["id"], f"{one['name']} ({one['host']}:{one['port']})")
            for one in api.get("/api/settings/proxies", limit=200)["proxies"]
        ],
        "proxy_form": FormState(_proxy_values(own)),
        "proxy_types": [(name, name.upper()) for name in PROXY_TYPES],
        "is_blocked": bool(routing.get("blocked")),
        "entry": provider_fields.json_text(node or row),
        "node": node,
        "node_form": FormState(
            {**node, "customHeaders": provider_fields.header_lines(node["customHeaders"])} if node else {}
        ),
        "delete_form": FormState(),
        "trial": None,
        "node_types": node_types(),
        "api_types": [("", _("Chat"))] + [(name, name) for name in API_TYPES[1:]],
        "examples": EXAMPLES,
    }


def _node_values(node: Mapping[str, Any]) -> dict[str, Any]:
    return {**node, "customHeaders": provider_fields.header_lines(node["customHeaders"])}


def _proxy_values(own: Mapping[str, Any] | None) -> dict[str, Any]:
    if own is None:
        return {"proxy": ""}
    if own["name"] is not None:
        return {"proxy": own["id"]}
    return {"proxy": "own", **{name: own[name] for name in ("type", "host", "port", "username")}}
