"""The test bench: every case in every format, without a provider and live."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest

from omniroute.formats.wire import WireFormat
from omniroute.records import JobState
from omniroute.services import translator_bench
from omniroute.services.keys import SYSTEM
from omniroute.services.translator import FORMATS, Translator
from omniroute.services.translator_bench import Bench, Wanted
from omniroute.services.translator_cases import CASES
from omniroute.settings import Settings
from tests.blueprints.app import App, error_of, whole_app


@pytest.fixture
def app(settings: Settings) -> Iterator[App]:
    with whole_app(settings, provider_limits_sync_spacing_ms=0) as built:
        yield built


@pytest.fixture
def bench() -> Bench:
    """A bench that cannot ask anybody."""
    translator = Translator(directory=_none, now=time.monotonic, wall=time.time)
    tester: Any = None
    return Bench(
        translator=translator,
        tester=tester,
        directory=_none,
        spacing_s=0,
        sleep=lambda _: None,
        now=time.monotonic,
        wall=time.time,
    )


def _none() -> Any:
    raise AssertionError("nobody is asked")


def run(app: App, **body: Any) -> dict[str, Any]:
    started = app.admin.post("/api/translator/bench", json=body)
    assert started.status_code == 202, started.text
    job = app.admin.get(f"/api/jobs/{started.get_json()['jobId']}").get_json()
    assert job["state"] == JobState.SUCCEEDED, job["error"]
    found: dict[str, Any] = job["result"]
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_case_works_between_all_formats(bench: Bench, case: str) -> None:
    shares: list[float] = []
    found = bench.run(bench.wanted((case,), (), (), (), is_live=False), shares.append)
    faults = [(cell["format"], cell["target"], cell["reason"]) for cell in found["cells"] if cell["state"] != "ok"]
    assert faults == []
    assert found["ok"] == len(FORMATS) ** 2 == len(shares)
    assert shares[-1] == 1.0
    assert all(cell["evidence"]["clientAnswer"] for cell in found["cells"])


def test_what_does_not_reach_the_target_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = {"text": dataclasses.replace(CASES["text"], carried=b"not in it")}
    monkeypatch.setattr(translator_bench, "CASES", altered)
    found = bench.run(Wanted(("text",), (WireFormat.GEMINI,), (WireFormat.OLLAMA,)), lambda _: None)
    assert found["failed"] == 1
    assert found["cells"][0]["reason"] == "what the case is about did not reach the target"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"body": {**CASES["text"].body, "n": 2}}, "not_supported"),
        ({"body": {**CASES["text"].body, "seed": 2}, "needs": "seed"}, "not_supported"),
        ({"model": "fail-500"}, "failed"),
        ({"model": "garbage"}, "failed"),
        ({"model": "no-finish", "is_stream": True}, "failed"),
        ({"is_error": True, "fault_of": CASES["error"].fault_of}, "failed"),
    ],
)
def test_what_a_cell_may_come_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], state: str
) -> None:
    monkeypatch.setattr(translator_bench, "CASES", {"text": dataclasses.replace(CASES["text"], **changes)})
    found = bench.run(Wanted(("text",), (WireFormat.OPENAI_CHAT,), (WireFormat.ANTHROPIC_MESSAGES,)), lambda _: None)
    (cell,) = found["cells"]
    assert cell["state"] == state
    assert cell["reason"]


def test_a_run_is_a_job(app: App) -> None:
    found = run(app, cases=["text", "error"], formats=["gemini", "openai-chat"], targets=["anthropic"])
    assert (found["live"], found["ok"], found["failed"]) == (False, 4, 0)
    assert {cell["target"] for cell in found["cells"]} == {"anthropic_messages"}


def test_a_live_run_asks_models(app: App) -> None:
    found = run(app, cases=["text", "stream", "error", "system"], live=True, providers=["sandbox/echo"])
    assert [(cell["case"], cell["format"], cell["reason"]) for cell in found["cells"] if cell["state"] != "ok"] == []
    assert found["live"]
    assert found["ok"] == 4 * len(FORMATS)


def test_a_live_run_tells_of_failures(app: App) -> None:
    found = run(app, cases=["text"], formats=["ollama"], live=True, providers=["sandbox/fail-401"])
    (cell,) = found["cells"]
    assert (cell["state"], bool(cell["reason"])) == ("failed", True)
    assert cell["evidence"]["upstreamAnswer"]


def test_a_live_run_is_estimated_first(app: App) -> None:
    app.own.connections.create({"provider": "groq", "apiKey": "sk-live-0123456789abcdefghij"}, SYSTEM)
    app.own.snapshots.refresh()
    given = {"live": True, "providers": ["groq", "sandbox/echo"], "estimateOnly": True}
    found = app.admin.post("/api/translator/bench", json=given)
    assert found.status_code == 200
    estimate = found.get_json()
    assert (estimate["cells"], estimate["requests"]) == (90, 80)
    assert float(estimate["estimateUsd"]) > 0
    assert app.admin.get("/api/jobs").get_json()["total"] == 0


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"live": True}, "providers"),
        ({"live": True, "providers": ["nobody/has-it"]}, "providers"),
        ({"cases": ["poetry"]}, "cases"),
        ({"formats": ["morse"]}, "formats"),
    ],
)
def test_what_cannot_be_run_is_refused(app: App, given: dict[str, Any], field: str) -> None:
    error = error_of(app.admin.post("/api/translator/bench", json=given))
    assert error["details"][0]["field"] == field
