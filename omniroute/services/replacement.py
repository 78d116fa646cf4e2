"""Another database's rows in the place of ours: the steps that a restore and an import have in common.

Everything that can fail does so on a staged copy; then the present data is backed up; then one transaction replaces it.
Only one of these runs at a time on a host, and on PostgreSQL the tables are locked besides.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection as Sql

from omniroute.errors import ConfigurationError, Conflict, OmniRouteError, ValidationFailed
from omniroute.records import Snapshot
from omniroute.secret import Secret
from omniroute.services.backups import Backup, Backups, Reason
from omniroute.services.keys import Origin
from omniroute.services.secrets_at_start import parse_encryption_key
from omniroute.settings import Settings
from omniroute.storage import brought_files, copies, dumps, foreign_rows, locks, rekeying, replacing, staging
from omniroute.storage.brought_files import Check, NotUsable
from omniroute.storage.database import Database
from omniroute.storage.rekeying import Census
from omniroute.storage.replacing import Keep
from omniroute.storage.repositories import api_keys, combos, connections, nodes
from omniroute.storage.secrets import Cipher
from omniroute.storage.snapshot import load
from omniroute.storage.staging import Staged, Told
from omniroute.storage.threads import NativePool

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a database holds."""

    connections: int
    nodes: int
    combos: int
    api_keys: int
    credentials_readable: int
    """Connections whose credentials all open with the key in force."""
    credentials_unreadable: int
    """Connections with one that does not."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A staged database that may take the place of the present one."""

    staged: Staged
    counts: Counts


def untold(_step: str) -> None:
    """Nobody wants to know."""


class Replacement:
    """Prepares a file and replaces the present data by its rows.

    Args:
        cipher: the key in force.
        previous: opens values of the keys before it.
        try_out: builds from a configuration what requests need; an error means that it cannot be served.
        told: hears of each step.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        backups: Backups,
        cipher: Cipher,
        previous: Callable[[], Sequence[Cipher]],
        try_out: Callable[[Snapshot], None],
        now: Callable[[], float],
        told: Told = untold,
    ) -> None:
        self._database = database
        self._backups = backups
        self._cipher = cipher
        self._previous = previous
        self._try_out = try_out
        self._now = now
        self._told = told
        self._lock = settings.runtime_dir / "replace.lock"
        self._directory = settings.data_dir / "backups"

    @contextmanager
    def working(self) -> Iterator[Path]:
        """Give a private directory for the block, and let no other restore or import of this host run meanwhile.

        Raises:
            Conflict: `busy`.
        """
        descriptor = locks.try_lock(self._lock)
        if descriptor is None:
            raise Conflict("Another restore or import runs. Wait until it is done.", code="busy")
        try:
            with work_directory(self._directory) as directory:
                yield directory
        finally:
            os.close(descriptor)

    # --- preparing -----------------------------------------------------------------------------------------------

    def prepare_backup(self, source: Path, directory: Path, key: Secret | None = None) -> Prepared:
        """Stage one of our own backups.

        Raises:
            StorageError: it is damaged.
            NotUsable: it is newer than this program, or its rows do not fit.
        """
        if source.suffix == ".sqlite":
            return self.prepare_file(source, directory, key)
        readable = dumps.readable(source, directory)
        target = directory / "staged.sqlite"

        def stage() -> Staged:
            if source.suffix == ".ndjson":
                copies.read_back(readable)
            return staging.stage_rows(dumps.version_of(readable), dumps.rows_of(readable), target, told=self._told)

        return self._prepared(off_hub(stage), key)

    def prepare_file(self, source: Path, directory: Path, key: Secret | None = None) -> Prepared:
        """Stage the SQLite file of somebody, which has passed `brought_files.check_file`.

        Args:
            source: the file.
            directory: where to work.
            key: the encryption key that its credentials were stored with.

        Raises:
            NotUsable: it fails a check.
            ConfigurationError: the key has a wrong form.
        """
        target = directory / "staged.sqlite"

        def stage() -> Staged:
            version = brought_files.check_contents(source)
            self._told("verified")
            if version is None:
                return foreign_rows.stage_foreign(source, target, cipher=self._cipher, now=self._now(), told=self._told)
            return staging.stage_sqlite(source, target, version, told=self._told)

        return self._prepared(off_hub(stage), key)

    def _prepared(self, staged: Staged, key: Secret | None) -> Prepared:
        others = [*([cipher_of(key)] if key is not None else []), *self._previous()]
        with staged.opened() as database:
            census = database.write(lambda sql: rekeying.rekey(sql, self._cipher, others))
            counts = database.read(lambda sql: counts_of(sql, census))
            self._check_served(database)
        off_hub(lambda: staging.seal(staged.path))
        self._told("prepared")
        return Prepared(staged, counts)

    def _check_served(self, database: Database) -> None:
        """Refuse a configuration that workers could not read: all of them would stop serving at once."""
        try:
            self._try_out(database.read(lambda sql: load(sql, self._cipher, self._now())))
        except (OmniRouteError, ValueError, TypeError, KeyError, LookupError, AttributeError) as error:
            _log.warning("The configuration of a staged database cannot be read: %r", error)
            raise NotUsable(Check.CONTENT, "The configuration in the file cannot be read.") from error

    # --- replacing -----------------------------------------------------------------------------------------------

    def replace(
        self,
        prepared: Prepared,
        *,
        reason: Reason,
        keep: Keep,
        origin: Origin,
        protect: Collection[str] = (),
    ) -> Backup | None:
        """Back up the present data and put the prepared rows in its place; return the backup, where one is made.

        Raises:
            StorageError: the backup or the transaction failed; nothing is changed.
        """
        safety = self._backups.create(reason, origin, protect=protect)
        self._told("backed up")
        replacing.replace_contents(self._database, prepared.staged.path, keep, now=self._now(), told=self._told)
        self._told("replaced")
        return safety


def cipher_of(key: Secret) -> Cipher:
    """Return what opens values of a key that a caller gave.

    Raises:
        ValidationFailed: it has a wrong form.
    """
    try:
        return Cipher(parse_encryption_key(key.reveal(), source="encryptionKey"))
    except ConfigurationError as error:
        raise ValidationFailed([{"field": "encryptionKey", "message": error.message}]) from None


def off_hub(work: Callable[[], T]) -> T:
    """Do slow work in a native thread of its own and wait for it cooperatively."""
    threads = NativePool(1)
    try:
        return threads.run(work)
    finally:
        threads.close()


@contextmanager
def work_directory(parent: Path) -> Iterator[Path]:
    """Give a private directory that is gone after the block; one that a kill leaves is found by its process id."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f"{copies.WORK_PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def counts_of(sql: Sql, census: Census) -> Counts:
    """Count what a database holds."""
    return Counts(
        connections=connections.count(sql),
        nodes=nodes.count(sql),
        combos=combos.count(sql),
        api_keys=api_keys.count(sql),
        credentials_readable=census.readable_of(rekeying.CONNECTIONS),
        credentials_unreadable=census.unreadable_of(rekeying.CONNECTIONS),
    )
