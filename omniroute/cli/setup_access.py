"""`omniroute reset-password`: the way back in for whoever owns the machine."""

from __future__ import annotations

import sys

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import open_services
from omniroute.cli.session import Session, pass_session


@click.command("reset-password")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the new password from standard input.")
@click.option("--generate", is_flag=True, help="Make one up and print it, once and alone on stdout.")
@pass_session
def command(session: Session, from_stdin: bool, generate: bool) -> None:
    """Set a new dashboard password; every session ends and every lockout is lifted."""
    if from_stdin and generate:
        raise click.UsageError("--stdin and --generate exclude each other.")
    session.refuse_remote("Setting a password")
    password = new_password(from_stdin=from_stdin, generate=generate)
    ended = reset(session, password)
    session.notice(f"The password is set. Sessions ended: {ended}.")
    if generate:
        click.echo(password)


def reset(session: Session, password: str) -> int:
    """Set the password of the installation on this machine; return how many sessions that ended."""
    with open_services(session.data_dir) as services:
        services.passwords.change(password, field="password")
        ended = services.sessions.revoke_all()
        services.lockout.clear_all()
        services.audit.record("auth.password.reset", actor="cli")
    return ended


def new_password(*, from_stdin: bool, generate: bool) -> str:
    """Return the password to set, from where the options say.

    Raises:
        Failure: There is nobody to ask.
    """
    if generate:
        from omniroute.services.first_start import generate_password

        return generate_password()
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Failure("Nobody can be asked here: use --stdin or --generate.", Exit.MISUSE)
    password: str = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    return password
