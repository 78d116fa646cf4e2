"""`omniroute export` and `omniroute import`: a server's data as a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import click

from omniroute.cli import Exit, Failure
from omniroute.cli.output import Form
from omniroute.cli.session import Session, open_or_stdin, pass_session, read_secret

_PATH: Final = "/api/db-backups"
_COUNTS: Final = {
    "connectionCount": "Accounts",
    "nodeCount": "Endpoints",
    "comboCount": "Combos",
    "apiKeyCount": "API keys",
    "credentialsReadable": "Credentials that open",
    "credentialsUnreadable": "Credentials that do not",
}


@click.command("export")
@click.argument("file")
@click.option("--all", "is_all", is_flag=True, help="An archive of everything but secrets, with readable documents.")
@click.option("--settings", "only_settings", is_flag=True, help="The configuration as JSON, without secrets.")
@pass_session
def export(session: Session, file: str, *, is_all: bool, only_settings: bool) -> None:
    """Write the server's database to FILE; credentials in it stay encrypted, and the key is not in it."""
    if is_all and only_settings:
        raise click.UsageError("--all and --settings exclude each other.")
    target = Path(file)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Failure(f"{target} exists; give another name.", Exit.MISUSE) from error
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}.", Exit.MISUSE) from error
    try:
        with os.fdopen(descriptor, "wb") as opened, session.progress("Exporting") as report:
            if only_settings:
                document = session.api.get("/api/settings/export-json")
                opened.write((json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode())
            else:
                session.api.download(f"{_PATH}/{'exportAll' if is_all else 'export'}", opened, report)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    session.notice(f"Wrote {target} ({target.stat().st_size} bytes).")


@click.command("import")
@click.argument("file")
@click.option(
    "--settings", "only_settings", is_flag=True, help="FILE is a configuration as `export --settings` writes."
)
@click.option("--encryption-key-file", metavar="FILE", help="The key that its credentials were stored with.")
@pass_session
def import_file(session: Session, file: str, *, only_settings: bool, encryption_key_file: str | None) -> None:
    """Replace the server's data by that of FILE, a `.sqlite` export; what was there is backed up first."""
    if only_settings:
        _import_settings(session, file)
        return
    session.confirm(f"Replace the data of {session.target.name} by that of {file}? It is backed up first.")
    fields: dict[str, Any] = {}
    if encryption_key_file is not None:
        fields["encryptionKey"] = read_secret(file=encryption_key_file, missing=f"{encryption_key_file} is empty.")
    with open_or_stdin(file) as opened, session.progress("Importing"):
        files = {"file": (Path(file).name, opened)}
        done = session.api.send("POST", f"{_PATH}/import", fields, files=files)  # type: ignore[arg-type]
    session.print_fields(done, _COUNTS)
    if done["safetyBackup"] is not None:
        session.notice(f"What was there before: omniroute restore {done['safetyBackup']['id']}")


def _import_settings(session: Session, file: str) -> None:
    from omniroute.cli.config import apply_document, parse_document

    with open_or_stdin(file) as opened:
        document = parse_document(file, opened.read().decode("utf-8", errors="replace"))
    done = apply_document(session, document)
    if session.form is not Form.TABLE:
        session.print_fields(done, {})
