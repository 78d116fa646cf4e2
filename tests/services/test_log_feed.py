"""The application log read backwards, and followed as it grows, is rotated, or is written in pieces."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute.errors import RateLimited
from omniroute.logging_setup import JsonFormatter, LastLines, TextFormatter
from omniroute.services.log_feed import (
    KeptLines,
    Level,
    Line,
    LineFollower,
    LogFile,
    Seats,
    Wanted,
    lines_of,
    parsed,
)
from tests.harness import NOW

EVERYTHING = Wanted()


def text(number: int, level: str = "INFO", message: str = "", traceback: int = 0) -> str:
    moment = datetime.fromtimestamp(NOW + number, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    line = f"{moment} {level:<7} omniroute.test [req_{number}] {message or f'line {number}'}\n"
    return line + "".join(f"    | frame {frame}\n" for frame in range(traceback))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "omniroute.log"


def messages(lines: Any) -> list[str]:
    return [line.message for line in lines]


def newest(path: Path, limit: int = 100, **wanted: Any) -> list[str]:
    excerpt, _ = LogFile(path, 5).newest(Wanted(**wanted), limit)
    return messages(excerpt.lines)


# --- one line --------------------------------------------------------------------------------------------------------


def record(**changes: Any) -> logging.LogRecord:
    made = logging.LogRecord("omniroute.x", logging.WARNING, "f", 1, "said %s", ("so",), None)
    made.created, made.msecs = NOW, 250.0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_both_forms_of_a_line_are_read(formatter: logging.Formatter) -> None:
    line = parsed(formatter.format(record(request_id="req_1")))
    assert line is not None
    assert (line.time, line.level, line.logger, line.request_id) == (NOW + 0.25, "warning", "omniroute.x", "req_1")
    assert line.message == "said so"


def test_a_traceback_belongs_to_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    for formatter in (TextFormatter(), JsonFormatter()):
        (line,) = lines_of(formatter.format(record(exc_info=info)).split("\n"))
        assert line.traceback[0].startswith("Traceback")
        assert line.traceback[-1] == "ValueError: no"


def test_what_a_line_says_beside_its_message() -> None:
    line = parsed(JsonFormatter().format(record(attempts=3, provider="groq")))
    assert line is not None
    assert line.fields == {"attempts": 3, "provider": "groq"}


@pytest.mark.parametrize(
    "said", ["", "hello", "{", "{}", '{"time": 5}', '{"time":"x","level":1,"logger":"","message":""}', "[]"]
)
def test_what_is_no_line_is_left_out(said: str) -> None:
    assert parsed(said) is None


def test_credentials_of_older_lines_are_taken_out() -> None:
    line = parsed(text(1, message="used sk-live-0123456789abcdefghij"))
    assert line is not None
    assert "0123456789" not in line.message
    as_json = json.dumps(
        {"time": "2027-01-15T08:00:00.000Z", "level": "info", "logger": "x", "message": "m", "k": "token=abcdefgh"}
    )
    line = parsed(as_json)
    assert line is not None
    assert "abcdefgh" not in str(line.fields)


# --- the last lines --------------------------------------------------------------------------------------------------


def test_no_file_has_no_lines(path: Path) -> None:
    assert newest(path) == []


def test_the_last_lines_come_in_order(path: Path) -> None:
    path.write_text("".join(text(number) for number in range(10)))
    assert newest(path, 3) == ["line 7", "line 8", "line 9"]
    assert newest(path, 0) == []
    assert newest(path) == [f"line {number}" for number in range(10)]


def test_lines_are_narrowed(path: Path) -> None:
    path.write_text(
        text(0) + text(1, "ERROR") + text(2, "DEBUG") + text(3, "WARNING", "Odd things") + text(4, "CRITICAL")
    )
    assert newest(path, level=Level.WARNING) == ["line 1", "Odd things", "line 4"]
    assert newest(path, since=NOW + 2, until=NOW + 4) == ["line 2", "Odd things"]
    assert newest(path, request_id="req_1") == ["line 1"]
    assert newest(path, q="ODD") == ["Odd things"]
    assert newest(path, q="omniroute.TEST", level=Level.ERROR) == ["line 1", "line 4"]


def test_older_files_are_looked_at_as_well(path: Path) -> None:
    for number in range(4):
        name = path if number == 3 else path.with_name(f"{path.name}.{3 - number}")
        name.write_text(text(2 * number) + text(2 * number + 1))
    assert newest(path) == [f"line {number}" for number in range(8)]
    assert newest(path, 3) == ["line 5", "line 6", "line 7"]
    excerpt, _ = LogFile(path, 2).newest(EVERYTHING, 100)
    assert messages(excerpt.lines) == ["line 4", "line 5", "line 6", "line 7"]


def test_a_line_that_is_being_written_is_not_shown(path: Path) -> None:
    path.write_text(text(0) + text(1).rstrip("\n"))
    assert newest(path) == ["line 0"]


def test_it_says_when_more_lies_before(path: Path) -> None:
    path.write_text("".join(text(number) for number in range(5)))
    assert LogFile(path, 5).newest(EVERYTHING, 4)[0].is_cut
    assert not LogFile(path, 5).newest(EVERYTHING, 6)[0].is_cut
    assert not LogFile(path, 5).newest(Wanted(since=NOW + 3), 4)[0].is_cut


@given(st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 3)), max_size=12), st.integers(1, 20))
def test_blocks_cut_nothing(tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], limit: int) -> None:
    path = tmp_path_factory.mktemp("log") / "omniroute.log"
    texts = [text(n, message=f"{n} " + "x" * size, traceback=frames) for n, (size, frames) in enumerate(sizes)]
    path.write_text("".join(texts))
    excerpt, place = LogFile(path, 1).newest(EVERYTHING, limit)
    expected = list(enumerate(sizes))[-limit:]
    assert [(line.message.split()[0], len(line.traceback)) for line in excerpt.lines] == [
        (str(number), frames) for number, (_, frames) in expected
    ]
    assert LogFile(path, 1).after(place)[0] == []


def test_a_huge_file_is_not_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omniroute.services import log_feed

    monkeypatch.setattr(log_feed, "_MOST_READ", 1 << 20)
    with path.open("w") as file:
        for number in range(40_000):
            file.write(text(number))
    excerpt, _ = LogFile(path, 1).newest(Wanted(q="line 5 "), 10)
    assert excerpt.is_cut
    assert excerpt.lines == ()


# --- following -------------------------------------------------------------------------------------------------------


def follow(path: Path, limit: int = 0, max_files: int = 4, **wanted: Any) -> LineFollower:
    source = LogFile(path, max_files)
    excerpt, place = source.newest(Wanted(**wanted), limit)
    return LineFollower(source, Wanted(**wanted), excerpt.lines, place)


def drained(follower: LineFollower) -> list[str]:
    found: list[Line] = []
    while lines := follower.poll():
        found += lines
    return messages(found)


def write(path: Path, *numbers: int, level: str = "INFO") -> None:
    with path.open("a") as file:
        for number in numbers:
            file.write(text(number, level))


def test_a_follower_gets_the_last_lines_and_then_the_new_ones(path: Path) -> None:
    write(path, 0, 1, 2)
    follower = follow(path, 2)
    write(path, 3)
    assert messages(follower.poll()) == ["line 1", "line 2"]
    assert messages(follower.poll()) == ["line 3"]
    assert follower.poll() == []
    write(path, 4, 5)
    assert messages(follower.poll()) == ["line 4", "line 5"]


def test_a_follower_waits_for_the_end_of_a_line(path: Path) -> None:
    write(path, 0)
    follower = follow(path)
    whole = text(1)
    for piece in (whole[:10], whole[10:30]):
        with path.open("a") as file:
            file.write(piece)
        assert follower.poll() == []
    with path.open("a") as file:
        file.write(whole[30:])
    assert messages(follower.poll()) == ["line 1"]


def test_a_follower_gets_only_what_it_wants(path: Path) -> None:
    follower = follow(path, level=Level.ERROR)
    write(path, 0)
    write(path, 1, level="ERROR")
    assert drained(follower) == ["line 1"]


def rotate(path: Path, max_files: int = 4) -> None:
    for number in range(max_files - 1, 0, -1):
        younger = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if younger.exists():
            younger.replace(path.with_name(f"{path.name}.{number}"))


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_a_follower_survives_rotations(path: Path, rotations: int) -> None:
    write(path, 0)
    follower = follow(path)
    write(path, 1)
    for number in range(rotations):
        rotate(path)
        write(path, number + 2)
    assert drained(follower) == [f"line {number}" for number in range(1, rotations + 2)]
    write(path, 99)
    assert drained(follower) == ["line 99"]


def test_a_follower_whose_file_is_gone_goes_on_with_the_new_one(path: Path) -> None:
    write(path, 0)
    follower = follow(path, max_files=1)
    path.unlink()
    assert follower.poll() == []
    write(path, 1)
    assert drained(follower) == ["line 1"]


def test_a_follower_of_no_file_yet_gets_its_first_line(path: Path) -> None:
    follower = follow(path)
    assert follower.poll() == []
    write(path, 0)
    assert drained(follower) == ["line 0"]


def test_much_at_once_comes_in_parts(path: Path) -> None:
    follower = follow(path)
    write(path, *range(9000))
    first = follower.poll()
    assert 0 < len(first) < 9000
    assert [*messages(first), *drained(follower)] == [f"line {number}" for number in range(9000)]


# --- without a file --------------------------------------------------------------------------------------------------


def kept(most: int = 5) -> tuple[LastLines, KeptLines]:
    handler = LastLines(most)
    handler.setFormatter(TextFormatter())
    return handler, KeptLines(handler)


def test_a_worker_without_a_file_shows_its_own_last_lines() -> None:
    handler, source = kept()
    for number in range(8):
        handler.emit(record(msg=f"line {number}", args=()))
    excerpt, place = source.newest(EVERYTHING, 3)
    assert messages(excerpt.lines) == ["line 5", "line 6", "line 7"]
    assert excerpt.is_cut
    handler.emit(record(msg="line 8", args=()))
    lines, place = source.after(place)
    assert messages(lines) == ["line 8"]
    for number in range(20):
        handler.emit(record(msg=f"more {number}", args=()))
    lines, place = source.after(place)
    assert messages(lines) == [f"more {number}" for number in range(15, 20)]
    assert source.after(place) == ([], place)
    assert source.newest(EVERYTHING, 0)[0].lines == ()


def test_kept_lines_are_bounded() -> None:
    handler = LastLines(most=2, longest=10)
    for number in range(3):
        handler.emit(record(msg=f"{number}" * 100, args=()))
    assert handler.after(0) == (["1" * 10, "2" * 10], 3)


# --- seats -----------------------------------------------------------------------------------------------------------


def test_only_so_many_follow_at_once() -> None:
    seats = Seats(2)
    first, second = seats.take(), seats.take()
    with pytest.raises(RateLimited) as refused:
        seats.take()
    assert refused.value.error_code == "too_many_followers"
    first()
    first()
    third = seats.take()
    with pytest.raises(RateLimited):
        seats.take()
    second()
    third()
    assert seats.take() is not None
