"""`omniroute doctor`: is this installation sound, and what to do if not."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from omniroute import __version__
from omniroute.cli import Exit
from omniroute.cli.checks import Finding, Status, Subject, run_all
from omniroute.cli.local import data_dir_option, load_settings
from omniroute.cli.output import Form, output_options, print_document, print_rows


@click.command("doctor")
@data_dir_option
@output_options
@click.pass_context
def command(ctx: click.Context, data_dir: str | None, form: Form) -> None:
    """Check this installation and say how to mend it; exit code 1 if something fails."""
    findings = run_all(Subject(load_settings(data_dir), time.time, Path.home()))
    counts = Counter(finding.status for finding in findings)
    worst = next(status for status in (Status.FAIL, Status.WARN, Status.OK) if counts[status])
    match form:
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
            print_rows(form, "checks", [asdict(finding) for finding in findings], columns)
    ctx.exit(Exit.FAILED if worst is Status.FAIL else Exit.DONE)


def print_findings(findings: list[Finding]) -> None:
    """Print one line per finding, and what to do below those that are not in order."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.status.upper():<4}  {finding.name:<{width}}  {finding.message}")
        if finding.hint and finding.status is not Status.OK:
            click.echo(f"      {'':<{width}}  → {finding.hint}")
