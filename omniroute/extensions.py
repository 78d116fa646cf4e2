"""The Flask extensions, unbound: the factory calls their `init_app`. Nothing here opens, reads or starts anything."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
from flask_compress import Compress
from flask_login import LoginManager
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

if TYPE_CHECKING:
    from flask import Flask
    from flask_migrate import Migrate

MIGRATIONS_DIRECTORY: Final = Path(__file__).parent / "storage" / "migrations"


class Base(DeclarativeBase):
    """Declarative base; constraints get predictable names, because a later migration must be able to name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class _MigrateState:
    """What `flask db …` looks for in `app.extensions["migrate"]`; imports Alembic only when a command asks."""

    def __init__(self, database: SQLAlchemy, directory: Path, options: dict[str, Any]) -> None:
        self.db = database
        self.directory = str(directory)
        self.configure_args = options

    @property
    def metadata(self) -> MetaData:
        return self.db.metadata

    @cached_property
    def migrate(self) -> Migrate:
        from flask_migrate import Migrate

        return Migrate(db=self.db, directory=self.directory, **self.configure_args)


class _DatabaseCommands(click.Command):
    """Stands for Flask-Migrate's group of commands until one of them is asked for."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to the real group."""
        from flask_migrate.cli import db as group

        return cast("click.Group", group).make_context(info_name, args, parent, **extra)


class Migrations:
    """Flask-Migrate without its import at start, which costs more than all that a start without a migration does."""

    def init_app(
        self, app: Flask, database: SQLAlchemy, directory: Path = MIGRATIONS_DIRECTORY, **options: Any
    ) -> None:
        """Make `flask db upgrade` and its relatives work on the bundled migrations."""
        app.extensions["migrate"] = _MigrateState(database, directory, options)
        app.cli.add_command(_DatabaseCommands("db", help="Perform database migrations."))


db = SQLAlchemy(model_class=Base)
migrate = Migrations()
login_manager = LoginManager()
csrf = CSRFProtect()
compress = Compress()
"""Called by the guard for pages and their files alone: what clients of models get is never touched."""
