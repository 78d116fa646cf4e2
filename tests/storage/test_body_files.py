"""Files of captured bodies: whole or not there, found by their request, and never more than there may be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zstandard

from omniroute.errors import StorageError
from omniroute.storage.body_files import BodyFiles

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY_S = 86_400


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "bodies"


@pytest.fixture
def files(directory: Path) -> BodyFiles:
    return BodyFiles(directory)


def put(files: BodyFiles, name: str, time: float = NOW, data: bytes = b"{}") -> int:
    return files.write(name, time, lambda: data)


def names(directory: Path) -> list[str]:
    return sorted(path.name.removesuffix(".json.zst") for path in directory.glob("*/*"))


def test_a_file_stands_at_its_day_and_is_read_again(files: BodyFiles, directory: Path) -> None:
    size = put(files, "req_1", data=b"x" * 10_000)
    path = directory / "2027-01-15" / "req_1.json.zst"
    assert (path.stat().st_size, path.stat().st_mtime) == (size, NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert size < 1000
    assert files.read("req_1", NOW) == b"x" * 10_000
    assert files.read("req_2", NOW) is None
    assert files.read("req_1", NOW + DAY_S) is None


@pytest.mark.parametrize("name", ["../req_1", "a/b", "", ".", "x" * 81, "a\x00"])
def test_an_id_that_is_none_names_no_file(files: BodyFiles, directory: Path, name: str) -> None:
    with pytest.raises(OSError, match="cannot name a file"):
        put(files, name)
    assert files.read(name, NOW) is None
    assert not directory.exists()


def test_a_write_that_fails_leaves_nothing(files: BodyFiles, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(files, "req_1")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(OSError, match="No space"):
        put(files, "req_2")
    assert names(directory) == ["req_1"]


@pytest.mark.parametrize("data", [b"", b"no zstd", zstandard.ZstdCompressor().compress(b"x" * 100)[:-4]])
def test_a_file_that_is_none_is_said_to_be(files: BodyFiles, directory: Path, data: bytes) -> None:
    put(files, "req_1")
    (directory / "2027-01-15" / "req_1.json.zst").write_bytes(data)
    with pytest.raises(StorageError):
        files.read("req_1", NOW)


def test_a_file_that_would_fill_the_memory_is_not_read(files: BodyFiles, directory: Path) -> None:
    put(files, "req_1")
    packer = zstandard.ZstdCompressor().compressobj(size=300 << 20)
    bomb = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(300)), packer.flush()])
    (directory / "2027-01-15" / "req_1.json.zst").write_bytes(bomb)
    with pytest.raises(StorageError, match="too large"):
        files.read("req_1", NOW)


def test_what_is_old_goes_with_its_day(files: BodyFiles, directory: Path) -> None:
    for days in range(5):
        put(files, f"req_{days}", NOW - days * DAY_S)
    assert files.remove(before=NOW - 2.5 * DAY_S) == 2
    assert names(directory) == ["req_0", "req_1", "req_2"]
    assert len(list(directory.iterdir())) == 3
    assert files.remove(before=NOW + DAY_S) == 3
    assert list(directory.iterdir()) == []
    put(files, "req_9")
    assert names(directory) == ["req_9"]


def test_the_oldest_go_where_there_are_too_many(files: BodyFiles, directory: Path) -> None:
    sizes = [put(files, f"req_{number}", NOW + number, os.urandom(1000)) for number in range(20)]
    most = sum(sizes) // 2
    files.remove(before=0, most_bytes=most)
    left = names(directory)
    assert left == sorted(f"req_{number}" for number in range(20 - len(left), 20))
    total = sum(path.stat().st_size for path in directory.glob("*/*"))
    assert most * 0.8 < total <= most * 0.9
    assert files.remove(before=0, most_bytes=most) == 0


def test_what_a_dead_process_has_left_goes_in_time(files: BodyFiles, directory: Path) -> None:
    put(files, "req_1")
    half = directory / "2027-01-15" / ".req_2.json.zst.1.part"
    half.write_bytes(b"half")
    os.utime(half, (NOW, NOW))
    files.remove(before=NOW)
    assert half.exists()
    files.remove(before=NOW + 3601)
    assert not half.exists()


def test_nothing_to_remove_is_no_error(files: BodyFiles, directory: Path) -> None:
    assert files.remove(before=NOW, most_bytes=1) == 0
    directory.mkdir()
    (directory / "notes.txt").write_text("somebody's own")
    assert files.remove(before=NOW + DAY_S, most_bytes=0) == 0
    assert (directory / "notes.txt").exists()
