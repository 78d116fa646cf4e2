"""Exports: the database as a file, everything without secrets as an archive, and what a move to another host needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from omniroute.secret import Secret
from omniroute.services import archives
from omniroute.services.audit import Recorder
from omniroute.services.encryption_keys import wrap_key
from omniroute.services.export_documents import write_documents
from omniroute.services.keys import Origin
from omniroute.services.replacement import off_hub, work_directory
from omniroute.settings import Settings, variables
from omniroute.storage import copies, exporting
from omniroute.storage.blanking import blank
from omniroute.storage.database import Database

EVERYTHING: Final = "omniroute-full-backup-v1"
BUNDLE: Final = "omniroute-backup-v1"
_CHUNK: Final = 1 << 18


class Download:
    """The bytes of a file that is gone from the disk when they are read, or nobody reads on."""

    def __init__(self, path: Path, name: str) -> None:
        """`name`: what it is called where it goes. The file is removed at once; its content stays until `close`."""
        self.name = name
        self._file = path.open("rb")
        path.unlink()
        self.size = os.fstat(self._file.fileno()).st_size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if chunk := self._file.read(_CHUNK):
            return chunk
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A file for another host."""

    path: Path
    size_bytes: int
    has_key: bool


class Exports:
    """Writes exports. Each goes through a private directory that is gone afterwards."""

    def __init__(self, *, settings: Settings, database: Database, audit: Recorder, now: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._audit = audit
        self._now = now
        self._directory = settings.data_dir / "backups"

    def database(self, origin: Origin) -> Download:
        """Return the whole database as one SQLite file, as it is: ciphertext stays ciphertext.

        Raises:
            StorageError: the copy could not be made.
        """
        with work_directory(self._directory) as directory:
            path = directory / archives.DATABASE
            exporting.write_sqlite(self._database, path)
            self._record("database", origin)
            return Download(path, f"omniroute-backup-{self._stamp()}.sqlite")

    def everything(self, origin: Origin) -> Download:
        """Return an archive of the database without ciphertext and digests, and of readable documents.

        Raises:
            StorageError: the copy could not be made.
        """
        with work_directory(self._directory) as directory:
            database = directory / archives.DATABASE
            exporting.write_sqlite(self._database, database)
            target = directory / "archive.tar.gz"

            def write() -> None:
                blank(database)
                names = [archives.DATABASE, *write_documents(database, directory)]
                self._pack(directory, names, target, EVERYTHING)

            off_hub(write)
            self._record("everything", origin)
            return Download(target, f"omniroute-full-backup-{self._stamp()}.tar.gz")

    def bundle(
        self, target: Path, origin: Origin, *, key: bytes | None = None, passphrase: Secret | None = None
    ) -> Bundle:
        """Write a file for another host: the database, the names of the settings, and the wrapped encryption key.

        Args:
            target: where; it appears complete or not at all, and only its owner may read it.
            origin: who asked for it.
            key: the encryption key; left out, credentials need it from elsewhere.
            passphrase: what the key is wrapped with.

        Raises:
            StorageError: the copy could not be made.
            InvalidRequest: the passphrase is too short.
        """
        wrapped = wrap_key(key, passphrase) if key is not None and passphrase is not None else None
        with work_directory(self._directory) as directory:
            exporting.write_sqlite(self._database, directory / archives.DATABASE)
            names = [archives.DATABASE, archives.CONFIGURATION]
            (directory / archives.CONFIGURATION).write_text(sample_configuration(self._settings), encoding="utf-8")
            if wrapped is not None:
                (directory / archives.KEY).write_text(wrapped, encoding="utf-8")
                names.append(archives.KEY)

            def write(unfinished: Path) -> tuple[dict[str, int], str]:
                off_hub(lambda: self._pack(directory, names, unfinished, BUNDLE))
                return {}, ""

            made = copies.written(target, write)
        self._record("bundle", origin)
        return Bundle(made.path, made.size_bytes, wrapped is not None)

    def _pack(self, directory: Path, names: list[str], target: Path, kind: str) -> None:
        at = self._now()
        with _private(target) as file:
            archives.pack(directory, names, file, kind=kind, exported_at=_iso(at), at=at)

    def _record(self, what: str, origin: Origin) -> None:
        self._audit.record("backup.exported", target_kind="database", details={"what": what}, **origin.facts())

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).strftime("%Y%m%dT%H%M%SZ")


def sample_configuration(settings: Settings) -> str:
    """Return a settings file that sets what is set here; secrets are named and left empty."""
    lines = ["# The settings of the server that this backup is from. Secrets are left out."]
    for name, variable in variables().items():
        if name not in settings.sources:
            continue
        value = getattr(settings, name)
        shown = "" if variable.kind.is_secret else _text(value)
        lines += ["", f"# {variable.doc}", f"# {variable.name}={shown}"]
    return "\n".join(lines) + "\n"


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case tuple():
            return ",".join(map(str, value))
        case None:
            return ""
        case _:
            return str(value)


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
