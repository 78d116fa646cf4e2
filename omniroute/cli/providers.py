"""`omniroute providers`: accounts at providers."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure, jobs
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, open_or_stdin, pass_session, read_secret
from omniroute.cli.times import seconds_until, span

_AVAILABLE_COLUMNS: Final = {
    "id": "Id",
    "alias": "Prefix",
    "name": "Name",
    "tier": "Tier",
    "authKinds": "Auth",
    "services": "Services",
    "configured": "Connected",
}
_COLUMNS: Final = {
    "id": "Id",
    "provider": "Provider",
    "name": "Name",
    "status": "Status",
    "priority": "Priority",
    "modelCount": "Models",
    "lastUsedAt": "Last used",
    "note": "Note",
}
_TEST_COLUMNS: Final = {
    "id": "Id",
    "name": "Name",
    "valid": "Result",
    "latencyMs": "Latency ms",
    "model": "Model",
    "error": "Error",
}
_STATUS_COLUMNS: Final = {
    "id": "Id",
    "provider": "Provider",
    "name": "Name",
    "status": "Status",
    "breaker": "Breaker",
    "note": "Note",
    "quota": "Quota",
}
_METRIC_COLUMNS: Final = {
    "provider": "Provider",
    "requests": "Requests",
    "success": "Success",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "tokens": "Tokens",
    "costUsd": "Cost",
}
_LABELS: Final = {
    "id": "Id",
    "provider": "Provider",
    "name": "Name",
    "status": "Status",
    "statusReason": "Reason",
    "priority": "Priority",
    "apiKey": "Key",
    "defaultModel": "Default model",
    "group": "Group",
    "requestsPerMinute": "Requests per minute",
    "minTimeBetweenRequestsMs": "Gap ms",
    "concurrentRequests": "At once",
    "proxyEnabled": "Through a proxy",
    "lastTestedAt": "Last tested",
    "lastUsedAt": "Last used",
    "createdAt": "Created",
}
_IMPORT_COLUMNS: Final = {"row": "Row", "provider": "Provider", "name": "Name", "status": "Status", "error": "Error"}
_PRIORITY: Final = click.IntRange(1, 100)
_KEY_OPTIONS: Final = (
    click.option("--api-key-stdin", is_flag=True, help="Read the provider's key from standard input."),
    click.option("--api-key-file", metavar="FILE", help="Read it from the first line of a file."),
    click.option("--api-key-env", metavar="NAME", help="Read it from this environment variable."),
)


def _with_key_options(command: Any) -> Any:
    for option in _KEY_OPTIONS:
        command = option(command)
    return command


@click.group("providers", cls=AliasGroup, aliases={"delete": "remove", "test-all": "test", "update": "set"})
def command() -> None:
    """List, add, test and remove accounts at providers."""


@command.command("available")
@click.option("--search", metavar="TEXT", help="Only providers that hold this text in id, prefix or name.")
@click.option("--tier", metavar="TIER", help="Only providers of this tier: subscription, cheap, free or local.")
@click.option("--service", metavar="SERVICE", help="Only providers that offer this service, such as embedding.")
@pass_session
def available(session: Session, search: str | None, tier: str | None, service: str | None) -> None:
    """List the providers that can be connected."""
    wanted = (search or "").casefold()
    rows = [
        row
        for row in session.api.get("/api/providers/available")["providers"]
        if (not wanted or any(wanted in str(row[name]).casefold() for name in ("id", "alias", "name")))
        and (tier is None or row["tier"] == tier)
        and (service is None or service in row["services"])
    ]
    session.print_rows("providers", rows, _AVAILABLE_COLUMNS)


@command.command("list")
@click.option("--provider", metavar="ID", help="Only accounts at this provider.")
@click.option("--status", type=click.Choice(("ok", "cooling", "error", "dead", "untested")), help="Only these.")
@click.option("--search", metavar="TEXT", help="Only accounts that hold this text.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_connections(
    session: Session, provider: str | None, status: str | None, search: str | None, limit: int | None
) -> None:
    """List the accounts, with what keeps each from serving."""
    rows = session.api.rows("/api/providers", "connections", limit=limit, provider=provider, status=status, q=search)
    if session.form in (Form.TABLE, Form.CSV):
        rows = [
            row
            | {"provider": row["prefix"] or row["provider"], "modelCount": row["models"]["total"], "note": _note(row)}
            for row in rows
        ]
    session.print_rows("connections", rows, _COLUMNS)


def _note(row: Mapping[str, Any]) -> str | None:
    """Return why a connection does not serve, and for how long yet."""
    if not row["isActive"]:
        return "switched off"
    error = row["lastError"] or {}
    reason = row["statusReason"] or error.get("code")
    left_s = seconds_until(row["cooldownUntil"])
    if row["status"] == "ok" or reason is None:
        return None
    return f"{reason}, {span(left_s)} left" if left_s is not None and left_s > 0 else str(reason)


@command.command("show")
@click.argument("connection")
@pass_session
def show(session: Session, connection: str) -> None:
    """Show one account, its key masked. CONNECTION is its id, or its name if no other has it."""
    found = _find(session, connection)
    session.print_fields(session.api.get(f"/api/providers/{found['id']}")["connection"], _LABELS)


@command.command("add")
@click.argument("provider")
@click.option("--name", help="Name of the account. Default: chosen by the server.")
@_with_key_options
@click.option("--base-url", metavar="URL", help="Another address for this account, where the provider allows one.")
@click.option("--priority", type=_PRIORITY, metavar="N", help="1 to 100; lower ones are asked first.")
@click.option("--default-model", metavar="MODEL", help="The model to use where a request names none.")
@click.option("--group", metavar="NAME", help="Group of the account.")
@click.option("--test", "test_first", is_flag=True, help="Test it, and keep it only if that works.")
@pass_session
def add(
    session: Session,
    *,
    provider: str,
    name: str | None,
    api_key_stdin: bool,
    api_key_file: str | None,
    api_key_env: str | None,
    base_url: str | None,
    priority: int | None,
    default_model: str | None,
    group: str | None,
    test_first: bool,
) -> None:
    """Connect an account at PROVIDER, by id or prefix; `providers available` lists them."""
    row = find_provider(session, provider)
    body: dict[str, Any] = {"provider": row["id"]}
    if "none" not in row["authKinds"] or api_key_stdin or api_key_file or api_key_env:
        body["apiKey"] = _key(row, stdin=api_key_stdin, file=api_key_file, variable=api_key_env)
    given = {"name": name, "priority": priority, "defaultModel": default_model, "group": group}
    body |= {field: value for field, value in given.items() if value is not None}
    if base_url is not None:
        body["providerData"] = {"baseUrl": base_url}
    if test_first:
        body["testFirst"] = True
    made = session.api.send("POST", "/api/providers", body)["connection"]
    session.notice(f"Connected {made['providerName'] or made['provider']} as {made['name']!r} ({made['status']}).")
    if session.form is Form.TABLE:
        click.echo(made["id"])
    else:
        session.print_fields(made, {})


def find_provider(session: Session, wanted: str) -> Mapping[str, Any]:
    """Return the provider with this id, prefix or other name; nodes are providers too.

    Raises:
        Failure: there is none.
    """
    rows = session.api.get("/api/providers/available")["providers"]
    for row in rows:
        if wanted in (row["id"], row["alias"], *row["aliases"]):
            found: Mapping[str, Any] = row
            return found
    for node in session.api.rows("/api/provider-nodes", "nodes"):
        if wanted in (node["id"], node["prefix"], node["name"]):
            return {"id": node["id"], "authKinds": ["apikey", "none"] if node["isLocal"] else ["apikey"]}
    near = [row["id"] for row in rows if wanted.casefold() in f"{row['id']} {row['name']}".casefold()][:3]
    hint = f" Did you mean {', '.join(near)}?" if near else " 'omniroute providers available' lists them."
    raise Failure(f"There is no provider {wanted!r}.{hint}", Exit.MISUSE)


def _key(row: Mapping[str, Any], *, stdin: bool, file: str | None, variable: str | None) -> str:
    if variable is not None:
        return read_secret(variable=variable, missing=f"The environment variable {variable} is not set.")
    return read_secret(
        stdin=stdin,
        file=file,
        prompt=f"Key for {row['id']}: ",
        missing=f"{row['id']} needs a key: use --api-key-stdin, --api-key-file or --api-key-env.",
    )


@command.command("set")
@click.argument("connection")
@click.option("--name", help="A new name.")
@click.option("--priority", type=_PRIORITY, metavar="N", help="1 to 100; lower ones are asked first.")
@click.option("--default-model", metavar="MODEL", help="The model to use where a request names none.")
@click.option("--group", metavar="NAME", help="Group of the account.")
@click.option("--rpm", type=click.IntRange(0), metavar="N", help="Requests a minute that it may get; 0: no limit.")
@click.option("--gap-ms", type=click.IntRange(0), metavar="MS", help="Least time between two requests.")
@click.option("--concurrent", type=click.IntRange(0), metavar="N", help="Requests at once; 0: no limit.")
@click.option("--proxy/--no-proxy", default=None, help="Whether it goes through the proxy that is set for it.")
@click.option("--base-url", metavar="URL", help="Another address for this account.")
@pass_session
def set_fields(session: Session, /, *, connection: str, **given: Any) -> None:
    """Change fields of an account; what is not named stays."""
    names = {
        "name": "name",
        "priority": "priority",
        "default_model": "defaultModel",
        "group": "group",
        "rpm": "requestsPerMinute",
        "gap_ms": "minTimeBetweenRequestsMs",
        "concurrent": "concurrentRequests",
        "proxy": "proxyEnabled",
    }
    body = {names[option]: value for option, value in given.items() if option in names and value is not None}
    if given["base_url"] is not None:
        body["providerData"] = {"baseUrl": given["base_url"]}
    if not body:
        raise Failure("Name at least one thing to change; see --help.", Exit.MISUSE)
    _changed(session, _find(session, connection), body, "Changed")


@command.command("enable")
@click.argument("connection")
@pass_session
def enable(session: Session, connection: str) -> None:
    """Let an account serve again."""
    _changed(session, _find(session, connection), {"isActive": True}, "Enabled")


@command.command("disable")
@click.argument("connection")
@pass_session
def disable(session: Session, connection: str) -> None:
    """Send an account no more requests until it is enabled again."""
    _changed(session, _find(session, connection), {"isActive": False}, "Disabled")


@command.command("rotate")
@click.argument("connection")
@_with_key_options
@click.option("--skip-test", is_flag=True, help="Store the new key without trying it.")
@pass_session
def rotate(
    session: Session,
    connection: str,
    *,
    api_key_stdin: bool,
    api_key_file: str | None,
    api_key_env: str | None,
    skip_test: bool,
) -> None:
    """Give an account another key; it is tried first, and the old one stays if it does not work."""
    found = _find(session, connection)
    key = _key({"id": found["provider"]}, stdin=api_key_stdin, file=api_key_file, variable=api_key_env)
    if not skip_test:
        trial = {"provider": found["provider"], "apiKey": key, "providerData": found["providerData"]}
        tried = session.api.send("POST", "/api/providers/validate", trial)
        if not tried["valid"]:
            raise Failure(f"The new key does not work, so the old one stays: {tried.get('error', 'refused')}")
    _changed(session, found, {"apiKey": key}, "Gave a new key to")


def _changed(session: Session, found: Mapping[str, Any], body: Mapping[str, Any], done: str) -> None:
    changed = session.api.send("PATCH", f"/api/providers/{found['id']}", body)["connection"]
    session.notice(f"{done} {changed['id']} ({changed['name']}).")
    if session.form is not Form.TABLE:
        session.print_fields(changed, {})


@command.command("remove")
@click.argument("connection")
@pass_session
def remove(session: Session, connection: str) -> None:
    """Remove an account and its key from the server; combos keep their other targets."""
    found = _find(session, connection)
    session.confirm(f"Remove {found['id']} ({found['name']} at {found['provider']}) and its key?")
    gone = session.api.send("DELETE", f"/api/providers/{found['id']}")
    affected = f" Combos that named it: {', '.join(gone['affectedCombos'])}." if gone["affectedCombos"] else ""
    session.notice(f"{gone['message']}{affected}")


@command.command("reset")
@click.argument("connection")
@pass_session
def reset(session: Session, connection: str) -> None:
    """Forget the errors and rests of an account."""
    found = _find(session, connection)
    session.api.send("POST", f"/api/providers/{found['id']}/reset")
    session.notice(f"Reset {found['id']} ({found['name']}).")


@command.command("test")
@click.argument("connection", required=False)
@click.option("--all", "is_all", is_flag=True, help="Test every account.")
@click.option("--model", metavar="MODEL", help="The model to call. Default: a small one of the account.")
@click.pass_context
@pass_session
def test(session: Session, ctx: click.Context, connection: str | None, is_all: bool, model: str | None) -> None:
    """Make a small call and a streamed one through an account, or all; exit code 1 if one fails."""
    is_all = is_all or ctx.info_name == "test-all"
    if is_all == (connection is not None):
        raise click.UsageError("Name an account, or give --all.")
    rows = _test_all(session) if is_all else [_test_one(session, _find(session, str(connection)), model)]
    shown = (
        [row | {"valid": "ok" if row["valid"] else "failed"} for row in rows] if session.form is Form.TABLE else rows
    )
    session.print_rows("results", shown, _TEST_COLUMNS)
    ctx.exit(Exit.DONE if all(row["valid"] for row in rows) else Exit.FAILED)


def _test_one(session: Session, found: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    body = {} if model is None else {"model": model}
    result = session.api.send("POST", f"/api/providers/{found['id']}/test", body)
    return {"id": found["id"], "name": found["name"], **result}


def _test_all(session: Session) -> list[dict[str, Any]]:
    result = jobs.follow(session, session.server.send("POST", "/api/providers/test-batch", {}), "Testing accounts")
    return [{"id": row["connectionId"], **row} for row in result["results"]]


@command.command("status")
@click.option("--provider", metavar="ID", help="Only accounts at this provider.")
@pass_session
def status(session: Session, provider: str | None) -> None:
    """Show breakers, rests and quota of the accounts."""
    state = session.api.get("/api/resilience/state")
    breakers = {row["provider"]: row["state"] for row in state["breakers"]}
    quota = {row["connectionId"]: _quota_text(row) for row in session.api.get("/api/usage/quota")["quotas"]}
    rows = [
        {
            **{name: row[name] for name in ("id", "provider", "name", "status")},
            "breaker": breakers.get(row["provider"], "closed"),
            "note": _note(row),
            "quota": quota.get(row["id"]),
        }
        for row in session.api.rows("/api/providers", "connections", provider=provider)
    ]
    session.print_rows("connections", rows, _STATUS_COLUMNS)


def _quota_text(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{window['name']} {window['usedPercent']:.0f}%" for window in row["windows"])


@command.command("metrics")
@click.option("--period", default="24h", show_default=True, metavar="RANGE", help="24h, 7d, 30d, 90d, 365d or all.")
@click.option("--provider", metavar="ID", help="Only this provider.")
@pass_session
def metrics(session: Session, period: str, provider: str | None) -> None:
    """Show requests, success, latency, tokens and cost by provider."""
    found = session.api.get("/api/usage/analytics", range=period, provider=provider)
    hours = {"24h": 24, "7d": 168, "30d": 720}.get(period, 720)
    latency = {
        row["name"]: row
        for row in session.api.get("/api/usage/latency", groupBy="provider", windowHours=hours).get("rows", [])
    }
    rows = [
        {
            "provider": row["provider"],
            "requests": row["requests"],
            "success": f"{100 * row['succeeded'] / row['requests']:.1f}%" if row["requests"] else None,
            "p50": latency.get(row["provider"], {}).get("p50"),
            "p95": latency.get(row["provider"], {}).get("p95"),
            "tokens": row["tokensIn"] + row["tokensOut"],
            "costUsd": row["costUsd"],
        }
        for row in found["byProvider"]
    ]
    session.print_rows("providers", rows, _METRIC_COLUMNS)


@command.command("import")
@click.argument("file")
@click.option("--validate", is_flag=True, help="Try each key first and store only those that work.")
@click.pass_context
@pass_session
def import_connections(session: Session, ctx: click.Context, file: str, validate: bool) -> None:
    """Add many accounts from FILE, CSV or JSON with provider, name, apiKey, baseUrl and priority; `-` is stdin."""
    with open_or_stdin(file) as opened:
        entries = _entries(file, opened.read().decode("utf-8-sig", errors="replace"))
    body: dict[str, Any] = {"entries": entries}
    if validate:
        body["validateKeys"] = True
    done = session.api.send("POST", "/api/providers/import", body)
    if "jobId" in done:
        done = jobs.follow(session, done, "Trying keys")
    rows = done["results"]
    shown = rows
    if session.form in (Form.TABLE, Form.CSV):
        shown = [{**row, "row": row["index"] + 1, "error": (row.get("error") or {}).get("message")} for row in rows]
    session.print_rows("results", shown, _IMPORT_COLUMNS)
    ctx.exit(Exit.FAILED if any(row.get("error") for row in rows) else Exit.DONE)


def _entries(file: str, text: str) -> list[dict[str, Any]]:
    name = Path(file).name
    if text.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(text)
        except json.JSONDecodeError as error:
            raise Failure(f"{name}, line {error.lineno}: {error.msg}.", Exit.MISUSE) from error
        entries = found.get("entries") if isinstance(found, dict) else found
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise Failure(f"{name} holds no list of entries.", Exit.MISUSE)
        return entries
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"provider", "apiKey"} <= rows[0].keys():
        raise Failure(f"The first line of {name} must name the columns, provider and apiKey among them.", Exit.MISUSE)
    return [_typed({column: value for column, value in row.items() if column and value}) for row in rows]


def _typed(entry: dict[str, Any]) -> dict[str, Any]:
    priority = str(entry.get("priority", ""))
    return entry | {"priority": int(priority)} if priority.isdecimal() else entry


def _find(session: Session, wanted: str) -> Mapping[str, Any]:
    return find_one(session.api.rows("/api/providers", "connections"), wanted, "account")
