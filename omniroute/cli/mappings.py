"""`omniroute mappings`: patterns of model names that lead to combos."""

from __future__ import annotations

from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.aliases import MOST_PRIORITY
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/model-combo-mappings"
_COLUMNS: Final = {
    "id": "Id",
    "pattern": "Pattern",
    "comboName": "Combo",
    "priority": "Priority",
    "enabled": "Enabled",
    "description": "Description",
}


@click.group("mappings", cls=AliasGroup, aliases={"add": "set", "delete": "remove"})
def command() -> None:
    """List, set and remove mappings: patterns of model names that lead to combos."""


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only those with this text in pattern or description.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_mappings(session: Session, search: str | None, limit: int | None) -> None:
    """List the mappings."""
    session.print_rows("mappings", session.api.rows(_PATH, "mappings", limit=limit, q=search), _COLUMNS)


@command.command("set")
@click.argument("pattern")
@click.argument("combo")
@click.option("--priority", type=click.IntRange(-MOST_PRIORITY, MOST_PRIORITY), help="The higher wins. Default: 0.")
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether it is followed. Default: yes.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@pass_session
def put(
    session: Session, *, pattern: str, combo: str, priority: int | None, enabled: bool | None, description: str | None
) -> None:
    """Let model names of PATTERN lead to COMBO, given by name or id; a mapping of the same pattern is changed.

    In PATTERN `*` stands for any characters and `?` for one.
    """
    target = find_one(session.api.rows("/api/combos", "combos"), combo, "combo")
    given = {"priority": priority, "enabled": enabled, "description": description}
    body: dict[str, Any] = {"comboId": target["id"]}
    body |= {name: value for name, value in given.items() if value is not None}
    known = [row for row in session.api.rows(_PATH, "mappings") if row["pattern"] == pattern]
    if len(known) > 1:
        ids = ", ".join(row["id"] for row in known)
        raise Failure(f"Several mappings have the pattern {pattern!r}: {ids}. Remove all but one.", Exit.MISUSE)
    if known:
        made = session.api.send("PATCH", f"{_PATH}/{known[0]['id']}", body)["mapping"]
    else:
        made = session.api.send("POST", _PATH, {"pattern": pattern, **body})["mapping"]
    session.notice(f"{made['pattern']} leads to the combo {made['comboName']}.")
    if session.form is not Form.TABLE:
        session.print_fields(made, _COLUMNS)


@command.command("remove")
@click.argument("pattern")
@pass_session
def remove(session: Session, pattern: str) -> None:
    """Remove a mapping. PATTERN is its pattern or id."""
    found = find_one(session.api.rows(_PATH, "mappings"), pattern, "mapping", ("pattern",))
    session.confirm(f"Remove the mapping {found['pattern']!r} ({found['id']})?")
    session.api.send("DELETE", f"{_PATH}/{found['id']}")
    session.notice(f"Removed {found['pattern']} ({found['id']}).")
