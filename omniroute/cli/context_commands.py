"""`omniroute contexts`: the servers that are known here, and which one is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure, contexts
from omniroute.cli.contexts import LOCAL, SECRETS, Context
from omniroute.cli.output import Form
from omniroute.cli.session import Session, open_or_stdin, pass_session, read_secret

_COLUMNS: Final = {
    "active": "",
    "name": "Name",
    "baseUrl": "Base URL",
    "auth": "Auth",
    "scope": "Scope",
    "description": "Description",
}
_LABELS: Final = {
    "name": "Context",
    "baseUrl": "Server",
    "auth": "Auth",
    "scope": "Scope",
    "answers": "Answers",
    "expiresAt": "Token ends",
    "description": "Description",
}


@click.group("contexts")
def command() -> None:
    """List, choose, add, rename and remove the servers that are known here."""


@command.command("list")
@pass_session
def list_contexts(session: Session) -> None:
    """List the contexts; a star marks the one in use."""
    saved = contexts.load()
    rows = [_row(one, is_active=one.name == saved.current) for one in saved.by_name.values()]
    if session.form is Form.TABLE:
        rows = [row | {"active": "*" if row["active"] else " "} for row in rows]
    session.print_rows("contexts", rows, _COLUMNS)


@command.command("use")
@click.argument("name")
@pass_session
def use(session: Session, name: str) -> None:
    """Use the context NAME from here on; `default` is this machine."""
    found = contexts.load().get(name)

    def edit(document: dict[str, Any]) -> None:
        document["currentContext"] = name

    contexts.change(edit)
    session.notice(f"Using {name!r}: {'this machine' if found.is_local else found.base_url}.")


@command.command("current")
@click.option("--name-only", is_flag=True, help="Print the name and ask nobody.")
@pass_session
def current(session: Session, name_only: bool) -> None:
    """Say which server is used, with what credential, and whether it answers."""
    if name_only:
        target = session.target
        click.echo(target.context.name if target.context is not None else target.base_url)
        return
    _print_one(session, session.target.context, session.target.base_url)


@command.command("show")
@click.argument("name")
@pass_session
def show(session: Session, name: str) -> None:
    """Show the context NAME, without its secrets, and whether its server answers."""
    found = contexts.load().get(name)
    session.context = name
    _print_one(session, found, found.base_url)


def _print_one(session: Session, context: Context | None, base_url: str) -> None:
    row = _row(context, is_active=True) if context is not None else {"name": None, "baseUrl": base_url}
    try:
        found = session.server.get("/api/cli/whoami")
        row |= {"answers": "yes", "scope": found["scope"], "expiresAt": found.get("expiresAt")}
    except Failure as error:
        row |= {"answers": f"no: {error.message.splitlines()[0]}"}
    session.print_fields(row, _LABELS)


@command.command("add")
@click.argument("name")
@click.option("--url", required=True, help="Base URL, or host with or without a port.")
@click.option("--token-stdin", is_flag=True, help="Read its access token from standard input.")
@click.option(
    "--api-key-stdin", is_flag=True, help="Read its API key from standard input (the second line, with both)."
)
@click.option("--description", help="What it is, for the list.")
@pass_session
def add(
    session: Session, *, name: str, url: str, token_stdin: bool, api_key_stdin: bool, description: str | None
) -> None:
    """Save a server as NAME without asking it anything; `omniroute connect` logs in and saves in one step."""
    base_url = contexts.url_of_host(url)
    if name == LOCAL:
        raise Failure("The context 'default' means this machine. Choose another name.", Exit.MISUSE)
    if name in contexts.load().by_name:
        session.confirm(f"The context {name!r} exists. Replace its members?")
    members: dict[str, Any] = {"baseUrl": base_url}
    if token_stdin or api_key_stdin:
        session.check_plain_http(base_url)
    if token_stdin:
        members["accessToken"] = read_secret(stdin=True, missing="There is no access token on standard input.")
    if api_key_stdin:
        members["apiKey"] = read_secret(stdin=True, missing="There is no API key on standard input.")
    if description is not None:
        members["description"] = description
    contexts.save(name, members)
    session.notice(f"Saved {name!r}. To use it: omniroute contexts use {name}")


@command.command("rename")
@click.argument("old")
@click.argument("new")
@pass_session
def rename(session: Session, old: str, new: str) -> None:
    """Rename a context."""
    saved = contexts.load()
    saved.get(old)
    contexts.check_name(new)
    if LOCAL in (old, new):
        raise Failure("The context 'default' means this machine and keeps its name.", Exit.MISUSE)
    if new in saved.by_name:
        raise Failure(f"There is a context named {new!r} already.", Exit.MISUSE)

    def edit(document: dict[str, Any]) -> None:
        document["contexts"][new] = document["contexts"].pop(old)
        if document.get("currentContext") == old:
            document["currentContext"] = new

    contexts.change(edit)
    session.notice(f"Renamed {old!r} to {new!r}.")


@command.command("remove")
@click.argument("name")
@click.option("--revoke/--keep-token", default=None, help="End its access token on the server too, or leave it.")
@pass_session
def remove(session: Session, name: str, revoke: bool | None) -> None:
    """Forget a context; its access token can be revoked on the server at the same time."""
    found = contexts.load().get(name)
    if found.is_local:
        raise Failure("The context 'default' means this machine and cannot be removed.", Exit.MISUSE)
    session.confirm(f"Forget the context {name!r} ({found.base_url})?")
    if revoke is None and found.token is not None and not session.is_confirmed:
        revoke = click.confirm("Revoke its access token on the server too?", err=True)
    if revoke:
        _revoke(session, found)

    def edit(document: dict[str, Any]) -> None:
        document["contexts"].pop(name, None)
        if document.get("currentContext") == name:
            document["currentContext"] = LOCAL

    contexts.change(edit)
    session.notice(f"Forgot {name!r}.")


def _revoke(session: Session, context: Context) -> None:
    token_id = context.members.get("tokenId")
    if context.token is None or not isinstance(token_id, str):
        raise Failure(f"The context {context.name!r} has no access token that could be revoked.", Exit.MISUSE)
    session.with_token(context.base_url, context.token).send("DELETE", f"/api/cli/tokens/{token_id}")
    session.notice("Its access token is revoked.")


@command.command("export")
@click.option("--with-secrets", is_flag=True, help="Write tokens and keys too.")
@click.option("--no-secrets", is_flag=True, help="Leave tokens and keys out; so it is anyway.")
@pass_session
def export(session: Session, with_secrets: bool, no_secrets: bool) -> None:
    """Print the contexts as a document that `contexts import` reads."""
    if with_secrets and no_secrets:
        raise click.UsageError("--with-secrets and --no-secrets exclude each other.")
    if with_secrets:
        session.confirm("Print access tokens and API keys?")
    kept = {
        one.name: {
            "baseUrl": one.base_url,
            **{member: value for member, value in one.members.items() if with_secrets or member not in SECRETS},
        }
        for one in contexts.load().by_name.values()
    }
    click.echo(json.dumps({"version": contexts.VERSION, "contexts": kept}, ensure_ascii=False, indent=2))


@command.command("import")
@click.argument("file")
@click.option("--merge", is_flag=True, help="Keep contexts that the file does not name, and replace those it does.")
@pass_session
def import_contexts(session: Session, file: str, merge: bool) -> None:
    """Read contexts that `contexts export` printed; `-` is standard input."""
    with open_or_stdin(file) as opened:
        raw = opened.read()
    found = _imported(file, raw)
    saved = contexts.load()
    if not merge:
        lost = [name for name in saved.by_name if name not in found and name != LOCAL]
        if lost:
            session.confirm(f"Replace all contexts? {', '.join(lost)} would be forgotten.")

    def edit(document: dict[str, Any]) -> None:
        kept = document["contexts"] if merge else {LOCAL: document["contexts"][LOCAL]}
        document["contexts"] = kept | {name: dict(members) for name, members in found.items() if name != LOCAL}
        if document.get("currentContext") not in document["contexts"]:
            document["currentContext"] = LOCAL

    contexts.change(edit)
    session.notice(f"Read {len(found)} context{'' if len(found) == 1 else 's'}.")


def _imported(file: str, raw: bytes) -> Mapping[str, Mapping[str, Any]]:
    try:
        document = json.loads(raw)
        found = {name: (members, members["baseUrl"] + "") for name, members in document["contexts"].items()}
    except json.JSONDecodeError as error:
        raise Failure(
            f"{Path(file).name} is not valid JSON: line {error.lineno}, column {error.colno}.", Exit.MISUSE
        ) from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Failure(f"{Path(file).name} does not hold contexts.", Exit.MISUSE) from error
    for name, (_members, base_url) in found.items():
        contexts.check_name(name)
        contexts.url_of_host(base_url)
    return {name: members for name, (members, _base_url) in found.items()}


def _row(context: Context, *, is_active: bool) -> dict[str, Any]:
    auth = "token" if context.token else "key" if context.api_key else "local" if context.is_local else "none"
    return {
        "active": is_active,
        "name": context.name,
        "baseUrl": context.base_url,
        "auth": auth,
        "scope": "admin" if context.is_local else context.scope,
        "description": context.members.get("description"),
    }
