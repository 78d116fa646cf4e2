"""`omniroute keys`: API keys for inference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.usd import PERIODS, USD

_COLUMNS: Final = {
    "id": "Id",
    "name": "Name",
    "key": "Key",
    "scopes": "Scopes",
    "allowedModels": "Models",
    "state": "Status",
    "budget": "Budget",
    "used": "Used",
    "lastUsedAt": "Last used",
    "expiresAt": "Expires",
}
_LABELS: Final = {
    "id": "Id",
    "name": "Name",
    "key": "Key",
    "state": "Status",
    "scopes": "Scopes",
    "allowedModels": "Models",
    "blockedModels": "Without models",
    "allowedCombos": "Combos",
    "allowedConnections": "Connections",
    "allowedEndpoints": "Endpoints",
    "ipAllowlist": "Addresses",
    "rateLimits": "Request rules",
    "maxConcurrent": "At once",
    "maxSessions": "Sessions",
    "throttleDelayMs": "Delay ms",
    "noLog": "No log",
    "hidePaidModels": "Hides paid",
    "isCanary": "Canary",
    "streamDefault": "Streams by default",
    "expiresAt": "Expires",
    "lastUsedAt": "Last used",
    "createdAt": "Created",
}
_RPM: Final = click.IntRange(1, 10**9)
_DAYS: Final = click.IntRange(1, 3650)


@click.group("keys", cls=AliasGroup, aliases={"create": "add", "revoke": "remove", "delete": "remove", "update": "set"})
def command() -> None:
    """Create, list, change and remove API keys."""


@command.command("add")
@click.argument("name", default="default")
@click.argument("more", required=False)
@click.option("--scope", "scopes", multiple=True, help="What the key opens; repeatable. Default: chat.")
@click.option("--models", multiple=True, metavar="GLOB", help="Models that it may use; repeatable. Default: all.")
@click.option("--combos", multiple=True, metavar="NAME", help="Combos that it may use; repeatable. Default: all.")
@click.option("--expires", type=_DAYS, metavar="DAYS", help="Days until it ends. Default: never.")
@click.option("--rpm", type=_RPM, metavar="N", help="Requests that it may send in any minute.")
@click.option("--budget", type=USD, help="What it may spend in each period.")
@click.option("--period", type=click.Choice(PERIODS), help="How often that begins anew. Default: monthly.")
@click.option("--no-log", is_flag=True, help="Requests with this key leave no row in the request log.")
@pass_session
def add(
    session: Session,
    *,
    name: str,
    more: str | None,
    scopes: tuple[str, ...],
    models: tuple[str, ...],
    combos: tuple[str, ...],
    expires: int | None,
    rpm: int | None,
    budget: Decimal | None,
    period: str | None,
    no_log: bool,
) -> None:
    """Create a key and print it, once and alone on stdout."""
    if more is not None:
        _refuse_provider(session, name)
    if period is not None and budget is None:
        raise Failure("--period is about a budget: give --budget too.", Exit.MISUSE)
    body: dict[str, Any] = {"name": name}
    body |= _fields(scopes=scopes, models=models, combos=combos, expires=expires, rpm=rpm, no_log=no_log or None)
    issued = session.api.send("POST", "/api/keys", body)
    if budget is not None:
        wanted = {"keyId": issued["id"], "limit": float(budget), "period": period or "monthly"}
        session.api.send("POST", "/api/usage/budget", wanted)
    told = f"API key {issued['id']} ({issued['name']}). It is shown this once:"
    session.print_secret(issued["key"], issued, told)


def _refuse_provider(session: Session, name: str) -> None:
    """Say what is meant by `keys add PROVIDER KEY`: a key of a provider is not one of ours."""
    known = session.api.get("/api/providers/available")["providers"]
    if any(name in (row["id"], row["alias"], *row["aliases"]) for row in known):
        raise Failure(
            f"A key of the provider {name} is a connection: omniroute providers add {name} --api-key-stdin", Exit.MISUSE
        )
    raise Failure("A key has one name; put a name of several words in quotes.", Exit.MISUSE)


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only keys that hold this text in id, name or ends.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_keys(session: Session, search: str | None, limit: int | None) -> None:
    """List the keys; of each only its ends are shown."""
    rows = session.api.rows("/api/keys", "keys", limit=limit, q=search)
    if session.form in (Form.TABLE, Form.CSV):
        spending = _budgets(session)
        rows = [row | spending.get(row["id"], {}) for row in rows]
    session.print_rows("keys", rows, _COLUMNS)


def _budgets(session: Session) -> dict[str, dict[str, str]]:
    """Return for each key with a budget its tightest one as text."""
    found: dict[str, dict[str, str]] = {}
    for budget in sorted(session.api.get("/api/usage/budget")["budgets"], key=lambda one: one["percentUsed"]):
        text = f"${budget['limit']:.2f} {budget['period']}"
        found[budget["keyId"]] = {"budget": text, "used": f"{budget['percentUsed']:.0f}%"}
    return found


@command.command("show")
@click.argument("key")
@pass_session
def show(session: Session, key: str) -> None:
    """Show one key, masked. KEY is its id, or its name if no other key has it."""
    found = session.api.get(f"/api/keys/{_find(session, key)['id']}")["key"]
    if session.form is Form.TABLE:
        rules = [f"{rule['limit']} in {rule['windowSeconds']} s" for rule in found["rateLimits"]]
        found = {**found, "rateLimits": rules}
    session.print_fields(found, _LABELS)


@command.command("set")
@click.argument("key")
@click.option("--name", help="A new name.")
@click.option("--scope", "scopes", multiple=True, help="What it opens; repeatable, replaces the list.")
@click.option("--models", multiple=True, metavar="GLOB", help="Models that it may use; repeatable, replaces the list.")
@click.option("--without-models", multiple=True, metavar="GLOB", help="Models that it may not use; repeatable.")
@click.option("--combos", multiple=True, metavar="NAME", help="Combos that it may use; repeatable.")
@click.option("--connections", multiple=True, metavar="ID", help="Connections that may serve it; repeatable.")
@click.option("--endpoints", multiple=True, metavar="PATH", help="Endpoints that it may call; repeatable.")
@click.option("--addresses", multiple=True, metavar="CIDR", help="Addresses it may be used from; repeatable.")
@click.option(
    "--clear", multiple=True, metavar="OPTION", help="Empty a list or limit, named as its option; repeatable."
)
@click.option("--expires", type=_DAYS, metavar="DAYS", help="Days until it ends.")
@click.option("--rpm", type=_RPM, metavar="N", help="Requests that it may send in any minute.")
@click.option("--max-concurrent", type=click.IntRange(1, 10_000), metavar="N", help="Requests at once.")
@click.option("--max-sessions", type=click.IntRange(1, 10_000), metavar="N", help="Sessions at once.")
@click.option("--throttle-ms", type=click.IntRange(0, 300_000), metavar="MS", help="Wait before each request.")
@click.option("--log/--no-log", default=None, help="Whether requests leave rows in the request log.")
@click.option("--hide-paid/--show-paid", default=None, help="Whether model lists leave paid models out.")
@click.option("--canary/--no-canary", default=None, help="Whether any use is refused and raises an alert.")
@click.option("--stream-default", type=click.Choice(("request", "json")), help="What a request without `stream` gets.")
@pass_session
def set_fields(session: Session, /, *, key: str, clear: tuple[str, ...], **given: Any) -> None:
    """Change fields of a key; what is not named stays."""
    body = _fields(**given) | _cleared(clear)
    if not body:
        raise Failure("Name at least one thing to change; see --help.", Exit.MISUSE)
    changed = session.api.send("PATCH", f"/api/keys/{_find(session, key)['id']}", body)["key"]
    session.notice(f"Changed {changed['id']} ({changed['name']}).")
    if session.form is not Form.TABLE:
        session.print_fields(changed, {})


@command.command("enable")
@click.argument("key")
@pass_session
def enable(session: Session, key: str) -> None:
    """Let a key be used again."""
    _switch(session, key, is_active=True)


@command.command("disable")
@click.argument("key")
@pass_session
def disable(session: Session, key: str) -> None:
    """Refuse a key until it is enabled again."""
    _switch(session, key, is_active=False)


def _switch(session: Session, key: str, *, is_active: bool) -> None:
    found = _find(session, key)
    session.api.send("PATCH", f"/api/keys/{found['id']}", {"isActive": is_active})
    session.notice(f"{'Enabled' if is_active else 'Disabled'} {found['id']} ({found['name']}).")


@command.command("remove")
@click.argument("key")
@pass_session
def remove(session: Session, key: str) -> None:
    """End a key at once; what it used stays on record. KEY is its id, or its name if no other key has it."""
    found = _find(session, key)
    session.confirm(f"Remove {found['id']} ({found['name']})? Programs that use it stop working.")
    session.api.send("DELETE", f"/api/keys/{found['id']}")
    session.notice(f"Removed {found['id']} ({found['name']}).")


@command.command("regenerate")
@click.argument("key")
@click.option("--grace", type=click.IntRange(0), metavar="SEC", help="Seconds for which the old one works on.")
@pass_session
def regenerate(session: Session, key: str, grace: int | None) -> None:
    """Give a key a new secret and print it, once and alone on stdout."""
    found = _find(session, key)
    if not grace:
        session.confirm(f"Give {found['id']} ({found['name']}) a new secret? The old one stops working at once.")
    body = {} if grace is None else {"graceSec": grace}
    issued = session.api.send("POST", f"/api/keys/{found['id']}/regenerate", body)
    session.print_secret(issued["key"], issued, f"The new secret of {found['id']}. It is shown this once:")


@command.command("reveal")
@click.argument("key")
@pass_session
def reveal(session: Session, key: str) -> None:
    """Print a key whole, if the server was allowed to keep it readable."""
    found = _find(session, key)
    revealed = session.api.get(f"/api/keys/{found['id']}/reveal")
    session.print_secret(revealed["key"], {"id": found["id"], **revealed}, f"The API key {found['id']}:")


def _find(session: Session, wanted: str) -> Mapping[str, Any]:
    return find_one(session.api.rows("/api/keys", "keys"), wanted, "API key")


_LISTS: Final = {
    "scopes": "scopes",
    "models": "allowedModels",
    "without_models": "blockedModels",
    "combos": "allowedCombos",
    "connections": "allowedConnections",
    "endpoints": "allowedEndpoints",
    "addresses": "ipAllowlist",
}
_VALUES: Final = {
    "name": "name",
    "max_concurrent": "maxConcurrent",
    "max_sessions": "maxSessions",
    "throttle_ms": "throttleDelayMs",
    "hide_paid": "hidePaidModels",
    "canary": "isCanary",
    "stream_default": "streamDefault",
    "no_log": "noLog",
}


def _fields(**given: Any) -> dict[str, Any]:
    """Return what options say as fields of the API; options that were not given are left out."""
    body: dict[str, Any] = {_LISTS[name]: list(value) for name, value in given.items() if name in _LISTS and value}
    body |= {_VALUES[name]: value for name, value in given.items() if name in _VALUES and value is not None}
    if given.get("log") is not None:
        body["noLog"] = not given["log"]
    if given.get("rpm") is not None:
        body["rateLimits"] = [{"limit": given["rpm"], "windowSeconds": 60}]
    if given.get("expires") is not None:
        body["expiresAt"] = (datetime.now(UTC) + timedelta(days=given["expires"])).isoformat()
    return body


def _cleared(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that options named by `--clear` stand for, emptied."""
    emptied: dict[str, Any] = {name.replace("_", "-"): (field, []) for name, field in _LISTS.items()}
    emptied |= {"scope": ("scopes", []), "rpm": ("rateLimits", []), "expires": ("expiresAt", None)}
    emptied |= {"max-concurrent": ("maxConcurrent", None), "max-sessions": ("maxSessions", None)}
    emptied["throttle-ms"] = ("throttleDelayMs", None)
    unknown = [option for option in options if option.removeprefix("--") not in emptied]
    if unknown:
        raise Failure(f"--clear takes {', '.join(sorted(emptied))}; not {', '.join(unknown)}.", Exit.MISUSE)
    return dict(emptied[option.removeprefix("--")] for option in options)
