"""`omniroute migrate`: bring the database to the schema of this version."""

from __future__ import annotations

import logging

import click

from omniroute.cli import Failure
from omniroute.cli.local import tell_warnings
from omniroute.cli.session import Session, pass_session


@click.command("migrate")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit code 1 if there is something to do.")
@pass_session
def command(session: Session, only_check: bool) -> None:
    """Bring the database to the schema of this version, after a verified backup. A start of the server does so too."""
    settings = session.local_settings("Migrating")
    tell_warnings(settings)
    from omniroute.services.backups import Backups, Reason
    from omniroute.storage import schema
    from omniroute.storage.database import Database

    database = Database(settings.storage_url)
    try:
        is_absent = database.path is not None and not database.path.exists()
        found = None if is_absent else schema.stored_version(database)
        newest = schema.newest_version()
        if found == newest:
            session.notice(f"The database has schema version {found}, the newest.")
            return
        if only_check:
            raise Failure(f"The database has schema version {found or 'none'}; this version needs {newest}.")

        def back_up(reason: str) -> None:
            made = Backups(settings=settings, database=database).create(Reason(reason))
            session.notice(f"Backup: {made.path}" if made else "No backup was made.")

        state = schema.ensure_schema(
            database, backup=back_up, log=logging.getLogger(__name__), data_dir=settings.data_dir
        )
        session.notice(f"The database has schema version {state.version} now.")
    finally:
        database.dispose()
