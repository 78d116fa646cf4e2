"""An archive cannot write outside its directory, cannot link, and cannot grow without bound."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omniroute.services import archives
from omniroute.storage.brought_files import Check, NotUsable

Maker = Callable[[tarfile.TarFile], object]


def add(archive: tarfile.TarFile, name: str, data: bytes = b"x", **changes: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in changes.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))
    return member


HOSTILE: dict[str, Maker] = {
    "parent": lambda archive: add(archive, "../storage.sqlite"),
    "absolute": lambda archive: add(archive, "/tmp/storage.sqlite"),
    "directory": lambda archive: add(archive, "a/storage.sqlite"),
    "hidden": lambda archive: add(archive, ".storage.sqlite"),
    "link": lambda archive: add(archive, "storage.sqlite", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": lambda archive: add(archive, "storage.sqlite", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": lambda archive: add(archive, "storage.sqlite", b"", type=tarfile.CHRTYPE),
    "fifo": lambda archive: add(archive, "storage.sqlite", b"", type=tarfile.FIFOTYPE),
    "folder": lambda archive: add(archive, "storage.sqlite", b"", type=tarfile.DIRTYPE),
    "twice": lambda archive: [add(archive, "storage.sqlite"), add(archive, "storage.sqlite")],
    "too many": lambda archive: [add(archive, f"f{number}") for number in range(100)],
    "too large": lambda archive: add(archive, "storage.sqlite", bytes(3 << 20)),
    "large stranger": lambda archive: add(archive, "zeros", bytes(3 << 20)),
    "large document": lambda archive: add(archive, "metadata.json", bytes((1 << 20) + 1)),
    "no database": lambda archive: add(archive, "settings.json", b"{}"),
    "wrong sums": lambda archive: (
        [
            add(archive, "metadata.json", b'{"sha256": {"storage.sqlite": "00"}}'),
            add(archive, "storage.sqlite"),
        ]
    ),
    "no sums": lambda archive: [add(archive, "metadata.json", b"[]"), add(archive, "storage.sqlite")],
    "huge header": lambda archive: add(archive, "storage.sqlite", pax_headers={"comment": "x" * (3 << 20)}),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_archives_with_tricks_are_refused(tmp_path: Path, trick: str) -> None:
    path, target = tmp_path / "trick.tar.gz", tmp_path / "inner" / "target"
    target.mkdir(parents=True)
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        HOSTILE[trick](archive)
    with pytest.raises(NotUsable) as refused:
        archives.unpack(path, target, most_bytes=2 << 20)
    assert refused.value.check is Check.ARCHIVE
    assert {file.name for file in target.iterdir()} <= {"storage.sqlite", "metadata.json"}
    assert not any(file.is_symlink() for file in target.iterdir())
    assert {file.name for file in tmp_path.iterdir()} == {"trick.tar.gz", "inner"}
    assert [file.name for file in target.parent.iterdir()] == ["target"]


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "not gzip"])
def test_damaged_archives_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "storage.sqlite", bytes(range(256)) * 4000)
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "noise": whole[:40] + b"?" * 500, "empty": b"", "not gzip": b"x" * 5000}[
            damage
        ]
    )
    (tmp_path / "target").mkdir()
    with pytest.raises(NotUsable):
        archives.unpack(path, tmp_path / "target", most_bytes=1 << 30)
