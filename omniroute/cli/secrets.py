"""`omniroute secrets`: the key that opens stored credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from omniroute.cli import Exit
from omniroute.cli.local import open_services
from omniroute.cli.output import Form
from omniroute.cli.session import Session, pass_session

if TYPE_CHECKING:
    from omniroute.services.encryption_keys import KeyReport

_LABELS: Final = {
    "keyId": "Key",
    "previousKeyId": "Key before",
    "opened": "Values that open",
    "rewritten": "Encrypted anew",
    "unreadable": "Values that do not open",
}


@click.group("secrets")
def command() -> None:
    """Check and replace the encryption key of the installation on this machine."""


@command.command("check")
@click.pass_context
@pass_session
def check(session: Session, ctx: click.Context) -> None:
    """Try to open every stored credential; exit code 1 if one does not open."""
    session.refuse_remote("Checking secrets")
    with open_services(session.data_dir) as services:
        report = services.encryption_keys.check()
    _show(session, report)
    ctx.exit(Exit.DONE if report.is_whole else Exit.FAILED)


@command.command("rotate")
@pass_session
def rotate(session: Session) -> None:
    """Make a new encryption key and encrypt every credential with it; the server must be stopped.

    The key before is kept beside it until the next verified backup.
    """
    session.refuse_remote("Rotating the key")
    session.confirm("Replace the encryption key and encrypt every stored credential anew?")
    with open_services(session.data_dir) as services, session.progress("Encrypting"):
        report = services.encryption_keys.rotate()
    _show(session, report)


@command.command("new-key")
@pass_session
def new_key(session: Session) -> None:
    """Begin anew after the encryption key was lost: credentials that nothing opens any more are removed."""
    session.refuse_remote("Making a new key")
    session.confirm("Remove every stored credential that does not open, and make a new key? A backup is made first.")
    with open_services(session.data_dir) as services:
        report = services.encryption_keys.new_key(back_up=services.backups.create)
    _show(session, report)
    for identity, name in report.connections.items():
        session.notice(f"Enter its key again: {name} ({identity}): omniroute providers rotate {identity}")


def _show(session: Session, report: KeyReport) -> None:
    document: dict[str, Any] = {
        "keyId": report.key_id,
        "previousKeyId": report.previous_key_id,
        "opened": report.opened,
        "rewritten": report.rewritten,
        "unreadable": dict(report.unreadable),
        "connections": dict(report.connections),
    }
    if session.form is Form.TABLE:
        document["unreadable"] = ", ".join(f"{n} in {table}" for table, n in report.unreadable.items()) or 0
    session.print_fields(document, _LABELS)
