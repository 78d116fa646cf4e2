"""`omniroute doctor`: is this installation sound, and what to do if not."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from omniroute import __version__
from omniroute.cli import Exit, api_checks, tool_checks
from omniroute.cli.checks import Finding, Status, Subject, run_all
from omniroute.cli.mending import mend
from omniroute.cli.output import Form, print_document
from omniroute.cli.session import Session, pass_session


@click.command("doctor")
@click.option("--no-live", is_flag=True, help="Do not make a small call through each account.")
@click.option("--clients", is_flag=True, help="Look at the coding tools on this machine too.")
@click.option(
    "--fix", is_flag=True, help="Mend what can be mended safely: rights of files, the schema, a first backup."
)
@click.pass_context
@pass_session
def command(session: Session, ctx: click.Context, *, no_live: bool, clients: bool, fix: bool) -> None:
    """Check this installation and say how to mend it; exit code 1 if something fails."""
    settings = session.local_settings("Checking")
    subject = Subject(settings, time.time, Path.home())
    if fix:
        for done in mend(session, subject):
            session.notice(done)
    findings = run_all(subject)
    is_readable = not any(one.name == "database" and one.status is not Status.OK for one in findings)
    if is_readable and (settings.database_url is not None or (settings.data_dir / "storage.sqlite").exists()):
        with session.progress("Asking the accounts" if not no_live else "Checking"):
            findings += api_checks.run_all(session.api, is_live=not no_live)
    if clients:
        findings += tool_checks.run_all(session)
    counts = Counter(finding.status for finding in findings)
    worst = next(status for status in (Status.FAIL, Status.WARN, Status.OK) if counts[status])
    match session.form:
        case Form.TABLE:
            print_findings(findings)
            click.echo(", ".join(f"{counts[status]} {status}" for status in Status))
        case Form.JSON:
            print_document(
                {
                    "status": worst,
                    "checks": [asdict(finding) for finding in findings],
                    "summary": {status.value: counts[status] for status in Status},
                    "version": __version__,
                }
            )
        case _:
            columns = {"status": "Status", "name": "Name", "message": "Message", "hint": "Hint"}
            session.print_rows("checks", [asdict(finding) for finding in findings], columns)
    ctx.exit(Exit.FAILED if worst is Status.FAIL else Exit.DONE)


def print_findings(findings: list[Finding]) -> None:
    """Print one line per finding, and what to do below those that are not in order."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.status.upper():<4}  {finding.name:<{width}}  {finding.message}")
        if finding.hint and finding.status is not Status.OK:
            click.echo(f"      {'':<{width}}  → {finding.hint}")
