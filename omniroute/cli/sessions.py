"""`omniroute sessions`: conversations that stay at the connection that served them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session
from omniroute.cli.times import span, span_until

_PATH: Final = "/api/sessions"
_COLUMNS: Final = {
    "id": "Id",
    "provider": "Provider",
    "connectionName": "Connection",
    "target": "Model",
    "apiKeyName": "Key",
    "lastUsedAt": "Last used",
    "expiresAt": "Expires in",
}


@click.group("sessions")
def command() -> None:
    """List and end sticky sessions: conversations that stay at the connection that served them."""


@command.command("list")
@click.option("--connection", help="Only those at this connection, by its id or name.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_sessions(session: Session, connection: str | None, limit: int | None) -> None:
    """List the sessions, the last used first."""
    if connection is not None:
        connection = find_one(session.api.rows("/api/providers", "connections"), connection, "connection")["id"]
    rows = session.api.rows(_PATH, "sessions", limit=limit, connectionId=connection)
    if session.form is Form.TABLE:
        now = datetime.now(UTC)
        rows = [
            row
            | {
                "connectionName": row["connectionName"] or row["connectionId"],
                "apiKeyName": row["apiKeyName"] or row["apiKeyId"],
                "lastUsedAt": f"{span((now - datetime.fromisoformat(row['lastUsedAt'])).total_seconds())} ago",
                "expiresAt": span_until(row["expiresAt"], now),
            }
            for row in rows
        ]
    session.print_rows("sessions", rows, _COLUMNS)


@command.command("expire")
@click.argument("session_ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "is_all", is_flag=True, help="Every session.")
@pass_session
def expire(session: Session, session_ids: tuple[str, ...], is_all: bool) -> None:
    """Let sessions go: their next request is served wherever that is best. Workers follow within two seconds."""
    if is_all == bool(session_ids):
        raise Failure("Give ids of sessions, or --all.", Exit.MISUSE)
    if is_all:
        session.confirm("End every sticky session? Their next requests may find no prompt cache.")
        count = session.api.send("DELETE", _PATH)["expired"]
    else:
        count = sum(session.api.send("DELETE", f"{_PATH}/{quote(one, safe='')}")["expired"] for one in session_ids)
    session.notice(f"Expired: {count}.")
    if session.form is not Form.TABLE:
        session.print_fields({"expired": count}, {"expired": "Expired"})
