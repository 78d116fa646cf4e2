"""`omniroute status`: is the server of this data directory running?"""

from __future__ import annotations

import time

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.local import data_dir_option, load_settings
from omniroute.cli.output import Form, iso_time, output_options, print_document
from omniroute.cli.running import address_of, announcement, ask


@click.command("status")
@data_dir_option
@output_options
def command(data_dir: str | None, form: Form) -> None:
    """Say whether the server is running, where, since when; exit code 3 if it is not."""
    settings = load_settings(data_dir)
    address = address_of(settings)
    answer = ask(address, "/healthz")
    if answer is None:
        raise Failure(f"No server answers at {address}. Start it with: omniroute server", Exit.NOT_RUNNING)
    said = announcement(settings.runtime_dir)
    started_at = said.started_at if said else None
    document = {
        "running": True,
        "healthy": answer.status == 200,
        "address": address,
        "dataDir": str(settings.data_dir),
        "version": said.version if said else None,
        "pid": said.pid if said else None,
        "startedAt": iso_time(started_at),
        "uptimeSeconds": max(0, int(time.time() - started_at)) if started_at is not None else None,
    }
    if form is not Form.TABLE:
        print_document(document)
        return
    for label, value in (
        ("State", "running" if document["healthy"] else f"answers with status {answer.status}"),
        ("Address", address),
        ("Data", document["dataDir"]),
        ("Version", document["version"]),
        ("Process", document["pid"]),
        ("Started", document["startedAt"]),
    ):
        if value is not None:
            click.echo(f"{label:<8} {value}")
