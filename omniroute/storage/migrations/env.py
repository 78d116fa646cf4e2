"""Alembic's entry: runs the migrations on a connection that `omniroute.storage.schema` prepared.

`schema.ensure_schema` passes its connection in; under `flask db …` there is none, so one is prepared here the same way:
under the start lock, and after a verified backup if something is to be migrated.
"""

from __future__ import annotations

from alembic import context

from omniroute.storage import models, schema

metadata = models.SchemaVersion.metadata


def migrate(connection: schema.Connection) -> None:
    """Apply what is pending, each migration in a transaction that also writes its row of `schema_version`."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,  # SQLite can, once the driver keeps out of it
        transaction_per_migration=True,
        render_as_batch=True,
        compare_type=True,
        on_version_apply=schema.record_step,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("SQL scripts are not offered: a migration also records itself and takes a backup.")
if (given := context.config.attributes.get("connection")) is not None:
    migrate(given)
else:
    with schema.prepared_for_flask_command() as prepared:
        migrate(prepared)
