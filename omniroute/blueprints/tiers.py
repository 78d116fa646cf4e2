"""The one table that says who may reach which route. A route without a row here keeps the server from starting.

The table is data: method, rule, tier. `guard.py` is the only reader at run time, and it decides by the rule that was
dispatched, never by the raw path. :func:`verify` compares the table with the URL map when the application is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from werkzeug.routing import Map

from omniroute.blueprints.page_tiers import PAGES
from omniroute.blueprints.route import CHANGE, DELETE, GET, PATCH, POST, PUT, Family, Route, Tier
from omniroute.errors import ConfigurationError

__all__ = [
    "GEMINI_BARE_PREFIX",
    "GEMINI_LISTS",
    "GEMINI_MOUNTS",
    "INFERENCE_MOUNTS",
    "OLLAMA_MOUNTS",
    "PINNED_MESSAGES",
    "ROUTES",
    "Family",
    "MethodTable",
    "Route",
    "Tier",
    "family_of",
    "inference_endpoints",
    "shape",
    "verify",
]


INFERENCE_MOUNTS: Final = ("/v1", "/v1/v1", "/api/v1", "")
"""Where inference routes answer: as documented, doubled by clients that add the prefix, under `/api`, at the root."""

GEMINI_MOUNTS: Final = ("/v1beta", "/api/v1beta", "/v1")
"""Where Gemini's clients look: the vendor's SDK uses either version."""
GEMINI_LISTS: Final = ("/v1beta", "/api/v1beta")
"""Where the list of models is in Gemini's shape for everybody: under `/v1` OpenAI's is."""
GEMINI_BARE_PREFIX: Final = "/v1beta/"
"""Where one SDK looks for models whose name has a slash: it takes the part before it for the collection."""
OLLAMA_MOUNTS: Final = ("", "/v1")
"""Ollama's own, and where a client looks that was told OpenAI's base URL."""
PINNED_MESSAGES: Final = ("/messages", "/v1/messages")
"""Messages below a provider's own path: Anthropic's SDK puts the version behind any base URL."""


def _inference(methods: tuple[str, ...], path: str, endpoint: str, family: Family = Family.OPENAI) -> Iterator[Route]:
    for mount in INFERENCE_MOUNTS:
        yield Route(methods, mount + path, Tier.C, family, endpoint=endpoint)


def _pinned(path: str, endpoint: str, family: Family = Family.OPENAI) -> Iterator[Route]:
    return _inference(POST, "/providers/<provider>" + path, endpoint, family)


ROUTES: Final[tuple[Route, ...]] = (
    # inference
    *_inference(POST, "/chat/completions", "chat/completions"),
    *_inference(POST, "/completions", "completions"),
    *_inference(POST, "/responses", "responses"),
    *_inference(POST, "/responses/compact", "responses"),
    *_inference(GET, "/responses/<response_id>", "responses"),
    *_inference(DELETE, "/responses/<response_id>", "responses"),
    *_inference(POST, "/responses/<response_id>/cancel", "responses"),
    *_inference(GET, "/responses/<response_id>/input_items", "responses"),
    *_inference(POST, "/messages", "messages", Family.ANTHROPIC),
    *_inference(POST, "/messages/count_tokens", "messages", Family.ANTHROPIC),
    *(route for name in ("chat/completions", "completions", "responses") for route in _pinned(f"/{name}", name)),
    *(
        route
        for path in PINNED_MESSAGES
        for tail in ("", "/count_tokens")
        for route in _pinned(path + tail, "messages", Family.ANTHROPIC)
    ),
    *_inference(GET, "/providers/<provider>/models", "models"),
    *(Route(POST, f"{mount}/models/<path:model>", Tier.C, Family.GEMINI, endpoint="gemini") for mount in GEMINI_MOUNTS),
    Route(POST, f"{GEMINI_BARE_PREFIX}<path:model>", Tier.C, Family.GEMINI, endpoint="gemini"),
    *(
        Route(GET, mount + path, Tier.C, Family.GEMINI, endpoint="models")
        for mount in GEMINI_LISTS
        for path in ("/models", "/models/<path:model>")
    ),
    *(
        Route(POST, f"{mount}/api/{name}", Tier.C, Family.OLLAMA, endpoint="ollama")
        for mount in OLLAMA_MOUNTS
        for name in ("chat", "generate")
    ),
    *(Route(GET, f"{mount}/api/tags", Tier.C, Family.OLLAMA, endpoint="models") for mount in OLLAMA_MOUNTS),
    *(Route(POST, f"{mount}/api/show", Tier.C, Family.OLLAMA, endpoint="models") for mount in OLLAMA_MOUNTS),
    *(Route(GET, f"{mount}/api/version", Tier.P, Family.OLLAMA) for mount in OLLAMA_MOUNTS),
    *_inference(GET, "/routing/decisions/<request_id>", "routing/decisions"),
    *_inference(GET, "/combos", "models"),
    *_inference(GET, "/auto-combo/<path:channel>/candidates", "models"),
    *_inference(GET, "/models", "models"),
    *_inference(GET, "/models/<path:model>", "models"),
    Route(GET, "/v1", Tier.P, Family.OPENAI),
    Route(GET, "/v1/me/status", Tier.C, Family.OPENAI, endpoint="me/status", scope="self:usage"),
    # liveness
    Route(GET, "/healthz", Tier.P, Family.PLAIN),
    Route(GET, "/api/health/ping", Tier.P),
    Route(GET, "/api/monitoring/health", Tier.M_READ, is_reduced=True),
    Route(DELETE, "/api/monitoring/health", Tier.M_WRITE),
    Route(GET, "/metrics", Tier.M_READ, Family.PLAIN, is_open_on_loopback=True),
    # login and sessions
    Route(POST, "/api/auth/login", Tier.P),
    Route(POST, "/api/auth/logout", Tier.P, checks_origin=True),
    Route(GET, "/api/auth/status", Tier.P),
    Route(GET, "/api/auth/csrf", Tier.M_ADMIN),
    Route(POST, "/api/auth/password", Tier.X),
    Route(GET, "/api/auth/sessions", Tier.M_ADMIN),
    Route(DELETE, "/api/auth/sessions", Tier.M_ADMIN),
    Route(DELETE, "/api/auth/sessions/<session_id>", Tier.M_ADMIN),
    Route(GET, "/api/init", Tier.P),
    Route(GET, "/api/settings/require-login", Tier.P),
    Route(POST, "/api/settings/require-login", Tier.X),
    Route(GET, "/api/settings/authz", Tier.M_ADMIN),
    Route(GET, "/api/settings/authz-inventory", Tier.M_ADMIN),
    # access tokens
    Route(POST, "/api/cli/connect", Tier.P),
    Route(GET, "/api/cli/whoami", Tier.M_READ),
    Route(GET, "/api/cli/tokens", Tier.M_ADMIN),
    Route(POST, "/api/cli/tokens", Tier.M_ADMIN),
    Route(DELETE, "/api/cli/tokens/<token_id>", Tier.M_ADMIN),
    # providers and models
    Route(GET, "/api/providers", Tier.M_READ),
    Route(POST, "/api/providers", Tier.M_ADMIN),
    Route(PATCH, "/api/providers", Tier.M_ADMIN),
    Route(DELETE, "/api/providers", Tier.M_ADMIN),
    Route(GET, "/api/providers/available", Tier.M_READ),
    Route(GET, "/api/providers/client", Tier.M_READ),
    Route(POST, "/api/providers/reorder", Tier.M_ADMIN),
    Route(POST, "/api/providers/validate", Tier.M_ADMIN),
    Route(POST, "/api/providers/bulk", Tier.M_ADMIN),
    Route(POST, "/api/providers/import", Tier.M_ADMIN),
    Route(POST, "/api/providers/test-batch", Tier.M_ADMIN),
    Route(GET, "/api/providers/expiration", Tier.M_READ),
    Route(GET, "/api/providers/<connection_id>/param-filters", Tier.M_READ),
    Route(CHANGE, "/api/providers/<connection_id>/param-filters", Tier.M_ADMIN),
    Route(DELETE, "/api/providers/<connection_id>/param-filters", Tier.M_ADMIN),
    Route(GET, "/api/providers/<connection_id>", Tier.M_READ),
    Route(CHANGE, "/api/providers/<connection_id>", Tier.M_ADMIN),
    Route(DELETE, "/api/providers/<connection_id>", Tier.M_ADMIN),
    Route(POST, "/api/providers/<connection_id>/test", Tier.M_ADMIN),
    Route(POST, "/api/providers/<connection_id>/reset", Tier.M_ADMIN),
    Route(GET, "/api/provider-nodes", Tier.M_READ),
    Route(POST, "/api/provider-nodes", Tier.M_ADMIN),
    Route(POST, "/api/provider-nodes/validate", Tier.M_ADMIN),
    Route(GET, "/api/provider-nodes/<node_id>", Tier.M_READ),
    Route(CHANGE, "/api/provider-nodes/<node_id>", Tier.M_ADMIN),
    Route(DELETE, "/api/provider-nodes/<node_id>", Tier.M_ADMIN),
    Route(GET, "/api/providers/<connection_id>/models", Tier.M_READ),
    Route(POST, "/api/providers/<connection_id>/sync-models", Tier.M_ADMIN),
    Route(GET, "/api/models", Tier.M_READ),
    Route(GET, "/api/models/catalog", Tier.M_READ),
    Route(POST, "/api/models/test", Tier.M_WRITE),
    Route(POST, "/api/models/test-all", Tier.M_WRITE),
    Route(GET, "/api/provider-models", Tier.M_READ),
    Route(POST, "/api/provider-models", Tier.M_WRITE),
    Route(CHANGE, "/api/provider-models", Tier.M_WRITE),
    Route(DELETE, "/api/provider-models", Tier.M_WRITE),
    Route(GET, "/api/model-capability-overrides", Tier.M_READ),
    Route(CHANGE, "/api/model-capability-overrides", Tier.M_WRITE),
    Route(DELETE, "/api/model-capability-overrides", Tier.M_WRITE),
    # API keys
    Route(GET, "/api/keys", Tier.M_READ),
    Route(POST, "/api/keys", Tier.M_WRITE),
    Route(GET, "/api/keys/<key_id>", Tier.M_READ),
    Route(CHANGE, "/api/keys/<key_id>", Tier.M_WRITE),
    Route(DELETE, "/api/keys/<key_id>", Tier.M_WRITE),
    Route(POST, "/api/keys/<key_id>/regenerate", Tier.M_WRITE),
    Route(GET, "/api/keys/<key_id>/usage", Tier.M_READ),
    Route(GET, "/api/keys/<key_id>/reveal", Tier.M_ADMIN),
    Route(GET, "/api/policies", Tier.M_ADMIN),
    Route(POST, "/api/policies", Tier.M_ADMIN),
    # combos and other names for models
    Route(GET, "/api/combos", Tier.M_READ),
    Route(POST, "/api/combos", Tier.M_WRITE),
    Route(POST, "/api/combos/reorder", Tier.M_WRITE),
    Route(GET, "/api/combos/default", Tier.M_READ),
    Route(CHANGE, "/api/combos/default", Tier.M_WRITE),
    Route(POST, "/api/combos/check", Tier.M_READ),
    Route(POST, "/api/combos/test", Tier.M_WRITE),
    Route(GET, "/api/combos/metrics", Tier.M_READ),
    Route(DELETE, "/api/combos/metrics", Tier.M_WRITE),
    Route(GET, "/api/combos/auto", Tier.M_READ),
    Route(GET, "/api/combos/auto-candidates", Tier.M_READ),
    Route(GET, "/api/combos/auto/<path:channel>", Tier.M_READ),
    Route(CHANGE, "/api/combos/auto/<path:channel>", Tier.M_WRITE),
    Route(GET, "/api/combos/<combo_id>", Tier.M_READ),
    Route(CHANGE, "/api/combos/<combo_id>", Tier.M_WRITE),
    Route(DELETE, "/api/combos/<combo_id>", Tier.M_WRITE),
    *(
        Route(methods, path, tier)
        for path in ("/api/models/alias", "/api/settings/model-aliases")
        for methods, tier in ((GET, Tier.M_READ), (CHANGE, Tier.M_WRITE), (DELETE, Tier.M_WRITE))
    ),
    Route(GET, "/api/model-combo-mappings", Tier.M_READ),
    Route(POST, "/api/model-combo-mappings", Tier.M_WRITE),
    Route(GET, "/api/model-combo-mappings/<mapping_id>", Tier.M_READ),
    Route(CHANGE, "/api/model-combo-mappings/<mapping_id>", Tier.M_WRITE),
    Route(DELETE, "/api/model-combo-mappings/<mapping_id>", Tier.M_WRITE),
    Route(GET, "/api/fallback/chains", Tier.M_READ),
    Route(POST, "/api/fallback/chains", Tier.M_WRITE),
    Route(DELETE, "/api/fallback/chains", Tier.M_WRITE),
    Route(GET, "/api/fallback/chains/<chain_id>", Tier.M_READ),
    Route(CHANGE, "/api/fallback/chains/<chain_id>", Tier.M_WRITE),
    Route(DELETE, "/api/fallback/chains/<chain_id>", Tier.M_WRITE),
    # routing
    Route(GET, "/api/settings", Tier.M_READ),
    Route(CHANGE, "/api/settings", Tier.M_WRITE),
    Route(GET, "/api/settings/fields", Tier.M_READ),
    Route(GET, "/api/settings/thinking-budget", Tier.M_READ),
    Route(CHANGE, "/api/settings/thinking-budget", Tier.M_WRITE),
    Route(GET, "/api/settings/system-prompt", Tier.M_READ),
    Route(CHANGE, "/api/settings/system-prompt", Tier.M_WRITE),
    Route(GET, "/api/settings/ip-filter", Tier.M_READ),
    Route(CHANGE, "/api/settings/ip-filter", Tier.M_ADMIN),
    Route(GET, "/api/settings/feature-flags", Tier.M_READ),
    Route(CHANGE, "/api/settings/feature-flags", Tier.M_WRITE),
    Route(DELETE, "/api/settings/feature-flags", Tier.M_WRITE),
    Route(GET, "/api/settings/export-json", Tier.M_ADMIN),
    Route(POST, "/api/settings/import-json", Tier.M_ADMIN),
    Route(GET, "/api/settings/proxy", Tier.M_READ),
    Route(PUT, "/api/settings/proxy", Tier.M_ADMIN),
    Route(DELETE, "/api/settings/proxy", Tier.M_ADMIN),
    Route(POST, "/api/settings/proxy/test", Tier.M_ADMIN),
    Route(GET, "/api/settings/proxies", Tier.M_READ),
    Route(POST, "/api/settings/proxies", Tier.M_ADMIN),
    Route(PATCH, "/api/settings/proxies", Tier.M_ADMIN),
    Route(DELETE, "/api/settings/proxies", Tier.M_ADMIN),
    Route(GET, "/api/settings/proxies/<proxy_id>", Tier.M_READ),
    Route(CHANGE, "/api/settings/proxies/<proxy_id>", Tier.M_ADMIN),
    Route(DELETE, "/api/settings/proxies/<proxy_id>", Tier.M_ADMIN),
    Route(GET, "/api/settings/combo-defaults", Tier.M_READ),
    Route(CHANGE, "/api/settings/combo-defaults", Tier.M_WRITE),
    *(
        Route(POST, f"/api/settings/purge{joint}{what}", Tier.M_ADMIN)
        for what in ("logs", "usage", "audit-older", "quota")
        for joint in ("/", "-")
    ),
    Route(POST, "/api/routing/simulate", Tier.M_READ),
    Route(POST, "/api/playground/simulate-route", Tier.M_READ),
    Route(GET, "/api/routing/decisions/<request_id>", Tier.M_READ),
    Route(POST, "/api/routing/replay", Tier.M_READ),
    # resilience
    Route(GET, "/api/resilience", Tier.M_READ),
    Route(CHANGE, "/api/resilience", Tier.M_WRITE),
    Route(GET, "/api/resilience/fields", Tier.M_READ),
    Route(GET, "/api/resilience/state", Tier.M_READ),
    Route(POST, "/api/resilience/reset", Tier.M_WRITE),
    Route(GET, "/api/resilience/model-cooldowns", Tier.M_READ),
    Route(DELETE, "/api/resilience/model-cooldowns", Tier.M_WRITE),
    # money
    Route(GET, "/api/pricing", Tier.M_READ),
    Route(CHANGE, "/api/pricing", Tier.M_WRITE),
    Route(DELETE, "/api/pricing", Tier.M_WRITE),
    Route(GET, "/api/pricing/defaults", Tier.M_READ),
    Route(GET, "/api/pricing/sync", Tier.M_READ),
    Route(POST, "/api/pricing/sync", Tier.M_WRITE),
    # usage and audit
    Route(GET, "/api/usage/budget", Tier.M_READ),
    Route(POST, "/api/usage/budget", Tier.M_WRITE),
    Route(DELETE, "/api/usage/budget", Tier.M_WRITE),
    Route(GET, "/api/usage/token-limits", Tier.M_READ),
    Route(POST, "/api/usage/token-limits", Tier.M_WRITE),
    Route(DELETE, "/api/usage/token-limits", Tier.M_WRITE),
    Route(GET, "/api/usage/receipts/<request_id>", Tier.M_READ),
    Route(POST, "/api/usage/reconcile", Tier.M_READ),
    Route(GET, "/api/usage/logs", Tier.M_READ),
    Route(GET, "/api/usage/call-logs", Tier.M_READ),
    Route(GET, "/api/usage/history", Tier.M_READ),
    Route(GET, "/api/usage/request-logs", Tier.M_READ),
    Route(GET, "/api/usage/logs/<log_id>", Tier.M_READ),
    Route(GET, "/api/usage/export", Tier.M_READ),
    Route(GET, "/api/logs/export", Tier.M_READ),
    Route(GET, "/api/usage/analytics", Tier.M_READ),
    Route(GET, "/api/usage/cost", Tier.M_READ),
    Route(GET, "/api/usage/latency", Tier.M_READ),
    Route(GET, "/api/usage/model-latency-stats", Tier.M_READ),
    Route(GET, "/api/usage/active", Tier.M_READ),
    Route(DELETE, "/api/usage/active/<request_id>", Tier.M_WRITE),
    Route(GET, "/api/usage/quota", Tier.M_READ),
    Route(GET, "/api/usage/provider-limits", Tier.M_READ),
    Route(POST, "/api/usage/provider-limits", Tier.M_WRITE),
    Route(GET, "/api/usage/<connection_id>", Tier.M_READ),
    Route(GET, "/api/audit", Tier.M_READ),
    Route(GET, "/api/compliance/audit-log", Tier.M_READ),
    Route(GET, "/api/audit/export", Tier.M_READ),
    Route(GET, "/api/audit/verify", Tier.M_READ),
    # operation
    Route(GET, "/api/telemetry/summary", Tier.M_READ),
    Route(GET, "/api/sessions", Tier.M_READ),
    Route(DELETE, "/api/sessions", Tier.M_WRITE),
    Route(DELETE, "/api/sessions/<session_id>", Tier.M_WRITE),
    Route(GET, "/api/logs/console", Tier.M_READ),
    Route(GET, "/api/usage/logs/stream", Tier.M_READ),
    Route(GET, "/api/storage/health", Tier.M_READ),
    Route(GET, "/api/db/health", Tier.M_READ),
    Route(POST, "/api/db/health", Tier.M_ADMIN),
    Route(GET, "/api/settings/database", Tier.X),
    Route(CHANGE, "/api/settings/database", Tier.X),
    Route(POST, "/api/settings/database/vacuum", Tier.X),
    Route(GET, "/api/system/version", Tier.M_READ),
    Route(GET, "/api/network/info", Tier.M_READ),
    Route(POST, "/api/restart", Tier.S),
    Route(POST, "/api/shutdown", Tier.S),
    # coding tools: files of the host's user are another matter than what to write into them
    Route(GET, "/api/cli-tools", Tier.M_READ),
    Route(GET, "/api/cli-tools/<tool>/snippet", Tier.M_READ),
    Route(GET, "/api/cli-tools/detect", Tier.L),
    Route(POST, "/api/cli-tools/apply", Tier.L),
    Route(DELETE, "/api/cli-tools/apply", Tier.L),
    # translator
    Route(GET, "/api/translator/formats", Tier.M_READ),
    Route(POST, "/api/translator/detect", Tier.M_READ),
    Route(POST, "/api/translator/translate", Tier.M_READ),
    Route(POST, "/api/translator/transform-stream", Tier.M_READ),
    Route(POST, "/api/translator/send", Tier.M_WRITE),
    Route(POST, "/api/translator/bench", Tier.M_WRITE),
    Route(GET, "/api/translator/history", Tier.M_READ),
    Route(PUT, "/api/translator/history", Tier.M_WRITE),
    Route(GET, "/api/jobs", Tier.M_READ),
    Route(GET, "/api/jobs/<job_id>", Tier.M_READ),
    # description of all this
    Route(GET, "/api/openapi.json", Tier.M_READ),
    Route(GET, "/api/openapi/spec", Tier.M_READ),
    # backups: what reveals or replaces everything has no anonymous form
    Route(GET, "/api/db-backups", Tier.M_ADMIN),
    Route(PUT, "/api/db-backups", Tier.M_ADMIN),
    Route(POST, "/api/db-backups", Tier.X),
    Route(PATCH, "/api/db-backups", Tier.M_ADMIN),
    Route(DELETE, "/api/db-backups", Tier.M_ADMIN),
    Route(GET, "/api/db-backups/export", Tier.X),
    Route(GET, "/api/db-backups/exportAll", Tier.X),
    Route(POST, "/api/db-backups/import", Tier.X, is_upload=True),
    Route(DELETE, "/api/db-backups/<backup_id>", Tier.M_ADMIN),
    *PAGES,
)

_VARIABLE: Final = re.compile(r"<(?:([a-z_]+)(?:\([^)]*\))?:)?[A-Za-z_]\w*>")
_INFERENCE_PREFIXES: Final = ("/v1", "/api/v1")
_OLLAMA_PATHS: Final = frozenset({"/api/chat", "/api/generate", "/api/tags", "/api/show", "/api/version"})
_ROOT_INFERENCE: Final = (
    "/chat",
    "/models",
    "/completions",
    "/responses",
    "/embeddings",
    "/images",
    "/audio",
    "/files",
    "/providers",
    "/routing",
    "/combos",
    "/auto-combo",
)

MethodTable = Mapping[str, Route]


def shape(rule: str) -> str:
    """Return a rule with its variable names removed: the name is the view's business, the converter is not."""
    return _VARIABLE.sub(lambda match: f"<{match[1] or 'default'}>", rule)


def verify(url_map: Map, routes: Iterable[Route] = ROUTES) -> dict[str, MethodTable]:
    """Compare the table with the URL map and return rule → method → row for the guard.

    HEAD belongs to the row of GET, and OPTIONS to any row of its rule, because Flask adds both by itself.

    Raises:
        ConfigurationError: a rule and method has no row or more than one, or a row has no rule.
    """
    rows: dict[tuple[str, str], Route] = {}
    faults: list[str] = []
    for route in routes:
        keys = [(shape(route.rule), method) for method in _with_head(route.methods)]
        faults.extend(f"{key[1]} {route.rule} has two rows" for key in keys if rows.setdefault(key, route) is not route)
    unused = dict.fromkeys(rows)
    table: dict[str, dict[str, Route]] = {}
    for rule in url_map.iter_rules():
        key = shape(rule.rule)
        methods = table.setdefault(rule.rule, {})
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            unused.pop((key, method), None)
            row = rows.get((key, method))
            if row is None:
                faults.append(f"{method} {rule.rule} has no row")
            elif method in methods:
                faults.append(f"{method} {rule.rule} is served by two views")
            else:
                methods[method] = row
        if methods and "OPTIONS" in (rule.methods or ()):
            methods.setdefault("OPTIONS", next(iter(methods.values())))
        elif not methods:
            faults.append(f"{rule.rule} has no method that a row could name")
    faults += [f"{method} {rule} has a row but no view" for rule, method in unused if method != "HEAD"]
    if faults:
        raise ConfigurationError("The route table does not match the routes: " + "; ".join(sorted(faults)) + ".")
    return {rule: dict(methods) for rule, methods in table.items()}


def _with_head(methods: tuple[str, ...]) -> tuple[str, ...]:
    return (*methods, "HEAD") if "GET" in methods else methods


def family_of(path: str) -> Family:
    """Return whose dialect errors of a path speak that no rule matched."""
    for prefix in _INFERENCE_PREFIXES:
        if path == prefix or path.startswith(prefix + "/"):
            rest = path[len(prefix) :]
            rest = rest.removeprefix("/v1") if rest.startswith("/v1/") else rest
            if _is_or_under(rest, "/api"):
                return Family.OLLAMA
            return Family.ANTHROPIC if _is_or_under(rest, "/messages") else Family.OPENAI
    if any(_is_or_under(path, mount) for mount in GEMINI_LISTS):
        return Family.GEMINI
    if path.rstrip("/") in _OLLAMA_PATHS:
        return Family.OLLAMA
    if _is_or_under(path, "/messages"):
        return Family.ANTHROPIC
    if any(_is_or_under(path, prefix) for prefix in _ROOT_INFERENCE):
        return Family.OPENAI
    if _is_or_under(path, "/api"):
        return Family.MANAGEMENT
    if path in ("/healthz", "/metrics"):
        return Family.PLAIN
    return Family.PAGE


def _is_or_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


def inference_endpoints() -> frozenset[str]:
    """Return the endpoint names that a key's `allowedEndpoints` may hold."""
    return frozenset(route.endpoint for route in ROUTES if route.endpoint and route.scope is None)
