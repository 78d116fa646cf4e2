"""`omniroute tokens`: access tokens of the server, for management from elsewhere."""

from __future__ import annotations

from typing import Any, Final

import click

from omniroute.cli.connect import SCOPES
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_COLUMNS: Final = {
    "id": "Id",
    "name": "Name",
    "scope": "Scope",
    "tokenPrefix": "Prefix",
    "status": "Status",
    "lastUsedAt": "Last used",
    "expiresAt": "Expires",
}
_SCOPES: Final = (
    {
        "scope": "read",
        "opens": "Everything that only looks: lists, health, logs, usage, quota, explain, simulate, replay.",
        "examples": "omniroute models list, omniroute usage, omniroute logs --follow",
    },
    {
        "scope": "write",
        "opens": "read, and changes that give no credential away: keys, combos, aliases, budgets, prices.",
        "examples": "omniroute keys add laptop, omniroute combos create …, omniroute budget set …",
    },
    {
        "scope": "admin",
        "opens": "write, and everything else: providers, proxies, access tokens, backups, security settings.",
        "examples": "omniroute providers add groq, omniroute tokens create, omniroute backup list",
    },
)


@click.group("tokens")
def command() -> None:
    """Create, list and revoke access tokens for management; they never open inference."""


@command.command("create")
@click.option("--name", required=True, help="What the token is for.")
@click.option(
    "--scope", type=click.Choice(SCOPES), default="read", show_default=True, help="What it may do; see 'tokens scopes'."
)
@click.option("--expires", type=click.IntRange(1, 3650), metavar="DAYS", help="Days until it ends. Default: never.")
@pass_session
def create(session: Session, name: str, scope: str, expires: int | None) -> None:
    """Create a token and print it, once and alone on stdout."""
    body: dict[str, Any] = {"name": name, "scope": scope}
    if expires is not None:
        body["expiresInDays"] = expires
    issued = session.api.send("POST", "/api/cli/tokens", body)
    told = f"Access token {issued['id']} ({issued['name']}, scope {issued['scope']}). It is shown this once:"
    session.print_secret(issued["token"], issued, told)


@command.command("list")
@pass_session
def list_tokens(session: Session) -> None:
    """List the tokens; of each only its beginning is shown."""
    session.print_rows("tokens", session.api.get("/api/cli/tokens")["tokens"], _COLUMNS)


@command.command("revoke")
@click.argument("token")
@pass_session
def revoke(session: Session, token: str) -> None:
    """End a token at once. TOKEN is its id, its name, or how one of its id and secret begins."""
    session.confirm(f"Revoke the access token {token}? Whoever uses it is shut out.")
    ended = session.api.send("DELETE", f"/api/cli/tokens/{token}")
    session.notice(f"Revoked {ended['id']}.")


@command.command("scopes")
@pass_session
def scopes(session: Session) -> None:
    """Explain the three scopes, with examples."""
    if session.form is not Form.TABLE:
        session.print_rows("scopes", _SCOPES, {"scope": "Scope", "opens": "Opens", "examples": "Examples"})
        return
    for row in _SCOPES:
        click.echo(f"{row['scope']:<6} {row['opens']}\n       e.g. {row['examples']}")
