"""`omniroute reset-password`: the way back in for whoever owns the machine."""

from __future__ import annotations

import sys

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, open_services
from omniroute.cli.output import notice


@click.command("reset-password")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the new password from standard input.")
@click.option("--generate", is_flag=True, help="Make one up and print it, once and alone on stdout.")
@data_dir_option
def command(from_stdin: bool, generate: bool, data_dir: str | None) -> None:
    """Set a new dashboard password; every session ends and every lockout is lifted."""
    if from_stdin and generate:
        raise click.UsageError("--stdin and --generate exclude each other.")
    password = new_password(from_stdin=from_stdin, generate=generate)
    with open_services(data_dir) as services:
        services.passwords.change(password, field="password")
        ended = services.sessions.revoke_all()
        services.lockout.clear_all()
        services.audit.record("auth.password.changed", actor="cli", details={"source": "reset-password"})
    notice(f"The password is set. Sessions ended: {ended}.")
    if generate:
        click.echo(password)


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
