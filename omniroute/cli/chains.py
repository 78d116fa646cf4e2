"""`omniroute chains`: what is tried when a request's own targets are exhausted."""

from __future__ import annotations

from typing import Any, Final

import click

from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

_PATH: Final = "/api/fallback/chains"
_COLUMNS: Final = {
    "name": "Name",
    "models": "Models",
    "match": "Match",
    "order": "Order",
    "enabled": "Enabled",
}
_MOST_ORDER: Final = 100_000


@click.group("chains", cls=AliasGroup, aliases={"add": "set", "delete": "remove"})
def command() -> None:
    """List, set and remove fallback chains: what is tried when a request's own targets are exhausted."""


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only those with this text in name or models.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="How many at most. Default: all.")
@pass_session
def list_chains(session: Session, search: str | None, limit: int | None) -> None:
    """List the chains in the order in which they are looked at."""
    session.print_rows("chains", session.api.rows(_PATH, "chains", limit=limit, q=search), _COLUMNS)


@command.command("set")
@click.argument("name")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--match", "globs", multiple=True, metavar="GLOB", help="Requested models it is for; repeatable. Default: all."
)
@click.option("--order", type=click.IntRange(0, _MOST_ORDER), metavar="N", help="The lower is looked at first.")
@click.option("--enabled/--disabled", "enabled", default=None, help="Whether it is used. Default: yes.")
@pass_session
def put(
    session: Session,
    *,
    name: str,
    models: tuple[str, ...],
    globs: tuple[str, ...],
    order: int | None,
    enabled: bool | None,
) -> None:
    """Try these models, in this order, after a request's own targets; a chain of this name is changed.

    An `auto` channel may stand last.
    """
    body: dict[str, Any] = {"models": list(models)}
    if globs:
        body["match"] = list(globs)
    if order is not None:
        body["order"] = order
    if enabled is not None:
        body["enabled"] = enabled
    known = [row for row in session.api.rows(_PATH, "chains", q=name) if row["name"] == name]
    if known:
        made = session.api.send("PATCH", f"{_PATH}/{known[0]['id']}", body)["chain"]
    else:
        made = session.api.send("POST", _PATH, {"name": name, **body})["chain"]
    session.notice(f"{made['name']}: {', '.join(made['models'])}, for {', '.join(made['match'])}.")
    if session.form is not Form.TABLE:
        session.print_fields(made, _COLUMNS)


@command.command("remove")
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """Remove a chain. NAME is its name or id."""
    found = find_one(session.api.rows(_PATH, "chains"), name, "chain")
    session.confirm(f"Remove the chain {found['name']} ({found['id']})?")
    session.api.send("DELETE", f"{_PATH}/{found['id']}")
    session.notice(f"Removed {found['name']} ({found['id']}).")
