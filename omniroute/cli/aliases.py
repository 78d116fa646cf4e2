"""`omniroute aliases`: other names for models."""

from __future__ import annotations

from typing import Any, Final

import click

from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/models/alias"
_COLUMNS: Final = {
    "pattern": "Pattern",
    "target": "Target",
    "priority": "Priority",
    "enabled": "Enabled",
    "hits": "Hits",
}
MOST_PRIORITY: Final = 1000


@click.group("aliases", cls=AliasGroup, aliases={"add": "set", "delete": "remove"})
def command() -> None:
    """List, set and remove aliases: other names, or patterns of names, for models."""


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only those with this text in pattern or target.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_aliases(session: Session, search: str | None, limit: int | None) -> None:
    """List the aliases, the oldest first."""
    session.print_rows("aliases", session.api.rows(_PATH, "aliases", limit=limit, q=search), _COLUMNS)


@command.command("set")
@click.argument("pattern")
@click.argument("target")
@click.option("--priority", type=click.IntRange(-MOST_PRIORITY, MOST_PRIORITY), help="The higher wins. Default: 0.")
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether it is followed. Default: yes.")
@pass_session
def put(session: Session, *, pattern: str, target: str, priority: int | None, enabled: bool | None) -> None:
    """Let PATTERN lead to TARGET; an alias with the same pattern is replaced.

    In PATTERN `*` stands for any characters and `?` for one.
    """
    body: dict[str, Any] = {"pattern": pattern, "target": target}
    if priority is not None:
        body["priority"] = priority
    if enabled is not None:
        body["enabled"] = enabled
    made = session.api.send("PUT", _PATH, body)["alias"]
    session.notice(f"{made['pattern']} leads to {made['target']}.")
    if session.form is not Form.TABLE:
        session.print_fields(made, _COLUMNS)


@command.command("remove")
@click.argument("pattern")
@pass_session
def remove(session: Session, pattern: str) -> None:
    """Remove the alias with this pattern."""
    session.confirm(f"Remove the alias {pattern!r}?")
    session.api.send("DELETE", _PATH, pattern=pattern)
    session.notice(f"Removed {pattern}.")
