"""Imports: the rows of a database file that somebody brought, in the place of the present ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omniroute.secret import Secret
from omniroute.services.audit import Recorder
from omniroute.services.backups import Backup, Reason
from omniroute.services.keys import Origin
from omniroute.services.replacement import Counts, Replacement
from omniroute.storage import brought_files
from omniroute.storage.brought_files import Check, NotUsable
from omniroute.storage.replacing import Keep
from omniroute.storage.staging import TableReport

SUFFIX: Final = ".sqlite"
_LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import came to.

    Attributes:
        filename: the name of the file, without any directory that came with it.
        safety: the backup of what was there before; None where automatic backups are off.
        version: the schema version of the file; None where it has no marker.
        mapped: what became of the rows of a file without a marker, by table.
    """

    filename: str
    safety: Backup | None
    counts: Counts
    version: int | None
    mapped: Mapping[str, TableReport]


class Imports:
    """Takes in database files. `most_bytes`: the largest."""

    def __init__(self, *, replacement: Replacement, audit: Recorder, most_bytes: int) -> None:
        self._replacement = replacement
        self._audit = audit
        self.most_bytes = most_bytes

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """Give a private directory for a file on its way in; no other import or restore runs for the block.

        Raises:
            Conflict: `busy`.
        """
        with self._replacement.working() as directory:
            yield directory

    def run(
        self,
        file: Path,
        name: str,
        directory: Path,
        origin: Origin,
        *,
        encryption_key: Secret | None = None,
        replace_access: bool = False,
    ) -> Imported:
        """Check a file and replace the present data by what it holds; a failure at any step changes nothing.

        The password, sessions, access tokens and settings of security stay unless `replace_access` is given; the audit
        log always stays.

        Args:
            file: where it is; it is only read.
            name: what it was called where it came from.
            directory: from :meth:`receiving`.
            origin: who brings it.
            encryption_key: the one that its credentials were stored with.
            replace_access: take who may come in from the file as well.

        Raises:
            NotUsable: `import_invalid`, with the check that it fails.
            StorageError: the database did not take it.
        """
        filename = plain_name(name)
        if not filename.lower().endswith(SUFFIX):
            raise NotUsable(Check.EXTENSION, f"The file's name does not end in {SUFFIX}.")
        brought_files.check_file(file, most_bytes=self.most_bytes)
        prepared = self._replacement.prepare_file(file, directory, encryption_key)
        safety = self._replacement.replace(
            prepared, reason=Reason.PRE_IMPORT, keep=Keep(access=not replace_access, audit=True), origin=origin
        )
        done = Imported(filename, safety, prepared.counts, prepared.staged.version, prepared.staged.mapped)
        details = {
            "filename": filename,
            "safetyBackup": safety.id if safety is not None else None,
            "replacedAccess": replace_access,
            "connections": done.counts.connections,
            "credentialsReadable": done.counts.credentials_readable,
        }
        self._audit.record("backup.imported", target_kind="database", details=details, **origin.facts())
        return done


def plain_name(name: str) -> str:
    """Return the last part of a name that came from elsewhere, printable and bounded; no path is ever made of it."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(character if character.isprintable() else "?" for character in last)[-_LONGEST_NAME:]
