"""`omniroute translator`: here, and against a server elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omniroute.cli import Exit
from omniroute.cli.translator import _CASES, _FORMATS
from omniroute.services.translator import FORMATS, format_named
from omniroute.services.translator_cases import CASES
from tests.cli.conftest import Both, Remote, Run, document

CHAT: dict[str, Any] = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "Good morning"}]}
STREAM = (
    '{"model":"m","message":{"role":"assistant","content":"Hello"},"done":false}\n'
    '{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
)


@pytest.fixture
def request_file(tmp_path: Path) -> str:
    file = tmp_path / "request.json"
    file.write_text(json.dumps({**CHAT, "seed": 3}), "utf-8")
    return str(file)


@pytest.fixture
def stream_file(tmp_path: Path) -> str:
    file = tmp_path / "stream.ndjson"
    file.write_text(STREAM, "utf-8")
    return str(file)


def test_the_choices_are_those_of_the_server() -> None:
    assert tuple(format_named(name) for name in _FORMATS) == FORMATS
    assert tuple(CASES) == _CASES


def test_a_format_is_recognised(both: Both, request_file: str) -> None:
    found = document(both("translator", "detect", "--file", request_file, "--json"))
    assert (found["format"], found["direction"]) == ("openai_chat", "request")


def test_what_is_not_recognised(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"a": 1}', "utf-8")
    found = run("translator", "detect", "--file", str(tmp_path / "odd.json"))
    assert (found.exit_code, "No format is recognised." in found.stderr) == (Exit.FAILED, True)


def test_a_request_is_translated(both: Both, request_file: str) -> None:
    arguments = ("translator", "translate", "--from", "openai-chat", "--to", "anthropic", "--file", request_file)
    found = both(*arguments)
    assert found.exit_code == Exit.DONE
    assert json.loads(found.stdout)["messages"] == CHAT["messages"]
    assert "Lost: seed." in found.stderr
    whole = document(both(*arguments, "--json"))
    assert [loss["path"] for loss in whole["losses"]] == ["seed"]


def test_a_body_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    missing = run("translator", "detect", "--file", str(tmp_path / "none.json"))
    assert (missing.exit_code, "cannot be read" in missing.stderr) == (Exit.MISUSE, True)
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    odd = run("translator", "detect", "--file", str(tmp_path / "odd"))
    assert (odd.exit_code, "is not UTF-8" in odd.stderr) == (Exit.MISUSE, True)


def test_an_unreadable_request_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"model": "m", "messages": 3}', "utf-8")
    found = run(
        "translator", "translate", "--from", "openai-chat", "--to", "gemini", "--file", str(tmp_path / "r.json")
    )
    assert (found.exit_code, "body.messages" in found.stderr) == (Exit.MISUSE, True)


def test_a_stream_is_translated(both: Both, stream_file: str) -> None:
    arguments = ("translator", "stream", "--from", "ollama", "--to", "anthropic", "--file", stream_file)
    frames = both(*arguments)
    assert frames.stdout.endswith('data: {"type":"message_stop"}\n\n')
    folded = json.loads(both(*arguments, "--folded").stdout)
    assert folded["content"] == [{"type": "text", "text": "Hello"}]


def test_a_torn_stream_is_a_failure(run: Run, tmp_path: Path) -> None:
    (tmp_path / "torn").write_text(STREAM.splitlines()[0] + "\n", "utf-8")
    found = run("translator", "stream", "--from", "ollama", "--to", "gemini", "--file", str(tmp_path / "torn"))
    assert found.exit_code == Exit.FAILED


@pytest.mark.parametrize("place", ["run", "busy"])
def test_a_request_is_sent(place: str, request_file: str, request: pytest.FixtureRequest) -> None:
    ask: Run | Remote = request.getfixturevalue(place)
    found = ask("translator", "send", "--format", "openai-chat", "--file", request_file)
    assert found.exit_code == Exit.DONE, found.stderr
    assert "Good morning" in found.stdout
    assert "1. sandbox/echo, in openai_chat: 200" in found.stderr
    whole = document(ask("translator", "send", "--format", "openai-chat", "--file", request_file, "--json"))
    assert whole["ok"]


def test_a_request_that_fails(run: Run, request_file: str) -> None:
    found = run(
        "translator",
        "send",
        "--format",
        "openai-chat",
        "--file",
        request_file,
        "--model",
        "sandbox/fail-500",
        "--stream",
    )
    assert found.exit_code == Exit.FAILED
    assert "1. sandbox/fail-500, in openai_chat: 500" in found.stderr


@pytest.mark.parametrize("place", ["run", "remote"])
def test_the_bench(place: str, request: pytest.FixtureRequest) -> None:
    ask: Run | Remote = request.getfixturevalue(place)
    arguments = ("translator", "bench", "--case", "text", "--format", "gemini", "--target", "anthropic")
    found = ask(*arguments)
    assert (found.exit_code, "1 ok, 0 failed, 0 not supported." in found.stderr) == (Exit.DONE, True)
    assert document(ask(*arguments, "--json"))["cells"][0]["state"] == "ok"


def test_a_live_bench_is_estimated_and_confirmed(run: Run) -> None:
    arguments = ("translator", "bench", "--case", "text", "--format", "gemini", "--live", "sandbox/fail-401")
    estimate = document(run(*arguments, "--estimate", "--json"))
    assert (estimate["requests"], float(estimate["estimateUsd"])) == (1, 0.0)
    assert run(*arguments).exit_code == Exit.MISUSE
    found = run(*arguments, "-y")
    assert (found.exit_code, "1 cells failed." in found.stderr) == (Exit.FAILED, True)
