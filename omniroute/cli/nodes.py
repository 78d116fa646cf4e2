"""`omniroute nodes`: endpoints that the operator defines, beside the built-in providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.finding import find_one
from omniroute.cli.groups import AliasGroup
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session, read_secret

_COLUMNS: Final = {
    "id": "Id",
    "prefix": "Prefix",
    "name": "Name",
    "type": "Type",
    "baseUrl": "Base URL",
    "isLocal": "Local",
    "connections": "Connections",
}
_TYPES: Final = {
    "openai": "openai-compatible",
    "anthropic": "anthropic-compatible",
    "gemini": "gemini-compatible",
    "ollama": "ollama",
}
_TYPE: Final = click.Choice((*_TYPES, *(name for name in _TYPES.values() if name not in _TYPES)))
_VALIDATION_LABELS: Final = {"reachable": "Reachable", "latencyMs": "Latency ms", "models": "Models", "error": "Error"}


@click.group("nodes", cls=AliasGroup, aliases={"create": "add", "delete": "remove"})
def command() -> None:
    """List, add, change and remove endpoints of your own: local models, relays, anything that speaks a known format."""


@command.command("list")
@click.option("--search", metavar="TEXT", help="Only those that hold this text.")
@pass_session
def list_nodes(session: Session, search: str | None) -> None:
    """List the endpoints."""
    rows = session.api.rows("/api/provider-nodes", "nodes", q=search)
    if session.form in (Form.TABLE, Form.CSV):
        used: dict[str, int] = {}
        for connection in session.api.rows("/api/providers", "connections"):
            used[connection["provider"]] = used.get(connection["provider"], 0) + 1
        rows = [row | {"connections": used.get(row["id"], 0)} for row in rows]
    session.print_rows("nodes", rows, _COLUMNS)


@command.command("add")
@click.argument("name")
@click.option("--prefix", required=True, help="What stands before the slash in the names of its models.")
@click.option("--type", "kind", type=_TYPE, default="openai", show_default=True, help="The format that it speaks.")
@click.option("--url", required=True, help="Its base URL, such as http://127.0.0.1:8000/v1.")
@click.option("--local", is_flag=True, help="It is on this machine or in a network of yours: plain http is fine.")
@click.option("--chat-path", metavar="PATH", help="Where chat is, if not at the usual place.")
@click.option("--models-path", metavar="PATH", help="Where the model list is, if not at the usual place.")
@pass_session
def add(
    session: Session,
    *,
    name: str,
    prefix: str,
    kind: str,
    url: str,
    local: bool,
    chat_path: str | None,
    models_path: str | None,
) -> None:
    """Add an endpoint; an account for it comes from `omniroute providers add PREFIX`."""
    body: dict[str, Any] = {"name": name, "prefix": prefix, "type": _TYPES.get(kind, kind), "baseUrl": url}
    if local:
        body["isLocal"] = True
    body |= {
        field: value for field, value in (("chatPath", chat_path), ("modelsPath", models_path)) if value is not None
    }
    made = session.api.send("POST", "/api/provider-nodes", body)["node"]
    session.notice(f"Added {made['name']!r}. An account for it: omniroute providers add {made['prefix']}")
    if session.form is Form.TABLE:
        click.echo(made["id"])
    else:
        session.print_fields(made, {})


@command.command("update")
@click.argument("node")
@click.option("--name", help="A new name.")
@click.option("--prefix", help="What stands before the slash in the names of its models.")
@click.option("--type", "kind", type=_TYPE, help="The format that it speaks.")
@click.option("--url", help="Its base URL. Its accounts count as untested after a change.")
@click.option("--local/--not-local", default=None, help="Whether it is on this machine or in a network of yours.")
@pass_session
def update(session: Session, /, *, node: str, kind: str | None, **given: Any) -> None:
    """Change an endpoint. NODE is its id, prefix or name."""
    names = {"name": "name", "prefix": "prefix", "url": "baseUrl", "local": "isLocal"}
    body = {names[option]: value for option, value in given.items() if value is not None}
    if kind is not None:
        body["type"] = _TYPES.get(kind, kind)
    if not body:
        raise Failure("Name at least one thing to change; see --help.", Exit.MISUSE)
    changed = session.api.send("PATCH", f"/api/provider-nodes/{_find(session, node)['id']}", body)["node"]
    session.notice(f"Changed {changed['id']} ({changed['name']}).")
    if session.form is not Form.TABLE:
        session.print_fields(changed, {})


@command.command("remove")
@click.argument("node")
@pass_session
def remove(session: Session, node: str) -> None:
    """Remove an endpoint. NODE is its id, prefix or name."""
    found = _find(session, node)
    session.confirm(f"Remove {found['id']} ({found['name']}, {found['baseUrl']})?")
    session.api.send("DELETE", f"/api/provider-nodes/{found['id']}")
    session.notice(f"Removed {found['id']} ({found['name']}).")


@command.command("validate")
@click.argument("url")
@click.option("--type", "kind", type=_TYPE, default="openai", show_default=True, help="The format that it speaks.")
@click.option("--local", is_flag=True, help="It is on this machine or in a network of yours.")
@click.option("--api-key-stdin", is_flag=True, help="Read a key for it from standard input.")
@click.pass_context
@pass_session
def validate(session: Session, ctx: click.Context, *, url: str, kind: str, local: bool, api_key_stdin: bool) -> None:
    """Ask an endpoint for its models without storing anything; exit code 1 if it cannot be reached."""
    body: dict[str, Any] = {"baseUrl": url, "type": _TYPES.get(kind, kind)}
    if local:
        body["isLocal"] = True
    if api_key_stdin:
        body["apiKey"] = read_secret(stdin=True, missing="There is no key on standard input.")
    found = session.api.send("POST", "/api/provider-nodes/validate", body)
    session.print_fields(found, _VALIDATION_LABELS)
    ctx.exit(Exit.DONE if found["reachable"] else Exit.FAILED)


def _find(session: Session, wanted: str) -> Mapping[str, Any]:
    rows = session.api.rows("/api/provider-nodes", "nodes")
    return find_one(rows, wanted, "endpoint", ("prefix", "name"))
