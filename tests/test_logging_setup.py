"""The application log: form of lines, what is taken out of them, and a file that several processes rotate."""

from __future__ import annotations

import io
import json
import logging
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniroute import logging_setup
from omniroute.logging_setup import (
    SharedRotatingFileHandler,
    TextFormatter,
    adopt,
    configure,
    escape_control_characters,
    redact,
    request_id,
)
from omniroute.secret import Secret
from omniroute.settings import Settings

KEY = "sk-proj-" + "aB3_" * 12


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


class TestLines:
    def test_text(self, settings: Settings, stream: io.StringIO) -> None:
        configure(settings, stream=stream)
        logging.getLogger("omniroute.test").info("ready in %s ms", 12, extra={"workers": 2})

        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    omniroute\.test ready in 12 ms workers=2\n",
            stream.getvalue(),
        )

    def test_json(self, settings: Settings, stream: io.StringIO) -> None:
        configure(replace(settings, app_log_format="json"), stream=stream)
        logging.getLogger("omniroute.test").warning("slow", extra={"ms": 12, "path": "/v1", "token": KEY, "level": "x"})

        entry = json.loads(stream.getvalue())
        assert entry.pop("time").endswith("Z")
        assert entry == {
            "level": "warning",
            "logger": "omniroute.test",
            "message": "slow",
            "ms": 12,
            "path": "/v1",
            "token": "[redacted]",
        }

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_the_request_id_is_in_each_line(self, settings: Settings, stream: io.StringIO, form: str) -> None:
        configure(replace(settings, app_log_format=form), stream=stream)
        token = request_id.set("req_1")
        logging.getLogger("a").info("one")
        request_id.reset(token)
        logging.getLogger("a").info("two", extra={"request_id": "req_2"})
        logging.getLogger("a").info("three")

        lines = stream.getvalue().splitlines()
        assert [re.findall(r"req_\d", line) for line in lines] == [["req_1"], ["req_2"], []]

    def test_the_level_holds(self, settings: Settings, stream: io.StringIO) -> None:
        configure(replace(settings, app_log_level="warning"), stream=stream)
        logging.getLogger("a").info("no")
        logging.getLogger("a").warning("yes")

        assert "yes" in stream.getvalue()
        assert "no\n" not in stream.getvalue()

    def test_libraries_stay_quiet_unless_asked(self, settings: Settings, stream: io.StringIO) -> None:
        configure(settings, stream=stream)
        logging.getLogger("urllib3.connectionpool").info("chatter")
        quiet = stream.getvalue()
        configure(replace(settings, app_log_level="debug"), stream=stream)
        logging.getLogger("urllib3.connectionpool").info("chatter")

        assert quiet == ""
        assert "chatter" in stream.getvalue()

    def test_configuring_again_replaces(self, settings: Settings, stream: io.StringIO) -> None:
        configure(settings, stream=io.StringIO())
        configure(settings, stream=stream)
        logging.getLogger("a").info("once")

        assert stream.getvalue().count("once") == 1

    def test_stderr_is_the_one_of_the_moment(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        configure(settings)
        replaced = io.StringIO()
        monkeypatch.setattr(sys, "stderr", replaced)
        logging.getLogger("a").info("hello")

        assert "hello" in replaced.getvalue()

    def test_an_adopted_logger_writes_through_ours(self, settings: Settings, stream: io.StringIO) -> None:
        library = logging.getLogger("test.dependency")
        library.addHandler(logging.StreamHandler(io.StringIO()))
        library.propagate = False
        configure(settings, stream=stream)
        adopt("test.dependency")
        library.warning("booting")

        assert library.handlers == []
        assert "booting" in stream.getvalue()


class TestRedaction:
    @pytest.mark.parametrize(
        "text",
        [
            f"upstream said {KEY} is bad",
            "sk-ant-api03-" + "x" * 40,
            "oma_live_" + "x" * 43,
            "Authorization: Bearer abcdefghijk",
            "authorization: basic dXNlcjpwYXNz",
            "x-api-key: 0123456789abcdef",
            '{"api_key": "0123456789abcdef"}',
            "refresh_token=0123456789abcdef&x=1",
            "https://host/path?key=v&token=0123456789abcdef",
            "postgresql://user:0123456789abcdef@host/db",
            "AIza" + "x" * 35,
            "ghp_" + "x" * 36,
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0xyz.c2lnbmF0dXJl",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIabcdef\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nMIIabcdef and cut",
            "image data:image/png;base64,iVBORw0KGgoAAAANSUhEUg== end",
            "Cookie: auth_token=0123456789abcdef",
        ],
    )
    def test_what_looks_like_a_secret_goes(self, text: str) -> None:
        cleaned = redact(text)

        assert "[redacted]" in cleaned
        for secret in (
            KEY,
            "x" * 30,
            "abcdefghijk",
            "dXNlcjpwYXNz",
            "0123456789abcdef",
            "MIIabcdef",
            "iVBORw0KGgo",
            "c2lnbmF0",
        ):
            assert secret not in cleaned

    @pytest.mark.parametrize(
        "text",
        [
            "request req_01ARZ3NDEKTSV4RRFFQ69G5FAV took 12 ms, 300 tokens",
            "tokens: 1234567",
            "connection conn_01ARZ3NDEKTSV4RRFFQ69G5FAV cooling for 30 s",
            "GET http://127.0.0.1:20128/v1/models",
            "task-force risk-averse",
        ],
    )
    def test_ordinary_text_stays(self, text: str) -> None:
        assert redact(text) == text

    @given(st.text())
    def test_nothing_can_start_a_line_or_steer_a_terminal(self, text: str) -> None:
        cleaned = escape_control_characters(text)

        assert cleaned.isprintable() or not any(c in cleaned for c in "\n\r\t\x1b\x9b\u2028\u202e\x00")

    def test_a_forged_line_stays_one_line(self, settings: Settings, stream: io.StringIO) -> None:
        configure(settings, stream=stream)
        logging.getLogger("a").info("model %s", "x\n2026-01-01T00:00:00.000Z INFO    root all is well\x1b[2K")

        assert stream.getvalue().count("\n") == 1
        assert "\x1b" not in stream.getvalue()

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_traceback_is_redacted_and_cannot_forge(self, settings: Settings, stream: io.StringIO, form: str) -> None:
        configure(replace(settings, app_log_format=form), stream=stream)
        try:
            raise ValueError(f"bad key {KEY}\nINFO forged")
        except ValueError:
            logging.getLogger("a").exception("failed")

        text = stream.getvalue()
        assert "ValueError" in text
        assert KEY not in text
        assert "[redacted]" in text
        assert not any(line.startswith("INFO forged") for line in text.splitlines())

    def test_a_secret_object_shows_its_mask(self, settings: Settings, stream: io.StringIO) -> None:
        configure(settings, stream=stream)
        logging.getLogger("a").info("key %s", Secret("plain-value-without-a-known-form"))

        assert "plain-value-without" not in stream.getvalue()

    def test_no_unredacted_traceback_is_left_for_another_handler(self) -> None:
        record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "m", (), (ValueError, ValueError(KEY), None))

        assert "[redacted]" in TextFormatter().format(record)
        assert record.exc_text is None


class TestFile:
    def test_lines_go_to_the_file_that_only_its_owner_reads(self, settings: Settings, stream: io.StringIO) -> None:
        configure(replace(settings, app_log_to_file=True), stream=stream)
        logging.getLogger("a").info("hello")

        assert settings.log_file == settings.data_dir / "logs" / "omniroute.log"
        assert settings.log_file.read_text() == stream.getvalue()
        assert stat.S_IMODE(settings.log_file.stat().st_mode) == 0o600

    def test_a_path_that_cannot_be_written_leaves_stderr(
        self, settings: Settings, stream: io.StringIO, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "omniroute.log"
        configure(replace(settings, app_log_to_file=True, app_log_file_path=path), stream=stream)
        logging.getLogger("a").info("hello")

        assert "The log file cannot be written" in stream.getvalue()
        assert "hello" in stream.getvalue()

    def handler(self, path: Path, *, max_bytes: int, max_files: int) -> SharedRotatingFileHandler:
        handler = SharedRotatingFileHandler(path, max_bytes=max_bytes, max_files=max_files)
        handler.setFormatter(logging.Formatter("%(message)s"))
        return handler

    def write(self, handler: logging.Handler, text: str) -> None:
        handler.handle(logging.makeLogRecord({"msg": text}))

    def test_it_rotates_by_size_and_keeps_so_many(self, tmp_path: Path) -> None:
        handler = self.handler(tmp_path / "log", max_bytes=20, max_files=3)
        for number in range(8):
            self.write(handler, f"line {number} ....")
        handler.close()

        assert (tmp_path / "log").read_text() == "line 7 ....\n"
        assert (tmp_path / "log.1").read_text() == "line 6 ....\n"
        assert (tmp_path / "log.2").read_text() == "line 5 ....\n"
        assert not (tmp_path / "log.3").exists()

    def test_a_single_file_starts_over(self, tmp_path: Path) -> None:
        handler = self.handler(tmp_path / "log", max_bytes=20, max_files=1)
        for number in range(3):
            self.write(handler, f"line {number} ....")
        handler.close()

        assert (tmp_path / "log").read_text() == "line 2 ....\n"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.lock"]

    def test_a_line_larger_than_the_file_is_written(self, tmp_path: Path) -> None:
        handler = self.handler(tmp_path / "log", max_bytes=5, max_files=2)
        self.write(handler, "longer than five")
        handler.close()

        assert (tmp_path / "log").read_text() == "longer than five\n"

    def test_it_follows_a_rotation_by_somebody_else(self, tmp_path: Path) -> None:
        handler = self.handler(tmp_path / "log", max_bytes=1000, max_files=2)
        self.write(handler, "before")
        (tmp_path / "log").rename(tmp_path / "moved")
        self.write(handler, "after")
        handler.close()

        assert (tmp_path / "log").read_text() == "after\n"

    def test_several_processes_lose_and_mix_nothing(self, tmp_path: Path) -> None:
        program = (
            "import logging, pathlib, sys\n"
            "from omniroute.logging_setup import SharedRotatingFileHandler\n"
            "handler = SharedRotatingFileHandler(pathlib.Path(sys.argv[1]), max_bytes=2000, max_files=500)\n"
            "for number in range(300):\n"
            "    handler.handle(logging.makeLogRecord({'msg': f'{sys.argv[2]} {number:04d} ' + 'x' * 40}))\n"
        )
        root = Path(logging_setup.__file__).parent.parent
        children = [
            subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "log"), str(name)], cwd=root)
            for name in range(3)
        ]
        assert [child.wait(60) for child in children] == [0, 0, 0]

        files = [p for p in tmp_path.iterdir() if p.name != "log.lock"]
        lines = [line for file in files for line in file.read_text().splitlines()]
        assert sorted(lines) == sorted(f"{name} {number:04d} " + "x" * 40 for name in range(3) for number in range(300))
        assert len(files) > 10
        assert max(file.stat().st_size for file in files) <= 2000 + 3 * 60
