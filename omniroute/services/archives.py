"""Archives of a database with what belongs to it: packed here, and unpacked without trusting a name in them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from omniroute import __version__
from omniroute.storage import schema
from omniroute.storage.brought_files import Check, NotUsable

DATABASE: Final = "storage.sqlite"
METADATA: Final = "metadata.json"
KEY: Final = "encryption_key.json"
"""The encryption key, wrapped with a passphrase."""
CONFIGURATION: Final = "config.env.example"
_WANTED: Final = frozenset({DATABASE, METADATA, KEY})
_MOST_MEMBERS: Final = 64
_LARGEST_DOCUMENT: Final = 1 << 20
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was taken out of an archive.

    Attributes:
        database: the file.
        wrapped_key: the encryption key under its passphrase, where the archive holds one.
    """

    database: Path
    wrapped_key: str | None


def pack(directory: Path, names: Sequence[str], target: IO[bytes], *, kind: str, exported_at: str, at: float) -> None:
    """Write files of a directory as a gzipped tar, with a document that names and sums them up."""
    document = {
        "exportedAt": exported_at,
        "version": __version__,
        "schema": schema.newest_version(),
        "format": kind,
        "contents": list(names),
        "sha256": {name: _digest(directory / name) for name in names},
    }
    (directory / METADATA).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in (METADATA, *names):
            member = tarfile.TarInfo(name)
            member.size = (directory / name).stat().st_size
            member.mode, member.mtime = 0o600, int(at)
            with (directory / name).open("rb") as file:
                archive.addfile(member, file)


def unpack(source: Path, directory: Path, *, most_bytes: int) -> Unpacked:
    """Take the database, and the wrapped key where there is one, out of an archive; everything else stays in it.

    Raises:
        NotUsable: it is no such archive, names a path or a link, is damaged, or holds more than it may.
    """
    found: set[str] = set()
    try:
        with _BoundedGzip(source) as compressed, tarfile.open(fileobj=compressed, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= _MOST_MEMBERS:
                    raise _refused("it holds too many files")
                if not member.isreg() or member.name != Path(member.name).name or member.name.startswith("."):
                    raise _refused("it holds something else than plain files")
                if member.name in found:
                    raise _refused("it holds a file twice")
                found.add(member.name)
                if member.size > most_bytes:
                    raise _refused("a file in it is too large")
                if member.name in _WANTED:
                    limit = most_bytes if member.name == DATABASE else _LARGEST_DOCUMENT
                    _extract(archive, member, directory / member.name, limit)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise _refused("it cannot be read") from error
    if DATABASE not in found:
        raise _refused(f"it holds no {DATABASE}")
    _check_digests(directory)
    key = directory / KEY
    return Unpacked(directory / DATABASE, key.read_text("utf-8") if key.exists() else None)


class _BoundedGzip(gzip.GzipFile):
    """Never gives much at once: a header of an archive can ask for any amount."""

    def read(self, size: int | None = -1) -> bytes:
        """Read a bounded number of bytes."""
        if size is None or not 0 <= size <= _LARGEST_DOCUMENT:
            raise tarfile.ReadError("a header is too large")
        return super().read(size)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, limit: int) -> None:
    """Write one file under a name of ours, counting what comes rather than what was announced."""
    source = archive.extractfile(member)
    if source is None or member.size > limit:
        raise _refused("a file in it is too large")
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with source, os.fdopen(descriptor, "wb") as file:
        written = 0
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise _refused("a file in it is too large")
            file.write(chunk)


def _check_digests(directory: Path) -> None:
    metadata = directory / METADATA
    if not metadata.exists():
        return
    try:
        stated: Mapping[str, Any] = json.loads(metadata.read_text("utf-8"))["sha256"]
        expected = {name: stated[name] for name in _WANTED & set(stated)}
    except (ValueError, KeyError, TypeError) as error:
        raise _refused("its list of contents cannot be read") from error
    for name, digest in expected.items():
        if not (directory / name).exists() or _digest(directory / name) != digest:
            raise _refused(f"{name} is not what the list of contents says")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(why: str) -> NotUsable:
    return NotUsable(Check.ARCHIVE, f"The archive cannot be taken: {why}.")
