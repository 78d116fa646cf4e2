"""`omniroute connect` and `omniroute whoami`: log in to a server elsewhere, and see what that gave."""

from __future__ import annotations

import socket
from typing import Any, Final
from urllib.parse import urlsplit

import click

from omniroute.cli import Exit, Failure, contexts
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session, read_secret

SCOPES: Final = ("read", "write", "admin")
_MOST_DAYS: Final = 3650
_WHOAMI_LABELS: Final = {
    "server": "Server",
    "context": "Context",
    "kind": "Credential",
    "name": "Name",
    "scope": "Scope",
    "expiresAt": "Expires",
    "version": "Version",
}


@click.command("connect")
@click.argument("host")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the server. Default: 20128 for a bare host.")
@click.option("--name", metavar="NAME", help="Name of the context. Default: the host.")
@click.option(
    "--scope", type=click.Choice(SCOPES), default="admin", show_default=True, help="What the new token may do."
)
@click.option("--key", metavar="TOKEN", help="Use this access token instead of logging in.")
@click.option("--key-stdin", is_flag=True, help="Read that access token from standard input.")
@click.option("--password-stdin", is_flag=True, help="Read the management password from standard input.")
@click.option("--expires", type=click.IntRange(1, _MOST_DAYS), metavar="DAYS", help="Days until the new token ends.")
@click.option("--insecure-http", is_flag=True, help="Do not ask before a secret goes over plain http.")
@pass_session
def command(
    session: Session,
    *,
    host: str,
    port: int | None,
    name: str | None,
    scope: str,
    key: str | None,
    key_stdin: bool,
    password_stdin: bool,
    expires: int | None,
    insecure_http: bool,
) -> None:
    """Log in to the server at HOST and use it from here on.

    HOST is a name or address, with or without a port, or a full URL. The management password is asked for once and not
    kept: what is saved is an access token, which `omniroute tokens` on the server lists and revokes.
    """
    url = contexts.url_of_host(host, port)
    wanted = name or _name_of(url)
    contexts.check_name(wanted)
    if wanted == contexts.LOCAL:
        raise Failure("The context 'default' means this machine. Choose another name with --name.", Exit.MISUSE)
    saved = contexts.load().by_name.get(wanted)
    if saved is not None and contexts.origin_of(saved.base_url) != contexts.origin_of(url):
        session.confirm(f"The context {wanted!r} leads to {saved.base_url}. Let it lead to {url}?")
    session.check_plain_http(url, is_accepted=insecure_http)
    if key or key_stdin:
        token = read_secret(stdin=key_stdin, given=key, missing="--key-stdin found no token on standard input.")
        members = _checked_token(session, url, token)
    else:
        members = _new_token(session, url, scope, expires, password_stdin=password_stdin)
    if insecure_http or urlsplit(url).scheme == "http":
        members["insecureHttp"] = True
    contexts.save(wanted, {"baseUrl": url, **members}, is_current=True)
    session.notice(f"✔ Connected to {url} — context '{wanted}' (scope: {members['scope']})")
    session.notice("To manage this machine again: omniroute contexts use default")
    if session.form is not Form.TABLE:
        session.print_fields(
            {"context": wanted, "baseUrl": url, "scope": members["scope"], "tokenId": members.get("tokenId")}, {}
        )


def _new_token(session: Session, url: str, scope: str, expires: int | None, *, password_stdin: bool) -> dict[str, Any]:
    password = read_secret(
        stdin=password_stdin,
        variable="OMNIROUTE_PASSWORD",
        prompt=f"Management password for {url}: ",
        missing="Nobody can be asked for the password here: use --password-stdin, or --key-stdin with an access token.",
    )
    body: dict[str, Any] = {"password": password, "scope": scope, "name": f"cli@{socket.gethostname()}"[:100]}
    if expires is not None:
        body["expiresInDays"] = expires
    issued = session.without_credential(url).send("POST", "/api/cli/connect", body)
    return {
        "accessToken": issued["token"],
        "scope": issued["scope"],
        "tokenId": issued["id"],
        "expiresAt": issued["expiresAt"],
    }


def _checked_token(session: Session, url: str, token: str) -> dict[str, Any]:
    """Return what the server says about a token, so that one that opens nothing is not saved."""
    found = session.with_token(url, token).get("/api/cli/whoami")
    return {
        "accessToken": token,
        "scope": found["scope"],
        "tokenId": found.get("id"),
        "expiresAt": found.get("expiresAt"),
    }


def _name_of(url: str) -> str:
    """Return a name for the context of a URL: its host, spelled as a name may be."""
    host = urlsplit(url).hostname or "server"
    return "".join(c if c.isalnum() or c in ".-_" else "-" for c in host).strip("-")[:64] or "server"


@click.command("whoami")
@pass_session
def whoami(session: Session) -> None:
    """Say who the server takes you for, and what you may do there."""
    found = session.api.get("/api/cli/whoami")
    if session.form is Form.JSON:
        session.print_fields(found, {})
        return
    target = session.target
    facts = {
        **found,
        "server": found["server"]["baseUrl"] if target.is_here else target.base_url,
        "version": found["server"]["version"],
        "context": target.context.name if target.context is not None else None,
    }
    session.print_fields(facts, _WHOAMI_LABELS)
